// SPDX-License-Identifier: Apache-2.0
//! The files of a container's cgroups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wedge_integration::proc::Proc;

const MOUNT: &str = "/sys/fs/cgroup";

/// The directories of a container by v1 controller, or only the one of the unified hierarchy, "".
#[derive(Debug)]
pub(crate) struct Cgroup(BTreeMap<String, PathBuf>);

impl Cgroup {
    pub(crate) fn of(pid: u32) -> Result<Cgroup> {
        let mut dirs = BTreeMap::new();
        for line in Proc(pid).cgroups()?.lines() {
            let (_, line) = line.split_once(':').context("no hierarchy")?;
            let (controllers, path) = line.split_once(':').context("no path")?;
            let unified = controllers.is_empty() && unified();
            for name in controllers.split(',').filter(|name| unified || !name.is_empty()) {
                let name = name.trim_start_matches("name=");
                dirs.insert(name.to_owned(), Path::new(MOUNT).join(name).join(&path[1..]));
            }
        }
        Ok(Cgroup(dirs))
    }

    /// Whether the controller a file belongs to is there, in v1.
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.0.contains_key(controller)
    }

    fn path(&self, file: &str) -> PathBuf {
        let controller = file.split('.').next().unwrap_or_default();
        let dir = self.0.get(controller).or_else(|| self.0.get(""));
        dir.map(|dir| dir.join(file)).unwrap_or_default()
    }

    /// The text of a file; `None` when there is none.
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path(file)).ok()
    }

    /// A number: of the line that begins with `key`, or the only one when `key` is empty.
    pub(crate) fn number(&self, file: &str, key: &str, max: u64) -> Option<u64> {
        let text = self.text(file)?;
        let value = match key {
            "" => text.trim(),
            _ => text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim(),
        };
        if value == "max" { Some(max) } else { value.parse().ok() }
    }

    /// Everything that is counted.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, String> {
        let directories: BTreeSet<_> = self.0.values().collect();
        let files = directories.into_iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
        let paths = files.filter_map(|file| Some(file.ok()?.path()));
        // The averages of pressure fade by themselves.
        let counters = paths.filter(|path| path.extension().is_some_and(|end| end != "pressure"));
        counters.filter_map(|path| Some((path.clone(), fs::read_to_string(&path).ok()?))).collect()
    }

    pub(crate) fn memory_limit(&self) -> Result<u64> {
        let file = if unified() { "memory.max" } else { "memory.limit_in_bytes" };
        self.number(file, "", u64::MAX).context("no memory limit")
    }

    pub(crate) fn pids_limit(&self) -> Result<u64> {
        self.number("pids.max", "", u64::MAX).context("no limit of tasks")
    }

    /// Removes it, without processes.
    pub(crate) fn remove(&self) -> Result<()> {
        for dir in self.0.values().filter(|dir| dir.is_dir()) {
            // v1 hierarchies of several controllers have one directory with several names.
            fs::remove_dir(dir).or_else(|error| if dir.is_dir() { Err(error) } else { Ok(()) })?;
        }
        Ok(())
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.values().all(|dir| !dir.is_dir())
    }
}

pub(crate) fn unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}
