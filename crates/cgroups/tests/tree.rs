// SPDX-License-Identifier: Apache-2.0
//! Trees of real cgroups, with real processes in them: v1 or v2, as this machine has it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "test processes are children of the test")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wedge_cgroups::{Mode, Tree, mode};

const LIMIT: Duration = Duration::from_secs(20);

/// A cgroup of the test's in each of some hierarchies; gone when dropped.
struct Made {
    paths: BTreeMap<String, PathBuf>,
}

impl Made {
    fn new() -> Made {
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let name = format!("wedge-test-tree-{}-{nanos}", std::process::id());
        let roots: &[(&str, &str)] = match mode() {
            Mode::Legacy => &[
                ("devices", "/sys/fs/cgroup/devices"),
                ("freezer", "/sys/fs/cgroup/freezer"),
                ("pids", "/sys/fs/cgroup/pids"),
            ],
            Mode::Unified => &[("", "/sys/fs/cgroup")],
        };
        let paths = roots.iter().map(|(name_of, root)| {
            ((*name_of).to_owned(), Path::new(root).join(&name).join("container"))
        });
        let made = Made { paths: paths.collect() };
        made.sub("");
        made
    }

    fn tree(&self) -> Tree {
        Tree::recorded(&self.paths).unwrap()
    }

    /// Makes a cgroup below, in all hierarchies.
    fn sub(&self, below: &str) {
        for path in self.paths.values() {
            fs::create_dir_all(path.join(below)).unwrap();
        }
    }

    fn exists(&self, below: &str) -> bool {
        self.paths.values().any(|path| path.join(below).exists())
    }

    /// A process in the cgroup `below`, which ends when it is dropped.
    fn process(&self, below: &str) -> Member {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let member = Member(child.unwrap());
        for path in self.paths.values() {
            let procs = path.join(below).join("cgroup.procs");
            fs::write(procs, member.0.id().to_string()).unwrap();
        }
        member
    }

    /// The cgroup around the container's is frozen, or not.
    fn freeze_around(&self, frozen: bool) {
        let (name, file, value) = match mode() {
            Mode::Legacy => ("freezer", "freezer.state", ["THAWED", "FROZEN"]),
            Mode::Unified => ("", "cgroup.freeze", ["0", "1"]),
        };
        let around = self.paths[name].parent().unwrap();
        fs::write(around.join(file), value[usize::from(frozen)]).unwrap();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.paths.values() {
            let around = path.parent().unwrap();
            let gone = until(|| remove_all(around).is_ok().then_some(()));
            assert!(gone.is_some() || std::thread::panicking(), "{around:?} stays");
        }
    }
}

fn remove_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

struct Member(Child);

impl Member {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// The signal that ends it.
    fn ended_by(&mut self) -> Option<i32> {
        until(|| self.0.try_wait().unwrap()).and_then(|status| status.signal())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match look() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            found => return found,
        }
    }
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

#[tokio::test]
async fn everybody_in_it_and_below_is_found() {
    let made = Made::new();
    let tree = made.tree();
    assert_eq!(tree.pids().await.unwrap(), [0; 0]);
    made.sub("a/b");
    let members = [made.process(""), made.process("a"), made.process("a/b")];
    let pids = members.each_ref().map(Member::pid);
    assert_eq!(sorted(tree.pids().await.unwrap()), sorted(pids.to_vec()));
}

#[tokio::test]
async fn what_is_frozen_says_so_and_runs_on_when_it_is_thawed() {
    let (made, others) = (Made::new(), Made::new());
    let (tree, mut member) = (made.tree(), made.process(""));
    tree.freeze().await.unwrap();
    assert!(tree.is_frozen());
    tree.freeze().await.unwrap();
    // It would end as soon as its neighbour does, which is told after it.
    let mut neighbour = others.process("");
    drop(member.0.stdin.take());
    drop(neighbour.0.stdin.take());
    assert!(until(|| (!neighbour.lives()).then_some(())).is_some());
    assert!(member.lives());
    tree.thaw().unwrap();
    assert!(!tree.is_frozen());
    assert!(until(|| (!member.lives()).then_some(())).is_some());
    tree.thaw().unwrap();
}

#[tokio::test]
async fn a_frozen_ancestor_does_not_count() {
    let made = Made::new();
    let (tree, _member) = (made.tree(), made.process(""));
    made.freeze_around(true);
    assert!(!tree.is_frozen());
    made.freeze_around(false);
}

#[tokio::test]
async fn a_signal_reaches_all_and_nobody_else() {
    let made = Made::new();
    made.sub("a/b");
    let (tree, other) = (made.tree(), Made::new());
    let mut neighbour = other.process("");
    for signal in [15, 9, 34] {
        let mut members = [made.process(""), made.process("a"), made.process("a/b")];
        assert!(tree.signal(signal).await.unwrap());
        for member in &mut members {
            assert_eq!(member.ended_by(), Some(signal));
        }
        assert!(!tree.is_frozen());
    }
    assert!(neighbour.lives());
    assert!(!tree.signal(9).await.unwrap(), "nobody is left");
}

#[tokio::test]
async fn who_is_frozen_is_killed_but_waits_with_another_signal() {
    let made = Made::new();
    let (tree, mut member) = (made.tree(), made.process(""));
    tree.freeze().await.unwrap();
    assert!(tree.signal(15).await.unwrap());
    // v2 lets die who does not handle it.
    assert!(tree.is_frozen());
    tree.thaw().unwrap();
    assert_eq!(member.ended_by(), Some(15));
    let mut member = made.process("");
    tree.freeze().await.unwrap();
    assert!(tree.signal(9).await.unwrap());
    assert_eq!(member.ended_by(), Some(9));
}

/// A storm: everybody forks all the time, so that no list is complete by the time it is used.
#[tokio::test]
async fn nobody_forks_away_from_a_signal() {
    let made = Made::new();
    let tree = made.tree();
    let script = "while :; do (sleep 0.01 &); done";
    let mut storm = Command::new("sh");
    storm.args(["-c", &format!("read go; {script} & {script} & {script}")]);
    let mut member = Member(storm.stdin(Stdio::piped()).spawn().unwrap());
    for path in made.paths.values() {
        fs::write(path.join("cgroup.procs"), member.pid().to_string()).unwrap();
    }
    io::Write::write_all(member.0.stdin.as_mut().unwrap(), b"\n").unwrap();
    while tree.pids().await.unwrap().len() < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(tree.signal(9).await.unwrap());
    assert_eq!(member.ended_by(), Some(9));
    // They are many, and each has to end first.
    let end = Instant::now() + LIMIT;
    while let Err(err) = tree.remove().await {
        assert!(Instant::now() < end, "{err}");
    }
}

#[tokio::test]
async fn it_is_removed_with_what_is_below_and_nothing_else() {
    let made = Made::new();
    let around = made.paths.values().map(|path| path.parent().unwrap().join("sibling"));
    let around: Vec<PathBuf> = around.collect();
    for sibling in &around {
        fs::create_dir(sibling).unwrap();
    }
    for below in ["a/b/c", "a/d", "e"] {
        made.sub(below);
    }
    let tree = made.tree();
    tree.remove().await.unwrap();
    assert!(!made.exists("") && around.iter().all(|sibling| sibling.exists()));
    tree.remove().await.unwrap();
}

#[tokio::test]
async fn who_is_in_it_keeps_it_and_is_waited_for_a_while() {
    let made = Made::new();
    made.sub("a");
    let (tree, mut member) = (made.tree(), made.process("a"));
    let err = tree.remove().await.unwrap_err();
    assert!(err.to_string().starts_with("failed to remove"), "{err}");
    assert!(member.lives() && made.exists("a"));
    // Remove is polled first, and fails once before it waits.
    let (removed, ()) = tokio::join!(biased; tree.remove(), async { member.0.kill().unwrap() });
    removed.unwrap();
    assert!(!made.exists(""));
}
