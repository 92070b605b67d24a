// SPDX-License-Identifier: Apache-2.0
//! Mounts that helpers make.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use wedge_oci::{mount_rootfs, unmount_recursive};
use wedge_reaper::{Limits, Reaper};

use crate::support::{mount, run, tmpfs};

/// A directory of the `PATH` that programs can be put into: it is one of this test's own, mounted
/// over the one the system has.
struct Programs(PathBuf);

impl Programs {
    async fn new(reaper: &Reaper) -> Programs {
        let path = env::var_os("PATH").unwrap();
        let mut local = env::split_paths(&path).filter(|dir| dir.starts_with("/usr/local"));
        let dir = local.find(|dir| dir.is_dir()).unwrap();
        mount_rootfs(reaper, &[tmpfs("", &[])], &dir).await.unwrap();
        Programs(dir)
    }

    /// The script finds where it may write to in `$HERE`.
    fn add(&self, name: &str, script: &str) {
        let path = self.0.join(name);
        let script = format!("#!/bin/sh\nHERE={}\n{script}\n", self.0.display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }

    /// Hides the program the system has: what is no regular file is none.
    async fn hide(reaper: &Reaper, name: &str) -> Vec<PathBuf> {
        let mut hidden = Vec::new();
        for dir in env::split_paths(&env::var_os("PATH").unwrap()) {
            let program = dir.join(name);
            if program.is_file() {
                let mut bind = Command::new("mount");
                bind.args(["--bind", "/dev/null"]).arg(&program);
                let output = reaper.capture(bind, None, Limits::default()).await.unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.output));
                hidden.push(program);
            }
        }
        hidden
    }

    async fn remove(self, reaper: &Reaper) {
        unmount_recursive(reaper, &self.0).await.unwrap();
    }
}

#[test]
fn a_helper_mounts_with_containerds_arguments() {
    run(async |reaper, dir| {
        let programs = Programs::new(&reaper).await;
        programs.add("mount.fuse3", "echo \"$@\" > $HERE/log; mount -t tmpfs fake \"$2\"");
        let image = dir.source("image");
        fs::create_dir(image.join("sub")).unwrap();
        let mounts = [
            mount("bind", &image, "", &["bind"]),
            mount("fuse3.fuse-overlayfs", Path::new("overlay"), "/sub", &["lowerdir=/a:/b", "ro"]),
        ];
        mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap();
        let target = dir.rootfs().join("sub").display().to_string();
        let args = format!("overlay {target} -o lowerdir=/a:/b -o ro -t fuse-overlayfs\n");
        assert_eq!(programs.log(), args);
        assert_eq!(dir.mounts().len(), 2);
        // A later component that fails takes it along.
        unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();
        let bad = mount("bind", Path::new("/nonexistent"), "", &["bind"]);
        let mounts = [&mounts[..], &[bad]].concat();
        mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap_err();
        assert_eq!(dir.mounts(), []);
        programs.remove(&reaper).await;
    });
}

#[test]
fn a_helper_that_fails_is_quoted_and_its_mount_undone() {
    run(async |reaper, dir| {
        let programs = Programs::new(&reaper).await;
        let hidden = Programs::hide(&reaper, "mount.fuse").await;
        fs::create_dir(dir.rootfs()).unwrap();
        let target = dir.rootfs().display().to_string();
        let mounts = [mount("fuse.x", Path::new("src"), "", &["a=b"])];
        let says = |text: &str| {
            format!(
                "failed to mount rootfs component: mount helper [mount.fuse [src {target} -o a=b \
                 -t x]] failed: {text}"
            )
        };
        let err = mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap_err();
        let missing = "\"\": exec: \"mount.fuse\": executable file not found in $PATH";
        assert_eq!(err.to_string(), says(missing));
        for program in hidden {
            unmount_recursive(&reaper, &program.canonicalize().unwrap()).await.unwrap();
        }
        programs.add("mount.fuse", "mount -t tmpfs fake \"$2\"; echo broken >&2; exit 3");
        let err = mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap_err();
        assert_eq!(err.to_string(), says("\"broken\\n\": exit status 3"));
        assert_eq!(dir.mounts(), []);
        programs.remove(&reaper).await;
    });
}

/// containerd #4387: there, its own reaper took the helper's exit now and then.
#[test]
fn no_exit_of_a_helper_is_lost() {
    run(async |reaper, dir| {
        let programs = Programs::new(&reaper).await;
        programs.add("mount.fuse", "exit 0");
        let mounts = [mount("fuse.x", Path::new("src"), "", &[])];
        for _ in 0..300 {
            mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap();
        }
        programs.remove(&reaper).await;
    });
}

/// A file system whose program never answers: whoever looks into it hangs.
#[test]
fn a_file_system_that_is_dead_is_unmounted_all_the_same() {
    run(async |reaper, dir| {
        let programs = Programs::new(&reaper).await;
        programs.add(
            "mount.fuse",
            "exec 3<>/dev/fuse\n\
             mount -i -t fuse.dead -o fd=3,rootmode=40000,user_id=0,group_id=0 \"$1\" \"$2\" || exit\n\
             exec >/dev/null 2>&1; dd bs=256k of=/dev/null <&3 &",
        );
        programs.add("fusermount3", "echo \"$@\" >> $HERE/log; exit 1");
        let mounts = [mount("fuse.dead", Path::new("none"), "", &[])];
        mount_rootfs(&reaper, &mounts, &dir.rootfs()).await.unwrap();
        assert_eq!(dir.mounts().len(), 1);
        unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();
        assert_eq!(dir.mounts(), []);
        assert_eq!(programs.log(), format!("-u {}\n", dir.rootfs().display()));
        programs.remove(&reaper).await;
    });
}

#[test]
fn a_file_system_that_a_real_program_serves() {
    run(async |reaper, dir| {
        let lowers = [dir.source("one"), dir.source("two")].map(|path| path.display().to_string());
        let option = format!("lowerdir={}", lowers.join(":"));
        let fuse = mount("fuse3.fuse-overlayfs", Path::new("overlay"), "", &[&option]);
        mount_rootfs(&reaper, &[fuse], &dir.rootfs()).await.unwrap();
        assert_eq!(fs::read_to_string(dir.rootfs().join("file")).unwrap(), "one");
        unmount_recursive(&reaper, &dir.rootfs()).await.unwrap();
        assert_eq!(dir.mounts(), []);
    });
}
