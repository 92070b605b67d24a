// SPDX-License-Identifier: Apache-2.0
//! Overlays of more layers than mount(2) takes options for.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MsFlags, mount as mount_call};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chdir;
use wedge_sys::{NewFilesystem, attach_mount};

use crate::rootfs::component::{magic_link, page_size};

/// The option with the layers, top first, separated by colons.
pub(super) const LOWERDIR: &str = "lowerdir=";

/// Mounts an overlay on `target`: one option at a time where the kernel knows how (`lowerdir+`,
/// Linux 6.8), and otherwise, as containerd does, from a working directory that all layers have in
/// common, by relative paths.
///
/// # Errors
/// `ArgumentListTooLong` when the relative paths are too long as well; what the kernel answered.
pub(super) fn mount(
    source: &str,
    target: &OwnedFd,
    flags: MsFlags,
    options: &[String],
) -> io::Result<()> {
    let Err(err) = mount_by_option(source, target, flags, options) else {
        return Ok(());
    };
    let unknown = matches!(err.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput);
    match mount_relative(source, target, flags, options) {
        Err(long) if long.kind() == io::ErrorKind::ArgumentListTooLong && !unknown => Err(err),
        result => result,
    }
}

fn mount_by_option(
    source: &str,
    target: &OwnedFd,
    flags: MsFlags,
    options: &[String],
) -> io::Result<()> {
    let overlay = NewFilesystem::open("overlay")?;
    overlay.set("source", Some(source))?;
    if flags.contains(MsFlags::MS_RDONLY) {
        overlay.set("ro", None)?;
    }
    for option in options {
        // What is escaped or quoted in there, only the kernel's own parser knows.
        if option.contains(['\\', ',', '"']) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match (option.strip_prefix(LOWERDIR), option.split_once('=')) {
            (Some(lowers), _) => {
                for lower in lowers.split(':') {
                    overlay.set("lowerdir+", Some(lower))?;
                }
            }
            (None, Some((key, value))) => overlay.set(key, Some(value))?,
            (None, None) => overlay.set(option, None)?,
        }
    }
    attach_mount(overlay.mount(flags)?, target)
}

fn mount_relative(
    source: &str,
    target: &OwnedFd,
    flags: MsFlags,
    options: &[String],
) -> io::Result<()> {
    let too_long = || io::Error::from(io::ErrorKind::ArgumentListTooLong);
    let (dir, data) = relative(options).ok_or_else(too_long)?;
    if data.len() >= page_size() {
        return Err(too_long());
    }
    let mount_there = || {
        // The working directory is the process's, until a thread has one of its own.
        unshare(CloneFlags::CLONE_FS)?;
        chdir(&dir)?;
        let path = magic_link(target);
        Ok(mount_call(Some(source), &path, Some("overlay"), flags, Some(data.as_str()))?)
    };
    thread::scope(|scope| {
        let name = "overlay mount".to_owned();
        let mounting = thread::Builder::new().name(name).spawn_scoped(scope, mount_there)?;
        mounting.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })
}

/// The directory all layers are in, and the options with the layers seen from there.
fn relative(options: &[String]) -> Option<(PathBuf, String)> {
    let lowers: Vec<&Path> = lowers(options)?.map(Path::new).collect();
    let dir = common_parent(&lowers)?;
    let seen = lowers.iter().map(|lower| lower.strip_prefix(&dir).ok()?.to_str());
    let seen = seen.collect::<Option<Vec<&str>>>()?.join(":");
    Some((dir, with_lowers(options, &seen).join(",")))
}

/// The layers; none when there is no such option.
pub(super) fn lowers(options: &[String]) -> Option<impl Iterator<Item = &str>> {
    options.iter().find_map(|option| Some(option.strip_prefix(LOWERDIR)?.split(':')))
}

/// The options with other layers.
pub(super) fn with_lowers(options: &[String], lowers: &str) -> Vec<String> {
    let replace = |option: &String| match option.strip_prefix(LOWERDIR) {
        Some(_) => format!("{LOWERDIR}{lowers}"),
        None => option.clone(),
    };
    options.iter().map(replace).collect()
}

/// The deepest directory that is above each of `paths`, which must be absolute.
pub(super) fn common_parent(paths: &[&Path]) -> Option<PathBuf> {
    let (first, rest) = paths.split_first()?;
    let above_all = |dir: &&Path| rest.iter().all(|path| path != dir && path.starts_with(dir));
    let dir = first.ancestors().skip(1).find(above_all)?;
    dir.is_absolute().then(|| dir.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_seen_from_the_directory_they_share() {
        let table = [
            ("lowerdir=/s/3/fs:/s/21/fs:/s/1/fs", Some(("/s", "lowerdir=3/fs:21/fs:1/fs"))),
            ("lowerdir=/s/31/fs:/s/3/fs", Some(("/s", "lowerdir=31/fs:3/fs"))),
            ("lowerdir=/a/x:/b/y", Some(("/", "lowerdir=a/x:b/y"))),
            ("lowerdir=/a/b:/a", Some(("/", "lowerdir=a/b:a"))),
            ("lowerdir=/a:/a/b", Some(("/", "lowerdir=a:a/b"))),
            ("lowerdir=/a/b", Some(("/a", "lowerdir=b"))),
            ("lowerdir=/a/b:/", None),
            ("lowerdir=/a/b::/a/c", None),
            ("lowerdir=a/b:a/c", None),
            ("upperdir=/a", None),
        ];
        for (option, expected) in table {
            let expected = expected.map(|(dir, data)| {
                (PathBuf::from(dir), format!("index=off,{data},upperdir=/s/9/fs"))
            });
            let options = ["index=off", option, "upperdir=/s/9/fs"].map(str::to_owned);
            assert_eq!(relative(&options), expected, "{option}");
        }
    }
}
