// SPDX-License-Identifier: Apache-2.0
//! Which cgroup an exec is in when its init is not where runc has put it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Bench, Process, Setup, path_of, until};

/// Whether there is nothing but cgroup v2 here.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The directory of the container in the hierarchy that limits processes.
fn directory(bench: &Bench<'_>) -> PathBuf {
    path_of(bench.setup, "pids.max").parent().unwrap().to_owned()
}

fn put(bench: &Bench<'_>, directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("cgroup.procs"), bench.init.pid.to_string()).unwrap();
}

/// Whether an exec is in `directory`.
async fn joins(bench: &Bench<'_>, directory: &Path) -> bool {
    let (_, process) = bench.waiting(bench.process(&[])).await;
    let inside = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
    let found = inside.lines().any(|pid| pid == process.pid.to_string());
    bench.signal(&process, 9);
    bench.assert_nothing_left().await;
    found
}

#[test]
fn the_one_that_was_made_for_the_container() {
    Setup::new().run(async |bench| {
        let own = directory(bench);
        assert!(joins(bench, &own).await);
        let elsewhere = own.with_extension("moved");
        put(bench, &elsewhere);
        assert!(joins(bench, &own).await);
        put(bench, &own);
        fs::remove_dir(elsewhere).unwrap();
    });
}

/// runc #2356: on v2 processes and limits for children exclude each other.
#[test]
fn below_it_when_it_takes_no_processes() {
    Setup::new().run(async |bench| {
        let own = directory(bench);
        let below = own.join("below");
        put(bench, &below);
        if unified() {
            fs::write(own.join("cgroup.subtree_control"), "+pids").unwrap();
        }
        assert!(joins(bench, if unified() { &below } else { &own }).await);
        if unified() {
            fs::write(own.join("cgroup.subtree_control"), "-pids").unwrap();
        }
        put(bench, &own);
        fs::remove_dir(below).unwrap();
    });
}

/// runc #5089. On v1 there is no way out, for runc neither: the hierarchies that are left do not
/// limit what the one that is gone did.
#[test]
fn where_the_init_is_when_it_is_gone() {
    Setup::new().run(async |bench| {
        let own = directory(bench);
        let elsewhere = own.with_extension("moved");
        put(bench, &elsewhere);
        fs::remove_dir(&own).unwrap();
        if unified() {
            assert!(joins(bench, &elsewhere).await);
        } else {
            refused_without(bench, &own).await;
        }
        put(bench, &own);
        fs::remove_dir(elsewhere).unwrap();
        // What was opened is gone, though it has the same name.
        assert!(joins(bench, &own).await);
    });
}

/// An exec without one of its cgroups is refused, as runc's own is.
async fn refused_without(bench: &Bench<'_>, directory: &Path) {
    let process = bench.process(&["true"]);
    let (ours, theirs) = (bench.error(&process).await, bench.error_of_runc(&process).await);
    let cause =
        format!(": openat2 {}/cgroup.procs: no such file or directory", directory.display());
    assert!(ours.ends_with(&cause), "{ours}");
    let without_pids = |text: &str| text.replace(|digit: char| digit.is_ascii_digit(), "");
    assert_eq!(without_pids(&ours), without_pids(&theirs));
}

/// Who has just been started, or ends, may still take the room that the limit leaves.
#[test]
fn one_that_is_full_may_soon_have_room() {
    Setup::new().run(async |bench| {
        let (_, lodger) = bench.waiting(bench.process(&[])).await;
        fs::write(path_of(bench.setup, "pids.max"), "3").unwrap();
        let events = path_of(bench.setup, "pids.events");
        let refused = || fs::read_to_string(&events).unwrap().trim() != "max 0";
        let leave = async {
            until("the limit was reached", || refused().then_some(())).await;
            bench.signal(&lodger, 9);
            // It has left when it was reaped. The exec waits for it on this thread, however long.
            let end = Instant::now() + Duration::from_secs(20);
            while Process::read(lodger.pid).is_some() {
                assert!(Instant::now() < end, "it does not end");
                bench.reaper.collect();
                std::thread::yield_now();
            }
        };
        let process = bench.process(&["true"]);
        let (done, ()) = tokio::join!(bench.exec(&process), leave);
        assert_eq!(done.unwrap().code, 0);
        bench.assert_nothing_left().await;
    });
}
