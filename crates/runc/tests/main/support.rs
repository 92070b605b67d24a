// SPDX-License-Identifier: Apache-2.0
//! A container of runc's or crun's for one test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wedge_reaper::{Exit, ExitWatch, Limits, Reaper};
use wedge_runc::{Container, Dialect, Failure, Place, Unsupported};
use wedge_sys::PidFd;

use crate::ground;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A container that is still to be made. Dropping it removes what there is.
pub(crate) struct Setup {
    dir: tempfile::TempDir,
    id: String,
    dialect: Dialect,
    /// What crun needs in its environment.
    preload: Option<PathBuf>,
    /// `config.json`.
    pub(crate) config: Value,
}

/// A created container, and its init.
pub(crate) struct Bench<'s> {
    setup: &'s Setup,
    reaper: Reaper,
    pub(crate) pid: u32,
    pub(crate) init: PidFd,
    exit: ExitWatch,
}

impl Setup {
    /// busybox that sleeps, in a pid and a mount namespace.
    pub(crate) fn new() -> Setup {
        wedge_sys::set_subreaper().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let random = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        let id = format!("wedge-runc-{random}");
        let rootfs = dir.path().join("rootfs");
        for sub in ["bin", "proc"] {
            fs::create_dir_all(rootfs.join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/busybox", "sleep", "1000"],
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "root": {"path": "rootfs"},
            // Devices of a rootfs cannot be used where its file system is mounted with nodev.
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            ],
            "linux": {
                "cgroupsPath": format!("/{id}"),
                "namespaces": [{"type": "pid"}, {"type": "mount"}],
            },
        });
        Setup { dir, id, dialect: Dialect::Runc, preload: None, config }
    }

    /// The same for crun.
    pub(crate) fn crun() -> Setup {
        let mut setup = Setup::new();
        setup.preload = ground::preload(setup.dir());
        ground::enter();
        setup.dialect = Dialect::Crun;
        setup
    }

    /// The host's pid namespace, and an init with a child, both of which survive SIGTERM.
    pub(crate) fn shared() -> Setup {
        let mut setup = Setup::new();
        setup.config["linux"]["namespaces"] = json!([{"type": "mount"}]);
        let script = "trap '' TERM; /bin/busybox sleep 1000 & wait";
        setup.script(script);
        setup
    }

    pub(crate) fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["/bin/busybox", "sh", "-c", script]);
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// runc's directory of the container.
    pub(crate) fn state(&self) -> PathBuf {
        self.root().join(&self.id)
    }

    /// Creates the container and tests.
    pub(crate) fn run(self, test: impl AsyncFnOnce(&Bench<'_>)) {
        on_reaper(async |reaper| {
            let bench = self.create(reaper).await;
            test(&bench).await;
        });
    }

    pub(crate) async fn create(&self, reaper: &Reaper) -> Bench<'_> {
        fs::write(self.dir.path().join("config.json"), self.config.to_string()).unwrap();
        let expectation = reaper.expect();
        let (succeeded, said) = self.runc(reaper, &["create", &self.id]).await;
        assert!(succeeded, "{said}");
        let state: Value = self.read_state();
        let pid = match self.dialect {
            Dialect::Runc => &state["init_process_pid"],
            Dialect::Crun => &state["pid"],
        };
        let pid = u32::try_from(pid.as_u64().unwrap()).unwrap();
        let (exit, init) = expectation.claim(pid).unwrap();
        Bench { setup: self, reaper: reaper.clone(), pid, init: init.unwrap(), exit }
    }

    pub(crate) fn read_state(&self) -> Value {
        let name = match self.dialect {
            Dialect::Runc => "state.json",
            Dialect::Crun => "status",
        };
        serde_json::from_slice(&fs::read(self.state().join(name)).unwrap()).unwrap()
    }

    /// Whether the runtime succeeded, and what it said. The output is not a pipe: that would stay open in
    /// the container.
    async fn runc(&self, reaper: &Reaper, args: &[&str]) -> (bool, String) {
        let path = self.dir.path().join("out");
        let out = fs::File::create(&path).unwrap();
        let mut command = Command::new(self.dialect.name());
        command.envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)));
        command.arg("--root").arg(self.root()).args(args).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let ended = reaper.complete(command, Limits::default()).await.unwrap();
        (ended.status.success(), fs::read_to_string(path).unwrap())
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        // With a reaper: an init is not gone before every process of its namespace was waited for.
        on_reaper(async |reaper| {
            let deleted = self.runc(reaper, &["delete", "--force", &self.id]).await;
            assert!(std::thread::panicking() || deleted.0, "{}", deleted.1);
        });
    }
}

impl Bench<'_> {
    pub(crate) fn load(&self) -> Result<Container, Unsupported> {
        let root = self.setup.root();
        let dialect = self.setup.dialect;
        Container::load(Place { root: &root, id: &self.setup.id, init: self.pid, dialect })
    }

    pub(crate) fn container(&self) -> Container {
        self.load().unwrap()
    }

    pub(crate) async fn runc(&self, args: &[&str]) -> (bool, String) {
        self.setup.runc(&self.reaper, args).await
    }

    /// Runs a command of runc on the container, with more arguments. On a busy machine runc may
    /// not get to freeze one at once.
    pub(crate) async fn by_runc(&self, command: &str, args: &[&str]) {
        let args = [&[command, self.setup.id()], args].concat();
        let end = Instant::now() + LIMIT;
        loop {
            let (succeeded, said) = self.runc(&args).await;
            let again = said.contains("unable to freeze") && Instant::now() < end;
            assert!(succeeded || again, "{args:?}: {said}");
            if succeeded {
                return;
            }
        }
    }

    /// Deletes the container with who is left in it. On a busy machine one who was killed may not
    /// get to end in the second that is given to it.
    pub(crate) async fn delete(&self, container: &Container) {
        let end = Instant::now() + LIMIT;
        while let Err(failure) = container.delete().await {
            let again = format!("{failure:?}").contains("failed to remove");
            assert!(again && Instant::now() < end, "{failure:?}");
        }
    }

    /// What runc says when it refuses a command.
    pub(crate) async fn runc_refuses(&self, command: &str, args: &[&str]) -> String {
        let args = [&[command, self.setup.id()], args].concat();
        let (succeeded, said) = self.runc(&args).await;
        assert!(!succeeded, "{args:?}: {said}");
        let (_, message) = said.trim().rsplit_once("msg=").unwrap();
        message.trim_matches('"').to_owned()
    }

    /// runc's status, as both its commands for it have it.
    pub(crate) async fn status(&self) -> String {
        let id = self.setup.id();
        let (succeeded, said) = self.runc(&["state", id]).await;
        assert!(succeeded, "{said}");
        let state: Value = serde_json::from_str(&said).unwrap();
        let status = state["status"].as_str().unwrap().to_owned();
        let (succeeded, list) = self.runc(&["list"]).await;
        let line = list.lines().find(|line| line.starts_with(id)).unwrap_or_default();
        assert!(succeeded && line.split_whitespace().nth(2) == Some(&status), "{list}");
        status
    }

    pub(crate) fn id(&self) -> &str {
        self.setup.id()
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        self.setup.state().join("exec.fifo")
    }

    /// The cgroup of a controller, or the only one there is.
    pub(crate) fn find(&self, controller: &str) -> PathBuf {
        let paths = self.cgroups();
        paths.get(controller).or_else(|| paths.get("")).unwrap().clone()
    }

    /// How many processes are in the container's cgroup and below.
    pub(crate) fn members(&self) -> usize {
        members(&self.find("devices"))
    }

    /// A process of the host's in the container's cgroups.
    pub(crate) fn stranger(&self) -> Stranger {
        let mut command = Command::new("sleep");
        let child = self.reaper.spawn(command.arg("1000")).unwrap();
        for path in self.cgroups().values() {
            fs::write(path.join("cgroup.procs"), child.pid.to_string()).unwrap();
        }
        Stranger(PidFd::open(child.pid).unwrap())
    }

    /// The name of the init's program.
    pub(crate) fn command(&self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        name.trim_end().to_owned()
    }

    /// Whether the init handles a signal.
    pub(crate) fn catches(&self, signal: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & (1 << (signal - 1)) != 0
    }

    /// Stops the init with all its threads: it does not answer then.
    pub(crate) async fn stop(&self) {
        self.init.send_signal(19).unwrap();
        let threads = format!("/proc/{}/task", self.pid);
        until("it has stopped", || {
            let threads = fs::read_dir(&threads).unwrap().flatten();
            let mut stats = threads.map(|thread| fs::read_to_string(thread.path().join("stat")));
            stats.all(|stat| stat.is_ok_and(|stat| stat.contains(") T "))).then_some(())
        })
        .await;
    }

    pub(crate) async fn start(&self) {
        self.container().start(Some(&self.init), LIMIT).await.unwrap();
    }

    /// Waits until the init was reaped; how it ended.
    pub(crate) async fn ended(&self) -> Exit {
        tokio::time::timeout(LIMIT, self.exit.clone().wait()).await.unwrap()
    }

    pub(crate) async fn kill_init(&self) {
        self.init.send_signal(9).unwrap();
        self.ended().await;
    }

    pub(crate) fn cgroups(&self) -> BTreeMap<String, PathBuf> {
        let state = self.setup.read_state();
        if let Some(path) = state["cgroup-path"].as_str() {
            return BTreeMap::from([(
                String::new(),
                PathBuf::from(format!("/sys/fs/cgroup{path}")),
            )]);
        }
        serde_json::from_value(state["cgroup_paths"].clone()).unwrap()
    }

    /// Nothing of the container is left.
    pub(crate) fn assert_gone(&self, cgroups: &BTreeMap<String, PathBuf>) {
        assert!(!self.setup.state().exists());
        for path in cgroups.values() {
            assert!(!path.exists(), "{path:?}");
        }
    }
}

/// Killed when it is dropped.
pub(crate) struct Stranger(PidFd);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.send_signal(9).unwrap();
    }
}

fn members(dir: &Path) -> usize {
    let own = fs::read_to_string(dir.join("cgroup.procs")).map_or(0, |text| text.lines().count());
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    own + below.map(|entry| members(&entry.path())).sum::<usize>()
}

/// The text of a failure that is not for runc.
pub(crate) fn failed<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Failed(err)) => err.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Why a command is for runc.
pub(crate) fn left<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Unsupported(reason)) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Looks until there is a value; `what` is what was waited for in vain.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs `test` on a runtime of its own, with a reaper that is driven.
pub(crate) fn on_reaper(test: impl AsyncFnOnce(&Reaper)) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let reaper = Reaper::new();
        tokio::select! {
            () = test(&reaper) => {}
            ended = reaper.clone().run() => unreachable!("the reaper ended: {ended:?}"),
        }
    });
}
