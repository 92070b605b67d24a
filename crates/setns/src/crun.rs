// SPDX-License-Identifier: Apache-2.0
//! Containers that crun made: what every exec inherits from them, and what crun does otherwise.
//!
//! crun keeps the OCI configuration itself, and the seccomp program it has compiled of it. Its exec
//! joins every namespace of the init, sets no keyring and no OOM score, and takes from the
//! container's process what the exec's does not say. What it would refuse it refuses itself: its
//! words are not the same in every version (docs/adr/0015-crun.md).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use wedge_seccomp::{MAX_INSNS, Program};
use wedge_sys::PidFd;

use crate::affinity::ExecCpuAffinity;
use crate::capabilities::Masks;
use crate::cgroup::Cgroups;
use crate::container::{Container, Place, has_root, may_set_groups};
use crate::error::Unsupported;
use crate::host::Host;
use crate::namespaces;
use crate::state::Capabilities;

/// The mark of a container of crun's, and its own defaults for execs.
#[derive(Debug)]
pub(crate) struct Crun {
    /// The AppArmor profile.
    pub(crate) apparmor: String,
}

/// The file mode creation mask of a process that has none.
pub(crate) const UMASK: u32 = 0o022;

/// `config.json` of the OCI runtime specification.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    process: Process,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Process {
    capabilities: Option<Capabilities>,
    apparmor_profile: Option<String>,
    selinux_label: Option<String>,
    scheduler: Option<IgnoredAny>,
    io_priority: Option<IgnoredAny>,
    #[serde(rename = "execCPUAffinity")]
    exec_cpu_affinity: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    namespaces: Option<Vec<Namespace>>,
    seccomp: Option<Value>,
    personality: Option<Personality>,
    intel_rdt: Option<IgnoredAny>,
    memory_policy: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Personality {
    domain: String,
    #[serde(default)]
    flags: Option<Vec<IgnoredAny>>,
}

impl Container {
    /// Reads crun's state of a container.
    pub(crate) fn of_crun(host: &Host, place: Place<'_>) -> Result<Container, Unsupported> {
        // First the process, then whether it is the one that is meant.
        let init = PidFd::open(place.init);
        let init =
            init.map_err(|err| Unsupported::of(format_args!("init {}", place.init), &err))?;
        let state = wedge_runc::Crun::<Config>::read(place.state, place.init)?;
        let Config { process, linux } = state.config;
        check(host, place.init, &process, &linux)?;
        let capabilities = process.capabilities.unwrap_or_default();
        Ok(Container {
            crun: Some(Crun { apparmor: process.apparmor_profile.unwrap_or_default() }),
            init,
            init_pid: place.init,
            namespaces: namespaces::ALL,
            cgroups: cgroups(state.cgroup)?,
            keyring: None,
            capabilities: Some(Masks::exact(&capabilities, host.last_cap)?),
            umask: Some(UMASK),
            oom_score_adj: None,
            personality: linux.personality.as_ref().map(domain).transpose()?,
            scheduler: None,
            io_priority: None,
            affinity: ExecCpuAffinity::default(),
            pin: Ok(None),
            cpuset: false,
            set_groups: may_set_groups(place.init)?,
            seccomp: filter(place.state, linux.seccomp.as_ref())?,
        })
    }
}

/// What is left to crun's own exec.
fn check(host: &Host, init: u32, process: &Process, linux: &Linux) -> Result<(), Unsupported> {
    let label = process.selinux_label.as_ref().is_some_and(|label| !label.is_empty());
    let kinds = linux.namespaces.as_deref().unwrap_or_default();
    let scheduled = process.scheduler.is_some() || process.io_priority.is_some();
    let reasons = [
        (!kinds.iter().any(|namespace| namespace.kind == "mount"), "it has no mount namespace"),
        (linux.intel_rdt.is_some(), "it has an Intel RDT group"),
        (linux.memory_policy.is_some(), "it has a memory policy"),
        (label && host.selinux, "it has a SELinux label"),
        (scheduled, "it has a scheduling policy or an I/O priority"),
        (process.exec_cpu_affinity.is_some(), "it has a CPU affinity for execs"),
        (!has_root(init)?, "its user namespace has no root"),
    ];
    match reasons.into_iter().find(|(applies, _)| *applies) {
        Some((_, reason)) => Err(Unsupported::new(reason)),
        None => Ok(()),
    }
}

fn cgroups(path: PathBuf) -> Result<Cgroups, Unsupported> {
    let cgroups = Cgroups::of(&BTreeMap::from([(String::new(), path)]))?;
    cgroups.ok_or_else(|| Unsupported::new("the container has no cgroup"))
}

fn domain(personality: &Personality) -> Result<u32, Unsupported> {
    let flags = personality.flags.as_ref().is_some_and(|flags| !flags.is_empty());
    match personality.domain.as_str() {
        "LINUX" if !flags => Ok(0),
        "LINUX32" if !flags => Ok(8),
        _ => Err(Unsupported::new("it has a personality other than LINUX and LINUX32")),
    }
}

/// The program that crun has compiled. A container with a profile has one, or crun's exec has to
/// say what that means.
fn filter(state: &Path, profile: Option<&Value>) -> Result<Option<Program>, Unsupported> {
    const INSN: u64 = 8;
    let limit = u64::try_from(MAX_INSNS).unwrap_or_default() * INSN;
    let program = wedge_runc::read_file(state, "seccomp.bpf", limit)?;
    let (program, profile) = match (program, profile) {
        (None, None) => return Ok(None),
        (Some(program), Some(profile)) => (program, profile),
        (Some(_), None) => {
            return Err(Unsupported::new("it has a seccomp program, but no profile"));
        }
        (None, Some(_)) => return Err(Unsupported::new("crun has kept no seccomp program")),
    };
    let listed = |name: &str| profile.get(name).is_some_and(|value| !is_empty(value));
    if listed("flags") {
        return Err(Unsupported::new("its seccomp profile has flags"));
    }
    if listed("listenerPath") || listed("listenerMetadata") || notifies(profile) {
        return Err(Unsupported::new("its seccomp profile has a listener"));
    }
    let program = Program::of_filter(program);
    program.map(Some).map_err(|err| Unsupported::new(format!("seccomp program: {err}")))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

fn notifies(profile: &Value) -> bool {
    const NOTIFY: &str = "SCMP_ACT_NOTIFY";
    let rules = profile.get("syscalls").and_then(Value::as_array);
    let actions = rules.into_iter().flatten().map(|rule| rule.get("action"));
    let mut actions = actions.chain([profile.get("defaultAction")]).flatten();
    actions.any(|action| action.as_str() == Some(NOTIFY))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_with_a_profile_is_never_without_its_program() {
        let dir = tempfile::tempdir().unwrap();
        let (path, profile) = (dir.path().join("seccomp.bpf"), json!({"defaultAction": "X"}));
        let find = |profile| filter(dir.path(), profile);
        assert_eq!(find(None), Ok(None));
        assert!(find(Some(&profile)).is_err(), "missing");
        for bytes in [0, 7, 12, 8 * (MAX_INSNS + 1)] {
            fs::write(&path, vec![6; bytes]).unwrap();
            assert!(find(Some(&profile)).is_err(), "{bytes} bytes");
        }
        fs::write(&path, [6; 16]).unwrap();
        assert_eq!(find(Some(&profile)).unwrap().unwrap().insns(), 2);
        assert!(find(None).is_err(), "of nothing");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(find(Some(&profile)).is_err(), "others write to it");
        fs::rename(&path, dir.path().join("other")).unwrap();
        symlink("other", &path).unwrap();
        assert!(find(Some(&profile)).is_err(), "a link");
    }

    #[test]
    fn listeners_and_flags_are_cruns() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("seccomp.bpf"), [6; 16]).unwrap();
        for (profile, usable) in [
            (
                json!({"flags": [], "listenerPath": "", "syscalls": [{"action": "SCMP_ACT_LOG"}]}),
                true,
            ),
            (json!({"flags": ["SECCOMP_FILTER_FLAG_LOG"]}), false),
            (json!({"listenerPath": "/run/x"}), false),
            (json!({"syscalls": [{"action": "SCMP_ACT_NOTIFY"}]}), false),
            (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), false),
        ] {
            assert_eq!(filter(dir.path(), Some(&profile)).is_ok(), usable, "{profile}");
        }
    }

    #[test]
    fn only_two_personalities_are_known() {
        let of = |json| domain(&serde_json::from_value(json).unwrap());
        assert_eq!(of(json!({"domain": "LINUX", "flags": []})), Ok(0));
        assert_eq!(of(json!({"domain": "LINUX32"})), Ok(8));
        assert!(of(json!({"domain": "LINUX", "flags": ["X"]})).is_err());
        assert!(of(json!({"domain": "BSD"})).is_err());
    }
}
