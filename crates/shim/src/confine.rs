// SPDX-License-Identifier: Apache-2.0
//! What a process of the shim is to the rest of the system: sub-reaper, its cgroup, its OOM score.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::error::Error;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Bounds of `oom_score_adj`, proc_pid_oom_score_adj(5).
const OOM_SCORE_ADJ: std::ops::RangeInclusive<i32> = -1000..=1000;

/// Makes this process the parent of every orphan below it, in each mode: a container's init is
/// one.
///
/// # Errors
/// The error of prctl(2).
pub(crate) fn become_subreaper() -> Result<(), Error> {
    wedge_sys::set_subreaper()
        .map_err(|source| Error::System { action: "set the shim as child subreaper", source })
}

/// For the modes that are about to end by themselves, and should not half-way.
///
/// # Errors
/// The error of signal(2).
pub(crate) fn ignore_termination() -> Result<(), Error> {
    wedge_sys::ignore_termination()
        .map_err(|source| Error::System { action: "ignore SIGTERM", source })
}

/// Moves process `pid` to the existing cgroup `path`: on cgroup v2 the one, on v1 that of each
/// hierarchy that has it. Named hierarchies count; the v2 tree of a hybrid system does not.
///
/// cgroups-rs wants the group in every v1 hierarchy and knows no named ones.
///
/// # Errors
/// When `path` is not absolute and clean, does not exist, or cannot be joined.
pub(crate) fn join_cgroup(path: &str, pid: u32) -> Result<(), Error> {
    let group = relative(path).ok_or_else(|| Error::CgroupPath { path: path.to_owned() })?;
    let groups: Vec<PathBuf> = hierarchies(Path::new(CGROUP_ROOT))
        .into_iter()
        .map(|hierarchy| hierarchy.join(group))
        .filter(|group| group.is_dir())
        .collect();
    if groups.is_empty() {
        return Err(Error::NoCgroup { path: path.to_owned() });
    }
    for group in groups {
        fs::write(group.join("cgroup.procs"), pid.to_string())
            .map_err(|source| Error::JoinCgroup { path: path.to_owned(), source })?;
    }
    Ok(())
}

/// The path below a hierarchy's root, if `path` is one that containerd's cgroup library takes.
fn relative(path: &str) -> Option<&Path> {
    let group = path.strip_prefix('/')?;
    let clean = group.is_empty() || group.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let below_root = Path::new(path).starts_with(CGROUP_ROOT);
    (clean && !below_root).then_some(Path::new(group))
}

fn hierarchies(root: &Path) -> Vec<PathBuf> {
    if is_of_type(root, CGROUP2_SUPER_MAGIC) {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        // Symbolic links name a hierarchy a second time: cpu → cpu,cpuacct.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| is_of_type(path, CGROUP_SUPER_MAGIC))
        .collect()
}

fn is_of_type(path: &Path, magic: nix::sys::statfs::FsType) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == magic)
}

/// Makes the shim a likelier victim of the OOM killer than containerd: our parent's score plus
/// one (containerd #4845). Without privilege the score may stay as it is.
///
/// # Errors
/// When a score cannot be read, or not be set although it should be possible.
pub(crate) fn adjust_oom_score(pid: u32) -> Result<(), Error> {
    let parent = std::os::unix::process::parent_id();
    let failed = |action| move |source| Error::OomScore { action, source };
    let score = read_score(parent).map_err(failed("get parent OOM score"))?;
    match fs::write(score_path(pid), above(score).to_string()) {
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied && !privileged() => Ok(()),
        result => result.map_err(failed("set shim OOM score")),
    }
}

fn above(score: i32) -> i32 {
    score.saturating_add(1).clamp(*OOM_SCORE_ADJ.start(), *OOM_SCORE_ADJ.end())
}

fn read_score(pid: u32) -> io::Result<i32> {
    let text = fs::read_to_string(score_path(pid))?;
    text.trim().parse().map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))
}

fn score_path(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/oom_score_adj"))
}

/// Root, and not merely of a user namespace.
fn privileged() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let everyone: Vec<&str> = map.split_whitespace().collect();
    nix::unistd::geteuid().is_root() && everyone == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_clean_group_paths_are_taken() {
        for (path, group) in [("/shims", "shims"), ("/a/b.slice", "a/b.slice"), ("/", "")] {
            assert_eq!(relative(path), Some(Path::new(group)), "{path}");
        }
        for path in ["shims", "", "/../x", "/a/../b", "/a/", "/a//b", "/./a", "/sys/fs/cgroup/a"] {
            assert_eq!(relative(path), None, "{path}");
        }
    }

    #[test]
    fn the_score_stays_within_its_bounds() {
        for (parent, shim) in [(-1000, -999), (-999, -998), (0, 1), (999, 1000), (1000, 1000)] {
            assert_eq!(above(parent), shim);
        }
    }

    #[test]
    fn a_group_that_does_not_exist_is_an_error() {
        let missing = join_cgroup("/wedge-test-nonexistent", std::process::id());
        let text = missing.unwrap_err().chain();
        assert_eq!(text, "failed to load cgroup /wedge-test-nonexistent: cgroup deleted");
    }
}
