// SPDX-License-Identifier: Apache-2.0
//! Mount options as in fstab → flags and data of mount(2), and what is done around that call.

use nix::mount::MsFlags;
use wedge_sys::PROPAGATION;

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

/// The arguments of the calls that make one mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// The flags of the mount itself.
    pub(super) flags: MsFlags,
    /// The flags of a second call that changes the propagation type: the kernel wants it alone.
    pub(super) propagation: Option<MsFlags>,
    /// What the file system itself is to know.
    pub(super) data: Vec<String>,
    /// The source is a file that a loop device is to show.
    pub(super) image: Option<Image>,
    /// How ids are mapped, for users and for groups.
    pub(super) id_maps: Option<(String, String)>,
}

/// How the loop device of a file is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) read_only: bool,
    pub(super) direct_io: bool,
}

impl MountOptions {
    /// Reads the options of a mount.
    ///
    /// # Errors
    /// For options that are none of ours.
    pub(super) fn parse(options: &[String]) -> Result<MountOptions> {
        let mut flags = MsFlags::empty();
        let (mut looped, mut users, mut groups) = (false, None, None);
        let mut data = Vec::new();
        for option in options {
            if let Some((_, effect)) = TABLE.iter().find(|(name, _)| name == option) {
                match effect {
                    Set(bits) => flags.insert(*bits),
                    Clear(bits) => flags.remove(*bits),
                }
            } else if option == "loop" {
                looped = true;
            } else if let Some(map) = option.strip_prefix("uidmap=") {
                users = Some(map.to_owned());
            } else if let Some(map) = option.strip_prefix("gidmap=") {
                groups = Some(map.to_owned());
            } else if option.starts_with("X-containerd.") {
                return Err(Error::InternalMountOption { option: option.clone() });
            } else {
                data.push(option.clone());
            }
        }
        let image = looped.then(|| Image {
            read_only: flags.contains(MsFlags::MS_RDONLY),
            direct_io: take(&mut data, "direct-io"),
        });
        let propagation = flags & (PROPAGATION | MsFlags::MS_REC);
        Ok(MountOptions {
            flags: flags - PROPAGATION,
            propagation: flags.intersects(PROPAGATION).then_some(propagation),
            data,
            image,
            // One without the other is ignored, as by containerd.
            id_maps: users.filter(|map| !map.is_empty()).zip(groups.filter(|map| !map.is_empty())),
        })
    }

    /// Whether this only changes flags of a mount that is there: then mount(2) is not called with
    /// the source at all (moby #34077).
    pub(super) fn is_pure_remount(&self) -> bool {
        self.is_remount() && self.data.is_empty()
    }

    /// Whether this shows what is somewhere else already.
    pub(super) fn is_bind(&self) -> bool {
        self.flags.contains(MsFlags::MS_BIND) && !self.is_remount()
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

/// Removes `option` and says whether it was there.
fn take(options: &mut Vec<String>, option: &str) -> bool {
    let place = options.iter().position(|other| other == option);
    place.map(|place| options.remove(place)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(options: &[&str]) -> Result<MountOptions> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        MountOptions::parse(&options)
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
            assert_eq!(
                (parsed.flags, parsed.data.join(",")),
                (flags, data.to_owned()),
                "{options:?}"
            );
            assert_eq!((parsed.propagation, parsed.image, parsed.id_maps), (None, None, None));
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
    fn an_option_for_the_mount_manager_is_refused() {
        let err = parse(&["ro", "X-containerd.mkdir.path=/x"]).unwrap_err().to_string();
        let text = "failed to mount rootfs component: internal mount option \
            \"X-containerd.mkdir.path=/x\" was not consumed by the mount manager";
        assert_eq!(err, text);
    }

    #[test]
    fn loop_devices_and_id_maps_are_no_data() {
        let image = |options: &[&str]| {
            let parsed = parse(options).unwrap();
            (parsed.image, parsed.data.join(","))
        };
        let plain = Image { read_only: false, direct_io: false };
        assert_eq!(image(&["loop", "x"]), (Some(plain), "x".to_owned()));
        let both = Image { read_only: true, direct_io: true };
        assert_eq!(image(&["direct-io", "ro", "loop"]), (Some(both), String::new()));
        assert_eq!(image(&["direct-io"]), (None, "direct-io".to_owned()));

        let parsed = parse(&["uidmap=0:1:2", "x", "gidmap=0:3:4,5:6:7"]).unwrap();
        let maps = ("0:1:2".to_owned(), "0:3:4,5:6:7".to_owned());
        assert_eq!((parsed.id_maps, parsed.data), (Some(maps), vec!["x".to_owned()]));
        for half in [&["uidmap=0:1:2"][..], &["gidmap=0:1:2"], &["uidmap=", "gidmap=0:1:2"]] {
            let parsed = parse(half).unwrap();
            assert_eq!((parsed.id_maps, parsed.data), (None, vec![]), "{half:?}");
        }
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
                    "[a-z=/:]{0,12}".prop_filter("no data", |option| {
                        option != "loop" && !option.starts_with("uidmap=") && !option.starts_with("gidmap=")
                    }),
                ],
                0..30,
            ),
        ) {
            let parsed = MountOptions::parse(&options).unwrap();
            let known = |option: &String| TABLE.iter().any(|(name, _)| name == option);
            let unknown: Vec<_> = options.iter().filter(|option| !known(option)).cloned().collect();
            prop_assert_eq!(parsed.data, unknown);
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
            if let Ok(parsed) = MountOptions::parse(&options) {
                prop_assert!(parsed.data.len() <= options.len());
            }
        }
    }
}
