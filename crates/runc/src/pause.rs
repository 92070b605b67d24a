// SPDX-License-Identifier: Apache-2.0
//! `runc pause` and `runc resume`.

use wedge_sys::PidFd;

use crate::container::{Container, Status};
use crate::error::{Error, Failure, chain};

impl Container {
    /// Freezes the processes of the container, whose init is `init`, unless that was reaped.
    ///
    /// # Errors
    /// As `runc pause`; nothing is frozen then.
    pub async fn pause(&self, init: Option<&PidFd>) -> Result<(), Failure> {
        let directory = self.open()?;
        match self.status(&directory, init) {
            Status::Created | Status::Running => {}
            Status::Paused | Status::Stopped => {
                return Err(Error::Pause("container not running".to_owned()).into());
            }
        }
        Ok(self.cgroups.freeze().await.map_err(|err| Error::Pause(chain(&err)))?)
    }

    /// Thaws them.
    ///
    /// # Errors
    /// As `runc resume`.
    pub async fn resume(&self) -> Result<(), Failure> {
        self.open()?;
        if !self.cgroups.is_frozen() {
            return Err(Error::Resume("container not paused".to_owned()).into());
        }
        Ok(self.cgroups.thaw().map_err(|err| Error::Resume(chain(&err)))?)
    }
}
