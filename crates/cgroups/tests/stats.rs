// SPDX-License-Identifier: Apache-2.0
//! Counters of a real cgroup, of whichever version the machine has, as root.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[expect(dead_code, reason = "more of it is for the OOM monitor")]
mod container;

use container::{Cgroup, Init};
use wedge_cgroups::stats::{v1, v2};
use wedge_cgroups::{Error, Stats};

/// Memory used and its limit, and kills for want of it.
fn memory(stats: &Stats) -> (u64, u64, u64) {
    match stats {
        Stats::V1(v1::Metrics { memory, oom_control, .. }) => {
            let usage = memory.as_ref().map(|memory| memory.usage).unwrap_or_default();
            (usage.usage, usage.limit, oom_control.map_or(0, |control| control.oom_kill))
        }
        Stats::V2(v2::Metrics { memory, memory_events, .. }) => {
            (memory.usage, memory.usage_limit, memory_events.map_or(0, |events| events.oom_kill))
        }
    }
}

#[test]
fn the_counters_are_the_cgroups_and_do_not_hold_it() {
    let cgroup = Cgroup::new();
    let mut init = Init::create(&cgroup, "dd if=/dev/zero of=/dev/null bs=64M count=1; answer");
    let seen = wedge_cgroups::Cgroup::of(init.pid()).unwrap();
    let (usage, limit, kills) = memory(&seen.stats());
    assert!(usage > 0);
    assert_eq!((limit, kills), (16 << 20, 0));
    init.go();
    init.expect_answer();
    let (_, _, kills) = memory(&seen.stats());
    assert_eq!(kills, 1);
    init.kill();
    assert_eq!(memory(&seen.stats()).2, 1, "it outlives its processes");
    cgroup.remove();
    assert_eq!(memory(&seen.stats()), (0, 0, 0));
}

/// One that has exited is in the root cgroup (v1) or in one that may be removed (v2).
#[tokio::test]
async fn a_process_that_has_exited_may_have_no_cgroup_but_never_anothers() {
    let cgroup = Cgroup::new();
    let init = Init::create(&cgroup, "");
    let alive = wedge_cgroups::Cgroup::of(init.pid()).unwrap();
    init.kill_without_reaping().await;
    match wedge_cgroups::Cgroup::of(init.pid()) {
        Ok(seen) => assert_eq!(seen, alive),
        Err(err) => assert!(matches!(err, Error::NotOwn { .. }), "{err}"),
    }
}
