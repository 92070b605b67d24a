// SPDX-License-Identifier: Apache-2.0
//! The command line of runc, as far as shims use it.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Flags that take no value.
const SWITCHES: [&str; 9] = [
    "all",
    "debug",
    "detach",
    "force",
    "leave-running",
    "no-new-keyring",
    "no-pivot",
    "no-subreaper",
    "systemd-cgroup",
];

/// A parsed command line; global and command flags share one table.
#[derive(Debug, Default)]
pub(crate) struct Invocation {
    pub(crate) command: String,
    flags: HashMap<String, String>,
    operands: Vec<String>,
}

impl Invocation {
    pub(crate) fn parse(args: &[String]) -> Invocation {
        let mut parsed = Invocation::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if let Some(flag) = arg.strip_prefix("--") {
                let (name, value) = match flag.split_once('=') {
                    Some((name, value)) => (name, value.to_owned()),
                    None if SWITCHES.contains(&flag) => (flag, String::new()),
                    None => (flag, args.next().cloned().unwrap_or_default()),
                };
                parsed.flags.insert(name.to_owned(), value);
            } else if parsed.command.is_empty() {
                parsed.command.clone_from(arg);
            } else {
                parsed.operands.push(arg.clone());
            }
        }
        parsed
    }

    pub(crate) fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.flags.contains_key(name)
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.flag(name).map(PathBuf::from)
    }

    /// The container.
    pub(crate) fn id(&self) -> Result<&str> {
        self.operand(0)
    }

    pub(crate) fn operand(&self, n: usize) -> Result<&str> {
        self.operands.get(n).map(String::as_str).context("missing operand")
    }
}
