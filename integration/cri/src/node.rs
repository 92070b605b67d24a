// SPDX-License-Identifier: Apache-2.0
//! A private containerd with the CRI plugin and networks: a node without a kubelet.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::image::{self, Config};
use wedge_integration::{Cmd, Ctr, Daemon, Scratch, ShimUnderTest, apparmor, rootfs, wait};

use crate::v1::{RuntimeStatus, StatusRequest};
use crate::{Client, Driver, NetNs, left};

/// The namespace of everything that is made through CRI.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// The image of containers: busybox and `wedge-payload`.
pub(crate) const IMAGE: &str = "wedge.test/busybox:1";

/// The image of pods: `wedge-payload pause`.
const PAUSE: &str = "wedge.test/pause:1";

/// Where Debian installs the network plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A node for one test. End with [`Node::finish`].
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: the daemon first, then what it left.
    client: Client,
    daemon: Daemon,
    netns: NetNs,
    shim: ShimUnderTest,
    driver: Driver,
    ctr: Ctr,
    scratch: Scratch,
}

impl Node {
    /// Starts containerd, imports the images and waits until the node is ready.
    ///
    /// # Errors
    /// A binary is missing or containerd does not start.
    pub fn start() -> Result<Node> {
        let (shim, driver) = (ShimUnderTest::from_env()?, Driver::from_env()?);
        let scratch = Scratch::new()?;
        let dir = scratch.dir();
        let netns = NetNs::hold_at(dir.join("netns"))?;
        fs::create_dir(dir.join("bin"))?;
        install(dir, "containerd-shim-wedge-v2", shim.path())?;
        install(dir, "containerd-shim-runc-v2", ShimUnderTest::go()?.path())?;
        fs::create_dir(dir.join("cni"))?;
        fs::write(dir.join("cni/10-wedge.conflist"), network(dir, scratch.namespace()))?;
        fs::write(dir.join("options.toml"), options(dir, driver))?;
        let debug = std::env::var_os("WEDGE_TEST_DEBUG").is_some();
        let config = Daemon::base_config(dir, &[], debug) + &cri_config(dir, driver);
        let mut daemon = Daemon::configured(&scratch, &config)?;
        daemon.enter_by(netns.entrance());
        daemon.start()?;
        let client = Client::connect(&scratch.address())?;
        let ctr = Ctr::in_namespace(&scratch, NAMESPACE);
        let node = Node { client, daemon, netns, shim, driver, ctr, scratch };
        node.import()?;
        node.wait_ready()?;
        Ok(node)
    }

    /// The test's directory.
    pub fn dir(&self) -> &Path {
        self.scratch.dir()
    }

    /// What everything of the test is named after: its cgroup, its network.
    pub fn token(&self) -> &str {
        self.scratch.namespace()
    }

    /// The connection to the daemon.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A connection more, for another thread.
    ///
    /// # Errors
    /// containerd is down.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(&self.scratch.address())
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The network namespace of the daemon: the host's, for pods.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// `ctr --namespace k8s.io`.
    pub fn ctr(&self) -> &Ctr {
        &self.ctr
    }

    /// The shim under test.
    pub fn shim(&self) -> &ShimUnderTest {
        &self.shim
    }

    /// Who makes the cgroups.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// The runtime handler of the shim under test.
    pub fn handler(&self) -> &'static str {
        if self.shim.is_go() { "runc" } else { "wedge" }
    }

    /// Where the log of a container is.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir().join("logs")
    }

    /// Puts another shim in the place of the one that the handler `runc` starts: an upgrade.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn upgrade_runc(&self, shim: &ShimUnderTest) -> Result<()> {
        install(self.dir(), "containerd-shim-runc-v2", shim.path())
    }

    /// Remembers a pod, whose shim's socket must be gone in the end.
    pub(crate) fn note(&self, id: &str) {
        self.scratch.note_in(NAMESPACE, id);
    }

    /// Stops containerd and starts it again, as an upgrade of it does.
    ///
    /// # Errors
    /// It does not stop or start.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.stop()?;
        self.up()
    }

    /// Kills containerd, and does `meanwhile` before it is started again.
    ///
    /// # Errors
    /// It does not start, or `meanwhile` fails.
    pub fn crash(&mut self, meanwhile: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
        self.daemon.kill()?;
        meanwhile(self)?;
        self.up()
    }

    fn up(&mut self) -> Result<()> {
        self.daemon.start()?;
        self.client = self.connect()?;
        self.wait_ready()
    }

    /// Kills everything that runs on the node but the daemon, as a power failure does; what is on
    /// disk and mounted stays. The caller has killed the daemon.
    ///
    /// # Errors
    /// A process does not end.
    pub fn kill_processes(&self) -> Result<()> {
        wait::until("all processes are gone", || {
            let alive = self.scratch.processes();
            for process in &alive {
                process.signal(Signal::SIGKILL).ok();
            }
            ensure!(alive.is_empty(), "{alive:?}");
            Ok(())
        })
    }

    /// Ends the test: no pod may be left; stops containerd and checks that nothing is left of it.
    ///
    /// # Errors
    /// containerd does not stop, or something is left; the message lists it.
    pub fn finish(mut self) -> Result<()> {
        left::check(&self)?;
        self.driver.remove_pods(self.token())?;
        self.daemon.stop()?;
        self.netns.release()?;
        self.scratch.finish()
    }

    fn import(&self) -> Result<()> {
        let images = self.dir().join("images");
        let tree = images.join("busybox");
        rootfs::make(&tree)?;
        // A tenth of what it is with what debuggers need.
        let (payload, small) = (tree.join("bin/wedge-payload"), images.join("payload"));
        Cmd::new("strip").arg("-o").arg(&small).arg(&payload).output()?.assert_ok();
        fs::rename(&small, &payload)?;
        let environment = ["PATH=/bin", "FROM=image"];
        let config = Config { command: &["/bin/sleep", "1000"], environment: &environment };
        image::build(&images, IMAGE, &tree, &config)?;
        let pause = images.join("pause");
        fs::create_dir(&pause)?;
        fs::copy(tree.join("bin/wedge-payload"), pause.join("pause"))?;
        let config = Config { command: &["/pause", "pause"], ..Config::default() };
        image::build(&images, PAUSE, &pause, &config)?;
        for name in [IMAGE, PAUSE] {
            let tar = images.join(format!("{}.tar", image::file_name(name)));
            let tar = tar.to_str().context("a path that is no text")?;
            let import = self.ctr.cmd(["images", "import", "--no-unpack", tar]);
            // containerd syncs what it stores, and a disk may be busy with what others do.
            import.limit(Duration::from_secs(120)).output()?.assert_ok();
        }
        fs::remove_dir_all(images)?;
        Ok(())
    }

    /// Waits until runtime and network are ready, and CRI knows the images.
    fn wait_ready(&self) -> Result<()> {
        wait::until_for(Duration::from_secs(30), "the node is ready", || {
            let status =
                self.client.call(async |mut cri| cri.status(StatusRequest::default()).await)?;
            let conditions = status.status.unwrap_or(RuntimeStatus::default()).conditions;
            let ready =
                conditions.len() >= 2 && conditions.iter().all(|condition| condition.status);
            ensure!(ready, "{conditions:?}\n{}", self.daemon.log_tail(10));
            for image in [IMAGE, PAUSE] {
                ensure!(self.client.has_image(image)?, "CRI does not know {image} yet");
            }
            Ok(())
        })
    }
}

impl Drop for Node {
    #[expect(clippy::print_stderr, reason = "what a failed test has to say")]
    fn drop(&mut self) {
        if self.scratch.is_finished() {
            return;
        }
        eprintln!("=== unfinished test, {:?}\n{}", self.shim, self.scratch.report());
        eprintln!("--- containerd.log\n{}\n===", self.daemon.log_tail(80));
    }
}

/// Links a shim into the directory that the daemon finds it in, in the place of what is there.
fn install(dir: &Path, name: &str, shim: &Path) -> Result<()> {
    let (new, target) = (dir.join("bin/new"), dir.join("bin").join(name));
    symlink(shim, &new)?;
    fs::rename(new, target).context("renaming a link")
}

/// What the handler tells the shim. Each test has a root for runc of its own: the state of all
/// daemons' containers in `k8s.io` would be in one directory otherwise.
fn options(dir: &Path, driver: Driver) -> String {
    let systemd = driver == Driver::Systemd;
    format!("Root = \"{}/runc\"\nSystemdCgroup = {systemd}\n", dir.display())
}

/// CRI's part of the configuration. containerd 1.6 hands options to runtimes of other names than
/// runc's only by a file.
fn cri_config(dir: &Path, driver: Driver) -> String {
    let runc = options(dir, driver);
    let (dir, no_apparmor) = (dir.display(), !apparmor::is_enabled());
    format!(
        r#"
[plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "{PAUSE}"
    disable_apparmor = {no_apparmor}
    disable_hugetlb_controller = false
    restrict_oom_score_adj = true
    netns_mounts_under_state_dir = true
    stats_collect_period = 1
    [plugins."io.containerd.grpc.v1.cri".cni]
        bin_dir = "{PLUGINS}"
        conf_dir = "{dir}/cni"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wedge]
        runtime_type = "io.containerd.wedge.v2"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wedge.options]
            ConfigPath = "{dir}/options.toml"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
{runc}"#
    )
}

/// The pods' network: a bridge in the daemon's own namespace, addresses from files of the test's.
fn network(dir: &Path, token: &str) -> String {
    let dir = dir.display();
    format!(
        r#"{{
    "cniVersion": "0.4.0",
    "name": "{token}",
    "plugins": [
        {{
            "type": "bridge",
            "bridge": "wedge0",
            "isGateway": true,
            "ipam": {{
                "type": "host-local",
                "dataDir": "{dir}/ipam",
                "ranges": [[{{"subnet": "10.88.0.0/16"}}]],
                "routes": [{{"dst": "0.0.0.0/0"}}]
            }}
        }}
    ]
}}
"#
    )
}
