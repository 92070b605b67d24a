// SPDX-License-Identifier: Apache-2.0
//! Control of the scriptable OCI runtime (src/bin/wedge-fake-runtime): the test decides how long a
//! command takes, when it returns, what fails. So a race is a script, not luck.
//!
//! No container is made. `create` starts the configured process held at a FIFO, as a child of the
//! runtime that becomes the shim's orphan, like runc's init; `start` lets it run; `exec` starts
//! another. Arguments name host programs; the path of [`crate::payload`] means that program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::wait;

/// The script, in the bundle: command → [`Step`]. Read anew by each call.
pub const SCRIPT: &str = "fake-runtime.json";
/// The calls so far, in the bundle: a line of JSON each.
pub const CALLS: &str = "fake-runtime.calls";
/// An environment variable of the container's or exec's process: its own [`Step`] for `create` or
/// `exec`, instead of the script's.
pub const VARIABLE: &str = "FAKE_RUNTIME";

/// How one runtime command behaves. The default is what runc does, quickly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// Before it does anything.
    pub before: Pause,
    /// Fails with this message in its log, having done nothing.
    pub fail: Option<String>,
    /// Fails with this message in its log, having done its work.
    pub fail_late: Option<String>,
    /// Exit code of a failure; 1 if absent.
    pub exit_code: Option<u8>,
    /// Lines appended to its log as they are.
    pub log: Vec<String>,
    /// Text printed on standard error.
    pub stderr: String,
    /// MiB printed on standard error, after the text.
    pub stderr_mib: usize,
    /// Leaves a process behind that holds standard error open for five seconds.
    pub keep_stderr_open: bool,
    /// `create`, `exec`: hands the new process to the shim before the command returns, by forking
    /// twice, so that its exit can come before the runtime's.
    pub orphan: bool,
    /// `create`, `start`, `exec`: returns after the new process (of `start`: the init) has exited.
    pub wait_for_exit: bool,
    /// `create`, `exec`: writes no pid file.
    pub no_pid_file: bool,
    /// `create`, `exec` with a terminal: makes one and never sends it.
    pub no_console: bool,
    /// `create`: the init exits with this code instead of waiting for `start`.
    pub init_exits: Option<u8>,
    /// After its work and before it returns.
    pub after: Pause,
    /// Dies of SIGKILL instead of returning.
    pub killed: bool,
}

impl Step {
    /// As JSON, for [`VARIABLE`].
    ///
    /// # Errors
    /// Never in practice.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Fails with `message`, having done nothing.
    pub fn failing(message: &str) -> Step {
        Step { fail: Some(message.to_owned()), ..Step::default() }
    }
}

/// A time or an event to wait for, at most a minute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pause {
    /// Milliseconds to sleep.
    pub sleep_ms: u64,
    /// A file to appear.
    pub wait_for: Option<PathBuf>,
}

/// A recorded call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// `create`, `start`, …
    pub command: String,
    /// The whole command line without the program.
    pub args: Vec<String>,
    /// The runtime's process.
    pub pid: u32,
}

/// The fake runtime of one bundle, as the test sees it.
#[derive(Debug, Clone)]
pub struct FakeRuntime {
    bundle: PathBuf,
}

/// A call held up; [`Gate::open`] or dropping it lets the call go on.
#[derive(Debug)]
pub struct Gate(PathBuf);

impl FakeRuntime {
    pub(crate) fn of(bundle: &Path) -> FakeRuntime {
        FakeRuntime { bundle: bundle.to_path_buf() }
    }

    /// Sets how `command` behaves from now on.
    ///
    /// # Errors
    /// The script cannot be written.
    pub fn script(&self, command: &str, step: Step) -> Result<()> {
        let mut script = read_script(&self.bundle)?;
        script.insert(command.to_owned(), step);
        // Renamed into place: a call may be reading it.
        let temporary = self.bundle.join("fake-runtime.new");
        fs::write(&temporary, serde_json::to_vec(&script)?)?;
        Ok(fs::rename(temporary, self.bundle.join(SCRIPT))?)
    }

    /// Holds `command` before it does anything, until the gate opens.
    ///
    /// # Errors
    /// The script cannot be written.
    pub fn hold_before(&self, command: &str) -> Result<Gate> {
        let gate = self.gate(command, "before");
        let before = Pause { wait_for: Some(gate.0.clone()), ..Pause::default() };
        self.script(command, Step { before, ..Step::default() })?;
        Ok(gate)
    }

    /// Holds `command` when its work is done and before it returns, until the gate opens.
    ///
    /// # Errors
    /// The script cannot be written.
    pub fn hold_after(&self, command: &str) -> Result<Gate> {
        let gate = self.gate(command, "after");
        let after = Pause { wait_for: Some(gate.0.clone()), ..Pause::default() };
        self.script(command, Step { after, ..Step::default() })?;
        Ok(gate)
    }

    /// A gate for a step of one's own: `wait_for: Some(gate.path())`.
    pub fn gate(&self, command: &str, name: &str) -> Gate {
        Gate(self.bundle.join(format!("gate-{command}-{name}")))
    }

    /// The calls so far, in order.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let text = fs::read_to_string(self.bundle.join(CALLS)).unwrap_or_default();
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The commands called so far, in order.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn commands(&self) -> Result<Vec<String>> {
        Ok(self.calls()?.into_iter().map(|call| call.command).collect())
    }

    /// Waits until `command` was called and returns the last call of it.
    ///
    /// # Errors
    /// It is not within [`wait::LIMIT`].
    pub fn wait_call(&self, command: &str) -> Result<Call> {
        wait::until(&format!("the runtime is called for {command}"), || {
            let call = self.calls()?.into_iter().rfind(|call| call.command == command);
            call.with_context(|| format!("{:?}", self.commands()))
        })
    }

    /// Waits until `command` was called and that runtime process has ended.
    ///
    /// # Errors
    /// It has not within [`wait::LIMIT`].
    pub fn wait_returned(&self, command: &str) -> Result<()> {
        let call = self.wait_call(command)?;
        wait::until(&format!("the runtime's {command} returns"), || {
            ensure!(!crate::proc::Proc(call.pid).is_alive(), "pid {} runs", call.pid);
            Ok(())
        })
    }
}

impl Gate {
    /// The file the call waits for.
    pub fn path(&self) -> PathBuf {
        self.0.clone()
    }

    /// Waits until a call is held here.
    ///
    /// # Errors
    /// None is within [`wait::LIMIT`].
    pub fn wait_reached(&self) -> Result<()> {
        let reached = reached(&self.0);
        wait::until("the runtime is at the gate", || Ok(fs::metadata(&reached).map(drop)?))
    }

    /// Lets the call go on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(&self) -> Result<()> {
        Ok(fs::write(&self.0, "")?)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The bundle may be gone already.
        self.open().ok();
    }
}

/// The file that tells of a call that waits for `gate`.
pub fn reached(gate: &Path) -> PathBuf {
    gate.with_extension("reached")
}

/// The script of a bundle; empty if there is none.
///
/// # Errors
/// It cannot be parsed.
pub fn read_script(bundle: &Path) -> Result<BTreeMap<String, Step>> {
    match fs::read(bundle.join(SCRIPT)) {
        Ok(json) => serde_json::from_slice(&json).with_context(|| format!("parsing {SCRIPT}")),
        Err(_) => Ok(BTreeMap::new()),
    }
}
