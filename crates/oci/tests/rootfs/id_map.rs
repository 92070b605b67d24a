// SPDX-License-Identifier: Apache-2.0
//! Mounts whose ids are those of a user namespace.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount as mount_call};
use wedge_oci::{Mount, mount_rootfs, unmount_recursive};
use wedge_reaper::{Limits, Reaper};

use crate::support::{Dir, mount, run, tmpfs};

const MAPS: [&str; 2] = ["uidmap=0:100000:65536", "gidmap=0:200000:1000,1000:300000:10"];

fn ids(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

/// A directory owned by root whose file belongs to 5:1005.
fn image(dir: &Dir, name: &str) -> std::path::PathBuf {
    let image = dir.source(name);
    chown(image.join("file"), Some(5), Some(1005)).unwrap();
    image
}

/// Creates `path` as the root of the user namespace would.
async fn touch_as_mapped_root(reaper: &Reaper, path: &Path) {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "100000", "--regid", "200000", "--clear-groups", "touch"]).arg(path);
    let output = reaper.capture(command, None, Limits::default()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.output));
}

#[test]
fn a_bind_mount_shows_mapped_ids_and_its_source_does_not() {
    run(async |reaper, dir| {
        // Whoever can reach the directory must be able to.
        let path = dir.0.path();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let image = image(&dir, "image");
        let bind = mount("bind", &image, "", &["rbind", "rw", MAPS[0], MAPS[1]]);
        mount_rootfs(&reaper, &[bind], &dir.rootfs()).await.unwrap();
        assert_eq!(ids(&dir.rootfs()), (100_000, 200_000));
        assert_eq!(ids(&dir.rootfs().join("file")), (100_005, 300_005));
        assert_eq!((ids(&image), ids(&image.join("file"))), ((0, 0), (5, 1005)));
        touch_as_mapped_root(&reaper, &dir.rootfs().join("new")).await;
        assert_eq!(ids(&image.join("new")), (0, 0));
        assert_eq!(dir.mounts().len(), 1, "{:?}", dir.mounts());
        unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();
        assert_eq!(dir.mounts(), []);
    });
}

#[test]
fn a_read_only_bind_mount_is_mapped_too() {
    run(async |reaper, dir| {
        let image = image(&dir, "image");
        let bind = mount("bind", &image, "", &["bind", "ro", "nosuid", MAPS[0], MAPS[1]]);
        mount_rootfs(&reaper, &[bind], &dir.rootfs()).await.unwrap();
        assert_eq!(ids(&dir.rootfs().join("file")), (100_005, 300_005));
        let (_, options) = dir.mounts().remove(0);
        assert!(options.starts_with("ro,nosuid"), "{options}");
    });
}

#[test]
fn the_source_of_a_shared_mount_stays_as_it_is() {
    run(async |reaper, dir| {
        let shared = dir.source("shared");
        mount_rootfs(&reaper, &[tmpfs("", &[])], &shared).await.unwrap();
        let none = None::<&str>;
        mount_call(none, &shared, none, MsFlags::MS_SHARED, none).unwrap();
        let layer = shared.join("layer");
        fs::create_dir_all(layer.join("sub")).unwrap();
        mount_rootfs(&reaper, &[tmpfs("", &[])], &layer.join("sub")).await.unwrap();
        let bind = mount("bind", &layer, "", &["rbind", MAPS[0], MAPS[1]]);
        mount_rootfs(&reaper, &[bind], &dir.rootfs()).await.unwrap();
        assert_eq!(ids(&dir.rootfs()), (100_000, 200_000));
        assert_eq!(ids(&dir.rootfs().join("sub")), (100_000, 200_000), "mounts below are mapped");
        assert_eq!((ids(&layer), ids(&layer.join("sub"))), ((0, 0), (0, 0)));
        assert_eq!(dir.mounts().len(), 4, "{:?}", dir.mounts());
    });
}

#[test]
fn a_file_system_of_its_own_is_mapped() {
    run(async |reaper, dir| {
        let stack = [tmpfs("", &[]), tmpfs("", &["noexec", MAPS[0], MAPS[1]])];
        mount_rootfs(&reaper, &stack, &dir.rootfs()).await.unwrap();
        assert_eq!(ids(&dir.rootfs()), (100_000, 200_000));
        let mounts = dir.mounts();
        assert_eq!(mounts.len(), 2, "{mounts:?}");
        assert!(mounts[1].1.contains("noexec"), "{mounts:?}");
    });
}

fn overlay(dir: &Dir, lowers: &[&Path]) -> Mount {
    let lowers: Vec<_> = lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
    let upper = dir.0.path().join("upper");
    for name in ["upper", "work"] {
        fs::create_dir_all(upper.join(name)).unwrap();
    }
    let options = [
        format!("workdir={}", upper.join("work").display()),
        MAPS[0].to_owned(),
        format!("lowerdir={}", lowers.join(":")),
        MAPS[1].to_owned(),
        format!("upperdir={}", upper.join("upper").display()),
    ];
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    mount("overlay", Path::new("overlay"), "", &options)
}

/// Where the overlay that is mounted says its layers are.
fn seen_lowers() -> String {
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (_, rest) = list.rsplit_once("lowerdir=").unwrap();
    rest.split(',').next().unwrap().to_owned()
}

#[test]
fn the_layers_of_an_overlay_are_mapped_and_its_upper_one_is_not() {
    run(async |reaper, dir| {
        let (one, two) = (image(&dir, "one"), image(&dir, "two"));
        fs::write(two.join("other"), "").unwrap();
        mount_rootfs(&reaper, &[overlay(&dir, &[&one, &two])], &dir.rootfs()).await.unwrap();
        assert_eq!(ids(&dir.rootfs().join("file")), (100_005, 300_005));
        assert_eq!(ids(&dir.rootfs().join("other")), (100_000, 200_000));
        assert_eq!(fs::read_to_string(dir.rootfs().join("file")).unwrap(), "one");
        fs::write(dir.rootfs().join("other"), "copied up").unwrap();
        assert_eq!(ids(&dir.0.path().join("upper/upper/other")), (100_000, 200_000));
        // One mount did for both, and it is gone.
        let seen = seen_lowers();
        assert!(
            seen.ends_with("/0/one:".to_owned().as_str()) || seen.contains("/0/one:"),
            "{seen}"
        );
        assert!(seen.contains("/ovl-idmapped") && seen.ends_with("/0/two"), "{seen}");
        assert_eq!(dir.mounts().len(), 1);
    });
}

#[test]
fn layers_may_be_mounts_or_behind_links() {
    run(async |reaper, dir| {
        let (one, two) = (dir.source("one"), image(&dir, "two"));
        mount_rootfs(&reaper, &[tmpfs("", &[])], &one).await.unwrap();
        fs::write(one.join("inner"), "").unwrap();
        let link = dir.0.path().join("link");
        symlink(&two, &link).unwrap();
        mount_rootfs(&reaper, &[overlay(&dir, &[&one, &link])], &dir.rootfs()).await.unwrap();
        assert_eq!(ids(&dir.rootfs().join("inner")), (100_000, 200_000));
        assert_eq!(ids(&dir.rootfs().join("file")), (100_005, 300_005));
        assert!(seen_lowers().ends_with("/1"), "{}", seen_lowers());
        unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();

        mount_rootfs(&reaper, &[overlay(&dir, &[&link])], &dir.rootfs()).await.unwrap();
        assert_eq!(ids(&dir.rootfs().join("file")), (100_005, 300_005));
    });
}

#[test]
fn what_cannot_be_mapped_is_said_and_undone() {
    run(async |reaper, dir| {
        let image = image(&dir, "image");
        let below = || mount("bind", &image, "", &["bind"]);
        let target = dir.rootfs().display().to_string();
        let shift = "unable to shift GID/UID or set mount attrs for";
        let prepare = "failed to prepare idmapped overlay:";
        let table = [
            (mount("proc", &image, "", &MAPS), format!("{shift} {target}: invalid argument")),
            (
                overlay(&dir, &[&image, Path::new("/proc/self")]),
                format!("{prepare} failed to create idmapped mount: {shift} /tmp/ovl-idmapped"),
            ),
            (
                overlay(&dir, &[&image, Path::new("/nonexistent")]),
                format!(
                    "{prepare} failed to create idmapped mount: unable to open tree for \
                     /nonexistent: no such file or directory"
                ),
            ),
            (
                mount("overlay", &image, "", &MAPS),
                format!("{prepare} failed to parse overlay lowerdir's from given options"),
            ),
            (
                mount("bind", Path::new("/nonexistent"), "", &["bind", MAPS[0], MAPS[1]]),
                "mount source: \"/nonexistent\"".to_owned(),
            ),
            (tmpfs("", &["uidmap=x", MAPS[1]]), "user namespace mappings require".to_owned()),
            (tmpfs("", &["uidmap=0:0:0", MAPS[1]]), "failed to write /proc/".to_owned()),
        ];
        for (failing, text) in table {
            let mounts = [below(), failing];
            let err = mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap_err().to_string();
            let start = format!("failed to mount rootfs component: {text}");
            assert!(err.starts_with(&start), "{err}\n{start}");
            assert_eq!(dir.mounts(), [], "{text}");
            let left = fs::read_dir("/tmp").unwrap().count();
            assert_eq!(left, 1, "{text}: something stays beside our directory");
        }
    });
}
