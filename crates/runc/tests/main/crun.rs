// SPDX-License-Identifier: Apache-2.0
//! Containers of crun: each command beside crun's own, before it and after it; what crun would
//! refuse is left to it, and nothing has happened then.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::support::{Bench, LIMIT, Setup, failed, left, until};

const FINISHED: &str = "process already finished: not found";

/// crun's status. Its `list` is asked, too.
async fn assert_status(bench: &Bench<'_>, status: &str) {
    assert_eq!(bench.status().await, status);
}

#[test]
fn a_whole_life_is_as_if_crun_had_led_it() {
    Setup::crun().run(async |bench| {
        assert_status(bench, "created").await;
        let container = bench.container();
        let cgroups = bench.cgroups();
        container.start(Some(&bench.init), LIMIT).await.unwrap();
        assert_status(bench, "running").await;
        until("it is its program", || (bench.command() == "busybox").then_some(())).await;
        bench.by_runc("exec", &["/bin/busybox", "true"]).await;
        assert_eq!(container.pids().await.unwrap(), [bench.pid]);
        container.pause(Some(&bench.init)).await.unwrap();
        assert_status(bench, "paused").await;
        container.resume().await.unwrap();
        assert_status(bench, "running").await;
        container.kill(Some(&bench.init), 0, false).await.unwrap();
        container.kill(Some(&bench.init), 9, false).await.unwrap();
        assert_eq!(bench.ended().await.status.code(), 137);
        assert_status(bench, "stopped").await;
        let mount = bench.fifo().with_file_name("mount");
        fs::create_dir(&mount).unwrap();
        assert_eq!(left(container.delete().await), "crun's directory has more than files");
        fs::remove_dir(mount).unwrap();
        container.delete().await.unwrap();
        bench.assert_gone(&cgroups);
        container.delete().await.unwrap_err();
    });
}

#[test]
fn cruns_commands_come_between_ours() {
    Setup::crun().run(async |bench| {
        let container = bench.container();
        bench.by_runc("start", &[]).await;
        container.pause(Some(&bench.init)).await.unwrap();
        bench.by_runc("resume", &[]).await;
        bench.by_runc("pause", &[]).await;
        container.resume().await.unwrap();
        bench.by_runc("kill", &["KILL"]).await;
        bench.ended().await;
        let cgroups = bench.cgroups();
        bench.delete(&container).await;
        bench.assert_gone(&cgroups);
    });
    Setup::crun().run(async |bench| {
        bench.start().await;
        let container = bench.container();
        container.kill(Some(&bench.init), 9, true).await.unwrap();
        bench.ended().await;
        let cgroups = bench.cgroups();
        bench.by_runc("delete", &[]).await;
        bench.assert_gone(&cgroups);
    });
}

#[test]
fn what_crun_would_refuse_is_left_to_it() {
    Setup::crun().run(async |bench| {
        let container = bench.container();
        let init = Some(&bench.init);
        assert_eq!(left(container.resume().await), "it is not paused");
        bench.by_runc("pause", &[]).await;
        assert_eq!(left(container.start(init, LIMIT).await), "it is Paused");
        assert_eq!(left(container.pause(init).await), "it is Paused");
        assert_eq!(left(container.kill(init, 15, true).await), "its cgroup is frozen");
        container.resume().await.unwrap();
        assert_status(bench, "created").await;
        bench.start().await;
        assert_eq!(left(container.start(init, LIMIT).await), "it is Running");
        assert_eq!(left(container.delete().await), "its init has not been reaped");
        bench.kill_init().await;
        for init in [init, None] {
            assert_eq!(left(container.start(init, LIMIT).await), "it is Stopped");
            assert_eq!(left(container.pause(init).await), "it is Stopped");
            assert_eq!(failed(container.kill(init, 9, false).await), FINISHED);
        }
        container.kill(None, 9, true).await.unwrap();
        assert_eq!(container.pids().await.unwrap(), [0; 0]);
        bench.by_runc("delete", &[]).await;
        assert!(!left(container.kill(None, 9, true).await).is_empty());
    });
}

#[test]
fn a_fifo_that_is_none_of_cruns_starts_nothing() {
    Setup::crun().run(async |bench| {
        let (container, fifo) = (bench.container(), bench.fifo());
        let kept = fifo.with_file_name("kept");
        fs::rename(&fifo, &kept).unwrap();
        // Nobody reads it: crun would wait for ever.
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert!(left(container.start(Some(&bench.init), LIMIT).await).starts_with("exec.fifo: "));
        assert!(fifo.exists());
        for other in ["link", "file"] {
            fs::remove_file(&fifo).unwrap();
            match other {
                "link" => symlink(&kept, &fifo).unwrap(),
                _ => fs::write(&fifo, "").unwrap(),
            }
            let reason = left(container.start(Some(&bench.init), LIMIT).await);
            assert_eq!(reason, "it is Running", "{other}");
        }
        assert_eq!(bench.command(), "crun", "it still waits");
        fs::remove_file(&fifo).unwrap();
        fs::rename(&kept, &fifo).unwrap();
        bench.start().await;
    });
}

/// `crun kill` signals the init alone, and `crun delete` kills who is left.
#[test]
fn who_shares_a_pid_namespace_dies_with_the_container() {
    let mut setup = Setup::crun();
    setup.config["linux"]["namespaces"] = json!([{"type": "mount"}]);
    setup.script("trap '' TERM; /bin/busybox sleep 1000 & wait");
    setup.run(async |bench| {
        bench.start().await;
        until("it has a child", || (bench.members() == 2).then_some(())).await;
        let container = bench.container();
        container.kill(Some(&bench.init), 9, false).await.unwrap();
        bench.ended().await;
        assert_eq!(bench.members(), 1);
        let cgroups = bench.cgroups();
        container.delete().await.unwrap();
        bench.assert_gone(&cgroups);
    });
}

#[test]
fn a_signal_for_all_is_for_all() {
    let mut setup = Setup::crun();
    setup
        .script("trap 'exit 5' TERM; (trap 'exit 0' TERM; while :; do sleep 1; done) & wait; wait");
    setup.run(async |bench| {
        bench.start().await;
        until("the trap is set", || bench.catches(15).then_some(())).await;
        bench.container().kill(Some(&bench.init), 15, true).await.unwrap();
        assert_eq!(bench.ended().await.status.code(), 5);
        assert_eq!(bench.status().await, "stopped");
    });
}

#[test]
fn a_paused_container_is_killed_and_deleted() {
    Setup::crun().run(async |bench| {
        bench.start().await;
        bench.by_runc("pause", &[]).await;
        let container = bench.container();
        container.kill(Some(&bench.init), 9, false).await.unwrap();
        bench.ended().await;
        let cgroups = bench.cgroups();
        container.delete().await.unwrap();
        bench.assert_gone(&cgroups);
    });
}

/// As if it had been created with these. Debian's crun crashes at times when it has some to run.
fn set_hooks(bench: &Bench<'_>, hooks: Value) {
    let path = bench.fifo().with_file_name("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["hooks"] = hooks;
    fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn hooks_are_cruns() {
    for (kind, starts, deletes) in
        [("prestart", true, true), ("poststart", false, true), ("poststop", true, false)]
    {
        Setup::crun().run(async |bench| {
            set_hooks(bench, json!({kind: [{"path": "/bin/true"}]}));
            let container = bench.container();
            set_hooks(bench, json!({}));
            let started = container.start(Some(&bench.init), LIMIT).await;
            match starts {
                true => started.unwrap(),
                false => assert_eq!(left(started), "it has a poststart hook"),
            }
            bench.kill_init().await;
            let deleted = container.delete().await;
            match deletes {
                true => deleted.unwrap(),
                false => assert_eq!(left(deleted), "it has a poststop hook"),
            }
        });
    }
}

#[test]
fn only_what_is_known_is_taken_for_cruns() {
    let mut setup = Setup::crun();
    setup.config["annotations"] = json!({"run.oci.hooks.stdout": "/dev/null"});
    setup.run(async |bench| {
        let reason = bench.load().unwrap_err().to_string();
        assert_eq!(reason, "it has the annotation run.oci.hooks.stdout");
    });
    Setup::crun().run(async |bench| {
        let path = bench.fifo().with_file_name("status");
        let (container, status) = (bench.container(), fs::read_to_string(&path).unwrap());
        let good: Value = serde_json::from_str(&status).unwrap();
        for (key, value, reason) in [
            ("pid", json!(1), "crun's status is of process 1"),
            ("process-start-time", json!(1), "crun's status is of another process "),
            ("cgroup-path", json!(""), "the container has no cgroup"),
            ("cgroup-path", json!("/"), "the container has no cgroup"),
            ("cgroup-path", json!("/a/../.."), "the container has no cgroup"),
            ("intelrdt", json!("x"), "it has an Intel RDT group"),
            ("new", json!(1), "crun's state cannot be read: unknown field `new`"),
        ] {
            let mut changed = good.clone();
            changed[key] = value;
            fs::write(&path, changed.to_string()).unwrap();
            let found = bench.load().unwrap_err().to_string();
            assert!(found.starts_with(reason), "{key}: {found}");
        }
        fs::write(&path, good.to_string()).unwrap();
        bench.kill_init().await;
        let mut changed = good;
        changed["process-start-time"] = json!(1);
        fs::write(&path, changed.to_string()).unwrap();
        assert_eq!(left(container.delete().await), "crun's state is of another container");
    });
}

/// A unit of systemd's is stopped over D-Bus.
#[test]
fn units_of_systemd_are_deleted_by_crun() {
    Setup::crun().run(async |bench| {
        let path = bench.fifo().with_file_name("status");
        let status = fs::read_to_string(&path).unwrap();
        let unit = status.replace(r#""systemd-cgroup": false"#, r#""systemd-cgroup": true"#);
        fs::write(&path, &unit).unwrap();
        assert_ne!(unit, status);
        bench.start().await;
        let container = bench.container();
        bench.kill_init().await;
        assert_eq!(left(container.delete().await), "its cgroup is a unit of systemd");
        fs::write(&path, &status).unwrap();
    });
}
