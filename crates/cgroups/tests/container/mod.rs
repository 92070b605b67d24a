// SPDX-License-Identifier: Apache-2.0
//! A memory cgroup with a limit, and a process in it that waits like a created container.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use wedge_cgroups::{Mode, mode};

const LIMIT: Duration = Duration::from_secs(30);

/// 16 MiB.
const MEMORY: &str = "16777216";

/// A memory cgroup of the test; gone when dropped, with every process in it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn new() -> Cgroup {
        Cgroup::named("")
    }

    /// One whose name ends with `end`.
    pub(crate) fn named(end: &str) -> Cgroup {
        let parent = match mode() {
            Mode::Legacy => "/sys/fs/cgroup/memory",
            Mode::Unified => "/sys/fs/cgroup",
        };
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let name = format!("wedge-test-{}-{nanos}{end}", std::process::id());
        let cgroup = Cgroup::create(&Path::new(parent).join(name));
        match mode() {
            Mode::Legacy => cgroup.write("memory.limit_in_bytes", MEMORY),
            Mode::Unified => cgroup.write("memory.max", MEMORY),
        }
        cgroup
    }

    /// A cgroup below this one, without a limit of its own and always of the same name.
    pub(crate) fn nested(&self) -> Cgroup {
        Cgroup::create(&self.0.join("nested"))
    }

    /// Lets the cgroups below it have counters of their own; v2 has no process in it then.
    pub(crate) fn divide(&self) {
        if mode() == Mode::Unified {
            self.write("cgroup.subtree_control", "+memory");
        }
    }

    fn create(dir: &Path) -> Cgroup {
        fs::create_dir(dir).expect("a mounted memory controller, and root");
        Cgroup(dir.to_owned())
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    fn value(&self, file: &str, name: &str) -> u64 {
        let text = self.read(file);
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == name).unwrap().1.parse().unwrap()
    }

    /// How often the limit was reached.
    pub(crate) fn limit_hits(&self) -> u64 {
        match mode() {
            Mode::Legacy => self.read("memory.failcnt").trim().parse().unwrap(),
            Mode::Unified => self.value("memory.events", "max"),
        }
    }

    /// Makes a process that wants too much wait: `oom_kill_disable`, or in v2, which has no such
    /// thing, a throttle far below the limit.
    pub(crate) fn suspend_instead_of_kill(&self) {
        match mode() {
            Mode::Legacy => self.write("memory.oom_control", "1"),
            Mode::Unified => {
                self.write("memory.max", "max");
                self.write("memory.high", "4194304");
            }
        }
    }

    /// Waits until that has happened.
    pub(crate) async fn until_suspended(&self) {
        until(|| match mode() {
            Mode::Legacy => self.value("memory.oom_control", "under_oom") == 1,
            Mode::Unified => self.value("memory.events", "high") > 0,
        })
        .await;
    }

    /// Removes it. The last process may need a moment to leave after it was reaped.
    pub(crate) fn remove(&self) {
        let deadline = Instant::now() + LIMIT;
        while let Err(err) = fs::remove_dir(&self.0) {
            assert_eq!(err.kind(), io::ErrorKind::ResourceBusy, "{:?}", self.0);
            assert!(Instant::now() < deadline, "{:?} stays busy", self.0);
            std::thread::yield_now();
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.0.is_dir() {
            self.remove();
        }
    }
}

/// The first process of a container: `create` leaves it waiting in the cgroup. Killed and reaped when dropped; drop it before its cgroup.
pub(crate) struct Init {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Init {
    /// In `script`, `answer` tells the test something and waits for the next `go`.
    pub(crate) fn create(cgroup: &Cgroup, script: &str) -> Init {
        let prologue = "answer() { echo; read go; }; echo $$ >$0/cgroup.procs && answer";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{prologue}; {script}")]).arg(&cgroup.0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        #[expect(clippy::disallowed_methods, reason = "no reaper in these tests")]
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut init = Init { child, answers };
        init.expect_answer();
        let pid = init.pid().to_string();
        assert!(cgroup.read("cgroup.procs").lines().any(|inside| inside == pid));
        init
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on: at first, run its script.
    pub(crate) fn go(&self) {
        self.child.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
    }

    pub(crate) fn expect_answer(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line, "\n", "the process has ended");
    }

    /// Reaps it; the signal that killed it.
    #[expect(clippy::disallowed_methods, reason = "no reaper in these tests")]
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().signal()
    }

    /// Kills it from outside and reaps it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.wait(), Some(9));
    }

    pub(crate) async fn kill_without_reaping(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        wedge_sys::PidFd::open(self.pid()).unwrap().send_signal(9).unwrap();
        until(|| fs::read_to_string(&stat).unwrap().contains(") Z ")).await;
    }
}

impl Drop for Init {
    #[expect(clippy::disallowed_methods, reason = "no reaper in these tests")]
    fn drop(&mut self) {
        // Both succeed for a child that was reaped before.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn until(fact: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !fact() {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}
