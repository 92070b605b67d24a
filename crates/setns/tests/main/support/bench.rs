// SPDX-License-Identifier: Apache-2.0
//! Execs in the container.

use std::fs;
use std::io::pipe;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use wedge_reaper::{Limits, Reaper};
use wedge_setns::{Container, Failure, Host, Place, Started, Stdio};
use wedge_setns_wire::{STOP, Stage};

use super::proc::{Process, until};
use super::setup::Setup;

/// What every error of a process that was being set up begins with.
pub(crate) const START: &str =
    "OCI runtime exec failed: exec failed: unable to start container process: ";

/// An exec that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) code: u32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running container.
pub(crate) struct Bench<'a> {
    pub(crate) host: Host,
    pub(crate) reaper: Reaper,
    pub(crate) setup: &'a Setup,
    pub(crate) container: Container,
    pub(crate) init: Process,
    /// Our own descriptors before the first exec.
    descriptors: usize,
}

impl<'a> Bench<'a> {
    pub(crate) async fn new(host: Host, reaper: Reaper, setup: &'a Setup, init: u32) -> Bench<'a> {
        let state = setup.state_dir();
        let place = Place { state: &state, id: setup.id(), init, dialect: None };
        let container = Container::load(&host, &reaper, place).await.unwrap();
        let init = Process::read(init).unwrap();
        host.prepare(&reaper).unwrap();
        Bench { host, reaper, setup, container, init, descriptors: descriptors() }
    }

    /// The container's process with other arguments, as containerd makes it.
    pub(crate) fn process(&self, args: &[&str]) -> Value {
        let mut process = self.setup.config["process"].clone();
        process["args"] = json!(args);
        process
    }

    pub(crate) async fn start(
        &self,
        process: &Value,
        stdio: Stdio<'_>,
    ) -> Result<Started, Failure> {
        self.container.exec(&self.host, &self.reaper, process.to_string().as_bytes(), stdio).await
    }

    /// Runs an exec to its end.
    pub(crate) async fn exec(&self, process: &Value) -> Result<Done, Failure> {
        let (out, child_out) = pipe().unwrap();
        let (err, child_err) = pipe().unwrap();
        let stdio =
            Stdio { stdin: None, stdout: Some(child_out.as_fd()), stderr: Some(child_err.as_fd()) };
        let mut started = self.start(process, stdio).await?;
        drop((child_out, child_err));
        let ended = async {
            let (stdout, stderr) = tokio::join!(read(out.into()), read(err.into()));
            let code = started.exit.wait().await.status.code();
            Done { code, stdout, stderr }
        };
        Ok(tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap())
    }

    /// Starts a process that waits, without streams, and is its program by now.
    pub(crate) async fn waiting(&self, mut process: Value) -> (Started, Process) {
        process["args"] = json!(["sleep", "1000"]);
        let started = self.start(&process, Stdio::default()).await.unwrap();
        let pid = started.pid;
        let process = until("it is its program", || {
            Process::read(pid).filter(|process| process.name == "sleep")
        });
        (started, process.await)
    }

    /// What a process that succeeds prints.
    pub(crate) async fn output(&self, process: &Value) -> String {
        let done = self.exec(process).await.unwrap();
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{process}: {}", done.stdout);
        done.stdout
    }

    /// What a shell prints.
    pub(crate) async fn sh(&self, script: &str) -> String {
        self.output(&self.process(&["sh", "-c", script])).await
    }

    /// Why there is no process.
    pub(crate) async fn error(&self, process: &Value) -> String {
        match self.exec(process).await {
            Ok(done) => panic!("{process} was started: {done:?}"),
            Err(failure) => failure.to_string(),
        }
    }

    /// What runc's own exec of the same process prints.
    pub(crate) async fn output_of_runc(&self, process: &Value) -> String {
        let command = self.exec_of_runc(process);
        let output = self.reaper.capture(command, None, Limits::default()).await.unwrap();
        let text = String::from_utf8(output.output).unwrap();
        assert!(output.status.success(), "{text}");
        text
    }

    /// What containerd's shim would say of an exec of the same process, which runc refuses.
    pub(crate) async fn error_of_runc(&self, process: &Value) -> String {
        let command = self.exec_of_runc(process);
        let ended = self.reaper.complete(command, Limits::default()).await.unwrap();
        assert!(!ended.status.success());
        let log = fs::read_to_string(self.setup.dir().join("log")).unwrap();
        let (_, text) = log.trim_end().rsplit_once("level=error msg=\"").unwrap();
        format!("OCI runtime exec failed: {}", text.trim_end_matches('"'))
    }

    fn exec_of_runc(&self, process: &Value) -> Command {
        let path = self.setup.dir().join("process.json");
        fs::write(&path, process.to_string()).unwrap();
        self.setup.command(&["exec", "--process", path.to_str().unwrap(), self.setup.id()])
    }

    /// Execs from now on kill their helper at `stage`.
    pub(crate) fn kill_at(&self, stage: Stage) {
        self.host.set_failpoint(stage as u32);
    }

    /// Execs from now on stop their helper at `stage`.
    pub(crate) fn stop_at(&self, stage: Stage) {
        self.host.set_failpoint(stage as u32 | STOP);
    }

    pub(crate) fn go_through(&self) {
        self.host.set_failpoint(0);
    }

    /// Waits until a helper has stopped.
    pub(crate) async fn stopped(&self) -> Process {
        until("a helper stops", || {
            Process::children().into_iter().find(|child| child.field(3) == "T")
        })
        .await
    }

    /// Sends a signal to a process of ours that nobody has waited for.
    pub(crate) fn signal(&self, process: &Process, signal: i32) {
        wedge_sys::PidFd::open(process.pid).unwrap().send_signal(signal).unwrap();
    }

    /// Kills the init and waits until it is gone.
    pub(crate) async fn kill_init(&self) {
        self.signal(&self.init, 9);
        until("the init is gone", || Process::read(self.init.pid).is_none().then_some(())).await;
    }

    /// Everything in the container's cgroups but its init.
    pub(crate) fn others_in_cgroups(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = cgroups(self.setup)
            .iter()
            .filter_map(|path| fs::read_to_string(path.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .filter(|pid| *pid != self.init.pid)
            .collect();
        pids.dedup();
        pids
    }

    /// No process, no zombie, no descriptor, no expectation.
    pub(crate) async fn assert_nothing_left(&self) {
        let (init, helper) = (self.init.pid, self.host.helper_pid().unwrap());
        until("no child but the init and the one that stays, none expected", || {
            let alone = Process::children().iter().all(|child| [init, helper].contains(&child.pid));
            (alone && self.reaper.counts() == (1, 0, 0)).then_some(())
        })
        .await;
        assert_eq!(self.others_in_cgroups(), [0; 0]);
        assert_eq!(descriptors(), self.descriptors);
    }
}

/// Where the container's cgroups are, as the runtime has it in its state.
fn cgroups(setup: &Setup) -> Vec<PathBuf> {
    if let Ok(status) = fs::read(setup.state_dir().join("status")) {
        let status: Value = serde_json::from_slice(&status).unwrap();
        let path = status["cgroup-path"].as_str().unwrap();
        return vec![PathBuf::from(format!("/sys/fs/cgroup{path}"))];
    }
    let state = fs::read(setup.state_dir().join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    let paths = state["cgroup_paths"].as_object().unwrap();
    paths.values().map(|path| PathBuf::from(path.as_str().unwrap())).collect()
}

/// The directory of a container's cgroup that has the file `name`.
pub(crate) fn path_of(setup: &Setup, name: &str) -> PathBuf {
    let paths = cgroups(setup);
    let found = paths.iter().map(|path| path.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {name} in {paths:?}"))
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn read(stream: OwnedFd) -> String {
    let mut text = String::new();
    Receiver::from_owned_fd(stream).unwrap().read_to_string(&mut text).await.unwrap();
    text
}
