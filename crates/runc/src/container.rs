// SPDX-License-Identifier: Apache-2.0
//! A container, as the OCI runtime left it in its state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wedge_cgroups::Tree;
use wedge_sys::PidFd;

use crate::crun;
use crate::dialect::Dialect;
use crate::directory::{Directory, Identity};
use crate::error::{Error, Failure, Unsupported, chain};
use crate::state::{Hooks, State, start_time};

/// Where a container is found.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The runtime's directory of its containers, `--root`.
    pub root: &'a Path,
    /// The container's id.
    pub id: &'a str,
    /// The pid of its init, which has not been reaped.
    pub init: u32,
    /// Which runtime has made it: one of another is left alone.
    pub dialect: Dialect,
}

/// What the runtime's commands would read from its state, each time. Holds nothing open.
#[derive(Debug)]
pub struct Container {
    pub(crate) dialect: Dialect,
    pub(crate) directory: PathBuf,
    identity: Identity,
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) private_pids: bool,
    pub(crate) cgroups: Tree,
    /// Why the runtime has to start it.
    pub(crate) not_started: Option<&'static str>,
    /// Why the runtime has to delete it.
    pub(crate) not_deleted: Option<&'static str>,
}

/// The status, which is found anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Container {
    /// Reads the runtime's state of a container and checks that it is of the init we know.
    ///
    /// # Errors
    /// When it is not, or says something that is not known here.
    pub fn load(place: Place<'_>) -> Result<Container, Unsupported> {
        let path = place.root.join(place.id);
        let directory = Directory::open(&path)?;
        match place.dialect {
            Dialect::Crun => Container::of_crun(place, path, &directory),
            Dialect::Runc => Container::of_runc(place, path, &directory),
        }
    }

    fn of_runc(
        place: Place<'_>,
        path: PathBuf,
        directory: &Directory,
    ) -> Result<Container, Unsupported> {
        let state: State = directory
            .state(Dialect::Runc)
            .map_err(|err| Unsupported::new(format!("runc's state cannot be read: {err}")))?;
        if state.id != place.id || state.init_process_pid != place.init {
            let (id, pid) = (&state.id, state.init_process_pid);
            return Err(Unsupported::new(format!("runc's state is of {id}, process {pid}")));
        }
        // Not reaped, so nobody else can have got the pid.
        if !start_time(place.init).is_ok_and(|time| time == state.init_process_start) {
            let pid = place.init;
            return Err(Unsupported::new(format!("runc's state is of another process {pid}")));
        }
        if rootless(&state) {
            return Err(Unsupported::new("it is rootless"));
        }
        let paths = state.cgroup_paths.as_ref();
        let paths = paths.ok_or_else(|| Unsupported::new("the container has no cgroup"))?;
        let cgroups = Tree::recorded(paths).map_err(|err| Unsupported::new(chain(&err)))?;
        Ok(Container {
            dialect: Dialect::Runc,
            identity: directory.identity(),
            directory: path,
            id: state.id.clone(),
            pid: state.init_process_pid,
            start: state.init_process_start,
            private_pids: state.config.private_pids(),
            cgroups,
            not_started: not_started(state.config.hooks.as_ref(), directory.has_notify()),
            not_deleted: not_deleted(&state),
        })
    }

    fn of_crun(
        place: Place<'_>,
        path: PathBuf,
        directory: &Directory,
    ) -> Result<Container, Unsupported> {
        let unread = |err: std::io::Error| crun::unread(&err);
        let status: crun::Status = directory.state(Dialect::Crun).map_err(unread)?;
        crun::check(&status, place.init)?;
        let config: crun::Config = directory.json(crun::CONFIG).map_err(unread)?;
        let cgroup = BTreeMap::from([(String::new(), config.plain(&status)?)]);
        let systemd = status.systemd.then_some("its cgroup is a unit of systemd");
        Ok(Container {
            dialect: Dialect::Crun,
            identity: directory.identity(),
            directory: path,
            id: place.id.to_owned(),
            pid: status.pid,
            start: status.start,
            // crun kills what is left in the cgroup whatever it shares.
            private_pids: false,
            cgroups: Tree::recorded(&cgroup).map_err(|err| Unsupported::new(chain(&err)))?,
            not_started: not_started(config.hooks.as_ref(), directory.has_notify()),
            not_deleted: systemd.or(config.not_deleted()),
        })
    }

    /// The processes of the container, in the host's pid namespace; none when its cgroup is gone.
    ///
    /// # Errors
    /// As `runc ps`.
    pub async fn pids(&self) -> Result<Vec<u32>, Failure> {
        self.open()?;
        Ok(self.cgroups.pids().await.map_err(|err| Error::Pids(chain(&err)))?)
    }

    /// Opens the directory, unless somebody has deleted the container meanwhile, and perhaps made
    /// another one of the same name: runc has the words for that.
    pub(crate) fn open(&self) -> Result<Directory, Unsupported> {
        let directory = Directory::open(&self.directory)?;
        if directory.identity() != self.identity || !directory.has_state(self.dialect) {
            return Err(Unsupported::new(format!(
                "{}'s state is of another container, or none",
                self.dialect
            )));
        }
        Ok(directory)
    }

    /// As the runtime's `state` finds it. `init` is the init, unless it was reaped.
    pub(crate) fn status(&self, directory: &Directory, init: Option<&PidFd>) -> Status {
        let lives = init.is_some_and(|init| !init.has_ended());
        match (self.cgroups.is_frozen(), lives, directory.has_fifo()) {
            (true, ..) => Status::Paused,
            (false, false, _) => Status::Stopped,
            (false, true, true) => Status::Created,
            (false, true, false) => Status::Running,
        }
    }
}

/// runc may have no access to some cgroups then, and ignores what it cannot do.
fn rootless(state: &State) -> bool {
    let config = &state.config;
    let cgroups = config.cgroups.as_ref().and_then(|cgroups| cgroups.rootless);
    [state.rootless, config.rootless_euid, config.rootless_cgroups, cgroups].contains(&Some(true))
}

fn not_started(hooks: Option<&Hooks>, notify: bool) -> Option<&'static str> {
    let hooks = hooks.and_then(|hooks| hooks.poststart.as_ref());
    let reasons = [
        // Which runc made it is not known: up to 1.5 they run in create, later in start.
        (hooks.is_some_and(|hooks| !hooks.is_empty()), "it has a poststart hook"),
        (notify, "it has a notify socket"),
    ];
    reasons.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
}

fn not_deleted(state: &State) -> Option<&'static str> {
    let config = &state.config;
    let hooks = config.hooks.as_ref().and_then(|hooks| hooks.poststop.as_ref());
    let systemd = config.cgroups.as_ref().and_then(|cgroups| cgroups.systemd);
    let set = |path: &Option<String>| path.as_ref().is_some_and(|path| !path.is_empty());
    let rdt = set(&state.intel_rdt_path) || set(&state.intel_rdt_mon_path);
    let reasons = [
        (systemd == Some(true), "its cgroup is a unit of systemd"),
        (rdt || config.intel_rdt.is_some(), "it has an Intel RDT group"),
        (hooks.is_some_and(|hooks| !hooks.is_empty()), "it has a poststop hook"),
        // Without the object runc itself cannot load the state.
        (config.cgroups.is_none(), "its state has no cgroup configuration"),
    ];
    reasons.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
}
