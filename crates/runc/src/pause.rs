// SPDX-License-Identifier: Apache-2.0
//! `pause` and `resume`.

use wedge_sys::PidFd;

use crate::container::{Container, Status};
use crate::dialect::Dialect;
use crate::error::{Error, Failure, Unsupported, chain};

impl Container {
    /// Freezes the processes of the container, whose init is `init`, unless that was reaped.
    ///
    /// # Errors
    /// As the runtime's `pause`; nothing is frozen then.
    pub async fn pause(&self, init: Option<&PidFd>) -> Result<(), Failure> {
        let directory = self.open()?;
        match self.status(&directory, init) {
            Status::Created | Status::Running => {}
            status if self.dialect == Dialect::Crun => {
                return Err(Unsupported::new(format!("it is {status:?}")).into());
            }
            Status::Paused | Status::Stopped => {
                return Err(Error::Pause("container not running".to_owned()).into());
            }
        }
        match self.cgroups.freeze().await {
            // crun does not wait until all are frozen, so it would not fail here.
            Err(err) if self.dialect == Dialect::Crun => Err(Unsupported::new(chain(&err)).into()),
            frozen => Ok(frozen.map_err(|err| Error::Pause(chain(&err)))?),
        }
    }

    /// Thaws them.
    ///
    /// # Errors
    /// As the runtime's `resume`.
    pub async fn resume(&self) -> Result<(), Failure> {
        self.open()?;
        if !self.cgroups.is_frozen() {
            if self.dialect == Dialect::Crun {
                return Err(Unsupported::new("it is not paused").into());
            }
            return Err(Error::Resume("container not paused".to_owned()).into());
        }
        Ok(self.cgroups.thaw().map_err(|err| Error::Resume(chain(&err)))?)
    }
}
