// SPDX-License-Identifier: Apache-2.0
//! The cgroups of a container, as runc recorded them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::Unsupported;

/// Where cgroup v2 is mounted, on its own.
const UNIFIED: &str = "/sys/fs/cgroup";

#[derive(Debug)]
pub(crate) enum Cgroups {
    /// v2: one directory, and an `O_PATH` descriptor of it while it could be opened.
    Unified { path: PathBuf, directory: Option<OwnedFd> },
    /// v1: every hierarchy's, with `name=systemd` and a hybrid machine's v2.
    Legacy { paths: Vec<PathBuf>, freezer: Option<PathBuf> },
}

impl Cgroups {
    /// `cgroup_paths` of the state: v2 has one, under the empty name.
    pub(crate) fn of(paths: &BTreeMap<String, PathBuf>) -> Result<Option<Cgroups>, Unsupported> {
        Ok(match (paths.get(""), paths.len()) {
            (_, 0) => None,
            (Some(path), 1) => {
                let directory = open_directory(path)?;
                Some(Cgroups::Unified { path: path.clone(), directory })
            }
            _ => Some(Cgroups::Legacy {
                paths: paths.values().cloned().collect(),
                freezer: paths.get("freezer").cloned(),
            }),
        })
    }

    /// Whether the container is paused. A frozen ancestor does not count, a missing file means no.
    pub(crate) fn frozen(&self) -> bool {
        match self {
            Cgroups::Unified { path, .. } => says(&path.join("cgroup.freeze"), b"1"),
            Cgroups::Legacy { freezer: Some(freezer), .. } => {
                !says(&freezer.join("freezer.state"), b"THAWED")
                    && says(&freezer.join("freezer.self_freezing"), b"1")
            }
            Cgroups::Legacy { freezer: None, .. } => false,
        }
    }

    /// The directory a process can be born in.
    pub(crate) fn directory(&self) -> Option<&OwnedFd> {
        match self {
            Cgroups::Unified { directory, .. } => directory.as_ref(),
            Cgroups::Legacy { .. } => None,
        }
    }

    /// The files by which a process joins, and whether the first that works is enough. On v2 the
    /// second is where the init is now: it may have moved itself, and the first one be gone or
    /// take no processes any more (runc #2356, #5089).
    pub(crate) fn procs(&self, init_pid: u32) -> (Vec<PathBuf>, bool) {
        let procs = |path: &Path| path.join("cgroup.procs");
        match self {
            Cgroups::Unified { path, .. } => {
                let now = where_it_is(init_pid).map(|path| procs(&path));
                ([procs(path)].into_iter().chain(now).collect(), true)
            }
            Cgroups::Legacy { paths, .. } => {
                (paths.iter().map(|path| procs(path)).collect(), false)
            }
        }
    }
}

/// Whether a file of one short line says `value`. By one read: it is asked before every exec.
fn says(path: &Path, value: &[u8]) -> bool {
    let mut line = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read(&mut line));
    read.is_ok_and(|length| line.get(..length).unwrap_or_default().trim_ascii() == value)
}

/// `None` when there is no such directory.
fn open_directory(path: &Path) -> Result<Option<OwnedFd>, Unsupported> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let failed = |err| Unsupported::of(path.display(), &err);
    match opened {
        Ok(directory) => Ok(Some(directory.into())),
        Err(err) => Some(failed(err)).filter(Unsupported::is_passing).map_or(Ok(None), Err),
    }
}

/// The v2 cgroup of `pid`, cgroups(7).
fn where_it_is(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // What is outside of our cgroup namespace has no path here.
    (!path.starts_with("..")).then(|| Path::new(UNIFIED).join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(entries: &[(&str, &Path)]) -> BTreeMap<String, PathBuf> {
        entries.iter().map(|(name, path)| ((*name).to_owned(), path.to_path_buf())).collect()
    }

    #[test]
    fn one_path_without_a_name_is_v2() {
        let dir = tempfile::tempdir().unwrap();
        let v2 = Cgroups::of(&paths(&[("", dir.path())])).unwrap().unwrap();
        assert!(v2.directory().is_some());
        let (procs, any) = v2.procs(std::process::id());
        assert!(any && procs[0] == dir.path().join("cgroup.procs"), "{procs:?}");
        assert!(!v2.frozen());
        fs::write(dir.path().join("cgroup.freeze"), "1\n").unwrap();
        assert!(v2.frozen());
        assert!(Cgroups::of(&BTreeMap::new()).unwrap().is_none());
        let gone = Cgroups::of(&paths(&[("", Path::new("/nonexistent"))])).unwrap().unwrap();
        assert!(gone.directory().is_none() && !gone.frozen());
    }

    #[test]
    fn v1_joins_all_and_asks_its_freezer() {
        let dir = tempfile::tempdir().unwrap();
        let v1 = Cgroups::of(&paths(&[("freezer", dir.path()), ("", Path::new("/u"))]))
            .unwrap()
            .unwrap();
        let (procs, any) = v1.procs(1);
        assert!(!any && procs.len() == 2 && v1.directory().is_none());
        for (state, own, frozen) in [
            ("THAWED", "0", false),
            ("FROZEN", "1", true),
            ("FREEZING", "1", true),
            ("FROZEN", "0", false),
        ] {
            fs::write(dir.path().join("freezer.state"), state).unwrap();
            fs::write(dir.path().join("freezer.self_freezing"), own).unwrap();
            assert_eq!(v1.frozen(), frozen, "{state} {own}");
        }
    }
}
