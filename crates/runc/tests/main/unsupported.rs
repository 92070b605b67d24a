// SPDX-License-Identifier: Apache-2.0
//! What is left to runc.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Bench, LIMIT, Setup, left};

/// A program for a hook, which does nothing.
fn hook() -> Value {
    json!([{"path": "/bin/true"}])
}

fn change(setup: &Setup, change: impl FnOnce(&mut Value)) {
    let path = setup.state().join("state.json");
    let mut state = setup.read_state();
    change(&mut state);
    fs::write(path, state.to_string()).unwrap();
}

async fn deleted_by_runc(bench: &Bench<'_>, reason: &str) {
    let (container, cgroups) = (bench.container(), bench.cgroups());
    bench.kill_init().await;
    assert_eq!(left(container.delete().await), reason);
    bench.by_runc("delete", &[]).await;
    bench.assert_gone(&cgroups);
}

#[test]
fn hooks_after_create() {
    let mut setup = Setup::new();
    setup.config["hooks"] = json!({"poststart": hook()});
    setup.run(async |bench| {
        let container = bench.container();
        let reason = left(container.start(Some(&bench.init), LIMIT).await);
        assert_eq!(reason, "it has a poststart hook");
        assert_eq!(bench.status().await, "created");
        bench.by_runc("start", &[]).await;
        container.kill(Some(&bench.init), 9, false).await.unwrap();
        bench.ended().await;
        container.delete().await.unwrap();
    });
    let mut setup = Setup::new();
    let file = setup.dir().join("hook-ran");
    let args = json!(["touch", file]);
    setup.config["hooks"] = json!({"poststop": [{"path": "/bin/touch", "args": args}]});
    setup.run(async |bench| {
        bench.start().await;
        deleted_by_runc(bench, "it has a poststop hook").await;
        assert!(file.exists());
    });
}

#[test]
fn hooks_that_have_run_do_not_matter() {
    let mut setup = Setup::new();
    setup.config["hooks"] = json!({"prestart": hook(), "createRuntime": hook()});
    setup.run(async |bench| {
        let container = bench.container();
        container.start(Some(&bench.init), LIMIT).await.unwrap();
        bench.kill_init().await;
        container.delete().await.unwrap();
    });
}

#[test]
fn what_more_than_cgroups_was_made_for_it() {
    for (key, value, reason) in [
        ("intel_rdt_path", json!("/sys/fs/resctrl/x"), "it has an Intel RDT group"),
        ("config", json!({"Systemd": true}), "its cgroup is a unit of systemd"),
    ] {
        let setup = Setup::new();
        crate::support::on_reaper(async |reaper| {
            let bench = setup.create(reaper).await;
            let kept = setup.read_state();
            change(&setup, |state| match key {
                "config" => state["config"]["cgroups"]["Systemd"] = value["Systemd"].clone(),
                _ => state[key] = value.clone(),
            });
            let container = bench.container();
            container.start(Some(&bench.init), LIMIT).await.unwrap();
            bench.kill_init().await;
            assert_eq!(left(container.delete().await), reason);
            change(&setup, |state| *state = kept);
        });
    }
}

#[test]
fn a_notify_socket() {
    Setup::new().run(async |bench| {
        fs::create_dir(bench.fifo().with_file_name("notify")).unwrap();
        let container = bench.container();
        let reason = left(container.start(Some(&bench.init), LIMIT).await);
        assert_eq!(reason, "it has a notify socket");
        assert_eq!(bench.status().await, "created");
    });
}

/// Each is a state that is not of this container, or not of a runc that is known.
#[test]
fn a_state_that_says_something_else() {
    let setup = Setup::new();
    crate::support::on_reaper(async |reaper| {
        let bench = setup.create(reaper).await;
        let kept = setup.read_state();
        let start = kept["init_process_start"].as_u64().unwrap();
        for (pointer, value, text) in [
            ("/id", json!("other"), "is of other"),
            ("/init_process_pid", json!(1), "process 1"),
            ("/init_process_start", json!(start + 1), "of another process"),
            ("/rootless", json!(true), "it is rootless"),
            ("/config/cgroups/Rootless", json!(true), "it is rootless"),
            ("/cgroup_paths", Value::Null, "no cgroup"),
            ("/cgroup_paths", json!({"": "/tmp"}), "not a cgroup below the root"),
            ("/cgroup_paths", json!({"": "/sys/fs/cgroup"}), "not a cgroup below the root"),
            ("/created", json!({"new": 1}), ""),
        ] {
            change(&setup, |state| *state.pointer_mut(pointer).unwrap() = value);
            let loaded = bench.load().map(|_| ());
            let reason = loaded.map_or_else(|reason| reason.to_string(), |()| String::new());
            assert!(reason.contains(text) && (text.is_empty() == reason.is_empty()), "{reason}");
            change(&setup, |state| *state = kept.clone());
        }
        change(&setup, |state| state["made_by_a_later_runc"] = json!({}));
        assert!(bench.load().unwrap_err().to_string().contains("unknown field"));
        change(&setup, |state| *state = kept);
        let all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(setup.state(), all).unwrap();
        assert!(bench.load().unwrap_err().to_string().contains("others can write to it"));
        fs::remove_file(setup.state().join("state.json")).unwrap();
        assert!(bench.load().is_err());
    });
}
