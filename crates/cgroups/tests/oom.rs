// SPDX-License-Identifier: Apache-2.0
//! The OOM monitor with the real OOM killer. Each test runs under whichever cgroup version the
//! machine has, as root.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod container;

use std::fs;
use std::time::Duration;

use container::{Cgroup, Init};
use tokio::time::timeout;
use wedge_cgroups::{Error, ErrorKind, Mode, OomMonitor, mode};

const LIMIT: Duration = Duration::from_secs(30);

/// More than the longest time in which a late kill is looked for.
const QUIET: Duration = Duration::from_millis(1500);

/// Allocates 64 MiB at once, four times the limit.
const ALLOCATE: &str = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null";

fn arm(pid: u32) -> Result<OomMonitor, Error> {
    OomMonitor::arm(pid, &wedge_cgroups::Cgroup::of(pid)?)
}

async fn next(monitor: &OomMonitor) -> Option<u64> {
    timeout(LIMIT, monitor.next()).await.unwrap()
}

#[tokio::test]
async fn a_killed_init_is_reported_exactly_once() {
    let cgroup = Cgroup::new();
    let init = Init::create(&cgroup, &format!("exec {ALLOCATE}"));
    let monitor = arm(init.pid()).unwrap();
    init.go();
    assert_eq!(next(&monitor).await, Some(1));
    assert_eq!(init.wait(), Some(9));
    assert_eq!(monitor.last_read(), 0);
    cgroup.remove();
    assert_eq!(next(&monitor).await, None);
    assert_eq!(monitor.last_read(), 0);
}

#[tokio::test]
async fn a_cgroup_that_was_found_and_is_gone_cannot_be_watched() {
    let cgroup = Cgroup::new();
    let init = Init::create(&cgroup, "true");
    let found = wedge_cgroups::Cgroup::of(init.pid()).unwrap();
    init.kill();
    cgroup.remove();
    assert_eq!(OomMonitor::arm(1, &found).unwrap_err().kind(), ErrorKind::Gone);
}

#[tokio::test]
async fn killed_children_are_reported_while_init_lives() {
    let cgroup = Cgroup::new();
    let mut init =
        Init::create(&cgroup, &format!("while {ALLOCATE}; [ $? = 137 ]; do answer; done"));
    let monitor = arm(init.pid()).unwrap();
    for _ in 0..3 {
        init.go();
        assert_eq!(next(&monitor).await, Some(1));
        init.expect_answer();
        assert_eq!(monitor.last_read(), 0);
    }
    init.kill();
    cgroup.remove();
    assert_eq!(next(&monitor).await, None);
}

#[tokio::test]
async fn the_last_read_finds_the_kill_of_a_victim_just_reaped() {
    for round in 0..20 {
        let cgroup = Cgroup::new();
        let init = Init::create(&cgroup, &format!("exec {ALLOCATE}"));
        let monitor = arm(init.pid()).unwrap();
        init.go();
        assert_eq!(init.wait(), Some(9));
        assert_eq!(monitor.last_read(), 1, "round {round}");
        assert_eq!(monitor.last_read(), 0, "round {round}");
        cgroup.remove();
        assert_eq!(next(&monitor).await, None, "round {round}");
    }
}

/// An exec, whose exit is not to be told before its kill; init and the monitor go on.
#[tokio::test]
async fn the_kill_of_a_process_just_reaped_is_reported_beside_who_waits_for_it() {
    let cgroup = Cgroup::new();
    let init = Init::create(&cgroup, "true");
    let monitor = arm(init.pid()).unwrap();
    let mut waiting = Box::pin(monitor.next());
    for _ in 0..20 {
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        let victim = Init::create(&cgroup, &format!("exec {ALLOCATE}"));
        victim.go();
        // Who waits cannot run meanwhile.
        assert_eq!(victim.wait(), Some(9));
        assert_eq!((monitor.unreported(), monitor.unreported()), (1, 0));
    }
    assert!(timeout(QUIET, &mut waiting).await.is_err(), "reported twice");
    let victim = Init::create(&cgroup, &format!("exec {ALLOCATE}"));
    victim.go();
    assert_eq!(timeout(LIMIT, waiting).await.unwrap(), Some(1));
    assert_eq!((victim.wait(), monitor.unreported()), (Some(9), 0));
    init.kill();
    cgroup.remove();
    assert_eq!(monitor.unreported(), 0);
    assert_eq!(next(&monitor).await, None);
}

/// As systemd does in v2 when nothing runs in a scope any more, before its parent has reaped it.
#[tokio::test]
async fn the_last_read_finds_the_kill_in_a_scope_that_was_removed() {
    for nested in [false, true, false, true] {
        let scope = Cgroup::named(".scope");
        // As runc and, with another below it, crun have it.
        let below = nested.then(|| {
            scope.divide();
            scope.nested()
        });
        let init = Init::create(below.as_ref().unwrap_or(&scope), &format!("exec {ALLOCATE}"));
        let monitor = arm(init.pid()).unwrap();
        init.go();
        assert_eq!(init.wait(), Some(9));
        drop(below);
        scope.remove();
        // In v1 nobody is told that a cgroup is empty in time to do that.
        let expected = u64::from(mode() == Mode::Unified);
        assert_eq!(monitor.last_read(), expected);
        assert_eq!(monitor.last_read(), 0);
        assert_eq!(next(&monitor).await, None);
    }
}

#[tokio::test]
async fn a_kill_in_a_nested_cgroup_is_reported() {
    let cgroup = Cgroup::new();
    let outer = Init::create(&cgroup, "true");
    let monitor = arm(outer.pid()).unwrap();
    // Removed and made again under the same name, as a service that restarts in the container.
    for _ in 0..3 {
        let nested = cgroup.nested();
        let inner = Init::create(&nested, &format!("exec {ALLOCATE}"));
        inner.go();
        // Reaped first, so that the first look already finds the new counter.
        assert_eq!(inner.wait(), Some(9));
        assert_eq!(next(&monitor).await, Some(1));
        assert_eq!(monitor.last_read(), 0);
        nested.remove();
    }
    outer.kill();
    cgroup.remove();
    assert_eq!(next(&monitor).await, None);
}

#[tokio::test]
async fn a_reached_limit_is_not_reported() {
    let cgroup = Cgroup::new();
    // On a disk: the pages of a tmpfs, like the whole of a VM's root, cannot be reclaimed.
    let disk = std::env::var_os("WEDGE_TEST_DISK").unwrap_or(env!("CARGO_TARGET_TMPDIR").into());
    let file = tempfile::NamedTempFile::new_in(disk).unwrap();
    let write = format!("dd if=/dev/zero of={} bs=1M count=64 2>/dev/null", file.path().display());
    let mut init = Init::create(&cgroup, &format!("{write}; answer"));
    let monitor = arm(init.pid()).unwrap();
    init.go();
    init.expect_answer();
    assert!(cgroup.limit_hits() > 0, "the page cache never reached the limit");
    assert!(timeout(QUIET, monitor.next()).await.is_err());
    assert_eq!(monitor.last_read(), 0);
    init.kill();
    cgroup.remove();
    assert_eq!(next(&monitor).await, None);
}

/// The kernel announces an OOM (v1) or counts pressure (v2), but kills nothing.
#[tokio::test]
async fn an_oom_without_a_kill_is_not_reported() {
    let cgroup = Cgroup::new();
    cgroup.suspend_instead_of_kill();
    // With what it writes itself: a page fault in a system call fails instead, and dd may end.
    let init = Init::create(&cgroup, "x=12345678; while :; do x=$x$x; done");
    let monitor = arm(init.pid()).unwrap();
    init.go();
    cgroup.until_suspended().await;
    assert!(timeout(QUIET, monitor.next()).await.is_err());
    assert_eq!(monitor.last_read(), 0);
    init.kill();
    assert_eq!(monitor.last_read(), 0);
    cgroup.remove();
    assert_eq!(next(&monitor).await, None);
}

#[tokio::test]
async fn earlier_kills_are_not_reported() {
    let cgroup = Cgroup::new();
    let victim = Init::create(&cgroup, &format!("exec {ALLOCATE}"));
    victim.go();
    assert_eq!(victim.wait(), Some(9));
    let init = Init::create(&cgroup, "true");
    let monitor = arm(init.pid()).unwrap();
    assert_eq!(monitor.last_read(), 0);
    init.kill();
    cgroup.remove();
    assert_eq!(next(&monitor).await, None);
}

#[tokio::test]
async fn a_dropped_monitor_leaves_no_descriptor() {
    let cgroup = Cgroup::new();
    let init = Init::create(&cgroup, "true");
    let base = open_files();
    for _ in 0..100 {
        let monitor = arm(init.pid()).unwrap();
        assert!(timeout(Duration::ZERO, monitor.next()).await.is_err());
        assert_eq!(open_files(), base + 2);
        drop(monitor);
        assert_eq!(open_files(), base);
    }
    init.kill();
    cgroup.remove();
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_without_leaking() {
    let cgroup = Cgroup::new();
    let base = open_files();
    // Dead but not reaped: v1 shows it in the root cgroup, v2 in the one it had.
    let zombie = Init::create(&cgroup, "true");
    let monitor = arm(zombie.pid()).unwrap();
    drop(monitor);
    zombie.kill_without_reaping().await;
    cgroup.remove();
    let refused = arm(zombie.pid()).unwrap_err().kind();
    let expected = match mode() {
        Mode::Legacy => ErrorKind::Unsupported,
        Mode::Unified => ErrorKind::Gone,
    };
    assert_eq!(refused, expected);
    let pid = zombie.pid();
    zombie.kill();
    assert_eq!(arm(pid).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(open_files(), base);
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
