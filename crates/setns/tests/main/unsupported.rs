// SPDX-License-Identifier: Apache-2.0
//! What is left to the OCI runtime, before anything has happened.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use wedge_reaper::Reaper;
use wedge_setns::{Container, Host, Place, Unsupported};

use crate::support::{Setup, on_reaper};

/// Why a container with this change in its state is not for us.
fn reason(change: impl FnOnce(&mut Value)) -> String {
    let setup = Setup::new();
    let mut reason = String::new();
    on_reaper(async |reaper| {
        let init = setup.make(reaper).await;
        let path = setup.state_dir().join("state.json");
        let before = fs::read(&path).unwrap();
        let mut state: Value = serde_json::from_slice(&before).unwrap();
        change(&mut state);
        fs::write(&path, state.to_string()).unwrap();
        let host = Host::new("/nonexistent").unwrap();
        let dir = setup.state_dir();
        let place = Place { state: &dir, id: setup.id(), init, dialect: None };
        let loaded = Container::load(&host, reaper, place).await;
        reason = loaded.map(drop).unwrap_err().to_string();
        fs::write(&path, before).unwrap();
        assert_eq!(reaper.counts(), (0, 0, 0));
    });
    reason
}

#[test]
fn another_init() {
    let reason = reason(|state| {
        let start = state["init_process_start"].as_u64().unwrap();
        state["init_process_start"] = json!(start + 1);
    });
    assert!(reason.starts_with("runc's state is of another process "), "{reason}");
}

#[test]
fn another_pid() {
    let reason = reason(|state| state["init_process_pid"] = json!(1));
    assert!(reason.starts_with("runc's state is of pid 1, not "), "{reason}");
}

#[test]
fn what_cannot_be_reproduced() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 5] = [
        (|state| state["config"]["memory_policy"] = json!({}), "it has a memory policy"),
        (|state| state["rootless"] = json!(true), "it is rootless"),
        (|state| state["cgroup_paths"] = json!({}), "the container has no cgroup"),
        (|state| state["config"]["namespaces"] = json!([]), "it has no mount namespace"),
        (|state| state["config"]["seccomp"] = json!({"default_action": 4}), "no seccomp compiler"),
    ];
    for (change, text) in changes {
        let reason = reason(change);
        assert!(reason.starts_with(text), "{reason}");
    }
}

#[test]
fn a_profile_that_has_a_listener() {
    let mut setup = Setup::new();
    setup.config["process"]["noNewPrivileges"] = json!(true);
    on_reaper(async |reaper| {
        setup.state["seccomp"] = json!({"default_action": 7});
        let init = setup.make(reaper).await;
        let host = Host::new(env!("CARGO_BIN_EXE_wedge-seccomp-compile")).unwrap();
        let dir = setup.state_dir();
        let place = Place { state: &dir, id: setup.id(), init, dialect: None };
        let refused = Container::load(&host, reaper, place).await.unwrap_err();
        let text = "seccomp profile: seccomp action \"7\" is not supported";
        assert_eq!(refused.to_string(), text);
    });
}

#[test]
fn processes_that_are_the_runtimes() {
    let mut setup = Setup::new();
    setup.config["process"].as_object_mut().unwrap().remove("capabilities");
    setup.run(async |bench| {
        for (key, value, text) in [
            (
                "user",
                json!({"uid": 0, "gid": 0}),
                "neither the process nor its container has \
                capabilities set",
            ),
            (
                "scheduler",
                json!({"policy": "SCHED_EXT"}),
                "scheduler policy \"SCHED_EXT\" is not \
                known",
            ),
            ("ioPriority", json!({"class": ""}), "I/O priority class \"\" is not known"),
        ] {
            let mut process = bench.process(&["true"]);
            if key != "user" {
                process["capabilities"] = json!({});
            }
            process[key] = value;
            assert_eq!(bench.error(&process).await, text);
        }
    });
}

/// With ever more descriptors to be had, whatever they lacked for, until it succeeds.
async fn with_few_descriptors<T>(attempt: impl AsyncFn() -> Result<T, Unsupported>) -> T {
    let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    for allowed in 0..before {
        setrlimit(Resource::RLIMIT_NOFILE, allowed, hard).unwrap();
        let result = attempt().await;
        setrlimit(Resource::RLIMIT_NOFILE, before, hard).unwrap();
        match result {
            Ok(done) => return done,
            Err(reason) => assert!(reason.is_passing(), "with {allowed}: {reason}"),
        }
    }
    panic!("never");
}

async fn load_with_few_descriptors(setup: &Setup, reaper: &Reaper) {
    let init = setup.make(reaper).await;
    let compiler = env!("CARGO_BIN_EXE_wedge-seccomp-compile");
    let host = with_few_descriptors(async || Host::new(compiler)).await;
    with_few_descriptors(async || host.prepare(reaper)).await;
    let dir = setup.state_dir();
    let place = Place { state: &dir, id: setup.id(), init, dialect: None };
    with_few_descriptors(async || Container::load(&host, reaper, place).await).await;
}

/// What is taken for a fact is not looked at again.
#[test]
fn for_want_of_descriptors_only_for_now() {
    let mut setup = Setup::new();
    setup.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    on_reaper(async |reaper| load_with_few_descriptors(&setup, reaper).await);
}

#[test]
fn for_want_of_descriptors_only_for_now_of_crun() {
    let setup = Setup::crun();
    on_reaper(async |reaper| load_with_few_descriptors(&setup, reaper).await);
}
