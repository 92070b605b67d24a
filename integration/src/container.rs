// SPDX-License-Identifier: Apache-2.0
//! One container of an [`Env`]: started with [`Launch`], driven with `ctr`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::proc::Proc;
use crate::{Cmd, Ctr, Env, Output, Running, Spec, TaskRow, wait};

/// A container to be: `ctr run` with its flags.
#[derive(Debug)]
pub struct Launch<'e> {
    env: &'e Env,
    id: String,
    flags: Vec<OsString>,
    spec: Option<PathBuf>,
    stdin: Vec<u8>,
    terminal: bool,
}

impl<'e> Launch<'e> {
    pub(crate) fn new(env: &'e Env, id: String) -> Launch<'e> {
        let runtime = format!("--runtime={}", env.runtime());
        let flags = vec![OsString::from(runtime)];
        Launch { env, id, flags, spec: None, stdin: Vec::new(), terminal: false }
    }

    /// Adds flags of `ctr run`.
    #[must_use]
    pub fn flags<S: Into<OsString>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// Another runtime name or shim path than [`Env::runtime`].
    #[must_use]
    pub fn runtime(self, name: &str) -> Self {
        self.flags([format!("--runtime={name}")])
    }

    /// Limits the memory, in bytes.
    #[must_use]
    pub fn memory_limit(self, bytes: u64) -> Self {
        self.flags([format!("--memory-limit={bytes}")])
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(self, name: &str, value: &str) -> Self {
        self.flags([format!("--annotation={name}={value}")])
    }

    /// Puts the container into the pod of `sandbox`, as CRI does.
    #[must_use]
    pub fn pod(self, sandbox: &str) -> Self {
        self.annotation("io.kubernetes.cri.sandbox-id", sandbox)
    }

    /// Uses a configuration of our own instead of the one `ctr` makes. Root and cgroup are set
    /// here; the arguments given to `run`, `start` and `spawn` are ignored then.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn config(mut self, spec: &Spec) -> Result<Self> {
        let cgroup = format!("/{}/{}", self.env.namespace(), self.id);
        let spec = spec.clone().root(&self.env.rootfs()).cgroup(&cgroup);
        let path = self.env.dir().join(format!("{}.json", self.id));
        fs::write(&path, spec.to_json())?;
        self.spec = Some(path);
        Ok(self)
    }

    /// What [`Launch::run`] writes to standard input. `ctr run` 1.6 does not tell the shim when its
    /// own input ends: the program must stop reading by itself (`ctr task exec` does tell).
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs on a terminal (`--tty`).
    #[must_use]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self.flags(["--tty"])
    }

    /// Runs to the end and removes the container: `ctr run --rm`.
    ///
    /// # Errors
    /// `ctr` cannot be run or takes too long. Its exit code, which is the container's, is in the
    /// output.
    pub fn run<S: AsRef<str>>(self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.cmd(&["--rm"], args).output()
    }

    /// Runs a shell script that prints `stdout` and `stderr` bytes, and lets its init end only
    /// when they have come: `ctr run` 1.6 closes its FIFOs as soon as the init has ended, and may
    /// lose what it has not read by then (`ctr task exec` does not).
    ///
    /// # Errors
    /// `ctr` cannot be run, or less is printed.
    pub fn run_read(self, script: &str, (stdout, stderr): (usize, usize)) -> Result<Output> {
        let script = format!("{script}; code=$?; read go; exit $code");
        let limit = Duration::from_secs(90);
        let mut running = self.cmd(&["--rm"], ["sh", "-c", &script]).limit(limit).spawn()?;
        wait::until_for(limit, "everything is printed", || {
            let printed = running.printed();
            ensure!(printed.0 >= stdout && printed.1 >= stderr, "{printed:?}");
            Ok(())
        })?;
        running.write(b"\n")?;
        running.wait()
    }

    /// Starts it and comes back: `ctr run --detach`.
    ///
    /// # Errors
    /// `ctr` fails.
    pub fn start<S: AsRef<str>>(self, args: impl IntoIterator<Item = S>) -> Result<Container> {
        let out = self.cmd(&["--detach"], args).output()?;
        ensure!(out.code == 0, "{out}");
        Ok(self.container())
    }

    /// Starts it attached, with `ctr run` in the background, and waits until it runs.
    ///
    /// # Errors
    /// `ctr` cannot be run, or no running task is seen.
    pub fn spawn<S: AsRef<str>>(
        self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<(Container, Running)> {
        let running = self.cmd(&[], args).spawn()?;
        let container = self.container();
        container.wait_status("RUNNING")?;
        Ok((container, running))
    }

    /// The whole command line, for a test that wants something else of it.
    pub fn cmd<S: AsRef<str>>(&self, more: &[&str], args: impl IntoIterator<Item = S>) -> Cmd {
        let cmd = self.env.ctr().cmd(["run"]).args(&self.flags).args(more);
        let cmd = cmd.arg("--fifo-dir").arg(self.env.ctr().fifo_dir()).stdin(self.stdin.clone());
        let cmd = if self.terminal { cmd.terminal() } else { cmd };
        match &self.spec {
            Some(path) => cmd.arg("--config").arg(path).arg(&self.id),
            None => cmd
                .args(["--rootfs", "--env", "PATH=/bin"])
                .arg(self.env.rootfs())
                .arg(&self.id)
                .args(args.into_iter().map(|arg| arg.as_ref().to_owned())),
        }
    }

    /// The id the container has or will have.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn container(&self) -> Container {
        let state = self.env.dir().join("state/io.containerd.runtime.v2.task");
        let bundle = state.join(self.env.namespace()).join(&self.id);
        Container {
            ctr: self.env.ctr().clone(),
            namespace: self.env.namespace().to_owned(),
            id: self.id.clone(),
            bundle,
            execs: AtomicU32::new(0),
        }
    }
}

/// A container that was started. It has no destructor: [`Container::remove`] it, or the check in
/// [`Env::finish`] fails; a failed test is cleaned up by the [`Env`], after it was looked at.
#[derive(Debug)]
pub struct Container {
    ctr: Ctr,
    namespace: String,
    id: String,
    bundle: PathBuf,
    execs: AtomicU32,
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its bundle directory.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Its line in `ctr task ls`.
    ///
    /// # Errors
    /// It has no task.
    pub fn task(&self) -> Result<TaskRow> {
        let tasks = self.ctr.tasks()?;
        tasks.into_iter().find(|task| task.id == self.id).context("no such task")
    }

    /// Its init process.
    ///
    /// # Errors
    /// It has no task.
    pub fn init(&self) -> Result<Proc> {
        Ok(Proc(self.task()?.pid))
    }

    /// Its shim, when the shim was started for this container (not for another of its pod).
    ///
    /// # Errors
    /// There is none.
    pub fn shim(&self) -> Result<Proc> {
        Proc::shim(&self.namespace, &self.id)
    }

    /// Waits until `ctr task ls` says `status`.
    ///
    /// # Errors
    /// It does not within [`wait::LIMIT`].
    pub fn wait_status(&self, status: &str) -> Result<()> {
        wait::until(&format!("task {} is {status}", self.id), || {
            let task = self.task()?;
            ensure!(task.status == status, "{task:?}");
            Ok(())
        })
    }

    /// Waits until the task has stopped.
    ///
    /// # Errors
    /// It has not within [`wait::LIMIT`].
    pub fn wait_stopped(&self) -> Result<()> {
        self.wait_status("STOPPED")
    }

    /// Runs a process in it to its end, with an exec id of its own.
    ///
    /// # Errors
    /// `ctr` cannot be run or takes too long. Its exit code, which is the process's, is in the
    /// output.
    pub fn exec<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.exec_cmd(&[], args).output()
    }

    /// `ctr task exec` with more flags, to be given input or run in the background. The exec ids
    /// are `exec1`, `exec2`, … in the order of calls.
    pub fn exec_cmd<S: AsRef<str>>(
        &self,
        flags: &[&str],
        args: impl IntoIterator<Item = S>,
    ) -> Cmd {
        let number = self.execs.fetch_add(1, Ordering::Relaxed) + 1;
        let cmd = self.ctr.cmd(["task", "exec"]).arg(format!("--exec-id=exec{number}"));
        let cmd = cmd.arg("--fifo-dir").arg(self.ctr.fifo_dir()).args(flags).arg(&self.id);
        args.into_iter().fold(cmd, |cmd, arg| cmd.arg(arg.as_ref()))
    }

    /// Sends a signal by name or number to its init.
    ///
    /// # Errors
    /// `ctr` cannot be run.
    pub fn kill(&self, signal: &str) -> Result<Output> {
        self.verb(&["kill", "--signal", signal])
    }

    /// Sends a signal to all its processes.
    ///
    /// # Errors
    /// `ctr` cannot be run.
    pub fn kill_all(&self, signal: &str) -> Result<Output> {
        self.verb(&["kill", "--all", "--signal", signal])
    }

    /// Sends a signal to an exec'd process.
    ///
    /// # Errors
    /// `ctr` cannot be run.
    pub fn kill_exec(&self, exec_id: &str, signal: &str) -> Result<Output> {
        self.verb(&["kill", "--exec-id", exec_id, "--signal", signal])
    }

    /// Freezes it.
    ///
    /// # Errors
    /// `ctr` cannot be run.
    pub fn pause(&self) -> Result<Output> {
        self.verb(&["pause"])
    }

    /// Thaws it.
    ///
    /// # Errors
    /// `ctr` cannot be run.
    pub fn resume(&self) -> Result<Output> {
        self.verb(&["resume"])
    }

    /// The pids of its processes, as the shim reports them.
    ///
    /// # Errors
    /// `ctr` fails.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let out = self.verb(&["ps"])?;
        ensure!(out.code == 0, "{out}");
        let pid = |line: &str| Ok(line.split_whitespace().next().context("empty line")?.parse()?);
        out.text().lines().skip(1).map(pid).collect()
    }

    /// Its metrics.
    ///
    /// # Errors
    /// `ctr` fails.
    pub fn metrics(&self) -> Result<Value> {
        let out = self.verb(&["metrics", "--format", "json"])?;
        ensure!(out.code == 0, "{out}");
        Ok(serde_json::from_str(&out.text())?)
    }

    /// Deletes the stopped task. `ctr` exits with 0 then and names another exit code of the init
    /// on standard error.
    ///
    /// # Errors
    /// `ctr` cannot be run.
    pub fn delete_task(&self) -> Result<Output> {
        self.verb(&["delete"])
    }

    /// Deletes the task and the container; returns the exit code of the init.
    ///
    /// # Errors
    /// The task does not stop, or deleting fails.
    pub fn delete(&self) -> Result<i32> {
        self.wait_stopped()?;
        let out = self.delete_task()?;
        ensure!(out.code == 0, "{out}");
        let container = self.ctr.cmd(["container", "delete", &self.id]).output()?;
        ensure!(container.code == 0, "{container}");
        let text = out.error_text();
        let code = text.split_once("non-zero exit code ").map_or("0", |(_, rest)| rest);
        let code = code.trim_end().trim_end_matches('"');
        code.parse().with_context(|| format!("no exit code: {out}"))
    }

    /// Kills the init if it still runs, then [`Container::delete`]s.
    ///
    /// # Errors
    /// Those of [`Container::delete`].
    pub fn remove(&self) -> Result<i32> {
        if self.task()?.status != "STOPPED" {
            self.kill("KILL")?;
        }
        self.delete()
    }

    /// `ctr task <verb> [flags…] <id>`.
    fn verb(&self, args: &[&str]) -> Result<Output> {
        self.ctr.cmd(["task"]).args(args).arg(&self.id).output()
    }
}
