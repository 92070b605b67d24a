// SPDX-License-Identifier: Apache-2.0
//! What the runtime remembers of a container: `<root>/<id>/state.json` and `execs`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use wedge_integration::proc::Proc;

use crate::args::Invocation;

/// A process and its start time, so that a reused pid is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    start_time: u64,
}

impl Identity {
    /// Of a process that exists or is a zombie; one that is gone already gets no start time.
    pub(crate) fn of(pid: u32) -> Identity {
        let start_time = Proc(pid).stat().map(|stat| stat.start_time).unwrap_or_default();
        Identity { pid, start_time }
    }

    pub(crate) fn is_alive(self) -> bool {
        let process = Proc(self.pid);
        process.is_alive() && process.stat().is_ok_and(|stat| stat.start_time == self.start_time)
    }

    pub(crate) fn wait_exit(self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while self.is_alive() {
            ensure!(Instant::now() < end, "process {} does not exit", self.pid);
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

/// A container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) init: Identity,
    status: Status,
}

/// The directory of a container's state.
pub(crate) fn dir(invocation: &Invocation) -> Result<PathBuf> {
    let root = invocation.path("root").unwrap_or_else(|| PathBuf::from("/run/fake-runtime"));
    Ok(root.join(invocation.id()?))
}

impl State {
    pub(crate) fn new(id: &str, bundle: &Path, init: Identity) -> State {
        State { id: id.to_owned(), bundle: bundle.to_path_buf(), init, status: Status::Created }
    }

    pub(crate) fn load(invocation: &Invocation) -> Result<State> {
        let json = fs::read(dir(invocation)?.join("state.json"));
        serde_json::from_slice(&json.ok().context("container does not exist")?).context("state")
    }

    pub(crate) fn save(&self, invocation: &Invocation) -> Result<()> {
        let dir = dir(invocation)?;
        let temporary = dir.join(format!("state.{}", std::process::id()));
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        Ok(fs::rename(temporary, dir.join("state.json"))?)
    }

    /// The recorded status, unless the init is gone. Paused comes before stopped, as in runc.
    pub(crate) fn status(&self) -> Status {
        let recorded = self.status == Status::Paused || self.init.is_alive();
        if recorded { self.status } else { Status::Stopped }
    }

    pub(crate) fn set(&mut self, invocation: &Invocation, status: Status) -> Result<()> {
        self.status = status;
        self.save(invocation)
    }

    pub(crate) fn require(&self, status: Status) -> Result<()> {
        let seen = self.status();
        ensure!(seen == status, "container is {seen:?}, not {status:?}");
        Ok(())
    }
}

/// Remembers an exec'd process.
pub(crate) fn add_exec(invocation: &Invocation, process: Identity) -> Result<()> {
    let path = dir(invocation)?.join("execs");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(format!("{}\n", serde_json::to_string(&process)?).as_bytes())?)
}

/// The exec'd processes that live.
pub(crate) fn execs(invocation: &Invocation) -> Result<Vec<Identity>> {
    let text = fs::read_to_string(dir(invocation)?.join("execs")).unwrap_or_default();
    let all: Vec<Identity> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("execs")?;
    Ok(all.into_iter().filter(|process| process.is_alive()).collect())
}
