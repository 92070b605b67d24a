// SPDX-License-Identifier: Apache-2.0
//! The `ctr` command line of containerd 1.6, bound to one daemon and one namespace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::scratch::TOKEN_VARIABLE;
use crate::{Cmd, Scratch};

/// Runs `ctr`.
#[derive(Debug, Clone)]
pub struct Ctr {
    address: PathBuf,
    token: String,
    namespace: String,
    fifo_dir: PathBuf,
}

/// A line of `ctr task ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// The container.
    pub id: String,
    /// Pid of its init, 0 when there is none.
    pub pid: u32,
    /// `CREATED`, `RUNNING`, `PAUSED`, `STOPPED`, `UNKNOWN`.
    pub status: String,
}

impl Ctr {
    pub(crate) fn new(scratch: &Scratch) -> Ctr {
        Ctr::in_namespace(scratch, scratch.namespace())
    }

    /// For the test's daemon, and a namespace that is not the test's own: `k8s.io`.
    pub fn in_namespace(scratch: &Scratch, namespace: &str) -> Ctr {
        let (token, namespace) = (scratch.namespace().to_owned(), namespace.to_owned());
        Ctr { token, address: scratch.address(), namespace, fifo_dir: scratch.dir().join("fifo") }
    }

    /// Any command: `ctr --address A --namespace N args…`.
    pub fn cmd<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        // ctr opens its ends of the FIFOs in the background, and gives up on what is not open when
        // the process has ended: on a busy machine it loses the output of a short one. Real-time
        // priority leaves it no time to be late. Its threads must take turns, though (--rr): with --fifo
        // Go's sweeper has been seen to spin for ever before the thread that it waited for.
        let priority = Cmd::new("chrt").args(["--rr", "1", "ctr"]);
        let global = priority.env(TOKEN_VARIABLE, &self.token).args(self.global_args());
        args.into_iter().fold(global, |cmd, arg| cmd.arg(arg.as_ref()))
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn global_args(&self) -> [OsString; 4] {
        let address = self.address.clone().into_os_string();
        ["--address".into(), address, "--namespace".into(), (&self.namespace).into()]
    }

    /// The tasks of the namespace.
    ///
    /// # Errors
    /// `ctr task ls` fails.
    pub fn tasks(&self) -> Result<Vec<TaskRow>> {
        let out = self.cmd(["task", "ls"]).output()?;
        anyhow::ensure!(out.code == 0, "{out}");
        out.text().lines().skip(1).map(task_row).collect()
    }

    /// The containers of the namespace, with or without a task.
    ///
    /// # Errors
    /// `ctr container ls` fails.
    pub fn containers(&self) -> Result<Vec<String>> {
        let out = self.cmd(["container", "ls", "--quiet"]).output()?;
        anyhow::ensure!(out.code == 0, "{out}");
        Ok(out.text().lines().map(str::to_owned).collect())
    }

    /// Where `ctr` shall make the FIFOs of containers and execs.
    pub fn fifo_dir(&self) -> &Path {
        &self.fifo_dir
    }
}

fn task_row(line: &str) -> Result<TaskRow> {
    let mut words = line.split_whitespace();
    let mut word = || words.next().with_context(|| format!("task ls: {line:?}"));
    Ok(TaskRow { id: word()?.to_owned(), pid: word()?.parse()?, status: word()?.to_owned() })
}
