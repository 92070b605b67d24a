// SPDX-License-Identifier: Apache-2.0
//! Reads /proc (proc(5)): what a process uses and whom it belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process by its id; the id may be stale, then every reader fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proc(pub u32);

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident set.
    pub rss: u64,
    /// Resident set, shared pages divided by their users.
    pub pss: u64,
    /// Pages only this process has, written to.
    pub private_dirty: u64,
}

/// What an open descriptor refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum FdKind {
    Eventfd,
    Eventpoll,
    Inotify,
    Pidfd,
    Signalfd,
    Timerfd,
    Pipe,
    Socket,
    Terminal,
    Cgroup,
    File,
}

/// The open descriptors of a process: number → link target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fds(pub BTreeMap<u32, String>);

/// What a process holds on to: unequal before and after some work, something leaked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors by kind.
    pub fds: BTreeMap<FdKind, usize>,
    /// What its epoll instances watch.
    pub watched: usize,
    /// Threads.
    pub threads: usize,
    /// Children that live.
    pub children: usize,
    /// Children that nobody has waited for.
    pub zombies: usize,
}

/// The fields of /proc/PID/stat in use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// R, S, D, Z, T, …
    pub state: char,
    /// The parent.
    pub parent: u32,
    /// Clock ticks between boot and its start: with the pid, the identity of a process.
    pub start_time: u64,
}

impl Proc {
    /// All processes there are.
    pub fn all() -> Vec<Proc> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok().map(Proc)).collect()
    }

    /// The process that serves the shim socket for `id`: `start` and `delete` are not meant.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn shim(namespace: &str, id: &str) -> Result<Proc> {
        let found: Vec<Proc> =
            Proc::all().into_iter().filter(|p| p.serves(namespace, id)).collect();
        match *found.as_slice() {
            [shim] => Ok(shim),
            _ => anyhow::bail!("{} shims of {namespace}/{id}: {found:?}", found.len()),
        }
    }

    fn serves(self, namespace: &str, id: &str) -> bool {
        let args = self.args().unwrap_or_default();
        let follows = |flag: &str, value: &str| {
            args.windows(2).any(|pair| matches!(pair, [f, v] if f == flag && v == value))
        };
        let action = args.last().is_some_and(|last| last == "start" || last == "delete");
        follows("-namespace", namespace) && follows("-id", id) && !action
    }

    /// The path of one of its files.
    pub fn path(self, name: impl AsRef<Path>) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(name)
    }

    fn read(self, name: &str) -> Result<String> {
        let path = self.path(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn read_list(self, name: &str) -> Result<Vec<String>> {
        Ok(self.read(name)?.split_terminator('\0').map(str::to_owned).collect())
    }

    /// Its command line.
    ///
    /// # Errors
    /// It is gone.
    pub fn args(self) -> Result<Vec<String>> {
        self.read_list("cmdline")
    }

    /// Its initial environment, as `NAME=value`.
    ///
    /// # Errors
    /// It is gone.
    pub fn environ(self) -> Result<Vec<String>> {
        self.read_list("environ")
    }

    /// /proc/PID/cgroup.
    ///
    /// # Errors
    /// It is gone.
    pub fn cgroups(self) -> Result<String> {
        self.read("cgroup")
    }

    /// A field of /proc/PID/status, e.g. `SigIgn`.
    ///
    /// # Errors
    /// It is gone or there is no such field.
    pub fn status(self, field: &str) -> Result<String> {
        let text = self.read("status")?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("no field {field}"))?.trim().to_owned())
    }

    /// State, parent and start time.
    ///
    /// # Errors
    /// It is gone.
    pub fn stat(self) -> Result<Stat> {
        let text = self.read("stat")?;
        // The name, in parentheses, may contain anything.
        let (_, rest) = text.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |n: usize| fields.get(n).copied().with_context(|| format!("stat: {text}"));
        let state = field(0)?.chars().next().context("no state")?;
        Ok(Stat { state, parent: field(1)?.parse()?, start_time: field(19)?.parse()? })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.0)?), signal)
            .with_context(|| format!("sending {signal} to {}", self.0))
    }

    /// Whether it exists and is not a zombie.
    pub fn is_alive(self) -> bool {
        self.stat().is_ok_and(|stat| stat.state != 'Z' && stat.state != 'X')
    }

    /// Its children, zombies included.
    pub fn children(self) -> Vec<Proc> {
        let mine = |p: &Proc| p.stat().is_ok_and(|stat| stat.parent == self.0);
        Proc::all().into_iter().filter(mine).collect()
    }

    /// Of a shim of ours: the child that joiners of execs are forked of, since the first exec.
    pub fn nursery(self) -> Option<Proc> {
        let named = |p: &Proc| p.status("Name").is_ok_and(|name| name == "wedge-setns");
        self.children().into_iter().find(named)
    }

    /// The processes of a shim that start others: it, and its nursery.
    pub fn forkers(self) -> Vec<Proc> {
        [self].into_iter().chain(self.nursery()).collect()
    }

    /// Its children that nobody has waited for.
    pub fn zombies(self) -> Vec<Proc> {
        let dead = |p: &Proc| p.stat().is_ok_and(|stat| stat.state == 'Z');
        self.children().into_iter().filter(dead).collect()
    }

    /// Number of threads.
    ///
    /// # Errors
    /// It is gone.
    pub fn threads(self) -> Result<usize> {
        Ok(self.status("Threads")?.parse()?)
    }

    /// Its oom_score_adj.
    ///
    /// # Errors
    /// It is gone.
    pub fn oom_score_adj(self) -> Result<i32> {
        Ok(self.read("oom_score_adj")?.trim().parse()?)
    }

    /// Its memory, from smaps_rollup.
    ///
    /// # Errors
    /// It is gone.
    pub fn memory(self) -> Result<Memory> {
        let text = self.read("smaps_rollup")?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|l| l.split_whitespace().next()).context("no such field")?;
            Ok(kib.parse()?)
        };
        let (rss, pss) = (field("Rss:")?, field("Pss:")?);
        Ok(Memory { rss, pss, private_dirty: field("Private_Dirty:")? })
    }

    /// What it holds on to.
    ///
    /// # Errors
    /// It is gone.
    pub fn holdings(self) -> Result<Holdings> {
        let (mut fds, mut watched) = (BTreeMap::new(), 0);
        for (number, target) in self.fds()?.0 {
            let kind = kind_of(&target);
            *fds.entry(kind).or_default() += 1;
            if kind == FdKind::Eventpoll {
                let info = self.read(&format!("fdinfo/{number}"))?;
                watched += info.lines().filter(|line| line.starts_with("tfd:")).count();
            }
        }
        let (children, zombies) = (self.children().len(), self.zombies().len());
        let children = children.saturating_sub(zombies);
        Ok(Holdings { fds, watched, threads: self.threads()?, children, zombies })
    }

    /// The namespaces it is in, e.g. `net:[4026531840]`.
    ///
    /// # Errors
    /// It is gone.
    pub fn namespaces(self) -> Result<BTreeSet<String>> {
        let entries = fs::read_dir(self.path("ns")).context("reading its namespaces")?;
        let name =
            |entry: fs::DirEntry| Some(fs::read_link(entry.path()).ok()?.to_str()?.to_owned());
        Ok(entries.flatten().filter_map(name).collect())
    }

    /// Its mounts, a line each.
    ///
    /// # Errors
    /// It is gone.
    pub fn mounts(self) -> Result<String> {
        self.read("mountinfo")
    }

    /// Its open descriptors.
    ///
    /// # Errors
    /// It is gone.
    pub fn fds(self) -> Result<Fds> {
        let dir = self.path("fd");
        let entries = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
        let link = |entry: fs::DirEntry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        };
        Ok(Fds(entries.flatten().filter_map(link).collect()))
    }
}

impl Fds {
    /// How many of one kind there are.
    pub fn count(&self, kind: FdKind) -> usize {
        self.0.values().filter(|target| kind_of(target) == kind).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Fds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(number, target)| writeln!(f, "{number:4} {target}"))
    }
}

fn kind_of(target: &str) -> FdKind {
    const KINDS: [(&str, FdKind); 10] = [
        ("anon_inode:[eventfd]", FdKind::Eventfd),
        ("anon_inode:[eventpoll]", FdKind::Eventpoll),
        ("anon_inode:inotify", FdKind::Inotify),
        ("anon_inode:[pidfd]", FdKind::Pidfd),
        ("anon_inode:[signalfd]", FdKind::Signalfd),
        ("anon_inode:[timerfd]", FdKind::Timerfd),
        ("pipe:", FdKind::Pipe),
        ("socket:", FdKind::Socket),
        ("/dev/pt", FdKind::Terminal),
        ("/sys/fs/cgroup/", FdKind::Cgroup),
    ];
    let kind = KINDS.iter().find(|(prefix, _)| target.starts_with(prefix));
    kind.map_or(FdKind::File, |(_, kind)| *kind)
}

/// Whether the kernel is `version` (major and minor number) or a later one.
///
/// # Errors
/// It does not say.
pub fn kernel_is_since(version: (u32, u32)) -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(str::parse::<u32>);
    let mut number = || anyhow::Ok(numbers.next().with_context(|| release.clone())??);
    Ok((number()?, number()?) >= version)
}

/// One line per process, children below their parents, with state and command line.
pub fn tree(processes: &[Proc]) -> String {
    let known = |pid: u32| processes.iter().any(|p| p.0 == pid);
    let parent = |p: Proc| p.stat().map(|stat| stat.parent).unwrap_or_default();
    let mut text = String::new();
    for root in processes.iter().filter(|p| !known(parent(**p))) {
        branch(*root, processes, 0, &mut text);
    }
    text
}

fn branch(process: Proc, processes: &[Proc], depth: usize, text: &mut String) {
    let state = process.stat().map_or('?', |stat| stat.state);
    let args = process.args().unwrap_or_default().join(" ");
    text.push_str(&format!("{:>8} {state} {:indent$}{args}\n", process.0, "", indent = depth * 2));
    for child in processes {
        if child.stat().is_ok_and(|stat| stat.parent == process.0) {
            branch(*child, processes, depth + 1, text);
        }
    }
}

/// Waits until the process is gone (or a zombie somebody else has to reap).
///
/// # Errors
/// It is still there after [`crate::wait::LIMIT`].
pub fn wait_gone(process: Proc) -> Result<()> {
    crate::wait::until(&format!("process {} ends", process.0), || {
        ensure!(!process.is_alive(), "{:?}", process.args());
        Ok(())
    })
}
