// SPDX-License-Identifier: Apache-2.0
//! Mounting and unmounting as mount(2) does it.

use std::fs::{self, File};
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use wedge_oci::{Mount, Result};
use wedge_reaper::Reaper;

use crate::support::{Dir, mount, tmpfs};

/// None of these has a child.
async fn mount_rootfs(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    wedge_oci::mount_rootfs(&Reaper::new(), mounts, rootfs).await
}

async fn unmount_recursive(path: &Path) -> Result<()> {
    wedge_oci::unmount_recursive(&Reaper::new(), path).await
}

async fn unmount_last_resort(path: &Path) {
    wedge_oci::unmount_last_resort(&Reaper::new(), path, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_bind_mount_makes_the_missing_rootfs_and_goes_again() {
    let dir = Dir::new();
    let image = dir.source("image");
    mount_rootfs(&[mount("bind", &image, "", &["rbind", "rw"])], &dir.rootfs()).await.unwrap();
    assert_eq!(fs::read_to_string(dir.rootfs().join("file")).unwrap(), "image");
    fs::write(dir.rootfs().join("new"), "").unwrap();
    unmount_recursive(&dir.rootfs()).await.unwrap();
    assert_eq!(dir.mounts(), []);
    let mode = fs::metadata(dir.rootfs()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o711 & !umask());
}

fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

#[tokio::test]
async fn a_read_only_bind_mount_is_read_only_and_its_source_is_not() {
    let dir = Dir::new();
    let image = dir.source("image");
    let options = ["rbind", "ro", "nosuid", "rprivate"];
    mount_rootfs(&[mount("bind", &image, "", &options)], &dir.rootfs()).await.unwrap();
    let err = fs::write(dir.rootfs().join("file"), "").unwrap_err();
    assert_eq!(err.kind(), IoErrorKind::ReadOnlyFilesystem);
    fs::write(image.join("file"), "still writable").unwrap();
    let (_, options) = dir.mounts().remove(0);
    assert!(options.contains("ro") && options.contains("nosuid"), "{options}");
}

#[tokio::test]
async fn components_are_mounted_in_order_and_below_each_other() {
    let dir = Dir::new();
    let image = dir.source("image");
    fs::create_dir(image.join("tmp")).unwrap();
    fs::write(image.join("etc-file"), "").unwrap();
    let mounts = [
        mount("bind", &image, "", &["bind"]),
        tmpfs("/tmp", &["size=64k", "mode=700", "noexec"]),
        mount("bind", &image.join("file"), "etc-file", &["bind", "ro"]),
    ];
    mount_rootfs(&mounts, &dir.rootfs()).await.unwrap();
    assert_eq!(fs::metadata(dir.rootfs().join("tmp")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(dir.rootfs().join("etc-file")).unwrap(), "image");
    let points: Vec<String> = dir.mounts().into_iter().map(|(point, _)| point).collect();
    assert_eq!(points, ["/rootfs", "/rootfs/tmp", "/rootfs/etc-file"]);
    unmount_recursive(&dir.rootfs()).await.unwrap();
    assert_eq!(dir.mounts(), []);
}

#[tokio::test]
async fn an_overlay_joins_its_layers() {
    let dir = Dir::new();
    // Overlay on overlay or without whiteouts may be refused; tmpfs layers always work.
    mount_rootfs(&[tmpfs("", &[])], &dir.0.path().join("layers")).await.unwrap();
    let layers = dir.0.path().join("layers");
    for layer in ["lower", "upper", "work"] {
        fs::create_dir(layers.join(layer)).unwrap();
    }
    fs::write(layers.join("lower/file"), "lower").unwrap();
    let options = [
        format!("lowerdir={}", layers.join("lower").display()),
        format!("upperdir={}", layers.join("upper").display()),
        format!("workdir={}", layers.join("work").display()),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let overlay = mount("overlay", Path::new("overlay"), "", &options);
    mount_rootfs(&[overlay], &dir.rootfs()).await.unwrap();
    assert_eq!(fs::read_to_string(dir.rootfs().join("file")).unwrap(), "lower");
    fs::write(dir.rootfs().join("file"), "upper").unwrap();
    assert_eq!(fs::read_to_string(layers.join("upper/file")).unwrap(), "upper");
}

#[tokio::test]
async fn a_link_in_the_image_leads_nowhere_else() {
    let dir = Dir::new();
    let image = dir.source("image");
    let outside = dir.source("outside");
    symlink(&outside, image.join("absolute")).unwrap();
    symlink("../outside", image.join("relative")).unwrap();
    for link in ["absolute", "/relative", "../outside"] {
        let mounts = [mount("bind", &image, "", &["bind"]), tmpfs(link, &[])];
        let err = mount_rootfs(&mounts, &dir.rootfs()).await.unwrap_err().to_string();
        assert!(err.ends_with("err: no such file or directory"), "{link}: {err}");
        assert_eq!(dir.mounts(), [], "{link}");
    }
    // With the same path inside, that is where it goes.
    let inside = image.join(outside.strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    let mounts = [mount("bind", &image, "", &["bind"]), tmpfs("absolute", &[])];
    mount_rootfs(&mounts, &dir.rootfs()).await.unwrap();
    let point = format!("/rootfs{}", outside.display());
    assert_eq!(dir.mounts()[1].0, point);
}

#[tokio::test]
async fn a_failure_undoes_the_mounts_before_it_and_names_the_call() {
    let dir = Dir::new();
    let image = dir.source("image");
    let mounts = [
        mount("bind", &image, "", &["bind"]),
        tmpfs("", &[]),
        mount("bind", Path::new("/nonexistent"), "", &["bind", "ro"]),
    ];
    let err = mount_rootfs(&mounts, &dir.rootfs()).await.unwrap_err();
    let text = format!(
        "failed to mount rootfs component: mount source: \"/nonexistent\", target: {:?}, \
         fstype: bind, flags: 4097, data: \"\", err: no such file or directory",
        dir.rootfs()
    );
    assert_eq!(err.to_string(), text);
    assert_eq!(dir.mounts(), []);
}

#[tokio::test]
async fn without_mounts_nothing_is_touched() {
    let dir = Dir::new();
    mount_rootfs(&[], &dir.rootfs()).await.unwrap();
    assert!(!dir.rootfs().exists());
    unmount_recursive(&dir.rootfs()).await.unwrap();
    unmount_recursive(Path::new("")).await.unwrap();
    unmount_last_resort(&dir.rootfs()).await;
}

#[tokio::test]
async fn stacked_mounts_and_odd_names_are_unmounted() {
    let dir = Dir::new();
    let odd = dir.rootfs().join("with space\tand\\tab");
    let stack = [tmpfs("", &[]), tmpfs("", &[]), tmpfs("", &[])];
    mount_rootfs(&stack, &dir.rootfs()).await.unwrap();
    fs::create_dir(&odd).unwrap();
    mount_rootfs(&[tmpfs("", &[]), tmpfs("", &[])], &odd).await.unwrap();
    // Through a link: mountinfo has only the real path.
    let link = dir.0.path().join("link");
    symlink(dir.rootfs(), &link).unwrap();
    unmount_recursive(&link).await.unwrap();
    assert_eq!(dir.mounts(), []);
}

#[tokio::test]
async fn a_busy_mount_is_waited_for() {
    let dir = Dir::new();
    mount_rootfs(&[tmpfs("", &[])], &dir.rootfs()).await.unwrap();
    let busy = File::create(dir.rootfs().join("busy")).unwrap();
    let rootfs = dir.rootfs();
    let mut unmounted = pin!(unmount_recursive(&rootfs));
    timeout(Duration::from_millis(120), &mut unmounted).await.expect_err("it is still busy");
    drop(busy);
    unmounted.await.unwrap();
    assert_eq!(dir.mounts(), []);
}

#[tokio::test]
async fn a_mount_that_stays_busy_is_an_error_and_the_last_resort_detaches_it() {
    let dir = Dir::new();
    mount_rootfs(&[tmpfs("", &[]), tmpfs("", &[])], &dir.rootfs()).await.unwrap();
    let busy = File::create(dir.rootfs().join("busy")).unwrap();
    let err = unmount_recursive(&dir.rootfs()).await.unwrap_err().to_string();
    let rootfs = dir.rootfs();
    assert_eq!(
        err,
        format!("failed to unmount target {}: device or resource busy", rootfs.display())
    );
    assert_eq!(dir.mounts().len(), 2);
    unmount_last_resort(&dir.rootfs()).await;
    assert_eq!(dir.mounts(), []);
    drop(busy);
}

#[tokio::test]
async fn the_last_resort_has_no_more_patience_than_it_is_given() {
    let dir = Dir::new();
    mount_rootfs(&[tmpfs("", &[])], &dir.rootfs()).await.unwrap();
    let busy = File::create(dir.rootfs().join("busy")).unwrap();
    wedge_oci::unmount_last_resort(&Reaper::new(), &dir.rootfs(), Duration::ZERO).await;
    assert_eq!(dir.mounts(), []);
    drop(busy);
}
