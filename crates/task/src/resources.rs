// SPDX-License-Identifier: Apache-2.0
//! What the container uses, and what it may use.

use wedge_cgroups::{Cgroup, Stats};

use crate::error::{Error, Result};
use crate::lifecycle::Op;
use crate::lock;
use crate::remains::Namespaces;
use crate::task::Task;

impl Task {
    /// Remembers the cgroups and namespaces that the OCI runtime has put the init `pid` into, and
    /// its state of the container. They are found once, so that even of an init that has died at
    /// once they are the right ones.
    pub(crate) fn find_surroundings(&self, pid: u32) {
        *lock(&self.namespaces) = Namespaces::of(&pid.to_string());
        match Cgroup::of(pid) {
            Ok(cgroup) => *lock(&self.cgroup) = Some(cgroup),
            Err(err) => {
                log::warn!(id = self.id.as_str(), pid = pid; "no stats and OOM events of this container: {err}");
            }
        }
        self.find_commands(pid);
    }

    /// What the container's cgroups have counted. Takes no turn, and no state is too early or too
    /// late: of a removed cgroup everything is 0.
    pub(crate) fn stats(&self) -> Result<Stats> {
        let cgroup = lock(&self.cgroup).clone();
        let cgroup = cgroup.ok_or_else(|| Error::Gone("cgroup does not exist".to_owned()))?;
        Ok(cgroup.stats())
    }

    /// Changes the limits to `resources`, JSON of an OCI `LinuxResources`. Only through the OCI
    /// runtime, which keeps a copy of them, and so may systemd.
    pub(crate) async fn update(&self, resources: &[u8]) -> Result<()> {
        let _turn = self.init.turn.lock().await;
        self.init.lifecycle().check(Op::Update)?;
        let updated = self.runtime.update(resources).await;
        // The cpuset may be another.
        self.native.forget().await;
        Ok(updated?)
    }
}
