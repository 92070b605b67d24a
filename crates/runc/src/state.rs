// SPDX-License-Identifier: Apache-2.0
//! What runc's `state.json` says of a container's life; how its processes are confined does not
//! matter here.
//!
//! Keys as of runc 1.0 to 1.5 (`libcontainer/container.go`, `libcontainer/configs/config.go`). As in
//! Go a missing key and a null are the zero value. A key that is not known may be of a runc that has
//! more to do in one of its commands, and is refused where that would show: at the top, where
//! runc keeps what it made for a container, and among the hooks.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) id: String,
    pub(crate) init_process_pid: u32,
    pub(crate) init_process_start: u64,
    pub(crate) config: Config,
    #[serde(default)]
    pub(crate) rootless: Option<bool>,
    #[serde(default)]
    pub(crate) cgroup_paths: Option<BTreeMap<String, PathBuf>>,
    #[serde(default)]
    pub(crate) intel_rdt_path: Option<String>,
    #[serde(default)]
    pub(crate) intel_rdt_mon_path: Option<String>,
    #[serde(default, rename = "created")]
    _created: IgnoredAny,
    #[serde(default, rename = "namespace_paths")]
    _namespace_paths: IgnoredAny,
    #[serde(default, rename = "external_descriptors")]
    _external_descriptors: IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    namespaces: Option<Vec<Namespace>>,
    pub(crate) rootless_euid: Option<bool>,
    pub(crate) rootless_cgroups: Option<bool>,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) intel_rdt: Option<IgnoredAny>,
    #[serde(rename = "Hooks", alias = "hooks")]
    pub(crate) hooks: Option<Hooks>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cgroups {
    #[serde(rename = "Systemd", alias = "systemd")]
    pub(crate) systemd: Option<bool>,
    #[serde(rename = "Rootless", alias = "rootless")]
    pub(crate) rootless: Option<bool>,
}

/// Only those that run after `create` matter.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Hooks {
    pub(crate) poststart: Option<Vec<IgnoredAny>>,
    pub(crate) poststop: Option<Vec<IgnoredAny>>,
    #[serde(rename = "prestart")]
    _prestart: IgnoredAny,
    #[serde(rename = "createRuntime")]
    _create_runtime: IgnoredAny,
    #[serde(rename = "createContainer")]
    _create_container: IgnoredAny,
    #[serde(rename = "startContainer")]
    _start_container: IgnoredAny,
}

impl Config {
    /// Whether its processes end with its init: it has a pid namespace of its own.
    pub(crate) fn private_pids(&self) -> bool {
        let own = |namespace: &Namespace| {
            namespace.kind == "NEWPID" && namespace.path.as_deref().unwrap_or_default().is_empty()
        };
        self.namespaces.as_deref().unwrap_or_default().iter().any(own)
    }
}

/// When `pid` was started, in clock ticks since boot: with the pid, the identity of a process.
///
/// # Errors
/// When there is no such process, or it cannot be looked at.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    start_time_in(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Field 22 of `/proc/PID/stat`, proc_pid_stat(5). The name in field 2 may hold anything.
fn start_time_in(stat: &str) -> Option<u64> {
    const AFTER_NAME: usize = 22 - 3;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(AFTER_NAME)?.parse().ok()
}

/// For `fuzz/`.
pub mod fuzzing {
    /// Whether the bytes are a state, and of a container with a pid namespace of its own.
    pub fn state(bytes: &[u8]) -> Option<bool> {
        let state: super::State = serde_json::from_slice(bytes).ok()?;
        Some(state.config.private_pids())
    }

    /// Whether the bytes are a status of crun's, and of whom.
    pub fn status(bytes: &[u8]) -> Option<u32> {
        serde_json::from_slice::<crate::crun::Status>(bytes).ok().map(|status| status.pid)
    }

    /// The start time in a process's stat.
    pub fn start_time(stat: &str) -> Option<u64> {
        super::start_time_in(stat)
    }
}

#[cfg(test)]
mod tests;
