// SPDX-License-Identifier: Apache-2.0
//! The kubelet's `cgroupDriver`: who makes cgroups, and how those of pods are called.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use wedge_integration::Cmd;

/// Where cgroup v2 is mounted.
const UNIFIED: &str = "/sys/fs/cgroup";

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The OCI runtime, by making directories.
    Cgroupfs,
    /// systemd, asked by the OCI runtime: `SystemdCgroup = true`. Each container is a scope.
    Systemd,
}

impl Driver {
    /// What `WEDGE_TEST_CGROUPS` says: `cgroupfs`, which is also meant by nothing, or `systemd`.
    ///
    /// # Errors
    /// It says something else.
    pub fn from_env() -> Result<Driver> {
        match std::env::var("WEDGE_TEST_CGROUPS").as_deref() {
            Err(_) | Ok("" | "cgroupfs") => Ok(Driver::Cgroupfs),
            Ok("systemd") => Ok(Driver::Systemd),
            Ok(other) => bail!("WEDGE_TEST_CGROUPS={other}: cgroupfs or systemd"),
        }
    }

    /// What a kubelet gives as the parent of a pod's containers. With systemd that is the name of a
    /// slice, here with the test's token as `--cgroup-root`.
    pub(crate) fn parent(self, token: &str, uid: &str) -> String {
        match self {
            Driver::Cgroupfs => format!("/{token}"),
            Driver::Systemd => {
                format!("{token}-kubepods-burstable-pod{}.slice", uid.replace('-', "_"))
            }
        }
    }

    /// The path of a pod's cgroup, by what [`Driver::parent`] has said.
    pub(crate) fn pod_path(self, parent: &str) -> String {
        match self {
            Driver::Cgroupfs => parent.to_owned(),
            Driver::Systemd => slice_path(parent),
        }
    }

    /// The path of a container's cgroup, as in /proc/PID/cgroup.
    pub(crate) fn container_path(self, parent: &str, id: &str) -> String {
        let pod = self.pod_path(parent);
        match self {
            Driver::Cgroupfs => format!("{pod}/{id}"),
            Driver::Systemd => format!("{pod}/{}", scope(id)),
        }
    }

    /// Containers that still have a cgroup, a line each.
    pub(crate) fn left(self, token: &str) -> Vec<String> {
        let mut left = Vec::new();
        if self == Driver::Systemd {
            find_scopes(&top(token), &mut left);
        }
        left
    }

    /// Removes what of pods' cgroups is a kubelet's to remove: slices stay until they are stopped.
    ///
    /// # Errors
    /// systemd cannot be asked.
    pub(crate) fn remove_pods(self, token: &str) -> Result<()> {
        if self == Driver::Systemd && top(token).exists() {
            let slice = format!("{token}.slice");
            Cmd::new("systemctl").args(["stop", &slice]).output()?.assert_ok();
        }
        Ok(())
    }
}

/// The unit of a container.
fn scope(id: &str) -> String {
    format!("cri-containerd-{id}.scope")
}

/// The slice that has everything of a test.
fn top(token: &str) -> PathBuf {
    Path::new(UNIFIED).join(format!("{token}.slice"))
}

/// `a-b.slice` is in `a.slice`: systemd.slice(5).
fn slice_path(name: &str) -> String {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.filter_map(|end| name.get(..end)).map(|slice| format!("/{slice}.slice")).collect()
}

fn find_scopes(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "slice") {
            find_scopes(&path, found);
        } else if path.is_dir() {
            found.push(format!("cgroup {}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_names_are_followed() {
        let parent = Driver::Systemd.parent("wt1", "12-ab");
        assert_eq!(parent, "wt1-kubepods-burstable-pod12_ab.slice");
        assert_eq!(
            Driver::Systemd.container_path(&parent, "c"),
            "/wt1.slice/wt1-kubepods.slice/wt1-kubepods-burstable.slice/\
             wt1-kubepods-burstable-pod12_ab.slice/cri-containerd-c.scope"
        );
        let parent = Driver::Cgroupfs.parent("wt1", "12-ab");
        assert_eq!(Driver::Cgroupfs.container_path(&parent, "c"), "/wt1/c");
    }
}
