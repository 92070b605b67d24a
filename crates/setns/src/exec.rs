// SPDX-License-Identifier: Apache-2.0
//! One exec: plans it, starts the helper, and waits for what comes of it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use wedge_reaper::{ExitWatch, Reaper};
use wedge_sys::PidFd;

use crate::container::Container;
use crate::error::{Error, Failure, Unsupported};
use crate::host::Host;
use crate::plan::Plan;
use crate::process::Process;
use crate::socket;
use crate::stages::{Context, PAUSED, STOPPED};
use crate::talk::{Stopped, Talk};

/// How long the helper may take. It runs within the container's limits: a CPU quota slows it down
/// like everything else there.
const LIMIT: Duration = Duration::from_secs(60);

/// Pauses, in milliseconds, before another try where the cgroup had no room. An init that has just
/// been started is runc with all its threads for a moment, and a joiner of the exec before ends.
const UNTIL_ROOM: [u64; 6] = [1, 2, 4, 8, 16, 32];

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
        let process = match self.crun {
            Some(_) => Process::parse_for_crun(json)?,
            None => Process::parse(json, host.selinux)?,
        };
        if self.cgroups.frozen() {
            return Err(self.refused(PAUSED));
        }
        let namespaces = self.namespaces_now(host)?;
        let plan = Plan::new(host, self, &process, namespaces)?;
        let context = Context { container: self, process: &process };
        for pause in UNTIL_ROOM {
            match self.attempts((host, reaper), &plan, context, stdio).await {
                Err(Stopped::NoRoom(_)) => tokio::time::sleep(Duration::from_millis(pause)).await,
                result => return Ok(result?),
            }
        }
        Ok(self.attempts((host, reaper), &plan, context, stdio).await?)
    }

    /// Goes another way at once where there is one.
    async fn attempts(
        &self,
        processes: (&Host, &Reaper),
        plan: &Plan<'_>,
        context: Context<'_>,
        stdio: Stdio<'_>,
    ) -> Result<Started, Stopped> {
        let attempt = |join| self.attempt(processes, plan, context, stdio, join);
        let by_hand = plan.birthplace().is_none();
        if by_hand && self.crun.is_some() {
            return Err(Unsupported::new("its cgroup is gone").into());
        }
        match attempt(by_hand).await {
            Err(Stopped::NotBorn(_)) if self.crun.is_some() => {
                Err(Unsupported::new("there is no process to be had in its cgroup").into())
            }
            // Whatever the reason, joining by hand may work and else says why not.
            Err(Stopped::NotBorn(_)) if !by_hand => attempt(true).await,
            // It was killed this moment; the next one is another.
            Err(Stopped::NoNursery) => attempt(by_hand).await,
            result => result,
        }
    }

    /// With `join`, the helper joins the cgroups itself.
    async fn attempt(
        &self,
        (host, reaper): (&Host, &Reaper),
        plan: &Plan<'_>,
        context: Context<'_>,
        stdio: Stdio<'_>,
        join: bool,
    ) -> Result<Started, Stopped> {
        let (ours, theirs) = socket::pair().map_err(failed)?;
        let bytes = in_memory(&plan.encode(host, join)?).map_err(failed)?;
        let null = host.null.as_fd();
        let fds = [
            stdio.stdin.unwrap_or(null),
            stdio.stdout.unwrap_or(null),
            stdio.stderr.unwrap_or(null),
            theirs.as_fd(),
            bytes.as_fd(),
            self.init.as_fd(),
        ];
        let cgroup = plan.birthplace().filter(|_| !join).map(AsFd::as_fd);
        let mut talk = Talk::begin((host, reaper), ours, (fds, cgroup))?;
        drop((theirs, bytes));
        match tokio::time::timeout(LIMIT, talk.hold(plan, context)).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("the setns helper did not end within {LIMIT:?} and was killed");
                Err(Error::Start(text).into())
            }
        }
    }

    /// What the OCI runtime refuses before there is a process.
    fn refused(&self, text: &str) -> Failure {
        match self.crun {
            Some(_) => Failure::Refused(Unsupported::new(text)),
            None => Error::Refused(text.to_owned()).into(),
        }
    }

    fn namespaces_now(&self, host: &Host) -> Result<u32, Failure> {
        let stopped = |_: io::Error| self.refused(STOPPED);
        let to_join = host.namespaces.to_join(self.init_pid, self.namespaces).map_err(stopped)?;
        // Still the same process: what was looked at was its own.
        self.init.send_signal(0).map_err(stopped)?;
        Ok(to_join)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn failed(err: io::Error) -> Error {
    Error::Start(format!("error starting setns process: {}", wedge_sys::go_text(&err)))
}

fn in_memory(plan: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("plan", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(plan)?;
    Ok(file)
}
