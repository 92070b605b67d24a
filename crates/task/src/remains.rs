// SPDX-License-Identifier: Apache-2.0
//! What outlives a container (invariant I11). The shim is the sub-reaper: a process that left the
//! container's cgroup, and is in no pid namespace that ended with init, becomes a child of ours.
//! It then keeps the container's namespaces, and with them its network, and nobody else can tell
//! where it is from.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// The namespaces of a container that others may be interested in: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Namespaces {
    net: (u64, u64),
    mount: (u64, u64),
}

impl Namespaces {
    /// Those of a process. Numbers only: nothing is held. `None` when it is gone.
    pub(crate) fn of(pid: &str) -> Option<Namespaces> {
        let of = |kind| {
            let metadata = fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        Some(Namespaces { net: of("net")?, mount: of("mnt")? })
    }

    /// The names of those that are also among the namespaces of `process`, and no `others`'.
    fn held_by(&self, process: &Namespaces, others: &[Namespaces]) -> String {
        let net = self.net == process.net && others.iter().all(|other| other.net != self.net);
        let mount =
            self.mount == process.mount && others.iter().all(|other| other.mount != self.mount);
        let names = [(net, "net", self.net.1), (mount, "mnt", self.mount.1)];
        let names = names.iter().filter(|(held, ..)| *held);
        names.map(|(_, kind, inode)| format!("{kind}:[{inode}]")).collect::<Vec<_>>().join(" ")
    }
}

/// Says which children of ours are still in the namespaces of container `id`, which is gone.
/// `others` are those of the containers that are left: of a pod, the network is the same.
pub(crate) fn tell(id: &str, gone: Namespaces, mut others: Vec<Namespaces>) {
    let (net, mount) = (gone.net.1, gone.mount.1);
    log::debug!(id = id; "let go of net:[{net}] and mnt:[{mount}]");
    others.extend(Namespaces::of("self"));
    for child in children() {
        let Some(process) = Namespaces::of(&child) else { continue };
        let held = gone.held_by(&process, &others);
        if !held.is_empty() {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            let (pid, name) = (child.as_str(), name.trim_end());
            log::warn!(id = id, pid = pid, name = name; "a process outlives its container, in {held}");
        }
    }
}

/// The children of this process, zombies included (`/proc/PID/task/TID/children`, proc(5)). They
/// are the main thread's, which outlives the others.
fn children() -> Vec<String> {
    let main = std::process::id();
    let text = fs::read_to_string(format!("/proc/self/task/{main}/children")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_held_is_named() {
        let (a, b, c) = ((4, 1), (4, 2), (4, 3));
        let gone = Namespaces { net: a, mount: a };
        let sibling = Namespaces { net: a, mount: b };
        let stranger = Namespaces { net: b, mount: c };
        let table = [
            (gone, stranger, "net:[1] mnt:[1]"),
            (gone, sibling, "mnt:[1]"),
            (gone, gone, ""),
            (sibling, stranger, "net:[1]"),
            (sibling, sibling, ""),
            (stranger, sibling, ""),
        ];
        for (process, other, names) in table {
            assert_eq!(gone.held_by(&process, &[other]), names, "{process:?} {other:?}");
        }
    }

    #[test]
    fn a_process_has_namespaces_as_long_as_it_lives() {
        let own = Namespaces::of("self").unwrap();
        assert_ne!(own.held_by(&own, &[]), "");
        assert_eq!(Namespaces::of("4294967295"), None);
    }
}
