// SPDX-License-Identifier: Apache-2.0
//! A containerd of our own: own root, state, sockets, configuration and session.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::proc::Proc;
use crate::scratch::{CONFIG_VARIABLE, TOKEN_VARIABLE};
use crate::{Scratch, ShimUnderTest, wait};

/// A private containerd. Stopping it leaves shims and containers alone, as in life.
#[derive(Debug)]
pub struct Daemon {
    dir: PathBuf,
    token: String,
    config: PathBuf,
    variables: Vec<(String, String)>,
    /// What is run with the daemon's command line as its own last arguments.
    entrance: Vec<OsString>,
    child: Option<Child>,
}

impl Daemon {
    /// Writes the configuration and the directory of shim links; starts nothing.
    ///
    /// # Errors
    /// A file operation fails.
    pub(crate) fn prepare(
        scratch: &Scratch,
        shim: &ShimUnderTest,
        debug: bool,
        variables: Vec<(String, String)>,
    ) -> Result<Daemon> {
        shim.link_into(&scratch.dir().join("bin"))?;
        let mut daemon =
            Daemon::configured(scratch, &Daemon::base_config(scratch.dir(), &[CRI], debug))?;
        daemon.variables = variables;
        Ok(daemon)
    }

    /// A daemon with a configuration of the caller's; [`Daemon::base_config`] is how it must begin.
    /// The caller fills the directory `bin` of the test's with shims.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn configured(scratch: &Scratch, config: &str) -> Result<Daemon> {
        let dir = scratch.dir().to_path_buf();
        fs::write(dir.join("config.toml"), config)?;
        let (token, config) = (scratch.namespace().to_owned(), scratch.config());
        let (variables, entrance) = (Vec::new(), Vec::new());
        Ok(Daemon { dir, token, config, variables, entrance, child: None })
    }

    /// Directories, sockets and the level of logs, in a configuration of version 2. It does not
    /// adjust its own OOM score, which needs CAP_SYS_RESOURCE when lowered: the shim then runs at
    /// containerd's score + 1.
    pub fn base_config(dir: &Path, disabled: &[&str], debug: bool) -> String {
        let disabled: Vec<&str> = SNAPSHOTTERS.iter().chain(disabled).copied().collect();
        let dir = dir.display();
        let level = if debug { "debug" } else { "info" };
        format!(
            r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
oom_score = 0
disabled_plugins = {disabled:?}
[debug]
    level = "{level}"
[grpc]
    address = "{dir}/c.sock"
[ttrpc]
    address = "{dir}/c.sock.ttrpc"
"#
        )
    }

    /// Starts it through `command` from now on, e.g. `nsenter --net=FILE`, which must not fork.
    pub fn enter_by(&mut self, command: impl IntoIterator<Item = impl Into<OsString>>) {
        self.entrance = command.into_iter().map(Into::into).collect();
    }

    /// Starts containerd and waits until it accepts connections.
    ///
    /// # Errors
    /// It runs already, or does not come up; the message has the end of its log.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "containerd runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        // setsid(1) does not fork here, so the child's pid is containerd's.
        let mut command = Command::new("setsid");
        command.args(&self.entrance);
        command.arg("containerd").arg("--config").arg(self.dir.join("config.toml"));
        command.env("PATH", self.path()?).env(TOKEN_VARIABLE, &self.token);
        command.env(CONFIG_VARIABLE, &self.config);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("starting containerd")?;
        let up = wait::until("containerd accepts connections", || {
            ensure!(child.try_wait()?.is_none(), "it exited: {}", self.log_tail(20));
            UnixStream::connect(self.dir.join("c.sock")).map(drop).context("connecting")
        });
        self.child = Some(child);
        up
    }

    /// Ends containerd with SIGTERM; kills it if that takes longer than ten seconds.
    ///
    /// # Errors
    /// It does not run, or it had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// Kills containerd: a crash.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Stops and starts it.
    ///
    /// # Errors
    /// Those of [`Daemon::stop`] and [`Daemon::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Sends it a signal (SIGSTOP and SIGCONT: a hung daemon).
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.proc()?.0)?), signal).context("signalling containerd")
    }

    /// The process.
    ///
    /// # Errors
    /// It does not run.
    pub fn proc(&self) -> Result<Proc> {
        Ok(Proc(self.child.as_ref().context("containerd does not run")?.id()))
    }

    /// Its log, with what it copied from shim logs.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|b| String::from_utf8_lossy(&b).into()).unwrap_or_default()
    }

    /// The last lines of [`Daemon::log`], without those about loading plugins.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let lines_of_use = log.lines().filter(|line| !line.contains("loading plugin"));
        let tail: Vec<&str> = lines_of_use.rev().take(lines).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Waits until the log contains `text`.
    ///
    /// # Errors
    /// It does not within [`wait::LIMIT`].
    pub fn wait_log(&self, text: &str) -> Result<()> {
        wait::until(&format!("containerd logs {text:?}"), || {
            ensure!(self.log().contains(text), "…{}", self.log_tail(10));
            Ok(())
        })
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        let mut child = self.child.take().context("containerd does not run")?;
        let ended = wait::until_for(Duration::from_secs(10), "containerd ends", || {
            child.try_wait()?.context("it still runs").map(drop)
        });
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        // A new one must be able to bind them.
        fs::remove_file(self.dir.join("c.sock")).ok();
        fs::remove_file(self.dir.join("c.sock.ttrpc")).ok();
        ended
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("containerd.log")
    }

    fn path(&self) -> Result<OsString> {
        let own = std::env::var_os("PATH").context("no PATH")?;
        let mut path = self.dir.join("bin").into_os_string();
        path.push(":");
        path.push(own);
        Ok(path)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The plugin that needs network plugins, which `ctr` does without.
const CRI: &str = "io.containerd.grpc.v1.cri";

/// What of containerd's needs file systems that are not here.
const SNAPSHOTTERS: [&str; 4] = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];
