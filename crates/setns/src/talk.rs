// SPDX-License-Identifier: Apache-2.0
//! The conversation with the helper, until it has become the program.
//!
//! Every message wakes the shim, so there are few: in the ordinary case one, by which the payload
//! says that it is ready. The kernel adds its pid (`SO_PASSCRED`, unix(7)), and the end of the socket
//! is the success. The joiner sleeps until the payload has executed its program or has ended, and
//! then says its pid, in case that it was killed before it could say anything.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, setsockopt, shutdown, socketpair,
    sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wedge_reaper::{Exit, ExitStatus, ExitWatch, Expectation};
use wedge_setns_wire::{GO, Kind, PACKET, Report, fd};
use wedge_sys::{PidFd, Received};

use crate::error::{Error, Failure, Unsupported};
use crate::exec::Started;
use crate::limits;
use crate::plan::Plan;
use crate::stages::{Context, explain};

const SIGKILL: i32 = 9;

/// A process of the helper. Killed when it is dropped.
#[derive(Debug)]
struct Part {
    pid: u32,
    exit: ExitWatch,
    pidfd: Option<PidFd>,
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(Err(err)) = self.pidfd.as_ref().map(|pidfd| pidfd.send_signal(SIGKILL)) {
            log::trace!(pid = self.pid; "nothing to kill: {err}");
        }
    }
}

/// Why an attempt gave no process.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Somebody has the helper open for writing, and so nobody can execute it.
    HelperBusy,
    Failure(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Failure(failure)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Failure(error.into())
    }
}

impl From<Unsupported> for Stopped {
    fn from(reason: Unsupported) -> Stopped {
        Stopped::Failure(reason.into())
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Failure {
        match stopped {
            Stopped::HelperBusy => Unsupported::new("the setns helper is busy").into(),
            Stopped::Failure(failure) => failure,
        }
    }
}

/// A conversation with the helper.
#[derive(Debug)]
pub(crate) struct Talk {
    joiner: Part,
    payload: Option<Part>,
    /// Until the payload is known.
    expected: Option<Expectation>,
    socket: AsyncFd<OwnedFd>,
    /// The inode of the helper's end.
    theirs: u64,
}

impl Talk {
    /// With the helper's first process, that has the other end of `socket`.
    pub(crate) fn with(
        (joiner, pid): (Expectation, u32),
        payload: Expectation,
        (socket, theirs): (OwnedFd, u64),
    ) -> Result<Talk, Error> {
        let failed = |err: io::Error| broken(&wedge_oci::go_text(&err));
        let (exit, pidfd) = joiner.claim(pid).map_err(failed)?;
        let joiner = Part { pid, exit, pidfd };
        let socket = readable(socket).map_err(failed)?;
        Ok(Talk { joiner, payload: None, expected: Some(payload), socket, theirs })
    }

    /// Until the helper is the program, or says why not.
    pub(crate) async fn hold(
        &mut self,
        plan: &Plan<'_>,
        context: Context<'_>,
    ) -> Result<Started, Stopped> {
        let mut console = None;
        let mut ready = false;
        loop {
            let mut packet = [0; PACKET];
            let look = |socket: &OwnedFd| receive(socket, &mut packet);
            let received = self.socket.async_io(Interest::READABLE, look).await;
            let received = received.map_err(|err| broken(&wedge_oci::go_text(&err)))?;
            let packet = packet.get(..received.length).unwrap_or_default();
            if packet.is_empty() {
                return Ok(self.ended(ready, console).await?);
            }
            self.meet(received.sender)?;
            let report = Report::decode(packet).ok_or_else(|| not_started(packet))?;
            match report.kind {
                Kind::Spawned => self.meet(Some(report.value))?,
                Kind::Waiting => self.release(plan)?,
                Kind::Terminal => console = received.fd,
                Kind::Ready => ready = true,
                Kind::Failed => return Err(explain(&report, context).into()),
                Kind::Unsupported => {
                    let why = explain(&report, context);
                    return Err(Unsupported::new(why.to_string()).into());
                }
            }
        }
    }

    /// Whoever speaks and is not the joiner is the payload: nobody else has the socket.
    fn meet(&mut self, pid: Option<u32>) -> Result<(), Error> {
        let Some(pid) = pid.filter(|pid| *pid != self.joiner.pid) else { return Ok(()) };
        let Some(expected) = self.expected.take() else { return Ok(()) };
        let claimed = expected.claim(pid);
        let (exit, pidfd) = claimed.map_err(|err| broken(&wedge_oci::go_text(&err)))?;
        self.payload = Some(Part { pid, exit, pidfd });
        Ok(())
    }

    fn meet_or_log(&mut self, pid: Option<u32>) {
        if let Err(err) = self.meet(pid) {
            log::debug!("nothing to kill: {err}");
        }
    }

    /// The payload waits for its limits.
    fn release(&self, plan: &Plan<'_>) -> Result<(), Error> {
        // Without a pidfd it was reaped already, and its pid is free again.
        let Some(payload) = self.payload.as_ref().filter(|payload| payload.pidfd.is_some()) else {
            return Ok(());
        };
        limits::apply(&plan.limits, payload.pid)?;
        let socket = self.socket.get_ref().as_raw_fd();
        match send(socket, &[GO], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
            // It died meanwhile: the end of the socket says so.
            Ok(_) | Err(nix::Error::EPIPE | nix::Error::ECONNRESET) => Ok(()),
            Err(err) => Err(broken(err.desc())),
        }
    }

    /// Nobody holds the other end any more.
    async fn ended(&mut self, ready: bool, console: Option<OwnedFd>) -> Result<Started, Error> {
        match self.payload.take() {
            Some(mut payload) if ready => {
                // The joiner ends by itself, as soon as the kernel has executed the program.
                self.joiner.pidfd = None;
                let exit = payload.exit.clone();
                // It lives: the guard lets go of it.
                Ok(Started { pid: payload.pid, exit, pidfd: payload.pidfd.take(), console })
            }
            Some(mut payload) => {
                let exit = payload.exit.wait().await;
                Err(Error::Start(format!("procReady not received: {}", death(&exit))))
            }
            None => {
                let exit = self.joiner.exit.wait().await;
                Err(broken(&death(&exit)))
            }
        }
    }
}

/// A payload that nobody has met yet must not go on.
impl Drop for Talk {
    fn drop(&mut self) {
        if self.expected.is_none() {
            return;
        }
        // From here on it cannot say that it is ready, and so does not execute. Who it is it has
        // said before, or else it still has the socket; its `Part` kills it then.
        if let Err(err) = shutdown(self.socket.get_ref().as_raw_fd(), Shutdown::Both) {
            log::debug!("the helper's socket was gone: {err}");
        }
        let mut packet = [0; PACKET];
        while let Ok(received) = receive(self.socket.get_ref(), &mut packet)
            && received.length > 0
        {
            self.meet_or_log(received.sender);
        }
        if self.expected.is_some() {
            holders_of(self.theirs).into_iter().for_each(|pid| self.meet_or_log(Some(pid)));
        }
    }
}

/// Our children that have this socket as the helper has it.
fn holders_of(socket: u64) -> Vec<u32> {
    let children = match fs::read_to_string("/proc/thread-self/children") {
        Ok(children) => children,
        Err(err) => {
            log::warn!("/proc/thread-self/children: {err}");
            return Vec::new();
        }
    };
    let name = format!("socket:[{socket}]");
    let has = |pid: &u32| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{}", fd::CONTROL));
        link.is_ok_and(|link| link.as_os_str() == name.as_str())
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(has).collect()
}

#[expect(
    deprecated,
    reason = "tokio's replacement is unsafe, for types that may give away another's descriptor: \
              this owns its own"
)]
fn readable(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Our end of the control socket, and the helper's. Only ours does not block, and is told who sends
/// what.
pub(crate) fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    setsockopt(&ours, sockopt::PassCred, &true)?;
    Ok((ours, theirs))
}

/// The next message; an empty one is the end.
fn receive(socket: &OwnedFd, packet: &mut [u8]) -> io::Result<Received> {
    match wedge_sys::receive(socket, packet) {
        // It died with an unread message of ours. The kernel says so once, and before it hands out
        // what the helper had said, its reason maybe: `__skb_try_recv_datagram`.
        Err(err) if err.kind() == io::ErrorKind::ConnectionReset => {
            wedge_sys::receive(socket, packet)
        }
        // The kernel looks for a message first and for the end then: a last message that came in
        // between is still there (`__unix_dgram_recvmsg`).
        Ok(Received { length: 0, .. }) => wedge_sys::receive(socket, packet),
        received => received,
    }
}

/// As Go prints a `ProcessState`.
fn death(exit: &Exit) -> String {
    if exit.status == ExitStatus::KILLED {
        "signal: killed".to_owned()
    } else {
        exit.status.to_string()
    }
}

fn broken(why: &str) -> Error {
    Error::Start(format!("error executing setns process: {why}"))
}

/// The helper itself could not be executed: the packet is an errno.
fn not_started(packet: &[u8]) -> Stopped {
    let errno = packet.try_into().map_or(0, i32::from_ne_bytes);
    if errno == libc::ETXTBSY {
        return Stopped::HelperBusy;
    }
    Unsupported::new(format!("the setns helper cannot run: {}", crate::text::errno(errno))).into()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Without another look, one in some thousand is lost here: an exec that ran was an error.
    #[test]
    fn the_last_message_is_not_taken_for_the_end() {
        // On a busy machine a round takes a time slice; fewer have to do there.
        let end = Instant::now() + Duration::from_secs(5);
        for round in (0_usize..20_000).take_while(|_| Instant::now() < end) {
            let (ours, theirs) = sockets().unwrap();
            let helper = std::thread::spawn(move || {
                (0..round % 500).for_each(|_| std::hint::spin_loop());
                send(theirs.as_raw_fd(), &[1], MsgFlags::empty()).unwrap()
            });
            let mut packet = [0; 8];
            let mut look = || loop {
                match receive(&ours, &mut packet) {
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                    received => return received.unwrap().length,
                }
            };
            assert_eq!((look(), look()), (1, 0), "{round}");
            helper.join().unwrap();
        }
    }
}
