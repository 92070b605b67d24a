// SPDX-License-Identifier: Apache-2.0
//! Readiness and end on a real cgroup2 tree. It needs no controller, so a hybrid machine can run
//! this too: the cgroup.events of a second cgroup stands in for memory.events. The monitor with a
//! real memory.events is tested in `tests/oom.rs` under cgroup v2.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::hierarchy::{Mode, mode, unified};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

/// An empty cgroup, removed on drop.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Cgroup {
        let mut dir = unified().point;
        if mode() == Mode::Legacy {
            dir.push("unified");
        }
        dir.push(format!("wedge-test-{}-{name}", std::process::id()));
        fs::create_dir(&dir).expect("a cgroup2 tree, and root");
        Cgroup(dir)
    }

    fn events(&self) -> File {
        File::open(self.0.join("cgroup.events")).unwrap()
    }

    fn enter(&self) {
        fs::write(self.0.join("cgroup.procs"), "0").unwrap();
    }

    fn leave(&self) {
        fs::write(self.0.parent().unwrap().join("cgroup.procs"), "0").unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.leave();
        if let Err(err) = fs::remove_dir(&self.0) {
            assert_eq!(err.kind(), io::ErrorKind::NotFound, "{:?}", self.0);
        }
    }
}

#[test]
fn what_goes_with_a_scope_is_found_in_the_log() {
    for (below, goes) in [
        ("x.slice/a.scope", true),
        ("x.slice/a.scope/container", true),
        ("x.slice/a.scope/container/nested", true),
        ("x.slice/a.scopes/container", false),
        ("x.slice/a", false),
    ] {
        let path = in_a_scope(&Path::new("/m").join(below), Path::new("/m"));
        assert_eq!(path, goes.then(|| format!("/{below}")));
    }
    assert_eq!(in_a_scope(Path::new("/other/a.scope"), Path::new("/m")), None);
}

#[tokio::test]
async fn a_change_of_either_file_wakes() {
    let (first, second) = (Cgroup::new("first"), Cgroup::new("second"));
    let source = Source::watch(first.events(), second.events()).unwrap();
    first.enter();
    timeout(LIMIT, changed(&source.memory)).await.unwrap().unwrap();
    second.enter();
    timeout(LIMIT, changed(&source.cgroup)).await.unwrap().unwrap();
    assert!(populated(source.cgroup.get_ref()).unwrap());
    second.leave();
    timeout(LIMIT, changed(&source.cgroup)).await.unwrap().unwrap();
    assert!(!populated(source.cgroup.get_ref()).unwrap());
}

#[tokio::test]
async fn the_end_is_seen_when_the_empty_cgroup_is_removed() {
    let (first, second) = (Cgroup::new("first"), Cgroup::new("second"));
    second.enter();
    let source = Source::watch(first.events(), second.events()).unwrap();
    let removal = async {
        second.leave();
        // The monitor has to look by itself: removing wakes nobody.
        while populated(source.cgroup.get_ref()).unwrap() {
            tokio::task::yield_now().await;
        }
        fs::remove_dir(&second.0).unwrap();
    };
    let (end, ()) = timeout(LIMIT, async { tokio::join!(source.next(), removal) }).await.unwrap();
    assert_eq!(end, None);
}
