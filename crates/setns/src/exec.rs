// SPDX-License-Identifier: Apache-2.0
//! One exec: starts the helper and talks with it until it has become the program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wedge_reaper::{Exit, ExitStatus, ExitWatch, Expectation, Reaper};
use wedge_setns_wire::{GO, Kind, PACKET, Report};
use wedge_sys::PidFd;

use crate::container::Container;
use crate::error::{Error, Failure, Unsupported};
use crate::host::Host;
use crate::limits;
use crate::namespaces::Namespaces;
use crate::plan::Plan;
use crate::process::Process;
use crate::stages::{Context, PAUSED, STOPPED, explain};

/// How long the helper may take. It runs within the container's limits: a CPU quota slows it down
/// like everything else there.
const LIMIT: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;

/// The streams of the process, `/dev/null` for those there are none of. With a terminal they are
/// not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdio<'a> {
    /// Descriptor 0.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Descriptor 1.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Descriptor 2.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// A process that runs in the container. It is our child.
#[derive(Debug)]
pub struct Started {
    /// Its pid.
    pub pid: u32,
    /// Resolves when it was reaped.
    pub exit: ExitWatch,
    /// None when it was reaped already.
    pub pidfd: Option<PidFd>,
    /// The master of its terminal, if it was to have one.
    pub console: Option<OwnedFd>,
}

impl Container {
    /// Starts the OCI process `json` in the container.
    ///
    /// # Errors
    /// [`Failure`]. Nothing is left behind then.
    pub async fn exec(
        &self,
        host: &Host,
        reaper: &Reaper,
        json: &[u8],
        stdio: Stdio<'_>,
    ) -> Result<Started, Failure> {
        let process = Process::parse(json, host.selinux)?;
        if self.cgroups.frozen() {
            return Err(Error::Refused(PAUSED.to_owned()).into());
        }
        let namespaces = self.namespaces_now(host)?;
        let plan = Plan::new(host, self, &process, namespaces)?;
        match self.attempt((host, reaper), &plan, &process, stdio).await {
            Err(Stopped::HelperBusy) => {
                let failed =
                    |err| Unsupported::new(format!("no memfd for the setns helper: {err}"));
                host.renew_helper().map_err(failed)?;
                Ok(self.attempt((host, reaper), &plan, &process, stdio).await?)
            }
            result => Ok(result?),
        }
    }

    async fn attempt(
        &self,
        (host, reaper): (&Host, &Reaper),
        plan: &Plan<'_>,
        process: &Process,
        stdio: Stdio<'_>,
    ) -> Result<Started, Stopped> {
        let payload = reaper.expect();
        let mut talk = self.launch(host, reaper, plan, stdio)?;
        let context = Context { container: self, process, joiner: talk.joiner.pid };
        match tokio::time::timeout(LIMIT, talk.hold(plan, payload, context)).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("the setns helper did not end within {LIMIT:?} and was killed");
                Err(Error::Start(text).into())
            }
        }
    }

    fn namespaces_now(&self, host: &Host) -> Result<u32, Failure> {
        let stopped = |_: io::Error| Error::Refused(STOPPED.to_owned());
        let theirs = Namespaces::of(&self.init_pid.to_string()).map_err(stopped)?;
        // Still the same process: what was looked at was its own.
        self.init.send_signal(0).map_err(stopped)?;
        Ok(theirs.differing(&host.namespaces, self.namespaces))
    }

    /// Starts the first process of the helper, in the cgroup if that is possible.
    fn launch(
        &self,
        host: &Host,
        reaper: &Reaper,
        plan: &Plan<'_>,
        stdio: Stdio<'_>,
    ) -> Result<Talk, Failure> {
        let failed = |err: io::Error| {
            Error::Start(format!("error starting setns process: {}", wedge_oci::go_text(&err)))
        };
        let (ours, theirs) = sockets().map_err(failed)?;
        let expectation = reaper.expect();
        let spawn = |plan: &File, cgroup: Option<&OwnedFd>| {
            let null = host.null.as_fd();
            let fds = [
                stdio.stdin.unwrap_or(null),
                stdio.stdout.unwrap_or(null),
                stdio.stderr.unwrap_or(null),
                theirs.as_fd(),
                plan.as_fd(),
                self.init.as_fd(),
            ];
            wedge_sys::spawn_helper(host.helper().as_fd(), &fds, cgroup.map(AsFd::as_fd))
        };
        let directory = self.cgroups.directory().filter(|_| plan.may_start_in_cgroup());
        let born = match directory {
            Some(directory) => {
                let bytes = in_memory(&plan.encode(host, false)?).map_err(failed)?;
                spawn(&bytes, Some(directory)).ok()
            }
            None => None,
        };
        let pid = match born {
            Some(pid) => pid,
            // Whatever the reason, joining by hand may work and else says why not.
            None => {
                let bytes = in_memory(&plan.encode(host, true)?).map_err(failed)?;
                spawn(&bytes, None).map_err(failed)?
            }
        };
        let (exit, pidfd) = expectation.claim(pid).map_err(failed)?;
        Ok(Talk {
            joiner: Part { pid, exit, pidfd },
            payload: None,
            socket: readable(ours).map_err(failed)?,
        })
    }
}

#[expect(
    deprecated,
    reason = "tokio's replacement is unsafe, for types that may give away another's descriptor: \
              this owns its own"
)]
fn readable(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Our end of the control socket, and the helper's. Only ours does not block.
fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

fn in_memory(plan: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("plan", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(plan)?;
    Ok(file)
}

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
enum Stopped {
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
struct Talk {
    joiner: Part,
    payload: Option<Part>,
    socket: AsyncFd<OwnedFd>,
}

impl Talk {
    /// Until the helper is the program, or says why not.
    async fn hold(
        &mut self,
        plan: &Plan<'_>,
        payload: Expectation,
        context: Context<'_>,
    ) -> Result<Started, Stopped> {
        let mut payload = Some(payload);
        let mut console = None;
        let mut ready = false;
        loop {
            let mut packet = [0; PACKET];
            let look = |socket: &OwnedFd| receive(socket, &mut packet);
            let received = self.socket.async_io(Interest::READABLE, look).await;
            let (length, passed) = received.map_err(|err| broken(&wedge_oci::go_text(&err)))?;
            let packet = packet.get(..length).unwrap_or_default();
            if packet.is_empty() {
                return Ok(self.ended(ready, console).await?);
            }
            let report = Report::decode(packet).ok_or_else(|| not_started(packet))?;
            match report.kind {
                Kind::Spawned => {
                    let expectation = payload.take().ok_or_else(|| broken("a second process"))?;
                    self.spawned(report.value, expectation, plan)?;
                }
                Kind::Terminal => console = passed,
                Kind::Ready => ready = true,
                Kind::Failed => return Err(explain(&report, context).into()),
                Kind::Unsupported => {
                    let why = explain(&report, context);
                    return Err(Unsupported::new(why.to_string()).into());
                }
            }
        }
    }

    /// The process exists, and waits.
    fn spawned(&mut self, pid: u32, expected: Expectation, plan: &Plan<'_>) -> Result<(), Error> {
        let claimed = expected.claim(pid);
        let (exit, pidfd) = claimed.map_err(|err| broken(&wedge_oci::go_text(&err)))?;
        let reaped = pidfd.is_none();
        self.payload = Some(Part { pid, exit, pidfd });
        if reaped {
            // The pid is free again. What it has said follows.
            return Ok(());
        }
        limits::apply(&plan.limits, pid)?;
        let socket = std::os::fd::AsRawFd::as_raw_fd(self.socket.get_ref());
        match send(socket, &[GO], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
            // It died meanwhile: the end of the socket says so.
            Ok(_) | Err(nix::Error::EPIPE | nix::Error::ECONNRESET) => Ok(()),
            Err(err) => Err(broken(err.desc())),
        }
    }

    /// Nobody holds the other end any more.
    async fn ended(&mut self, ready: bool, console: Option<OwnedFd>) -> Result<Started, Error> {
        match self.payload.take() {
            Some(mut payload) if ready => Ok(Started {
                pid: payload.pid,
                exit: payload.exit.clone(),
                // It lives: the guard lets go of it.
                pidfd: payload.pidfd.take(),
                console,
            }),
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

/// The next message and the descriptor that came with it; an empty one is the end.
fn receive(socket: &OwnedFd, packet: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    match wedge_sys::receive(socket, packet) {
        // It died with an unread message of ours. The kernel says so once, and before it hands out
        // what the helper had said, its reason maybe: `__skb_try_recv_datagram`.
        Err(err) if err.kind() == io::ErrorKind::ConnectionReset => {
            wedge_sys::receive(socket, packet)
        }
        // The kernel looks for a message first and for the end then: a last message that came in
        // between is still there (`__unix_dgram_recvmsg`).
        Ok((0, _)) => wedge_sys::receive(socket, packet),
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
    use std::os::fd::AsRawFd;
    use std::time::Instant;

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
                    received => return received.unwrap().0,
                }
            };
            assert_eq!((look(), look()), (1, 0), "{round}");
            helper.join().unwrap();
        }
    }
}
