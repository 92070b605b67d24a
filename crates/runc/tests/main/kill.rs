// SPDX-License-Identifier: Apache-2.0
//! `kill` and `ps` beside `runc kill` and `runc ps`.

use std::fs;

use crate::support::{Bench, Setup, failed, left, until};

const FINISHED: &str = "process already finished: not found";

async fn pids(bench: &Bench<'_>) -> Vec<u32> {
    let mut pids = bench.container().pids().await.unwrap();
    pids.sort_unstable();
    pids
}

async fn pids_by_runc(bench: &Bench<'_>) -> Vec<u32> {
    let (succeeded, said) = bench.runc(&["ps", "--format", "json", bench.id()]).await;
    assert!(succeeded, "{said}");
    let pids: Option<Vec<u32>> = serde_json::from_str(&said).unwrap();
    let mut pids = pids.unwrap_or_default();
    pids.sort_unstable();
    pids
}

#[test]
fn the_init_gets_any_signal() {
    for (signal, status) in [(9, 137), (34, 162), (15, 143)] {
        let mut setup = Setup::new();
        setup.script("trap 'exit 143' TERM; trap 'exit 162' 34; while :; do sleep 0.01; done");
        setup.run(async |bench| {
            bench.start().await;
            until("the traps are set", || bench.catches(34).then_some(())).await;
            let container = bench.container();
            container.kill(Some(&bench.init), 0, false).await.unwrap();
            container.kill(Some(&bench.init), signal, false).await.unwrap();
            assert_eq!(bench.ended().await.status.code(), status);
            for init in [Some(&bench.init), None] {
                assert_eq!(failed(container.kill(init, signal, false).await), FINISHED);
            }
            assert_eq!(bench.runc_refuses("kill", &["9"]).await, "container not running");
            container.kill(None, signal, true).await.unwrap();
            bench.by_runc("delete", &[]).await;
            assert!(!left(container.kill(None, 9, false).await).is_empty(), "runc has the words");
        });
    }
}

#[test]
fn a_created_container_can_be_killed() {
    Setup::new().run(async |bench| {
        bench.container().kill(Some(&bench.init), 9, false).await.unwrap();
        assert_eq!(bench.ended().await.status.code(), 137);
        assert_eq!(bench.status().await, "stopped");
    });
}

#[test]
fn a_paused_container_dies_by_sigkill_and_only_by_it() {
    for all in [false, true] {
        Setup::new().run(async |bench| {
            bench.start().await;
            bench.by_runc("pause", &[]).await;
            let container = bench.container();
            container.kill(Some(&bench.init), 34, all).await.unwrap();
            assert_eq!(bench.status().await, "paused");
            container.kill(Some(&bench.init), 9, all).await.unwrap();
            assert_eq!(bench.ended().await.status.code(), 137);
        });
    }
}

/// With the host's pid namespace the kernel ends nobody with the init.
#[test]
fn what_shares_a_pid_namespace_is_killed_with_its_init() {
    Setup::shared().run(async |bench| {
        bench.start().await;
        until("it has a child", || (bench.members() == 2).then_some(())).await;
        assert_eq!(pids(bench).await, pids_by_runc(bench).await);
        let container = bench.container();
        container.kill(Some(&bench.init), 15, false).await.unwrap();
        assert_eq!(pids(bench).await.len(), 2);
        container.kill(Some(&bench.init), 9, false).await.unwrap();
        bench.ended().await;
        until("nobody is left", || (bench.members() == 0).then_some(())).await;
        assert_eq!(failed(container.kill(None, 9, false).await), FINISHED);
        container.kill(None, 9, true).await.unwrap();
    });
}

/// Somebody has killed the init alone.
#[test]
fn what_an_init_leaves_behind_is_killed_too() {
    Setup::shared().run(async |bench| {
        bench.start().await;
        until("it has a child", || (bench.members() == 2).then_some(())).await;
        let container = bench.container();
        bench.kill_init().await;
        assert_eq!(bench.members(), 1);
        assert_eq!(failed(container.kill(None, 15, false).await), FINISHED);
        container.kill(None, 9, false).await.unwrap();
        until("nobody is left", || (bench.members() == 0).then_some(())).await;
    });
}

#[test]
fn everybody_gets_a_signal_for_all() {
    let mut setup = Setup::new();
    setup
        .script("trap 'exit 5' TERM; (trap 'exit 0' TERM; while :; do sleep 1; done) & wait; wait");
    setup.run(async |bench| {
        bench.start().await;
        until("it has children", || (bench.members() >= 3).then_some(())).await;
        until("the trap is set", || bench.catches(15).then_some(())).await;
        bench.container().kill(Some(&bench.init), 15, true).await.unwrap();
        assert_eq!(bench.ended().await.status.code(), 5);
    });
}

#[test]
fn everybody_is_listed_in_sub_cgroups_too() {
    let mut setup = Setup::new();
    setup.script("/bin/busybox sleep 1000 & wait");
    setup.run(async |bench| {
        assert_eq!(pids(bench).await, [bench.pid], "created");
        bench.start().await;
        let both = async |what: &str| {
            until(what, || (bench.members() == 2).then_some(())).await;
            let found = pids(bench).await;
            assert_eq!(found, pids_by_runc(bench).await, "{what}");
            found
        };
        let found = both("it has a child").await;
        let child = found.iter().find(|pid| **pid != bench.pid).unwrap();
        let sub = bench.find("devices").join("sub/deeper");
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join("cgroup.procs"), child.to_string()).unwrap();
        assert_eq!(both("the child is further down").await, found);
        let container = bench.container();
        bench.kill_init().await;
        until("nobody is left", || (bench.members() == 0).then_some(())).await;
        assert_eq!(container.pids().await.unwrap(), pids_by_runc(bench).await);
        let cgroups = bench.cgroups();
        container.delete().await.unwrap();
        bench.assert_gone(&cgroups);
        assert!(!left(container.pids().await).is_empty());
    });
}
