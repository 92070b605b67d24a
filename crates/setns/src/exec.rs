// SPDX-License-Identifier: Apache-2.0
//! One exec: plans it, starts the helper, and waits for what comes of it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use wedge_reaper::{ExitWatch, Reaper};
use wedge_sys::PidFd;

use crate::container::Container;
use crate::error::{Error, Failure, Unsupported};
use crate::host::Host;
use crate::plan::Plan;
use crate::process::Process;
use crate::stages::{Context, PAUSED, STOPPED};
use crate::talk::{Stopped, Talk, sockets};

/// How long the helper may take. It runs within the container's limits: a CPU quota slows it down
/// like everything else there.
const LIMIT: Duration = Duration::from_secs(60);

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
        let joiner = reaper.expect();
        let (socket, pid) = self.launch(host, plan, stdio)?;
        let mut talk = Talk::with((joiner, pid), payload, socket)?;
        let context = Context { container: self, process, joiner: pid };
        match tokio::time::timeout(LIMIT, talk.hold(plan, context)).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("the setns helper did not end within {LIMIT:?} and was killed");
                Err(Error::Start(text).into())
            }
        }
    }

    fn namespaces_now(&self, host: &Host) -> Result<u32, Failure> {
        let stopped = |_: io::Error| Error::Refused(STOPPED.to_owned());
        let to_join = host.namespaces.to_join(self.init_pid, self.namespaces).map_err(stopped)?;
        // Still the same process: what was looked at was its own.
        self.init.send_signal(0).map_err(stopped)?;
        Ok(to_join)
    }

    /// Starts the first process of the helper, in the cgroup if that is possible: our end of the
    /// socket with the inode of its, and its pid.
    fn launch(
        &self,
        host: &Host,
        plan: &Plan<'_>,
        stdio: Stdio<'_>,
    ) -> Result<((OwnedFd, u64), u32), Failure> {
        let (ours, theirs) = sockets().map_err(failed)?;
        let inode = fstat(&theirs).map_err(|err| failed(err.into()))?.st_ino;
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
            wedge_sys::spawn_helper(host.helper().as_fd(), &fds, cgroup.map(AsFd::as_fd), host.heap)
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
        Ok(((ours, inode), pid))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(err: io::Error) -> Error {
    Error::Start(format!("error starting setns process: {}", wedge_oci::go_text(&err)))
}

fn in_memory(plan: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("plan", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(plan)?;
    Ok(file)
}
