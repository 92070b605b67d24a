// SPDX-License-Identifier: Apache-2.0
//! Making the container.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use wedge_reaper::{Limits, Reaper};
use wedge_runc::Dialect;
use wedge_setns::Host;

use super::bench::Bench;
use super::proc::LIMIT;
use crate::ground;

/// What containerd gives a container by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A container that is still to be made. Dropping it removes it.
pub(crate) struct Setup {
    dir: tempfile::TempDir,
    id: String,
    /// `config.json`.
    pub(crate) config: Value,
    /// What a later runc would have added to the `config` in `state.json`.
    pub(crate) state: Value,
    /// Whether its init runs, or still waits for `runc start`.
    pub(crate) started: bool,
    dialect: Dialect,
    /// What crun needs in its environment.
    preload: Option<PathBuf>,
}

impl Setup {
    /// busybox as root with containerd's capabilities, in four namespaces.
    pub(crate) fn new() -> Setup {
        wedge_sys::set_subreaper().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let random = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        let id = format!("wedge-setns-{random}");
        let config = config(&id);
        let (dialect, preload, state) = (Dialect::Runc, None, json!({}));
        let setup = Setup { dir, id, config, state, started: true, dialect, preload };
        setup.fill_rootfs();
        setup
    }

    /// The same for crun.
    pub(crate) fn crun() -> Setup {
        Setup::new().with_crun()
    }

    pub(crate) fn with_crun(mut self) -> Setup {
        self.preload = ground::preload(self.dir());
        ground::enter();
        self.dialect = Dialect::Crun;
        self
    }

    /// The same with a user namespace: its ids are ours and 100000.
    pub(crate) fn in_user_namespace() -> Setup {
        let mut setup = Setup::new();
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        setup.config["linux"]["uidMappings"] = map.clone();
        setup.config["linux"]["gidMappings"] = map;
        setup.add_namespace(json!({"type": "user"}));
        for entry in fs::read_dir(setup.rootfs()).unwrap() {
            std::os::unix::fs::lchown(entry.unwrap().path(), Some(100_000), Some(100_000)).unwrap();
        }
        setup
    }

    fn fill_rootfs(&self) {
        for sub in ["bin", "proc", "dev", "tmp", "etc", "home"] {
            fs::create_dir_all(self.rootfs().join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", self.rootfs().join("bin/busybox")).unwrap();
        let applets = "sh cat id ls readlink env true false sleep pwd hostname uname grep ionice \
                       stat unshare mount tty stty mkfifo kill mkdir";
        for applet in applets.split_whitespace() {
            symlink("busybox", self.rootfs().join("bin").join(applet)).unwrap();
        }
    }

    pub(crate) fn add_namespace(&mut self, namespace: Value) {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
    }

    pub(crate) fn add_mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// Writes a file of the rootfs, with these permissions.
    pub(crate) fn file(&self, name: &str, mode: u32, content: impl AsRef<[u8]>) {
        let path = self.rootfs().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The directory of runc's that has `state.json`.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state").join(&self.id)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Makes the container, tests, and looks whether anything is left.
    pub(crate) fn run(self, test: impl AsyncFnOnce(&Bench<'_>)) {
        on_reaper(async |reaper| {
            let init = self.make(reaper).await;
            let bench = self.bench(reaper, init).await;
            test(&bench).await;
            bench.assert_nothing_left().await;
        });
    }

    /// What execs in it, once it was made.
    pub(crate) async fn bench(&self, reaper: &Reaper, init: u32) -> Bench<'_> {
        let host = Host::new(env!("CARGO_BIN_EXE_wedge-seccomp-compile")).unwrap();
        Bench::new(host, reaper.clone(), self, init).await
    }

    /// Makes the container; the pid of its init.
    pub(crate) async fn make(&self, reaper: &Reaper) -> u32 {
        let config = self.dir.path().join("config.json");
        fs::write(config, self.config.to_string()).unwrap();
        let verb: &[&str] = if self.started { &["run", "--detach"] } else { &["create"] };
        self.runc(reaper, &[verb, &[&self.id]].concat()).await;
        if self.dialect == Dialect::Crun {
            let status = fs::read(self.state_dir().join("status")).unwrap();
            let status: Value = serde_json::from_slice(&status).unwrap();
            return u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
        }
        let path = self.state_dir().join("state.json");
        let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (key, value) in self.state.as_object().unwrap() {
            state["config"][key] = value.clone();
        }
        fs::write(&path, state.to_string()).unwrap();
        u32::try_from(state["init_process_pid"].as_u64().unwrap()).unwrap()
    }

    /// Runs runc, which must not fail. On a busy machine it may not get to freeze one at once.
    pub(crate) async fn runc(&self, reaper: &Reaper, args: &[&str]) {
        let log = self.dir.path().join("log");
        let end = Instant::now() + LIMIT;
        loop {
            // runc appends.
            fs::remove_file(&log).unwrap_or_default();
            let command = self.command(args);
            let ended = reaper.complete(command, Limits::default()).await.unwrap();
            if ended.status.success() {
                return;
            }
            let said = fs::read_to_string(&log).unwrap_or_default();
            let again = said.contains("unable to freeze") && Instant::now() < end;
            assert!(again, "runc {args:?}: {said}");
        }
    }

    /// The runtime without streams: pipes would stay open in the container.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.dialect.name());
        command.envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)));
        let path = |name: &str| self.dir.path().join(name);
        command.arg("--root").arg(path("state")).arg("--log").arg(path("log")).args(args);
        command.current_dir(self.dir.path());
        match self.dialect {
            Dialect::Runc => {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            }
            // Debian's crun would give the host's null device to the container's root.
            Dialect::Crun => {
                let file = || fs::File::create(path("streams")).unwrap();
                command.stdin(file()).stdout(file()).stderr(file());
            }
        }
        command
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        // With a reaper: an init is not gone before every process of its namespace was waited for.
        on_reaper(async |reaper| {
            let delete = self.command(&["delete", "--force", &self.id]);
            let deleted = reaper.complete(delete, Limits::default()).await;
            assert!(std::thread::panicking() || deleted.unwrap().status.success());
        });
    }
}

/// Runs `test` on a runtime of its own, with a reaper that is driven.
pub(crate) fn on_reaper(test: impl AsyncFnOnce(&Reaper)) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    wedge_sys::set_subreaper().unwrap();
    tokio.block_on(async {
        let reaper = Reaper::new();
        tokio::select! {
            () = test(&reaper) => {}
            ended = reaper.clone().run() => unreachable!("the reaper ended: {ended:?}"),
        }
    });
}

fn config(id: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sleep", "1000"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "gid=5"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"},
            ],
        },
    })
}
