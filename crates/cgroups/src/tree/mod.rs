// SPDX-License-Identifier: Apache-2.0
//! The cgroups of a container as its OCI runtime recorded them, one in every hierarchy, each with
//! what the container made below it: who is in them, and how they are frozen, killed and removed.
//!
//! Nothing here leaves the recorded directories: they are checked to be cgroups below the root of
//! their hierarchy, no link is followed, and what a look takes is given up now and then, for a
//! container can make as many cgroups as it likes.

mod freezer;
mod kill;
mod remove;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::error::{Error, is_gone};

/// After this many directories the others of the runtime have their turn.
const TURN: usize = 64;

/// Paths only: nothing here keeps a cgroup from being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    V2(PathBuf),
    V1 {
        /// With `name=systemd` and the v2 cgroup of a hybrid machine.
        all: Vec<PathBuf>,
        /// Where its processes are looked up, as by runc: nobody is delegated this one.
        devices: PathBuf,
        freezer: PathBuf,
    },
}

impl Tree {
    /// `paths` are by controller, as in runc's `cgroup_paths`: v2 has one, under the empty name.
    ///
    /// # Errors
    /// [`Error::NotRecorded`] when there is none, or none to freeze or find processes by,
    /// [`Error::NotBelowRoot`] when one is no cgroup of its own.
    pub fn recorded(paths: &BTreeMap<String, PathBuf>) -> Result<Tree, Error> {
        for path in paths.values() {
            check(path)?;
        }
        let find = |name: &'static str| {
            paths.get(name).cloned().ok_or(Error::NotRecorded { controller: name })
        };
        Ok(Tree(match (paths.get(""), paths.len()) {
            (Some(path), 1) => Kind::V2(path.clone()),
            _ => Kind::V1 {
                devices: find("devices")?,
                freezer: find("freezer")?,
                all: paths.values().cloned().collect(),
            },
        }))
    }

    /// The pids of the processes in it and below, in the host's pid namespace; none when it is gone.
    ///
    /// # Errors
    /// [`Error::Io`] when a list cannot be read for another reason.
    pub async fn pids(&self) -> Result<Vec<u32>, Error> {
        let top = match &self.0 {
            Kind::V2(path) => path,
            Kind::V1 { devices, .. } => devices,
        };
        let mut pids = Vec::new();
        for dir in below(top).await? {
            let path = dir.join("cgroup.procs");
            let text = match fs::read_to_string(&path) {
                Err(err) if is_gone(&err) => continue,
                // A cgroup of threads, whose processes are listed further up if that is ours.
                Err(err) if err.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    fs::read_to_string(dir.join("cgroup.threads")).unwrap_or_default()
                }
                read => read.map_err(Error::io("read", &path))?,
            };
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        Ok(pids)
    }

    /// Every recorded directory.
    fn all(&self) -> &[PathBuf] {
        match &self.0 {
            Kind::V2(path) => std::slice::from_ref(path),
            Kind::V1 { all, .. } => all,
        }
    }
}

/// A cgroup that is not the root of its hierarchy, or nothing.
fn check(path: &Path) -> Result<(), Error> {
    let refused = || Error::NotBelowRoot { path: path.to_owned() };
    let mut parts = path.components();
    let plain = parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)));
    let parent = path.parent().filter(|_| plain).ok_or_else(refused)?;
    let found = match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(Error::io("stat", path))?,
    };
    let above = fs::metadata(parent).map_err(Error::io("stat", parent))?;
    let filesystem = statfs(path).map_err(io::Error::from).map_err(Error::io("statfs", path))?;
    let cgroups = [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC];
    let is_cgroup = found.is_dir() && cgroups.contains(&filesystem.filesystem_type());
    // The root is a mount point.
    if is_cgroup && found.dev() == above.dev() { Ok(()) } else { Err(refused()) }
}

/// `top` and the directories below it, each after what it is in; none when it is gone. Of a
/// directory that vanishes meanwhile nothing is said.
async fn below(top: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = vec![top.to_owned()];
    let mut seen = 0;
    while let Some(dir) = found.get(seen).cloned() {
        seen += 1;
        match fs::read_dir(&dir) {
            Ok(entries) => found.extend(entries.filter_map(directory)),
            Err(err) if is_gone(&err) => {}
            Err(err) => return Err(Error::io("open", &dir)(err)),
        }
        if seen.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    Ok(found)
}

/// An entry that is a directory itself: a link to one is none.
fn directory(entry: io::Result<fs::DirEntry>) -> Option<PathBuf> {
    let entry = entry.ok()?;
    entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| entry.path())
}

#[cfg(test)]
mod tests;
