// SPDX-License-Identifier: Apache-2.0
//! The watch with the real OOM killer, as root.

#[path = "../../../cgroups/tests/container/mod.rs"]
#[expect(dead_code, reason = "the tests of wedge_cgroups need more of it")]
mod container;

use std::time::Duration;

use container::Init;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::*;
use crate::event::Stamped;

/// More than the longest time in which a late kill is looked for.
const QUIET: Duration = Duration::from_millis(1500);

/// As an exec that is killed, and was reaped. Nobody else runs meanwhile.
fn kill_one(cgroup: &container::Cgroup) {
    let script = "exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null";
    let victim = Init::create(cgroup, script);
    victim.go();
    assert_eq!(victim.wait(), Some(9));
}

async fn is_told(events: &mut UnboundedReceiver<Stamped>) -> bool {
    let told = timeout(QUIET, events.recv()).await;
    told.is_ok_and(|told| matches!(*told.unwrap().event, Event::Oom { .. }))
}

#[tokio::test]
async fn each_kill_is_told_of_once_and_at_once_to_who_asks() {
    let cgroup = container::Cgroup::new();
    let init = Init::create(&cgroup, "true");
    let (events, mut told) = EventSink::channel();
    let mut oom = OomWatch::default();
    oom.arm("c", init.pid(), Cgroup::of(init.pid()).ok());

    kill_one(&cgroup);
    assert_eq!((oom.catch_up(), oom.kills()), (false, 1), "not before the start is announced");
    oom.report(&events);
    assert!(is_told(&mut told).await);

    for kills in 2..5 {
        tokio::task::yield_now().await;
        kill_one(&cgroup);
        assert_eq!((oom.catch_up(), oom.catch_up(), oom.kills()), (true, false, kills));
    }
    assert!(!is_told(&mut told).await, "by the reader too");

    kill_one(&cgroup);
    assert!(is_told(&mut told).await, "nobody has asked");
    assert_eq!((oom.catch_up(), oom.kills()), (false, 5));

    kill_one(&cgroup);
    init.kill();
    assert!(oom.finish(Some(ExitStatus::KILLED)));
    assert_eq!((oom.finish(None), oom.kills()), (false, 6));
}

#[test]
fn a_process_that_runs_is_not_on_its_way_out() {
    assert!(!is_exiting(std::process::id()));
    assert!(is_exiting(u32::MAX));
    assert_eq!(flags("7 (a) 1 2 (b) S 4 5 6 7 8 4194304 9"), Some(0x0040_0000));
}
