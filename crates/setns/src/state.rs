// SPDX-License-Identifier: Apache-2.0
//! runc's `state.json`: what it knows of a container and applies to every exec.
//!
//! Keys as of runc 1.0 to 1.5 (`libcontainer/container.go`, `libcontainer/configs/config.go`);
//! unknown ones are ignored, missing ones have Go's zero value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::Unsupported;
use crate::schedule::{IoPriority, Scheduler};

#[derive(Debug, Deserialize)]
pub(crate) struct State {
    pub(crate) init_process_pid: u32,
    pub(crate) init_process_start: u64,
    pub(crate) config: Config,
    #[serde(default)]
    pub(crate) cgroup_paths: BTreeMap<String, PathBuf>,
    #[serde(default)]
    pub(crate) intel_rdt_path: Option<String>,
    #[serde(default)]
    pub(crate) rootless: bool,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(crate) struct Config {
    pub(crate) namespaces: Option<Vec<Namespace>>,
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) umask: Option<u32>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) process_label: Option<String>,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) no_new_keyring: bool,
    pub(crate) parent_death_signal: i32,
    pub(crate) rootless_euid: bool,
    pub(crate) rootless_cgroups: bool,
    pub(crate) cgroups: Cgroups,
    pub(crate) seccomp: Option<Value>,
    pub(crate) personality: Option<Personality>,
    pub(crate) memory_policy: Option<Value>,
    pub(crate) intel_rdt: Option<Value>,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) exec_cpu_affinity: Option<ExecCpuAffinity>,
    /// `key=value` of every annotation.
    pub(crate) labels: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Namespace {
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// Absent is not empty: without the object no capability is touched.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    #[serde(alias = "Bounding")]
    pub(crate) bounding: Option<Vec<String>>,
    #[serde(alias = "Effective")]
    pub(crate) effective: Option<Vec<String>>,
    #[serde(alias = "Inheritable")]
    pub(crate) inheritable: Option<Vec<String>>,
    #[serde(alias = "Permitted")]
    pub(crate) permitted: Option<Vec<String>>,
    #[serde(alias = "Ambient")]
    pub(crate) ambient: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cgroups {
    pub(crate) cpuset_cpus: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Personality {
    #[serde(default)]
    pub(crate) domain: u32,
}

/// Words of 64 CPUs.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(crate) struct ExecCpuAffinity {
    #[serde(rename = "Initial")]
    pub(crate) initial: Option<Vec<u64>>,
    #[serde(rename = "Final")]
    pub(crate) last: Option<Vec<u64>>,
}

impl State {
    /// Reads the state of the container whose state directory is `dir`.
    pub(crate) fn read(dir: &Path) -> Result<State, Unsupported> {
        wedge_runc::read_state(dir)
    }

    /// The annotation `name`.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        let labels = self.config.labels.as_deref().unwrap_or_default();
        labels.iter().find_map(|label| label.strip_prefix(name)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_1_1_writes_and_what_1_5_leaves_out_load() {
        let old = r#"{"id":"x","init_process_pid":7,"init_process_start":99,"created":"now","config":
            {"umask":null,"namespaces":[{"type":"NEWPID","path":""}],"capabilities":{"Bounding":
            ["CAP_KILL"],"Inheritable":null},"cgroups":{"cpuset_cpus":"0-1","pids_limit":0},
            "seccomp":null,"no_new_keyring":true,"labels":["a.b=c=d","bundle=/b"]},
            "cgroup_paths":{"":"/u/x","cpu":"/c/x"},"intel_rdt_path":"","rootless":false}"#;
        let state: State = serde_json::from_str(old).unwrap();
        assert_eq!((state.init_process_pid, state.cgroup_paths.len()), (7, 2));
        assert_eq!(state.config.cgroups.cpuset_cpus, "0-1");
        assert!(state.config.no_new_keyring && state.config.seccomp.is_none());
        assert_eq!(state.annotation("a.b"), Some("c=d"));
        assert_eq!(state.annotation("a"), None);
        let new = r#"{"init_process_pid":7,"init_process_start":99,"config":{"cgroups":{},
            "personality":{"domain":8},"exec_cpu_affinity":{"Initial":[1,0],"Final":null}}}"#;
        let state: State = serde_json::from_str(new).unwrap();
        assert!(state.config.capabilities.is_none() && state.config.umask.is_none());
        assert_eq!(state.config.personality.unwrap().domain, 8);
        assert_eq!(state.config.exec_cpu_affinity.unwrap().initial, Some(vec![1, 0]));
    }

    #[test]
    fn what_is_not_runcs_is_unsupported() {
        let dir = tempfile::tempdir().unwrap();
        assert!(State::read(dir.path()).is_err());
        std::fs::write(dir.path().join("state.json"), r#"{"pid":7,"status":"running"}"#).unwrap();
        let reason = State::read(dir.path()).unwrap_err().to_string();
        assert!(reason.contains("init_process_pid"), "{reason}");
    }
}
