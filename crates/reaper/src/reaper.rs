// SPDX-License-Identifier: Apache-2.0
//! SIGCHLD → waitid → ledger, and spawning.

use std::io;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use wedge_sys::PidFd;

use crate::exit::Exit;
use crate::ledger::{Claim, Ledger};
use crate::signals::Signals;

type Watcher = watch::Sender<Option<Exit>>;

/// How often children are looked for without a signal: signals coalesce and are only a hint.
const SWEEP: Duration = Duration::from_secs(5);

/// The process's single waiter. Clones refer to the same one.
#[derive(Debug, Clone, Default)]
pub struct Reaper {
    ledger: Arc<Mutex<Ledger<Watcher>>>,
}

impl Reaper {
    /// Makes a reaper. Children are reaped once [`Reaper::run`] is driven.
    pub fn new() -> Reaper {
        Reaper::default()
    }

    /// Reaps children until the future is dropped.
    ///
    /// # Errors
    /// When the handler for SIGCHLD cannot be installed.
    pub async fn run(self) -> io::Result<()> {
        let mut children = Signals::new([libc::SIGCHLD])?;
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.collect();
            tokio::select! {
                _ = children.recv() => {}
                _ = sweep.tick() => {}
            }
        }
    }

    /// Reaps every child that has ended and hands out the exits.
    pub fn collect(&self) {
        // The lock is held across waitid, so that nobody can claim or open a pid between the
        // moment it becomes free and the moment its exit is in the ledger.
        let mut ledger = self.ledger();
        loop {
            match wedge_sys::reap_next() {
                Ok(Some(reaped)) => {
                    let status = reaped.ended.into();
                    let exit = Exit { pid: reaped.pid, status, at: SystemTime::now() };
                    match ledger.exited(exit) {
                        Some(watcher) => {
                            watcher.send_replace(Some(exit));
                        }
                        None => {
                            log::debug!(pid = exit.pid; "reaped an unknown child: {status}");
                        }
                    }
                }
                Ok(None) => return,
                Err(err) => {
                    log::error!("failed to wait for children: {err}");
                    return;
                }
            }
        }
    }

    /// Starts `command` as a child whose exit is watched from the start.
    ///
    /// It gets default signal dispositions, an empty signal mask and SIGKILL as parent-death
    /// signal, which follows the calling *thread*: call this from the thread that drives the
    /// runtime, never from a pool thread.
    ///
    /// # Errors
    /// What fork or exec answered; nothing is left behind then.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.launch(command, true)
    }

    /// As [`Reaper::spawn`], but without a parent-death signal: for a child that has work to end
    /// when this process is gone.
    ///
    /// # Errors
    /// What fork or exec answered; nothing is left behind then.
    pub fn spawn_surviving(&self, command: &mut Command) -> io::Result<Child> {
        self.launch(command, false)
    }

    fn launch(&self, command: &mut Command, die_with_parent: bool) -> io::Result<Child> {
        wedge_sys::prepare_child(command, die_with_parent);
        let (sender, exit) = watch::channel(None);
        let mut ledger = self.ledger();
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        let mut child = command.spawn()?;
        ledger.spawned(child.id(), sender);
        Ok(Child {
            pid: child.id(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            exit: ExitWatch(exit),
        })
    }

    /// Starts a child that does nothing in a new user namespace, until it is killed, for somebody
    /// who wants the namespace. As for [`Reaper::spawn`], its parent-death signal follows the
    /// calling thread.
    ///
    /// # Errors
    /// What clone(2) answered.
    pub fn spawn_in_user_namespace(&self) -> io::Result<Child> {
        let (sender, exit) = watch::channel(None);
        let mut ledger = self.ledger();
        let pid = wedge_sys::spawn_in_user_namespace()?;
        ledger.spawned(pid, sender);
        Ok(Child { pid, stdin: None, stdout: None, stderr: None, exit: ExitWatch(exit) })
    }

    /// Announces that a process whose pid is not yet known is about to become our child.
    pub fn expect(&self) -> Expectation {
        let number = self.ledger().expect();
        Expectation { reaper: self.clone(), number: Some(number) }
    }

    /// Claimed children, unclaimed exits and open expectations, for leak tests and dumps.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.ledger().len()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<Watcher>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child that was spawned here. Dropping it neither kills nor forgets the process.
#[derive(Debug)]
pub struct Child {
    /// Its pid, valid until [`Child::exit`] has resolved.
    pub pid: u32,
    /// The write end of its standard input, when piped.
    pub stdin: Option<ChildStdin>,
    /// The read end of its standard output, when piped.
    pub stdout: Option<ChildStdout>,
    /// The read end of its standard error, when piped.
    pub stderr: Option<ChildStderr>,
    /// Resolves when it was reaped.
    pub exit: ExitWatch,
}

impl Child {
    /// Kills it, unless it was reaped. As [`ExitWatch::signal`].
    ///
    /// # Errors
    /// See there.
    pub fn kill(&self) -> io::Result<()> {
        self.exit.signal(self.pid, libc::SIGKILL)
    }
}

/// "A child of ours is about to exist": keeps exits that come before its pid is known.
#[derive(Debug)]
pub struct Expectation {
    reaper: Reaper,
    number: Option<u64>,
}

impl Expectation {
    /// The process is `pid`. The descriptor is missing when it has been reaped already.
    ///
    /// # Errors
    /// `ESRCH` when `pid` neither is a process nor was one since the expectation was opened;
    /// resource errors of pidfd_open(2), and then the process has been killed: who has an error
    /// has nothing to end it by.
    pub fn claim(mut self, pid: u32) -> io::Result<(ExitWatch, Option<PidFd>)> {
        let reaper = self.reaper.clone();
        let mut ledger = reaper.ledger();
        let Some(number) = self.number.take() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let (sender, exit) = watch::channel(None);
        match ledger.claim(number, pid, sender) {
            Claim::Exited(past) => {
                let (_, exit) = watch::channel(Some(past));
                Ok((ExitWatch(exit), None))
            }
            // The lock is still held: unreaped, the pid cannot have been given to another process.
            Claim::Pending => match PidFd::open(pid) {
                Ok(pidfd) => Ok((ExitWatch(exit), Some(pidfd))),
                Err(err) => {
                    end_unheld(pid, &err);
                    ledger.disown(pid);
                    Err(err)
                }
            },
        }
    }
}

/// Kills the unreaped process `pid`, of which there could be no descriptor. The caller holds the lock
/// on the ledger: until it is reaped the pid is still that process's.
fn end_unheld(pid: u32, why: &io::Error) {
    // No such process, or a number that is none of a process; to kill(2), 0 and -1 are many.
    let none = matches!(why.raw_os_error(), Some(libc::ESRCH | libc::EINVAL));
    let Some(target) = i32::try_from(pid).ok().filter(|pid| !none && *pid > 1) else { return };
    match kill(Pid::from_raw(target), Signal::SIGKILL) {
        Ok(()) => log::warn!(pid = pid; "killed a process that cannot be watched: {why}"),
        Err(errno) => log::warn!(pid = pid; "a process that cannot be watched stays: {errno}"),
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.reaper.ledger().close(number);
        }
    }
}

/// Resolves once, when the process was reaped. Clones resolve alike.
#[derive(Debug, Clone)]
pub struct ExitWatch(watch::Receiver<Option<Exit>>);

impl ExitWatch {
    /// The exit, when the process was already reaped. This is the moment from which no new exec
    /// may start (invariant I5), earlier than any task that awaits the exit has run.
    pub fn peek(&self) -> Option<Exit> {
        *self.0.borrow()
    }

    /// Signals the process, whose pid is `pid`, unless it was reaped: then the pid may be anybody's.
    /// To be called by the thread that drives the reaper, which does not reap it meanwhile.
    ///
    /// # Errors
    /// Of pidfd_open(2) and pidfd_send_signal(2).
    pub fn signal(&self, pid: u32, signal: i32) -> io::Result<()> {
        match self.peek() {
            Some(_) => Ok(()),
            None => PidFd::open(pid)?.send_signal(signal),
        }
    }

    /// Waits until the process was reaped.
    pub async fn wait(&mut self) -> Exit {
        match self.0.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => exit,
            // The sender lives in the ledger until it sends; a dropped one means the runtime is
            // being torn down.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}
