// SPDX-License-Identifier: Apache-2.0
//! A shim that is itself in a user namespace.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use wedge_oci::mount_rootfs;
use wedge_reaper::{Limits, Reaper};

use crate::support::{mount, run, tmpfs};

const DIR: &str = "WEDGE_TEST_USER_NAMESPACE";

#[test]
fn flags_that_are_locked_are_kept() {
    run(async |reaper, dir| {
        let place = dir.0.path().join("place");
        let locked = [tmpfs("", &["nosuid", "nodev", "noexec", "noatime"])];
        mount_rootfs(&reaper, &locked, &place).await.unwrap();
        fs::create_dir(place.join("image")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        // By descriptor: its path may be in what is not the machine's /tmp here.
        let program = fs::File::open("/proc/self/exe").unwrap();
        wedge_sys::pass_fd(&mut command, program.into(), 3).unwrap();
        command.arg("/proc/self/fd/3").env(DIR, &place);
        command.args(["--exact", "user_namespace::inside", "--nocapture"]);
        let output = reaper.capture(command, None, Limits::default()).await.unwrap();
        let printed = String::from_utf8_lossy(&output.output);
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
        assert!(printed.contains("it was inside"), "{printed}");
    });
}

/// What the test above runs in the namespace; by itself, nothing.
#[tokio::test]
async fn inside() {
    let Some(dir) = env::var_os(DIR).map(PathBuf::from) else { return };
    let (rootfs, image) = (dir.join("rootfs"), dir.join("image"));
    let bind = [mount("bind", &image, "", &["rbind", "ro"])];
    mount_rootfs(&Reaper::new(), &bind, &rootfs).await.unwrap();
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = list.lines().find(|line| line.contains(rootfs.to_str().unwrap())).unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noexec,noatime "), "{line}");
    println!("it was inside");
}
