// SPDX-License-Identifier: Apache-2.0
//! `kill`.

use wedge_sys::PidFd;

use crate::container::Container;
use crate::dialect::Dialect;
use crate::error::{Error, Failure, Unsupported, chain};

impl Container {
    /// Signals the init, or with `all` every process of the container. A SIGKILL also goes to all
    /// when they do not end with the init: it has no pid namespace of its own. `init` is the init,
    /// unless it was reaped.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when there is nobody, or it could not be done.
    pub async fn kill(&self, init: Option<&PidFd>, signal: i32, all: bool) -> Result<(), Failure> {
        self.open()?;
        let init = init.filter(|init| !init.has_ended());
        if self.dialect == Dialect::Crun {
            return self.kill_as_crun(init, signal, all).await;
        }
        if !all && (signal != libc::SIGKILL || self.private_pids) {
            return Ok(self.kill_init(init.ok_or(Error::NotRunning)?, signal)?);
        }
        let any = self.cgroups.signal(signal).await.map_err(|err| failed(&err))?;
        match init {
            // It may have left the cgroup.
            Some(init) if signal == libc::SIGKILL => Ok(self.kill_init(init, signal)?),
            None if !any && !all => Err(Error::NotRunning.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// `crun kill` signals the init and nobody else, `crun kill --all` whoever is in the cgroup.
    async fn kill_as_crun(
        &self,
        init: Option<&PidFd>,
        signal: i32,
        all: bool,
    ) -> Result<(), Failure> {
        if !all {
            return match init.ok_or(Error::NotRunning)?.send_signal(signal) {
                // Every crun says so in the kernel's words.
                Err(err) if err.raw_os_error() == Some(libc::ESRCH) => {
                    Err(Error::NotRunning.into())
                }
                sent => Ok(sent.map_err(|err| Unsupported::new(format!("its init: {err}")))?),
            };
        }
        // crun thaws what it has signalled.
        if signal != libc::SIGKILL && self.cgroups.is_frozen() {
            return Err(Unsupported::new("its cgroup is frozen").into());
        }
        self.cgroups.signal(signal).await.map_err(|err| failed(&err))?;
        Ok(())
    }

    fn kill_init(&self, init: &PidFd, signal: i32) -> Result<(), Error> {
        match init.send_signal(signal) {
            Ok(()) => {}
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => {
                return Err(Error::NotRunning);
            }
            Err(err) => return Err(Error::Kill(format!("unable to signal init: {err}"))),
        }
        // In v1 who is frozen does not die.
        if signal == libc::SIGKILL && self.cgroups.is_frozen() {
            self.cgroups.thaw().map_err(|err| failed(&err))?;
        }
        Ok(())
    }
}

fn failed(err: &wedge_cgroups::Error) -> Error {
    Error::Kill(format!("unable to signal all processes: {}", chain(err)))
}
