// SPDX-License-Identifier: Apache-2.0
//! The mount points of this mount namespace, `/proc/self/mountinfo` of proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Result, on_path};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A path with at least one mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountPoint {
    pub(super) path: PathBuf,
    /// A program serves one of the mounts.
    pub(super) is_fuse: bool,
}

/// The mount points at and below `root`, the deepest first; a path with several mounts on top of
/// each other comes once.
///
/// # Errors
/// When the list cannot be read.
pub(super) fn mounts_below(root: &Path) -> Result<Vec<MountPoint>> {
    let list = fs::read(MOUNTINFO).map_err(on_path("open", MOUNTINFO))?;
    Ok(below(&list, root))
}

pub(super) fn below(list: &[u8], root: &Path) -> Vec<MountPoint> {
    let points = list.split(|&byte| byte == b'\n').filter_map(mount_point);
    let mut points: Vec<_> = points.filter(|point| point.path.starts_with(root)).collect();
    // By length alone, `/r//` would come before `/r/a`; paths compare by their components.
    let depth = |point: &MountPoint| point.path.components().count();
    points.sort_by(|a, b| depth(b).cmp(&depth(a)).then_with(|| a.path.cmp(&b.path)));
    points.dedup_by(|other, kept| {
        let same = other.path == kept.path;
        kept.is_fuse |= same && other.is_fuse;
        same
    });
    points
}

/// The fifth field of a line, and the one after the separator.
fn mount_point(line: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|&byte| byte == b' ');
    let path = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
    let fs_type = fields.skip_while(|&field| field != b"-").nth(1).unwrap_or_default();
    Some(MountPoint { path, is_fuse: fs_type == b"fuse" || fs_type.starts_with(b"fuse.") })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\').then(|| after.split_first_chunk::<3>()).flatten();
        match octal.and_then(|(digits, tail)| Some((from_octal(*digits)?, tail))) {
            Some((byte, tail)) => {
                plain.push(byte);
                rest = tail;
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

fn from_octal(digits: [u8; 3]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mount_points_below_a_path_come_deepest_first() {
        let list = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            36 22 0:40 / /b/rootfs rw,relatime shared:1 - overlay overlay rw\n\
            37 36 0:41 / /b/rootfs/proc rw - proc proc rw\n\
            38 36 0:42 / /b/rootfs rw - tmpfs tmpfs rw\n\
            39 36 0:43 / /b/rootfs-other rw - tmpfs tmpfs rw\n\
            40 36 0:44 / /b/rootfs/with\\040space\\134 rw - tmpfs tmpfs rw\n\
            41 36 0:45 / /b/rootfs/disk rw - fuseblk /dev/sda rw\n\
            42 36 0:46 / /b/rootfs rw,relatime shared:1 master:2 - fuse.x x rw\n\
            broken\n";
        let expected = [
            ("/b/rootfs/disk", false),
            ("/b/rootfs/proc", false),
            ("/b/rootfs/with space\\", false),
            ("/b/rootfs", true),
        ]
        .map(|(path, is_fuse)| MountPoint { path: path.into(), is_fuse });
        assert_eq!(below(list, Path::new("/b/rootfs")), expected);
        assert!(below(list, Path::new("/c")).is_empty());
    }

    /// Found by the fuzz target; the kernel writes no such path.
    #[test]
    fn a_path_with_more_slashes_than_it_needs_is_no_deeper() {
        let list = b"1 2 3 / /r// rw\n1 2 3 / /r/a rw\n1 2 3 / /r rw\n";
        let paths = below(list, Path::new("/r")).into_iter().map(|point| point.path);
        assert_eq!(paths.collect::<Vec<_>>(), [Path::new("/r/a"), Path::new("/r")]);
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        for (field, plain) in [
            ("\\04", "\\04"),
            ("a\\", "a\\"),
            ("\\999", "\\999"),
            ("\\777", "\\777"),
            ("\\011", "\t"),
        ] {
            assert_eq!(unescape(field.as_bytes()), plain.as_bytes(), "{field}");
        }
    }

    proptest! {
        #[test]
        fn what_the_kernel_escapes_comes_back(name in "[ \t\n\\\\a-z0-7ü]{0,20}") {
            let escaped: Vec<u8> = name.bytes().flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![byte],
            }).collect();
            prop_assert_eq!(unescape(&escaped), name.as_bytes());
        }
    }
}
