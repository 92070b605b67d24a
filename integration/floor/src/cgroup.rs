// SPDX-License-Identifier: Apache-2.0
//! The cgroups of a process, and how one comes into them.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const MOUNTS: &str = "/sys/fs/cgroup";

/// The directories of one cgroup: one of v2, or one of each hierarchy of v1.
pub(crate) struct Cgroup {
    dirs: Vec<PathBuf>,
    /// A process can be born in it: v2 only.
    born: Option<File>,
}

impl Cgroup {
    /// That of a process.
    pub(crate) fn of(pid: i32) -> Result<Cgroup> {
        let (theirs, own) = (lines(&pid.to_string())?, lines("self")?);
        // Where both are there is nothing to join.
        let apart = theirs.into_iter().filter(|line| !own.contains(line));
        Cgroup::open(apart.filter_map(|line| dir(&line)).collect())
    }

    /// A new one, below the root of each hierarchy there is.
    pub(crate) fn create(name: &str) -> Result<Cgroup> {
        let roots = lines("self")?.into_iter().filter_map(|line| {
            let (head, _) = line.rsplit_once(':')?;
            dir(&format!("{head}:/{name}"))
        });
        let dirs: Vec<PathBuf> = roots.collect();
        for dir in &dirs {
            fs::create_dir(dir).with_context(|| dir.display().to_string())?;
            inherit_cpus(dir)?;
        }
        Cgroup::open(dirs)
    }

    fn open(dirs: Vec<PathBuf>) -> Result<Cgroup> {
        let born = match is_unified() {
            true => Some(File::open(dirs.first().context("no cgroup of its own")?)?),
            false => None,
        };
        Ok(Cgroup { dirs, born })
    }

    /// For clone3(2), where that can do it.
    pub(crate) fn to_be_born_in(&self) -> Option<BorrowedFd<'_>> {
        self.born.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling process there, if it was not born there.
    pub(crate) fn join(&self) -> Result<()> {
        let late = if self.born.is_some() { &[] } else { self.dirs.as_slice() };
        for dir in late {
            fs::write(dir.join("cgroup.procs"), "0").with_context(|| dir.display().to_string())?;
        }
        Ok(())
    }

    /// Removes it; its last process may not be gone altogether yet.
    pub(crate) fn remove(&self) -> Result<()> {
        self.dirs.iter().try_for_each(|dir| {
            let removed = (0..10_000).find_map(|_| fs::remove_dir(dir).ok());
            removed.with_context(|| format!("{} is busy", dir.display()))
        })
    }
}

/// `/proc/PID/cgroup`, where no process of ours is changed meanwhile.
fn lines(pid: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(Path::new("/proc").join(pid).join("cgroup"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn is_unified() -> bool {
    Path::new(MOUNTS).join("cgroup.controllers").exists()
}

/// `NUMBER:CONTROLLERS:/PATH`; of v2 the number is 0.
fn dir(line: &str) -> Option<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?.strip_prefix('/')?);
    let mount = match (controllers, is_unified()) {
        ("", true) => PathBuf::from(MOUNTS),
        ("", false) => Path::new(MOUNTS).join("unified"),
        (_, true) => return None,
        (names, false) => Path::new(MOUNTS).join(names.strip_prefix("name=").unwrap_or(names)),
    };
    mount.is_dir().then(|| mount.join(path))
}

/// A new cpuset of v1 has no CPU and no memory, and takes no process.
fn inherit_cpus(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let parent = dir.parent().context("a cgroup has a parent")?.join(file);
        if dir.join(file).exists() && parent.exists() {
            fs::write(dir.join(file), fs::read(parent)?)?;
        }
    }
    Ok(())
}
