// SPDX-License-Identifier: Apache-2.0
//! Which namespaces a process is in, namespaces(7).

use std::fmt::Display;
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
/// The flags of all kinds.
pub(crate) const ALL: u32 = 0x7e02_0080;
/// The flag of the user namespace.
pub(crate) const NEW_USER: u32 = 0x1000_0000;

/// A process's namespaces: device and inode of each; none for a kind the kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespaces([Option<(u64, u64)>; 8]);

impl Namespaces {
    /// Those of this process.
    pub(crate) fn own() -> io::Result<Namespaces> {
        let mut found = [None; 8];
        for (place, (name, ..)) in found.iter_mut().zip(KINDS) {
            *place = look(&"self", name)?;
        }
        Ok(Namespaces(found))
    }

    /// The flags of those among `wanted` that `pid` is in and that are to be joined. To join one's
    /// own changes nothing, but for two: that of a user namespace is an error, and that of a mount
    /// namespace moves the root, setns(2).
    ///
    /// # Errors
    /// Of stat(2): the process is gone, or was none.
    pub(crate) fn to_join(&self, pid: u32, wanted: u32) -> io::Result<u32> {
        let mut flags = 0;
        for (ours, (name, _, flag)) in self.0.iter().zip(KINDS) {
            let Some(ours) = ours.filter(|_| wanted & flag != 0) else { continue };
            let same = matches!(flag, NEW_USER | NEW_MOUNT) && look(&pid, name)? == Some(ours);
            flags |= if same { 0 } else { flag };
        }
        Ok(flags)
    }
}

fn look(pid: &dyn Display, name: &str) -> io::Result<Option<(u64, u64)>> {
    match fs::metadata(format!("/proc/{pid}/ns/{name}")) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
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
        assert_eq!(KINDS.iter().fold(0, |all, (.., flag)| all | flag), ALL);
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
    fn what_is_wanted_is_joined_but_not_our_own_user_and_mount_namespace() {
        let ours = Namespaces::own().unwrap();
        let pid = std::process::id();
        let net = flag("NEWNET").unwrap();
        assert_eq!(ours.to_join(pid, NEW_USER | NEW_MOUNT | net).unwrap(), net);
        assert_eq!(ours.to_join(pid, 0).unwrap(), 0);
        let mut other = ours.clone();
        (other.0[0], other.0[5]) = (Some((0, 0)), Some((0, 0)));
        assert_eq!(other.to_join(pid, NEW_USER | NEW_MOUNT).unwrap(), NEW_USER | NEW_MOUNT);
        assert_eq!(other.to_join(pid, NEW_MOUNT).unwrap(), NEW_MOUNT);
        // A kernel without a kind has none to join.
        other.0[3] = None;
        assert_eq!(other.to_join(pid, net).unwrap(), 0);
    }
}
