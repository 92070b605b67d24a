// SPDX-License-Identifier: Apache-2.0
//! The pid files that the OCI runtime writes.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use wedge_sys::is_passing;

use crate::error::{Error, Result};
use crate::runtime::Runtime;

/// How often, and after which pauses, a pid file is read again: two seconds.
const PID_TRIES: u32 = 100;
const PID_PAUSE: Duration = Duration::from_millis(20);

impl Runtime {
    /// The pid of the created container's init.
    ///
    /// # Errors
    /// "failed to retrieve OCI runtime container pid: …".
    pub async fn init_pid(&self) -> Result<u32> {
        self.pid("container", &self.bundle().init_pid()).await
    }

    /// The pid of the process `exec_id` started by [`Runtime::exec`].
    ///
    /// # Errors
    /// "failed to retrieve OCI runtime exec pid: …".
    pub async fn exec_pid(&self, exec_id: &str) -> Result<u32> {
        self.pid("exec", &self.bundle().exec_pid(exec_id)).await
    }

    /// Nobody else knows the process, which would go on unseen: for want of a descriptor the file is
    /// read again.
    async fn pid(&self, process: &'static str, path: &Path) -> Result<u32> {
        let mut tries = PID_TRIES;
        loop {
            match self.bundle().read_pid(path) {
                Err(Error::Path { cause, .. }) if tries > 0 && is_passing(&cause) => {
                    tries -= 1;
                    sleep(PID_PAUSE).await;
                }
                read => {
                    return read.map_err(|cause| Error::Pid { process, cause: Box::new(cause) });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use wedge_reaper::Reaper;

    use super::*;
    use crate::{Bundle, Options};

    #[tokio::test]
    async fn a_pid_is_read_when_there_is_a_descriptor_again() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(dir.path());
        std::fs::write(bundle.exec_pid("e"), "7").unwrap();
        let runtime = Runtime::new(Reaper::new(), bundle, "ns", "c", &Options::default());
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
        let mut pid = std::pin::pin!(runtime.exec_pid("e"));
        let waits = tokio::time::timeout(PID_PAUSE * 3, &mut pid).await;
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        waits.expect_err("there is none");
        assert_eq!(pid.await.unwrap(), 7);
    }
}
