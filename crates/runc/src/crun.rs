// SPDX-License-Identifier: Apache-2.0
//! What crun keeps of a container: `status`, and a copy of the bundle's `config.json`.
//!
//! Keys as of crun 0.17 to 1.29 (`libcrun/status.c`). One that is not known may be of a crun that
//! has more to do in one of its commands, and is refused.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::dialect::Dialect;
use crate::directory::Directory;
use crate::error::Unsupported;
use crate::state::{Hooks, start_time};

/// Where cgroup v2 is, if there is nothing else.
const UNIFIED: &str = "/sys/fs/cgroup";

/// What is asked for in the OCI configuration goes here.
pub(crate) const CONFIG: &str = "config.json";

/// crun's `status`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    pub(crate) pid: u32,
    #[serde(rename = "process-start-time")]
    pub(crate) start: u64,
    #[serde(rename = "cgroup-path")]
    cgroup: PathBuf,
    #[serde(default, rename = "systemd-cgroup")]
    pub(crate) systemd: bool,
    #[serde(default, rename = "intelrdt")]
    rdt: Option<String>,
    #[serde(default, rename = "scope")]
    _scope: IgnoredAny,
    #[serde(default, rename = "rootfs")]
    _rootfs: IgnoredAny,
    #[serde(default, rename = "bundle")]
    _bundle: IgnoredAny,
    #[serde(default, rename = "created")]
    _created: IgnoredAny,
    #[serde(default, rename = "owner")]
    _owner: IgnoredAny,
    #[serde(default, rename = "detached")]
    _detached: IgnoredAny,
    #[serde(default, rename = "external_descriptors")]
    _external_descriptors: IgnoredAny,
}

/// What of the configuration matters to a container's life.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) hooks: Option<Hooks>,
    annotations: Option<BTreeMap<String, String>>,
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    intel_rdt: Option<IgnoredAny>,
    net_devices: Option<IgnoredAny>,
}

impl Config {
    /// Why crun has to delete the container.
    pub(crate) fn not_deleted(&self) -> Option<&'static str> {
        let hooks = self.hooks.as_ref().and_then(|hooks| hooks.poststop.as_ref());
        let linux = self.linux.as_ref();
        let reasons = [
            (hooks.is_some_and(|hooks| !hooks.is_empty()), "it has a poststop hook"),
            (linux.is_some_and(|linux| linux.intel_rdt.is_some()), "it has an Intel RDT group"),
            (linux.is_some_and(|linux| linux.net_devices.is_some()), "it has network devices"),
        ];
        reasons.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
    }
}

/// A container of crun's, whose init is the process it should be.
#[derive(Debug)]
pub struct Crun<T> {
    /// Its cgroup, of v2.
    pub cgroup: PathBuf,
    /// Its OCI configuration, as far as `T` has it.
    pub config: T,
}

impl<T: DeserializeOwned> Crun<T> {
    /// Reads crun's directory of the container whose init is `init`, which was not reaped.
    ///
    /// # Errors
    /// When it is of another process, or of a container that crun does more for than is known here.
    pub fn read(dir: &Path, init: u32) -> Result<Crun<T>, Unsupported> {
        let directory = Directory::open(dir)?;
        let status: Status = directory.state(Dialect::Crun).map_err(|err| unread(&err))?;
        check(&status, init)?;
        let text = directory.text(CONFIG).map_err(|err| unread(&err))?;
        let parsed = |err: serde_json::Error| unread(&err.into());
        // Annotations have a type of their own, so that `T` need not know them.
        let annotated: Config = serde_json::from_slice(&text).map_err(parsed)?;
        let cgroup = annotated.plain(&status)?;
        Ok(Crun { cgroup, config: serde_json::from_slice(&text).map_err(parsed)? })
    }
}

impl Config {
    /// The cgroup, unless crun is asked for what no other runtime does.
    pub(crate) fn plain(&self, status: &Status) -> Result<PathBuf, Unsupported> {
        let names = self.annotations.iter().flat_map(BTreeMap::keys);
        let mut of_crun =
            names.filter(|name| name.starts_with("run.oci.") || name.starts_with("module.wasm."));
        if let Some(name) = of_crun.next() {
            return Err(Unsupported::new(format!("it has the annotation {name}")));
        }
        status.cgroup()
    }
}

/// Whether the status is of this process. Nobody else can have got the pid of one that was not
/// reaped.
pub(crate) fn check(status: &Status, init: u32) -> Result<(), Unsupported> {
    if status.pid != init {
        return Err(Unsupported::new(format!("crun's status is of process {}", status.pid)));
    }
    let started = start_time(init).map_err(|err| unread(&err))?;
    if started != status.start {
        return Err(Unsupported::new(format!("crun's status is of another process {init}")));
    }
    if status.rdt.as_ref().is_some_and(|name| !name.is_empty()) {
        return Err(Unsupported::new("it has an Intel RDT group"));
    }
    Ok(())
}

impl Status {
    fn cgroup(&self) -> Result<PathBuf, Unsupported> {
        let unified = statfs(UNIFIED).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
        if !unified {
            return Err(Unsupported::new("crun's cgroups are not of v2 alone"));
        }
        let mut below = self.cgroup.components().skip_while(|part| *part == Component::RootDir);
        let named = below.clone().next().is_some();
        if !named || !below.all(|part| matches!(part, Component::Normal(_))) {
            return Err(Unsupported::new("the container has no cgroup"));
        }
        let path = self.cgroup.strip_prefix("/").unwrap_or(&self.cgroup);
        Ok(Path::new(UNIFIED).join(path))
    }
}

pub(crate) fn unread(err: &std::io::Error) -> Unsupported {
    Unsupported::of("crun's state cannot be read", err)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"pid":7,"process-start-time":99,"cgroup-path":"/a/b","scope":"",
        "rootfs":"rootfs","systemd-cgroup":false,"bundle":"/b","created":"now","owner":"root",
        "detached":true,"external_descriptors":"[]"}"#;

    #[test]
    fn what_crun_writes_is_read_and_what_it_does_not_is_refused() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        assert_eq!((status.pid, status.start, status.systemd), (7, 99, false));
        let more = STATUS.replacen('{', r#"{"made_by_a_later_crun":1,"#, 1);
        assert!(serde_json::from_str::<Status>(&more).is_err());
        assert!(serde_json::from_str::<Status>(r#"{"pid":7,"cgroup-path":"/a"}"#).is_err());
    }

    #[test]
    fn crun_alone_knows_its_annotations() {
        let config: Config =
            serde_json::from_str(r#"{"annotations":{"run.oci.handler":"wasm"}}"#).unwrap();
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let reason = config.plain(&status).unwrap_err().to_string();
        assert_eq!(reason, "it has the annotation run.oci.handler");
    }

    #[test]
    fn what_crun_has_to_delete_is_known() {
        let reason = |json: &str| serde_json::from_str::<Config>(json).unwrap().not_deleted();
        assert_eq!(reason("{}"), None);
        assert_eq!(reason(r#"{"hooks":{"poststop":[]},"linux":{}}"#), None);
        assert_eq!(reason(r#"{"hooks":{"poststop":[{}]}}"#), Some("it has a poststop hook"));
        assert_eq!(reason(r#"{"linux":{"intelRdt":{}}}"#), Some("it has an Intel RDT group"));
        assert!(serde_json::from_str::<Config>(r#"{"hooks":{"postpone":[]}}"#).is_err());
    }
}
