// SPDX-License-Identifier: Apache-2.0
//! File systems in images.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use wedge_oci::{Mount, mount_rootfs, unmount_recursive};
use wedge_reaper::{Limits, Reaper};

use crate::support::{mount, run, until};

/// A sparse image of 320 MiB, the least that XFS takes, made by `mkfs`, under a name no other test uses.
async fn image(reaper: &Reaper, dir: &Path, mkfs: &[&str]) -> PathBuf {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let image = dir.join(format!("image{name}-{}", fs::read_dir(dir).unwrap().count()));
    File::create(&image).unwrap().set_len(320 << 20).unwrap();
    let content = dir.join("content");
    fs::create_dir_all(&content).unwrap();
    let mut command = Command::new(mkfs[0]);
    for arg in &mkfs[1..] {
        match *arg {
            "IMAGE" => command.arg(&image),
            "CONTENT" => command.arg(&content),
            other => command.arg(other),
        };
    }
    let output = reaper.capture(command, None, Limits::default()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.output));
    image
}

async fn ext4(reaper: &Reaper, dir: &Path) -> PathBuf {
    image(reaper, dir, &["mkfs.ext4", "-q", "-F", "IMAGE"]).await
}

/// The loop devices that show `image`.
fn devices(image: &Path) -> Vec<PathBuf> {
    let name = image.file_name().unwrap().to_str().unwrap();
    let devices = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
    let shows = |device: &PathBuf| {
        let file = fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
        file.trim().ends_with(name)
    };
    devices.filter(shows).collect()
}

async fn gone(image: &Path) {
    until("the loop device stays", || devices(image).is_empty()).await;
}

fn looped(image: &Path, options: &[&str]) -> Mount {
    let mut mount = mount("ext4", image, "", options);
    mount.options.push("loop".to_owned());
    mount
}

#[test]
fn an_image_is_mounted_and_its_device_goes_with_the_mount() {
    run(async |reaper, dir| {
        let image = ext4(&reaper, dir.0.path()).await;
        for (options, expected) in [(&["noatime"][..], true), (&["ro", "direct-io"], false)] {
            let mounts = [looped(&image, options)];
            mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap();
            let [device] = devices(&image).try_into().unwrap();
            assert_eq!(fs::read_to_string(device.join("loop/autoclear")).unwrap(), "1\n");
            let read_only = fs::read_to_string(device.join("ro")).unwrap();
            assert_eq!(read_only, if expected { "0\n" } else { "1\n" });
            let file = dir.rootfs().join("file");
            assert_eq!(fs::write(&file, "kept").is_ok(), expected);
            assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
            unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();
            gone(&image).await;
        }
    });
}

#[test]
fn an_image_with_mapped_ids() {
    run(async |reaper, dir| {
        use std::os::unix::fs::MetadataExt;
        let image = ext4(&reaper, dir.0.path()).await;
        let maps = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];
        mount_rootfs(&reaper, &[looped(&image, &maps)], &dir.rootfs()).await.unwrap();
        let meta = fs::metadata(dir.rootfs().join("lost+found")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (100_000, 200_000));
        assert_eq!(dir.mounts().len(), 1);
        unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();
        gone(&image).await;
    });
}

#[test]
fn many_at_once_each_get_a_device() {
    run(async |reaper, dir| {
        let mut images = Vec::new();
        for _ in 0..8 {
            images.push(ext4(&reaper, dir.0.path()).await);
        }
        let rootfs = |number: usize| dir.0.path().join(format!("rootfs{number}"));
        let mut tasks = tokio::task::JoinSet::new();
        for (number, image) in images.iter().enumerate() {
            let (reaper, mounts, rootfs) = (reaper.clone(), [looped(image, &[])], rootfs(number));
            tasks.spawn(async move { mount_rootfs(&reaper, &mounts, &rootfs).await });
        }
        for done in tasks.join_all().await {
            done.unwrap();
        }
        for (number, image) in images.iter().enumerate() {
            assert!(rootfs(number).join("lost+found").exists());
            assert_eq!(devices(image).len(), 1);
            unmount_recursive(&reaper, &rootfs(number)).await.unwrap();
            gone(image).await;
        }
    });
}

#[test]
fn a_failure_leaves_no_device() {
    run(async |reaper, dir| {
        let image = ext4(&reaper, dir.0.path()).await;
        let text = |err: wedge_oci::Error| err.to_string();
        let mut failing = looped(&image, &["no-such-option"]);
        let err = mount_rootfs(&reaper, &[failing.clone()], &dir.rootfs()).await.map_err(text);
        let err = err.unwrap_err();
        let start = "failed to mount rootfs component: mount source: \"/dev/loop";
        assert!(err.starts_with(start) && err.ends_with("err: invalid argument"), "{err}");
        gone(&image).await;

        // The component after it fails.
        let after = mount("bind", Path::new("/nonexistent"), "", &["bind"]);
        let mounts = [looped(&image, &[]), after];
        mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap_err();
        assert_eq!(dir.mounts(), []);
        gone(&image).await;

        failing.source = "/nonexistent".to_owned();
        let err = mount_rootfs(&reaper, &[failing], &dir.rootfs()).await.map_err(text);
        assert_eq!(
            err.unwrap_err(),
            "failed to mount rootfs component: could not open backing file: /nonexistent: no such \
             file or directory"
        );
    });
}

#[test]
fn images_of_other_file_systems() {
    run(async |reaper, dir| {
        let tools: [(&str, &[&str]); 3] = [
            ("squashfs", &["mksquashfs", "CONTENT", "IMAGE", "-noappend", "-quiet"]),
            ("erofs", &["mkfs.erofs", "-Enoinline_data", "IMAGE", "CONTENT"]),
            ("xfs", &["mkfs.xfs", "-q", "-f", "IMAGE"]),
        ];
        for (fs_type, mkfs) in tools {
            let image = image(&reaper, dir.0.path(), mkfs).await;
            let mount = Mount { fs_type: fs_type.to_owned(), ..looped(&image, &["ro"]) };
            mount_rootfs(&reaper, &[mount], &dir.rootfs()).await.unwrap();
            fs::read_dir(dir.rootfs()).unwrap();
            unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();
            gone(&image).await;
        }
    });
}
