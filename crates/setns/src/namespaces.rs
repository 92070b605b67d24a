// SPDX-License-Identifier: Apache-2.0
//! Which namespaces a process is in, namespaces(7).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Name below `/proc/PID/ns`, runc's name, flag of setns(2).
const KINDS: [(&str, &str, u32); 8] = [
    ("user", "NEWUSER", 0x1000_0000),
    ("ipc", "NEWIPC", 0x0800_0000),
    ("uts", "NEWUTS", 0x0400_0000),
    ("net", "NEWNET", 0x4000_0000),
    ("pid", "NEWPID", 0x2000_0000),
    ("mnt", "NEWNS", 0x0002_0000),
    ("cgroup", "NEWCGROUP", 0x0200_0000),
    ("time", "NEWTIME", 0x80),
];

/// The flag of the mount namespace.
pub(crate) const NEW_MOUNT: u32 = 0x0002_0000;

/// A process's namespaces: device and inode of each; none for a kind the kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespaces([Option<(u64, u64)>; 8]);

impl Namespaces {
    /// Those of `pid`, a number or `self`, as they are now: a container's init may change its own.
    pub(crate) fn of(pid: &str) -> io::Result<Namespaces> {
        let mut found = [None; 8];
        for (place, (name, ..)) in found.iter_mut().zip(KINDS) {
            *place = match fs::metadata(format!("/proc/{pid}/ns/{name}")) {
                Ok(metadata) => Some((metadata.dev(), metadata.ino())),
                Err(err) if err.kind() == io::ErrorKind::NotFound => None,
                Err(err) => return Err(err),
            };
        }
        Ok(Namespaces(found))
    }

    /// The flags of those among `wanted` that are not also ours. To join a user namespace one is
    /// in already is an error, setns(2).
    pub(crate) fn differing(&self, ours: &Namespaces, wanted: u32) -> u32 {
        let pairs = self.0.iter().zip(&ours.0).zip(KINDS);
        pairs
            .filter(|((theirs, ours), (.., flag))| theirs != ours && wanted & flag != 0)
            .fold(0, |flags, (_, (.., flag))| flags | flag)
    }
}

/// The flag of a kind in runc's words.
pub(crate) fn flag(kind: &str) -> Option<u32> {
    KINDS.iter().find(|(_, name, _)| *name == kind).map(|(.., flag)| *flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_the_kernels() {
        for (kind, expected) in [
            ("NEWNS", libc::CLONE_NEWNS),
            ("NEWPID", libc::CLONE_NEWPID),
            ("NEWUSER", libc::CLONE_NEWUSER),
            ("NEWNET", libc::CLONE_NEWNET),
            ("NEWIPC", libc::CLONE_NEWIPC),
            ("NEWUTS", libc::CLONE_NEWUTS),
            ("NEWCGROUP", libc::CLONE_NEWCGROUP),
        ] {
            assert_eq!(flag(kind), Some(expected.cast_unsigned()), "{kind}");
        }
        assert_eq!(flag("NEWER"), None);
    }

    #[test]
    fn only_what_differs_and_is_wanted_is_joined() {
        let ours = Namespaces::of("self").unwrap();
        assert_eq!(ours.differing(&ours, u32::MAX), 0);
        let mut other = ours.clone();
        other.0[0] = Some((0, 0));
        other.0[5] = Some((0, 0));
        assert_eq!(other.differing(&ours, u32::MAX), 0x1000_0000 | NEW_MOUNT);
        assert_eq!(other.differing(&ours, NEW_MOUNT), NEW_MOUNT);
    }
}
