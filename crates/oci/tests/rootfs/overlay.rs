// SPDX-License-Identifier: Apache-2.0
//! Overlays, of as many layers as an image may have.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use wedge_oci::{Mount, mount_rootfs, unmount_recursive};

use crate::support::{Dir, mount, run, tmpfs};

/// Layers that each have a file of their own and one in common, and what an overlay of them needs.
struct Layers {
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
}

impl Layers {
    /// A hundred; the path of each is the mount point's name, `parent`, its number and `name`.
    fn make(dir: &Dir, parent: &str, name: &str) -> Layers {
        let top = dir.0.path().join("layers").join(parent);
        let lowers: Vec<PathBuf> =
            (0..100).map(|number| top.join(number.to_string()).join(name)).collect();
        for (number, lower) in lowers.iter().enumerate() {
            fs::create_dir_all(lower).unwrap();
            fs::write(lower.join(format!("only-{number}")), "").unwrap();
            fs::write(lower.join("common"), number.to_string()).unwrap();
        }
        let (upper, work) = (top.join("upper"), top.join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        Layers { lowers, upper, work }
    }

    fn overlay(&self, options: &[&str]) -> Mount {
        let lowers: Vec<_> = self.lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
        let data = [
            format!("lowerdir={}", lowers.join(":")),
            format!("upperdir={}", self.upper.display()),
            format!("workdir={}", self.work.display()),
        ];
        assert!(data.join(",").len() > 8192);
        let mut overlay = mount("overlay", Path::new("overlay"), "", options);
        overlay.options.extend(data);
        overlay
    }

    fn check(&self, rootfs: &Path) {
        assert_eq!(fs::read_to_string(rootfs.join("common")).unwrap(), "0");
        for number in 0..self.lowers.len() {
            assert!(rootfs.join(format!("only-{number}")).exists(), "{number}");
        }
        fs::write(rootfs.join("common"), "changed").unwrap();
        assert_eq!(fs::read_to_string(self.upper.join("common")).unwrap(), "changed");
    }
}

/// Options that hold the mount up to nothing but its older way.
const BY_RELATIVE_PATHS: &[&str] = &["index=off,xino=off"];

#[test]
fn a_hundred_layers_with_long_names() {
    run(async |reaper, dir| {
        let place = dir.0.path().join("layers");
        mount_rootfs(&reaper, &[tmpfs("", &[])], &place).await.unwrap();
        let layers = Layers::make(&dir, "", &"x".repeat(150));
        let here = env::current_dir().unwrap();
        let overlay = layers.overlay(&["index=off", "noatime", "nosuid"]);
        mount_rootfs(&reaper, &[overlay], &dir.rootfs()).await.unwrap();
        layers.check(&dir.rootfs());
        let (point, options) = dir.mounts().pop().unwrap();
        assert_eq!(point, "/rootfs");
        assert!(options.contains("noatime") && options.contains("nosuid"), "{options}");
        assert_eq!(env::current_dir().unwrap(), here);
        unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();

        let read_only = layers.overlay(&["ro"]);
        mount_rootfs(&reaper, &[read_only], &dir.rootfs()).await.unwrap();
        assert!(fs::write(dir.rootfs().join("common"), "").is_err());
    });
}

#[test]
fn a_hundred_layers_as_older_kernels_mount_them() {
    run(async |reaper, dir| {
        let place = dir.0.path().join("layers");
        mount_rootfs(&reaper, &[tmpfs("", &[])], &place).await.unwrap();
        let layers = Layers::make(&dir, &"x".repeat(150), "fs");
        let here = env::current_dir().unwrap();
        let overlay = layers.overlay(BY_RELATIVE_PATHS);
        mount_rootfs(&reaper, &[overlay], &dir.rootfs()).await.unwrap();
        layers.check(&dir.rootfs());
        let list = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(list.contains("lowerdir=0/fs:1/fs:2/fs"), "{list}");
        assert_eq!(env::current_dir().unwrap(), here);
    });
}

#[test]
fn a_hundred_layers_with_mapped_ids() {
    run(async |reaper, dir| {
        let place = dir.0.path().join("layers");
        mount_rootfs(&reaper, &[tmpfs("", &[])], &place).await.unwrap();
        let layers = Layers::make(&dir, "", &"x".repeat(150));
        let maps = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];
        let overlay = layers.overlay(&maps);
        mount_rootfs(&reaper, &[overlay], &dir.rootfs()).await.unwrap();
        layers.check(&dir.rootfs());
    });
}

#[test]
fn what_fits_in_no_way_is_refused() {
    run(async |reaper, dir| {
        let place = dir.0.path().join("layers");
        mount_rootfs(&reaper, &[tmpfs("", &[])], &place).await.unwrap();
        let too_long = "failed to mount rootfs component: mount options is too long";
        let layers = Layers::make(&dir, "", &"x".repeat(150));
        let long = "x".repeat(1 << 16);
        for mount in [layers.overlay(BY_RELATIVE_PATHS), tmpfs("", &[&long])] {
            let err = mount_rootfs(&reaper, &[mount], &dir.rootfs()).await.unwrap_err();
            assert_eq!(err.to_string(), too_long);
        }
        // A layer that is not there is, in either way.
        fs::rename(&layers.lowers[7], layers.lowers[7].with_file_name("gone")).unwrap();
        let overlay = layers.overlay(&[]);
        let err = mount_rootfs(&reaper, &[overlay], &dir.rootfs()).await.unwrap_err().to_string();
        assert!(err.ends_with("err: no such file or directory"), "{err}");
        let start = "failed to mount rootfs component: mount source: \"overlay\", target:";
        assert!(err.starts_with(start), "{err}");
        assert_eq!(dir.mounts().len(), 1);
    });
}
