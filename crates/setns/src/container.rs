// SPDX-License-Identifier: Apache-2.0
//! What is the same for every exec of a container.

use std::fs;
use std::io;
use std::path::Path;

use wedge_reaper::Reaper;
use wedge_runc::Dialect;
use wedge_seccomp::Program;
use wedge_sys::PidFd;

use crate::affinity::{self, AffinityError, ExecCpuAffinity, Pin};
use crate::capabilities::Masks;
use crate::cgroup::Cgroups;
use crate::crun::Crun;
use crate::error::Unsupported;
use crate::host::Host;
use crate::namespaces::{self, NEW_MOUNT};
use crate::schedule::{IoPriority, Scheduler};
use crate::seccomp;
use crate::state::{Config, State};

/// Where a container is found.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The OCI runtime's directory of the container, which holds `state.json` or `status`.
    pub state: &'a Path,
    /// Its id.
    pub id: &'a str,
    /// The pid of its init.
    pub init: u32,
    /// Which runtime has made it, if that is known.
    pub dialect: Option<Dialect>,
}

/// What every exec of a container inherits from it. Holds a pidfd of the init and, on cgroup v2,
/// a descriptor of its cgroup; drop it with the container.
#[derive(Debug)]
pub struct Container {
    /// What is otherwise because crun has made it.
    pub(crate) crun: Option<Crun>,
    pub(crate) init: PidFd,
    pub(crate) init_pid: u32,
    /// Flags of the namespaces that were configured.
    pub(crate) namespaces: u32,
    pub(crate) cgroups: Cgroups,
    /// The name of the session keyring, unless the container has none of its own.
    pub(crate) keyring: Option<String>,
    pub(crate) capabilities: Option<Masks>,
    pub(crate) umask: Option<u32>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) personality: Option<u32>,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) affinity: ExecCpuAffinity,
    pub(crate) pin: Result<Option<Pin>, AffinityError>,
    /// Whether a cpuset is configured: it changes an error's text.
    pub(crate) cpuset: bool,
    /// Whether setgroups(2) is allowed in the user namespace.
    pub(crate) set_groups: bool,
    pub(crate) seccomp: Option<Program>,
}

impl Container {
    /// Reads the runtime's state of a container and checks that it is of the init we know.
    ///
    /// # Errors
    /// When it is not, or says something that execs of ours could not reproduce exactly.
    pub async fn load(
        host: &Host,
        reaper: &Reaper,
        place: Place<'_>,
    ) -> Result<Container, Unsupported> {
        let dialect = match place.dialect {
            None => wedge_runc::find_dialect(place.state)?,
            known => known,
        };
        match dialect {
            Some(Dialect::Crun) => Container::of_crun(host, place),
            Some(Dialect::Runc) | None => Container::of_runc(host, reaper, place).await,
        }
    }

    async fn of_runc(
        host: &Host,
        reaper: &Reaper,
        place: Place<'_>,
    ) -> Result<Container, Unsupported> {
        let state = State::read(place.state)?;
        let init = identify(&state, place.init)?;
        check(host, &state)?;
        let seccomp = match &state.config.seccomp {
            Some(profile) => Some(seccomp::compile(host, reaper, profile).await?),
            None => None,
        };
        let namespaces = configured(&state.config)?;
        let cgroups = Cgroups::of(&state.cgroup_paths)?;
        let cgroups = cgroups.ok_or_else(|| Unsupported::new("the container has no cgroup"))?;
        let pin = affinity::pin(
            state.annotation(affinity::ANNOTATION),
            &state.config.cgroups.cpuset_cpus,
            affinity::read_isolated_cpus,
        );
        let config = state.config;
        Ok(Container {
            crun: None,
            init,
            init_pid: place.init,
            namespaces,
            cgroups,
            keyring: (!config.no_new_keyring).then(|| format!("_ses.{}", place.id)),
            capabilities: config.capabilities.map(|sets| Masks::of(&sets, host.last_cap)),
            umask: config.umask,
            oom_score_adj: config.oom_score_adj,
            personality: config.personality.map(|personality| personality.domain),
            scheduler: config.scheduler,
            io_priority: config.io_priority,
            affinity: config.exec_cpu_affinity.map_or_else(ExecCpuAffinity::default, |affinity| {
                ExecCpuAffinity::from_words(affinity.initial.as_deref(), affinity.last.as_deref())
            }),
            pin,
            cpuset: !config.cgroups.cpuset_cpus.is_empty(),
            set_groups: may_set_groups(place.init)?,
            seccomp,
        })
    }
}

pub(crate) fn may_set_groups(pid: u32) -> Result<bool, Unsupported> {
    Ok(file(pid, "setgroups")?.is_none_or(|text| text.trim() == "allow"))
}

/// Opens the init and then checks that this is the process runc means: a pid may be reused.
fn identify(state: &State, pid: u32) -> Result<PidFd, Unsupported> {
    if state.init_process_pid != pid {
        let theirs = state.init_process_pid;
        return Err(Unsupported::new(format!("runc's state is of pid {theirs}, not {pid}")));
    }
    let unseen = |err| Unsupported::of(format_args!("init {pid}"), &err);
    let init = PidFd::open(pid).map_err(unseen)?;
    if wedge_runc::start_time(pid).map_err(unseen)? != state.init_process_start {
        return Err(Unsupported::new(format!("runc's state is of another process {pid}")));
    }
    Ok(init)
}

/// `None` when the kernel has no such file.
fn file(pid: u32, name: &str) -> Result<Option<String>, Unsupported> {
    let path = format!("/proc/{pid}/{name}");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Unsupported::of(path, &err)),
    }
}

/// What is left to the OCI runtime's own exec.
fn check(host: &Host, state: &State) -> Result<(), Unsupported> {
    let config = &state.config;
    let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let personality = config.personality.as_ref().map_or(0, |personality| personality.domain);
    let reasons = [
        (state.rootless || config.rootless_euid || config.rootless_cgroups, "it is rootless"),
        (set(&state.intel_rdt_path) || config.intel_rdt.is_some(), "it has an Intel RDT group"),
        (config.memory_policy.is_some(), "it has a memory policy"),
        (config.parent_death_signal != 0, "it has a parent-death signal"),
        (set(&config.process_label) && host.selinux, "it has a SELinux label"),
        (set(&config.apparmor_profile), "its state names an AppArmor profile"),
        (personality & !0x8 != 0, "it has a personality other than LINUX and LINUX32"),
        (!has_root(state.init_process_pid)?, "its user namespace has no root"),
    ];
    match reasons.into_iter().find(|(applies, _)| *applies) {
        Some((_, reason)) => Err(Unsupported::new(reason)),
        None => Ok(()),
    }
}

/// Whether the user namespace of `pid` has a root.
pub(crate) fn has_root(pid: u32) -> Result<bool, Unsupported> {
    let has = |map| Ok(file(pid, map)?.is_some_and(|map| maps_root(&map)));
    Ok(has("uid_map")? && has("gid_map")?)
}

/// Whether a map of user_namespaces(7) has the id 0.
fn maps_root(map: &str) -> bool {
    map.lines().any(|line| line.split_whitespace().next() == Some("0"))
}

fn configured(config: &Config) -> Result<u32, Unsupported> {
    let mut flags = 0;
    for namespace in config.namespaces.as_deref().unwrap_or_default() {
        let flag = namespaces::flag(&namespace.kind);
        flags |= flag
            .ok_or_else(|| Unsupported::new(format!("it has a namespace {:?}", namespace.kind)))?;
    }
    if flags & NEW_MOUNT == 0 {
        return Err(Unsupported::new("it has no mount namespace"));
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_with_root_maps_it() {
        assert!(maps_root("         0     100000      65536\n"));
        assert!(maps_root("1000 1 1\n0 5 1\n"));
        assert!(!maps_root("1000 0 1\n") && !maps_root(""));
    }

    #[test]
    fn without_a_mount_namespace_the_runtime_is_asked() {
        let config = |json: &str| serde_json::from_str::<Config>(json).unwrap();
        let both = r#"{"namespaces":[{"type":"NEWNS"},{"type":"NEWPID","path":"/p"}]}"#;
        assert_eq!(configured(&config(both)), Ok(NEW_MOUNT | 0x2000_0000));
        assert!(configured(&config(r#"{"namespaces":[{"type":"NEWPID"}]}"#)).is_err());
        assert!(configured(&config(r#"{"namespaces":[{"type":"NEWS"}]}"#)).is_err());
        assert!(configured(&config(r#"{"namespaces":null}"#)).is_err());
    }
}
