// SPDX-License-Identifier: Apache-2.0
//! Mount options as in fstab → flags and data of mount(2).

use nix::mount::MsFlags;
use nix::unistd::{SysconfVar, sysconf};

use crate::error::{Error, Result};

/// What an option does to the flags.
#[derive(Debug, Clone, Copy)]
enum Effect {
    Set(MsFlags),
    Clear(MsFlags),
}
use Effect::{Clear, Set};

/// containerd's table (`parseMountOptions`), and the propagation types. "defaults" is missing on
/// purpose: containerd hands it to the file system.
const TABLE: &[(&str, Effect)] = &[
    ("async", Clear(MsFlags::MS_SYNCHRONOUS)),
    ("atime", Clear(MsFlags::MS_NOATIME)),
    ("bind", Set(MsFlags::MS_BIND)),
    ("dev", Clear(MsFlags::MS_NODEV)),
    ("diratime", Clear(MsFlags::MS_NODIRATIME)),
    ("dirsync", Set(MsFlags::MS_DIRSYNC)),
    ("exec", Clear(MsFlags::MS_NOEXEC)),
    ("mand", Set(MsFlags::MS_MANDLOCK)),
    ("noatime", Set(MsFlags::MS_NOATIME)),
    ("nodev", Set(MsFlags::MS_NODEV)),
    ("nodiratime", Set(MsFlags::MS_NODIRATIME)),
    ("noexec", Set(MsFlags::MS_NOEXEC)),
    ("nomand", Clear(MsFlags::MS_MANDLOCK)),
    ("norelatime", Clear(MsFlags::MS_RELATIME)),
    ("nostrictatime", Clear(MsFlags::MS_STRICTATIME)),
    ("nosuid", Set(MsFlags::MS_NOSUID)),
    ("private", Set(MsFlags::MS_PRIVATE)),
    ("rbind", Set(MsFlags::MS_BIND.union(MsFlags::MS_REC))),
    ("relatime", Set(MsFlags::MS_RELATIME)),
    ("remount", Set(MsFlags::MS_REMOUNT)),
    ("ro", Set(MsFlags::MS_RDONLY)),
    ("rprivate", Set(MsFlags::MS_PRIVATE.union(MsFlags::MS_REC))),
    ("rshared", Set(MsFlags::MS_SHARED.union(MsFlags::MS_REC))),
    ("rslave", Set(MsFlags::MS_SLAVE.union(MsFlags::MS_REC))),
    ("runbindable", Set(MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC))),
    ("rw", Clear(MsFlags::MS_RDONLY)),
    ("shared", Set(MsFlags::MS_SHARED)),
    ("slave", Set(MsFlags::MS_SLAVE)),
    ("strictatime", Set(MsFlags::MS_STRICTATIME)),
    ("suid", Clear(MsFlags::MS_NOSUID)),
    ("sync", Set(MsFlags::MS_SYNCHRONOUS)),
    ("unbindable", Set(MsFlags::MS_UNBINDABLE)),
];

const PROPAGATION: MsFlags = MsFlags::MS_SHARED
    .union(MsFlags::MS_PRIVATE)
    .union(MsFlags::MS_SLAVE)
    .union(MsFlags::MS_UNBINDABLE);

/// The arguments of the calls that make one mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// The flags of the mount itself.
    pub(super) flags: MsFlags,
    /// The flags of a second call that changes the propagation type: the kernel wants it alone.
    pub(super) propagation: Option<MsFlags>,
    /// What the file system itself is to know, joined by commas.
    pub(super) data: String,
}

impl MountOptions {
    /// Reads the options of a mount of type `fs_type`.
    ///
    /// # Errors
    /// For options this shim cannot honour, and for more data than the kernel takes.
    pub(super) fn parse(fs_type: &str, options: &[String]) -> Result<MountOptions> {
        let mut all = MsFlags::empty();
        let mut data: Vec<&str> = Vec::new();
        for option in options {
            refuse(option)?;
            match TABLE.iter().find(|(name, _)| name == option) {
                Some((_, Set(flags))) => all.insert(*flags),
                Some((_, Clear(flags))) => all.remove(*flags),
                None => data.push(option),
            }
        }
        let data = data.join(",");
        check_length(fs_type, &data)?;
        let propagates = all.intersects(PROPAGATION);
        let propagation = propagates.then_some(all & (PROPAGATION | MsFlags::MS_REC));
        Ok(MountOptions { flags: all - PROPAGATION, propagation, data })
    }

    /// Whether this only changes flags of a mount that is there: then mount(2) is not called with
    /// the source at all (moby #34077).
    pub(super) fn is_pure_remount(&self) -> bool {
        self.is_remount() && self.data.is_empty()
    }

    /// Whether this makes no new mount.
    pub(super) fn is_remount(&self) -> bool {
        self.flags.contains(MsFlags::MS_REMOUNT)
    }

    /// Whether the kernel ignores `ro` in the first call, and a remount must follow.
    pub(super) fn is_read_only_bind(&self) -> bool {
        self.flags.contains(MsFlags::MS_BIND.union(MsFlags::MS_RDONLY))
    }
}

fn refuse(option: &str) -> Result<()> {
    if option.starts_with("X-containerd.") {
        return Err(Error::InternalMountOption { option: option.to_owned() });
    }
    let mapped = option.starts_with("uidmap=") || option.starts_with("gidmap=");
    if option == "loop" || mapped {
        return Err(Error::UnsupportedMount { what: format!("mount option {option:?}") });
    }
    Ok(())
}

/// The kernel copies one page, with a zero at its end, and silently cuts the rest.
fn check_length(fs_type: &str, data: &str) -> Result<()> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|page| usize::try_from(page).ok()).unwrap_or(4096);
    if data.len() < page {
        return Ok(());
    }
    match fs_type {
        "overlay" => Err(Error::UnsupportedMount {
            what: format!("an overlay with {} bytes of options", data.len()),
        }),
        _ => Err(Error::MountOptionsTooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(options: &[&str]) -> Result<MountOptions> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        MountOptions::parse("overlay", &options)
    }

    #[test]
    fn flags_are_set_and_cleared_in_order_and_the_rest_is_data() {
        let bind = MsFlags::MS_BIND;
        let table: [(&[&str], MsFlags, &str); 8] = [
            (&["rbind", "ro"], bind | MsFlags::MS_REC | MsFlags::MS_RDONLY, ""),
            (&["bind", "ro", "rw"], bind, ""),
            (&["rw", "ro"], MsFlags::MS_RDONLY, ""),
            (&["nosuid", "suid", "noexec"], MsFlags::MS_NOEXEC, ""),
            (
                &["lowerdir=/a:/b", "ro", "upperdir=/c"],
                MsFlags::MS_RDONLY,
                "lowerdir=/a:/b,upperdir=/c",
            ),
            (&["defaults"], MsFlags::empty(), "defaults"),
            (&["RO", "ro=1", ""], MsFlags::empty(), "RO,ro=1,"),
            (&[], MsFlags::empty(), ""),
        ];
        for (options, flags, data) in table {
            let parsed = parse(options).unwrap();
            assert_eq!((parsed.flags, parsed.data.as_str()), (flags, data), "{options:?}");
            assert_eq!(parsed.propagation, None);
        }
    }

    #[test]
    fn propagation_is_a_call_of_its_own() {
        let parsed = parse(&["rbind", "rslave", "ro"]).unwrap();
        assert_eq!(parsed.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(parsed.propagation, Some(MsFlags::MS_SLAVE | MsFlags::MS_REC));
        assert!(parsed.is_read_only_bind());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (option, text) in [
            ("loop", "mount option \"loop\" is not supported yet"),
            ("uidmap=0:1:2", "mount option \"uidmap=0:1:2\" is not supported yet"),
            ("gidmap=0:1:2", "mount option \"gidmap=0:1:2\" is not supported yet"),
            (
                "X-containerd.mkdir.path=/x",
                "internal mount option \"X-containerd.mkdir.path=/x\" was not consumed by the \
                 mount manager",
            ),
        ] {
            let err = parse(&["ro", option]).unwrap_err().to_string();
            assert_eq!(err, format!("failed to mount rootfs component: {text}"));
        }
    }

    #[test]
    fn more_data_than_the_kernel_takes_is_refused() {
        let long = "x".repeat(1 << 16);
        assert!(matches!(parse(&[&long]), Err(Error::UnsupportedMount { .. })));
        let other = MountOptions::parse("tmpfs", &[long]);
        assert!(matches!(other, Err(Error::MountOptionsTooLong)));
        assert!(parse(&[&"x".repeat(4095)]).is_ok());
    }

    /// The obvious way to say what the flags are: for each flag, the last option about it.
    fn last_word(options: &[String], flag: MsFlags) -> bool {
        let effects = options.iter().rev().filter_map(|option| {
            TABLE.iter().find(|(name, _)| name == option).map(|(_, effect)| *effect)
        });
        for effect in effects {
            match effect {
                Set(flags) if flags.contains(flag) => return true,
                Clear(flags) if flags.contains(flag) => return false,
                Set(_) | Clear(_) => {}
            }
        }
        false
    }

    proptest! {
        #[test]
        fn every_option_is_either_flag_or_data_and_the_last_flag_wins(
            options in proptest::collection::vec(
                prop_oneof![
                    (0..TABLE.len()).prop_map(|index| TABLE[index].0.to_owned()),
                    "[a-z=/:]{0,12}".prop_filter("one option refused", |option| {
                        option != "loop" && !option.starts_with("uidmap=") && !option.starts_with("gidmap=")
                    }),
                ],
                0..30,
            ),
        ) {
            let parsed = MountOptions::parse("ext4", &options).unwrap();
            let known = |option: &String| TABLE.iter().any(|(name, _)| name == option);
            let unknown: Vec<_> = options.iter().filter(|option| !known(option)).cloned().collect();
            prop_assert_eq!(parsed.data, unknown.join(","));
            prop_assert!(!parsed.flags.intersects(PROPAGATION));
            let all = parsed.flags | parsed.propagation.unwrap_or(MsFlags::empty());
            for (_, Set(flags) | Clear(flags)) in TABLE {
                for flag in flags.iter() {
                    prop_assert_eq!(all.contains(flag), last_word(&options, flag));
                }
            }
        }

        #[test]
        fn any_options_are_survived(
            options in proptest::collection::vec(any::<String>(), 0..20),
        ) {
            if let Ok(parsed) = MountOptions::parse("tmpfs", &options) {
                prop_assert!(parsed.data.len() <= options.join(",").len());
            }
        }
    }
}
