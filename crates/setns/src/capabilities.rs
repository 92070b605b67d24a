// SPDX-License-Identifier: Apache-2.0
//! Capability names as masks, capabilities(7).

use crate::error::Unsupported;
use crate::state::Capabilities;

/// In the order of their numbers, `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Capability sets as masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Masks {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

impl Masks {
    /// Only names that everybody knows, and what the kernel grants: else crun would refuse, or not,
    /// by its version.
    pub(crate) fn exact(capabilities: &Capabilities, last: u32) -> Result<Masks, Unsupported> {
        let Capabilities { bounding, effective, inheritable, permitted, ambient } = capabilities;
        let sets = [bounding, effective, inheritable, permitted, ambient];
        let mut names = sets.into_iter().flatten().flatten();
        if let Some(name) = names.find(|name| bit(name, last).is_none()) {
            return Err(Unsupported::new(format!("it has the unknown capability {name}")));
        }
        let masks = Masks::of(capabilities, last);
        match masks.ambient & !(masks.permitted & masks.inheritable) {
            0 => Ok(masks),
            _ => Err(Unsupported::new("an ambient capability is not permitted or inheritable")),
        }
    }

    /// Names that neither we nor the kernel (up to `last`) know are left out, as runc does.
    pub(crate) fn of(capabilities: &Capabilities, last: u32) -> Masks {
        let mask = |names: &Option<Vec<String>>| {
            let names = names.as_deref().unwrap_or_default();
            names.iter().filter_map(|name| bit(name, last)).fold(0, |mask, bit| mask | bit)
        };
        Masks {
            bounding: mask(&capabilities.bounding),
            effective: mask(&capabilities.effective),
            permitted: mask(&capabilities.permitted),
            inheritable: mask(&capabilities.inheritable),
            ambient: mask(&capabilities.ambient),
        }
    }
}

fn bit(name: &str, last: u32) -> Option<u64> {
    let known = name.strip_prefix("CAP_")?;
    let number = NAMES.iter().position(|name| *name == known)?;
    let number = u32::try_from(number).ok()?;
    if number > last {
        log::debug!("capability {name} is unknown to this kernel");
        return None;
    }
    Some(1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bits_and_unknown_ones_are_nothing() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let capabilities = Capabilities {
            bounding: names(&["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_BPF", "CAP_NEW", "KILL"]),
            effective: names(&[]),
            ..Capabilities::default()
        };
        let bounding = |last| Masks::of(&capabilities, last).bounding;
        assert_eq!(bounding(40), 1 | (1 << 21) | (1 << 39));
        assert_eq!(bounding(38), 1 | (1 << 21));
        assert_eq!(Masks { bounding: 0, ..Masks::of(&capabilities, 40) }, Masks::default());
    }
}
