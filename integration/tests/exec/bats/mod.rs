// SPDX-License-Identifier: Apache-2.0
//! What runc's own tests of `exec` look at (tests/integration/*.bats of opencontainers/runc),
//! natively and by the OCI runtime. docs/testing.md lists which of them are here.

mod commands;
mod cpus;
mod privileges;
mod states;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wedge_integration::{Process, ShimUnderTest};

use crate::pair::{Outcome, Pair, Side, runc_is_1_1};

/// One row: what is run, and what has to come of it on either path.
#[derive(Debug)]
struct Check {
    name: &'static str,
    process: Process,
    want: Want,
    /// Since which version the OCI runtime does this; Debian 12 has 1.1.
    since: Option<&'static str>,
}

#[derive(Debug)]
enum Want {
    /// Its exit status and all of its standard output.
    Prints(u32, &'static str),
    /// Its exit status, and parts of its standard output or error.
    Says(u32, &'static [&'static str]),
    /// Its exit status, nothing on its standard output, and one line of standard error.
    SaysOneLine(u32),
    /// Start is refused with this, behind [`REFUSED`].
    Refused(&'static str),
}

const REFUSED: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";

/// A row.
fn check(name: &'static str, process: Process, want: Want) -> Check {
    Check { name, process, want, since: None }
}

impl Check {
    /// Only native execs can do it with the runc of Debian 12.
    fn since(self, version: &'static str) -> Check {
        Check { since: Some(version), ..self }
    }

    fn run(&self, side: &Side, pair: &Pair) -> Result<()> {
        let outcome = side.run(&pair.lab, &self.process)?;
        let met = match (&self.want, &outcome) {
            (Want::Prints(code, text), Outcome::Ended { status, stdout, .. }) => {
                code == status && text == stdout
            }
            (Want::Says(code, parts), Outcome::Ended { status, stdout, stderr }) => {
                let has = |part: &&str| stdout.contains(part) || stderr.contains(part);
                code == status && parts.iter().all(has)
            }
            (Want::SaysOneLine(code), Outcome::Ended { status, stdout, stderr }) => {
                let one = stderr.ends_with('\n') && stderr.lines().count() == 1;
                code == status && stdout.is_empty() && one
            }
            (Want::Refused(text), Outcome::Refused(seen)) => *seen == format!("{REFUSED}{text}"),
            (
                Want::Prints(..) | Want::Says(..) | Want::SaysOneLine(_) | Want::Refused(_),
                Outcome::Ended { .. } | Outcome::Refused(_),
            ) => false,
        };
        ensure!(met, "{}, {}: expected {:?}, got {outcome:?}", self.name, side.exec, self.want);
        Ok(())
    }
}

/// Runs the rows on both paths.
fn check_all(pair: &Pair, checks: &[Check]) -> Result<()> {
    let old = runc_is_1_1()?;
    for check in checks {
        check.run(&pair.native, pair)?;
        if check.since.is_none() || !old {
            check.run(&pair.runtime, pair)?;
        }
    }
    Ok(())
}

fn sh(script: &str) -> Process {
    Process::new(["sh", "-c", script])
}

fn user(process: Process, user: Value) -> Process {
    process.set("user", user)
}

fn as_1000(process: Process) -> Process {
    user(process, json!({ "uid": 1000, "gid": 1000 }))
}

fn skipped() -> Result<bool> {
    ShimUnderTest::skips_go("it has no execs of its own")
}
