// SPDX-License-Identifier: Apache-2.0
//! Running a program with a limit, so that no test can hang on one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::pty::Winsize;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use crate::capture::Capture;
use crate::proc::Proc;
use crate::{Output, wait};

/// A program to run: its arguments, input and time limit.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    stdin: Vec<u8>,
    stdout: Option<Stdio>,
    terminal: bool,
    limit: Duration,
}

impl Cmd {
    /// Prepares `program`; it gets an empty standard input and half a minute.
    pub fn new(program: impl AsRef<OsStr>) -> Cmd {
        let command = Command::new(program);
        let limit = Duration::from_secs(30);
        Cmd { command, stdin: Vec::new(), stdout: None, terminal: false, limit }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Cmd {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Cmd {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Cmd {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Cmd {
        self.command.current_dir(dir);
        self
    }

    /// Puts it at the head of a new process group, as daemons do with shims.
    #[must_use]
    pub fn new_group(mut self) -> Cmd {
        self.command.process_group(0);
        self
    }

    /// Sets what [`Cmd::output`] writes to standard input before closing it.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Cmd {
        self.stdin = bytes.into();
        self
    }

    /// Sends standard output there instead of capturing it.
    #[must_use]
    pub fn stdout(mut self, sink: impl Into<Stdio>) -> Cmd {
        self.stdout = Some(sink.into());
        self
    }

    /// Gives the program a new terminal of 24 lines by 80 columns as its three streams; what is
    /// written to it is captured as standard output. It makes no CR LF of an LF: the terminal in
    /// the container did, and `ctr` leaves the setting alone.
    #[must_use]
    pub fn terminal(mut self) -> Cmd {
        self.terminal = true;
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Cmd {
        self.limit = limit;
        self
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// It cannot be started, or it is not done within the limit (it is killed then).
    pub fn output(mut self) -> Result<Output> {
        let input = std::mem::take(&mut self.stdin);
        let terminal = self.terminal;
        let mut running = self.spawn()?;
        if terminal {
            running.write(&input)?;
        } else {
            running.feed(input);
        }
        running.wait()
    }

    /// Runs the program to its end without looking at it again and again, which takes time: for
    /// measuring.
    ///
    /// # Errors
    /// It cannot be started, or it is not done within the limit (it is killed then).
    pub fn measure(mut self) -> Result<Output> {
        let line = format!("{:?}", self.command).replace('"', "");
        let stdout = self.stdout.take().unwrap_or_else(Stdio::piped);
        self.command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = self.command.spawn().with_context(|| format!("starting {line}"))?;
        let watchdog = watch(Pid::from_raw(i32::try_from(child.id())?), wait::scaled(self.limit));
        if let Some(mut stdin) = child.stdin.take() {
            // It may not read it.
            stdin.write_all(&self.stdin).ok();
        }
        let ended = child.wait_with_output()?;
        let took = begun.elapsed();
        drop(watchdog);
        let (stdout, stderr) = (ended.stdout, ended.stderr);
        Ok(Output { command: line, code: code(ended.status), stdout, stderr, took })
    }

    /// Starts the program; standard input stays open until [`Running::close_stdin`].
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(mut self) -> Result<Running> {
        let line = format!("{:?}", self.command).replace('"', "");
        let terminal = self.attach()?;
        let mut child = self.command.spawn().with_context(|| format!("starting {line}"))?;
        // The command holds the slave of the terminal: it must go, or its master never ends.
        drop(self.command);
        let stderr = child.stderr.take().map(Capture::of);
        let (stdin, stdout) = match terminal {
            Some(master) => {
                (Some(File::from(master.try_clone()?)), Some(Capture::of(File::from(master))))
            }
            None => (
                child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe))),
                child.stdout.take().map(Capture::of),
            ),
        };
        let (limit, begun) = (self.limit, Instant::now());
        Ok(Running { line, child, stdin, stdout, stderr, limit, begun })
    }

    /// Sets the three streams up; returns the master of the terminal if there is one.
    fn attach(&mut self) -> Result<Option<OwnedFd>> {
        if !self.terminal {
            let stdout = self.stdout.take().unwrap_or_else(Stdio::piped);
            self.command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped());
            return Ok(None);
        }
        // Clones are close-on-exec, the originals are not: nothing else may hold the terminal.
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(&size, None)?;
        let mut settings = tcgetattr(&pty.slave)?;
        settings.output_flags.remove(OutputFlags::ONLCR);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &settings)?;
        self.command.stdin(pty.slave.try_clone()?);
        self.command.stdout(pty.slave.try_clone()?).stderr(pty.slave.try_clone()?);
        Ok(Some(pty.master.try_clone()?))
    }
}

/// A program that runs in the background; killed when dropped.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdin: Option<File>,
    stdout: Option<Capture>,
    stderr: Option<Capture>,
    limit: Duration,
    begun: Instant,
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input, or types on its terminal.
    ///
    /// # Errors
    /// The input is closed or the write fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("standard input is closed")?;
        stdin.write_all(bytes).with_context(|| format!("writing to {}", self.line))
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What it has printed so far.
    pub fn stdout_so_far(&self) -> String {
        let bytes = self.stdout.as_ref().map(Capture::so_far).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How many bytes it has printed so far, to standard output and standard error.
    pub fn printed(&self) -> (usize, usize) {
        let len = |stream: &Option<Capture>| stream.as_ref().map_or(0, Capture::len);
        (len(&self.stdout), len(&self.stderr))
    }

    /// Waits until it has set its terminal to pass on every byte typed as it is.
    ///
    /// # Errors
    /// It has no terminal, or does not within [`wait::LIMIT`].
    pub fn wait_raw(&self) -> Result<()> {
        let terminal = self.stdin.as_ref().context("standard input is closed")?;
        wait::until(&format!("{} is in raw mode", self.line), || {
            let cooked = tcgetattr(terminal)?.local_flags.contains(LocalFlags::ICANON);
            ensure!(!cooked, "the terminal still edits lines");
            Ok(())
        })
    }

    /// Waits until its standard output contains `text`.
    ///
    /// # Errors
    /// It does not within [`wait::LIMIT`].
    pub fn wait_stdout(&self, text: &str) -> Result<()> {
        wait::until(&format!("{} prints {text:?}", self.line), || {
            let seen = self.stdout_so_far();
            ensure!(seen.contains(text), "{seen:?}");
            Ok(())
        })
    }

    /// Changes the size of its terminal, and tells it so.
    ///
    /// # Errors
    /// It has no terminal, or `stty` fails.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        // ioctl(2) would be unsafe. The kernel tells only who has it as controlling terminal.
        let terminal = Proc(self.pid()).path("fd/0");
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let stty = Cmd::new("stty").arg("-F").arg(terminal);
        let out = stty.args(["rows", &rows, "cols", &columns]).output()?;
        ensure!(out.code == 0, "{out}");
        self.signal(Signal::SIGWINCH)
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// kill(2) fails.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid())?), signal)
            .with_context(|| format!("sending {signal} to {}", self.line))
    }

    /// Waits for its end, within the limit counted from its start.
    ///
    /// # Errors
    /// It is not done in time (it is killed then), or somebody keeps its output open.
    pub fn wait(mut self) -> Result<Output> {
        let end = self.begun + wait::scaled(self.limit);
        let status = wait::until_end(end, "the command ends", || {
            self.child.try_wait()?.context("it still runs")
        })
        .map_err(|error| anyhow!("{error}\n$ {}\n{}", self.line, self.stdout_so_far()))?;
        let took = self.begun.elapsed();
        self.stdin = None;
        let command = self.line.clone();
        let stdout = rest_of(&self.stdout).with_context(|| format!("stdout of {command}"))?;
        let stderr = rest_of(&self.stderr).with_context(|| format!("stderr of {command}"))?;
        Ok(Output { command, code: code(status), stdout, stderr, took })
    }

    /// Writes all of `bytes` from a thread, then closes the input: the program may not read it.
    fn feed(&mut self, bytes: Vec<u8>) {
        if let Some(mut stdin) = self.stdin.take() {
            thread::spawn(move || stdin.write_all(&bytes));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Kills the process after the limit, unless what is returned is dropped before.
fn watch(pid: Pid, limit: Duration) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        if receiver.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            kill(pid, Signal::SIGKILL).ok();
        }
    });
    sender
}

/// The program is gone: only a descendant can keep its output open for long.
fn rest_of(stream: &Option<Capture>) -> Result<Vec<u8>> {
    let limit = Duration::from_secs(5);
    stream.as_ref().map_or(Ok(Vec::new()), |stream| stream.finish_within(limit))
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
