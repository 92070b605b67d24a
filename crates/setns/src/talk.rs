// SPDX-License-Identifier: Apache-2.0
//! The conversation with the helper, until it has become the program.
//!
//! Every message wakes the shim, so there are few: in the ordinary case one, by which the payload
//! says that it is ready. The kernel adds its pid (`SO_PASSCRED`, unix(7)), and the end of the socket
//! is the success.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use nix::sys::stat::fstat;
use tokio::io::Interest;
use wedge_reaper::{Exit, ExitStatus, ExitWatch, Expectation, Reaper};
use wedge_setns_wire::{GO, Kind, PACKET, Report, Stage, fd};
use wedge_sys::{PidFd, Polled, Received, watch};

use crate::error::{Error, Failure, Unsupported};
use crate::exec::{Started, failed};
use crate::host::Host;
use crate::limits;
use crate::nursery::Nursery;
use crate::plan::Plan;
use crate::stages::{Context, explain, failure};

/// A process of the helper. Killed when it is dropped.
#[derive(Debug)]
struct Part {
    pid: u32,
    exit: ExitWatch,
    pidfd: Option<PidFd>,
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(Err(err)) = self.pidfd.as_ref().map(|pidfd| pidfd.send_signal(libc::SIGKILL)) {
            log::trace!(pid = self.pid; "nothing to kill: {err}");
        }
    }
}

/// Why an attempt gave no process.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// There could be no joiner where it was to be born.
    NotBorn(i32),
    /// The nursery died before there was one. Nothing has happened.
    NoNursery,
    /// The cgroup had no room for the payload (pids.max). Nothing has happened.
    NoRoom(Failure),
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
            Stopped::NotBorn(errno) => failed(io::Error::from_raw_os_error(errno)).into(),
            Stopped::NoNursery => Unsupported::new("the setns helper ended").into(),
            Stopped::NoRoom(failure) | Stopped::Failure(failure) => failure,
        }
    }
}

/// A conversation with the helper.
#[derive(Debug)]
pub(crate) struct Talk {
    socket: Polled<OwnedFd>,
    /// The inode of the helper's end.
    theirs: u64,
    nursery: Arc<Nursery>,
    request: u32,
    payload: Option<Part>,
    /// Until the payload is known.
    expected: Option<Expectation>,
}

/// The descriptors of a joiner, and the cgroup it is to be born in.
pub(crate) type Endowment<'a> = ([BorrowedFd<'a>; fd::COUNT], Option<BorrowedFd<'a>>);

impl Talk {
    /// Has a joiner forked, that has the other end of `socket` among its descriptors.
    pub(crate) fn begin(
        (host, reaper): (&Host, &Reaper),
        socket: OwnedFd,
        (fds, cgroup): Endowment<'_>,
    ) -> Result<Talk, Failure> {
        let [_, _, _, theirs, ..] = fds;
        let theirs = fstat(theirs).map_err(|err| failed(err.into()))?.st_ino;
        let socket = watch(socket, Interest::READABLE).map_err(failed)?;
        let expected = Some(reaper.expect());
        let nursery = || {
            host.nursery(reaper).map_err(|err| Unsupported::of("the setns helper cannot run", &err))
        };
        let mut home = nursery()?;
        let request = match home.ask(fds, cgroup) {
            // It has ended, but was not reaped yet: another one.
            Err(err) if is_gone(&err) => {
                host.close_nursery(&home);
                home = nursery()?;
                home.ask(fds, cgroup)
            }
            result => result,
        };
        let busy = |err| Unsupported::of("the setns helper takes no request", &err);
        let request = request.map_err(busy)?;
        Ok(Talk { socket, theirs, nursery: home, request, payload: None, expected })
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
            let received = received.map_err(|err| broken(&wedge_sys::go_text(&err)))?;
            let packet = packet.get(..received.length).unwrap_or_default();
            if packet.is_empty() {
                return self.ended(ready, console).await;
            }
            let report = Report::decode(packet).ok_or_else(|| broken("an unknown report"))?;
            let sender = received.sender.unwrap_or_default();
            match report.kind {
                Kind::Waiting => {
                    self.meet(sender)?;
                    self.release(plan)?;
                }
                Kind::Terminal => console = received.fd,
                Kind::Ready => {
                    self.meet(sender)?;
                    ready = true;
                }
                Kind::NotBorn | Kind::Failed | Kind::Unsupported => {
                    // Last words: who says them ends.
                    self.expected = None;
                    return Err(why(&report, sender, context));
                }
            }
        }
    }

    /// The payload is `pid`.
    fn meet(&mut self, pid: u32) -> Result<(), Error> {
        let Some(expected) = self.expected.take() else { return Ok(()) };
        let claimed = expected.claim(pid);
        let (exit, pidfd) = claimed.map_err(|err| broken(&wedge_sys::go_text(&err)))?;
        self.payload = Some(Part { pid, exit, pidfd });
        Ok(())
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
    async fn ended(&mut self, ready: bool, console: Option<OwnedFd>) -> Result<Started, Stopped> {
        let Some(mut payload) = self.payload.take() else {
            return Err(self.silence().await);
        };
        if !ready {
            let exit = payload.exit.wait().await;
            return Err(Error::Start(format!("procReady not received: {}", death(&exit))).into());
        }
        let exit = payload.exit.clone();
        // It lives: the guard lets go of it.
        Ok(Started { pid: payload.pid, exit, pidfd: payload.pidfd.take(), console })
    }

    /// There was no word. Only a signal ends the helper so.
    async fn silence(&self) -> Stopped {
        match self.nursery.has_born(self.request).await {
            true => Error::Start("procReady not received: it was killed".to_owned()).into(),
            false => Stopped::NoNursery,
        }
    }
}

/// A helper that nobody listens to must not go on.
impl Drop for Talk {
    fn drop(&mut self) {
        self.nursery.forget(self.request);
        if self.expected.is_none() {
            return;
        }
        // From here on a payload cannot say that it is ready, and so does not execute. Who still has
        // the socket is killed.
        if let Err(err) = shutdown(self.socket.get_ref().as_raw_fd(), Shutdown::Both) {
            log::debug!("the helper's socket was gone: {err}");
        }
        for pid in relatives(self.nursery.pid) {
            if let Some(Err(err)) =
                holder(pid, self.theirs).map(|held| held.send_signal(libc::SIGKILL))
            {
                log::debug!(pid = pid; "nothing to kill: {err}");
            }
        }
        // One that was ready has said so.
        let mut packet = [0; PACKET];
        while let Ok(received) = receive(self.socket.get_ref(), &mut packet)
            && let packet = packet.get(..received.length).unwrap_or_default()
            && let Some(report) = Report::decode(packet)
        {
            if report.kind == Kind::Ready
                && let Err(err) = self.meet(received.sender.unwrap_or_default())
            {
                log::debug!("nothing to kill: {err}");
            }
        }
    }
}

fn why(report: &Report<'_>, sender: u32, context: Context<'_>) -> Stopped {
    let no_room =
        Stage::from_number(report.stage) == Some(Stage::Clone) && report.errno == libc::EAGAIN;
    match report.kind {
        Kind::Failed if no_room => Stopped::NoRoom(explain(report, sender, context).into()),
        Kind::NotBorn => Stopped::NotBorn(report.errno),
        Kind::Unsupported => Unsupported::new(explain(report, sender, context).to_string()).into(),
        Kind::Failed | Kind::Terminal | Kind::Ready | Kind::Waiting => {
            failure(report, sender, context).into()
        }
    }
}

fn is_gone(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Where processes of the helper are: joiners are the nursery's children, and payloads theirs, or
/// ours when their joiner has ended, which it may meanwhile: so theirs are looked for first.
fn relatives(nursery: u32) -> Vec<u32> {
    let joiners = children(nursery);
    let theirs = joiners.iter().flat_map(|joiner| children(*joiner));
    theirs.chain(children(std::process::id())).chain(joiners.iter().copied()).collect()
}

/// The process `pid`, if it has this socket, as the helper has it. Opened before it is looked at:
/// whoever has the pid by the time of the signal, what was looked at is signalled or nobody.
fn holder(pid: u32, socket: u64) -> Option<PidFd> {
    let pidfd = PidFd::open(pid).ok()?;
    let link = fs::read_link(format!("/proc/{pid}/fd/{}", fd::CONTROL)).ok()?;
    (link.as_os_str() == format!("socket:[{socket}]").as_str()).then_some(pidfd)
}

/// The children of a process, which are those of its threads, proc_tid_children(5).
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids = |list: String| {
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    };
    lists.flat_map(pids).collect()
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
            let (ours, theirs) = crate::socket::pair().unwrap();
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
