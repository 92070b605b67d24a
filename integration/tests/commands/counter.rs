// SPDX-License-Identifier: Apache-2.0
//! A runtime that counts what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// The commands that count.
const COMMANDS: [&str; 9] =
    ["create", "start", "kill", "delete", "pause", "resume", "ps", "exec", "update"];

/// Takes the place of a runtime, and writes down what it was told.
pub(crate) struct Counter {
    path: PathBuf,
}

impl Counter {
    /// The runtime, called `name` in `dir`.
    pub(crate) fn of(dir: &Path, name: &str, runtime: &str) -> Result<Counter> {
        let path = dir.join(name);
        let script = format!("#!/bin/sh\necho \"$*\" >>\"$0.calls\"\nexec {runtime} \"$@\"\n");
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Counter { path })
    }

    /// Its path, as the runtime option has it.
    pub(crate) fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// The commands since the last call of this function.
    pub(crate) fn take(&self) -> Result<Vec<String>> {
        let calls = PathBuf::from(format!("{}.calls", self.path()));
        let Ok(text) = fs::read_to_string(&calls) else { return Ok(Vec::new()) };
        fs::remove_file(&calls)?;
        let command = |line: &str| {
            let command = line.split_whitespace().find(|word| COMMANDS.contains(word));
            command.map(str::to_owned)
        };
        Ok(text.lines().filter_map(command).collect())
    }
}
