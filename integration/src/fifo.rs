// SPDX-License-Identifier: Apache-2.0
//! The client's ends of a process's streams: named FIFOs, as containerd's `cio` makes them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::{Capture, wait};

/// The streams of a Create or Exec request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stdio {
    /// Path or URI; empty for none.
    pub stdin: String,
    /// Path or URI; empty for none.
    pub stdout: String,
    /// Path or URI; empty for none.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

impl Stdio {
    /// No streams: /dev/null.
    pub fn null() -> Stdio {
        Stdio::default()
    }
}

/// Makes a FIFO, mode 0700.
///
/// # Errors
/// mkfifo(3) fails.
pub fn make(path: &Path) -> Result<()> {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).with_context(|| format!("mkfifo {}", path.display()))
}

/// Opens a FIFO for writing once somebody reads it.
///
/// # Errors
/// Nobody does within [`wait::LIMIT`].
pub fn writer(path: &Path) -> Result<File> {
    let nonblock = OFlag::O_NONBLOCK.bits();
    wait::until(&format!("{} has a reader", path.display()), || {
        Ok(OpenOptions::new().write(true).custom_flags(nonblock).open(path)?)
    })?;
    // Only the open had to be non-blocking.
    Ok(OpenOptions::new().write(true).open(path)?)
}

/// The FIFOs of one process, with readers on its output from the beginning.
#[derive(Debug)]
pub struct Fifos {
    stdio: Stdio,
    stdin: Option<File>,
    /// The reader of standard output.
    pub stdout: Capture,
    /// The reader of standard error; of a terminal there is nothing to read.
    pub stderr: Capture,
}

impl Fifos {
    /// Makes `<name>-stdin`, `-stdout` and `-stderr` in `dir`.
    ///
    /// # Errors
    /// mkfifo(3) fails.
    pub fn new(dir: &Path, name: &str) -> Result<Fifos> {
        Fifos::with(dir, name, false)
    }

    /// Makes the two FIFOs of a process on a terminal.
    ///
    /// # Errors
    /// mkfifo(3) fails.
    pub fn terminal(dir: &Path, name: &str) -> Result<Fifos> {
        Fifos::with(dir, name, true)
    }

    fn with(dir: &Path, name: &str, terminal: bool) -> Result<Fifos> {
        let path = |stream: &str| dir.join(format!("{name}-{stream}"));
        let (stdin, stdout, stderr) = (path("stdin"), path("stdout"), path("stderr"));
        for fifo in [&stdin, &stdout, &stderr] {
            make(fifo)?;
        }
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let stdio = Stdio {
            stdin: text(&stdin),
            stdout: text(&stdout),
            stderr: if terminal { String::new() } else { text(&stderr) },
            terminal,
        };
        let (stdout, stderr) = (Capture::open(&stdout), Capture::open(&stderr));
        Ok(Fifos { stdio, stdin: None, stdout, stderr })
    }

    /// The paths for the request.
    pub fn stdio(&self) -> &Stdio {
        &self.stdio
    }

    /// Writes to standard input, or types on the terminal; opens it first if need be.
    ///
    /// # Errors
    /// The shim does not read, or the write fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.stdin.is_none() {
            self.stdin = Some(writer(Path::new(&self.stdio.stdin))?);
        }
        let stdin = self.stdin.as_mut().context("just opened")?;
        stdin.write_all(bytes).context("writing to the stdin FIFO")
    }

    /// Closes the client's end of standard input. The shim holds one too, until CloseIO.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }
}
