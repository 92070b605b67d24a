// SPDX-License-Identifier: Apache-2.0
//! The differential dump: one process specification, run in two containers of one specification,
//! natively and by the OCI runtime. What the two processes say of themselves is compared line by
//! line. What differs is in [`explained`] or is a bug.

mod containers;
mod explained;
mod processes;
mod programs;

pub(crate) use containers::DEFAULT_PROFILE;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wedge_integration::{Process, ShimUnderTest};

use crate::dump;
use crate::pair::{Pair, runc_is_1_1};

/// A name and what is run.
type Case = (&'static str, Process);

/// An exec that dumps itself.
fn dumping() -> Process {
    Process::new(dump::args(""))
}

/// The same as another user.
fn as_user(process: Process) -> Process {
    process.set("user", json!({ "uid": 1000, "gid": 1000 }))
}

/// A process without the members that are null here.
fn without(process: Process, member: &str) -> Process {
    process.set(member, Value::Null)
}

/// Runs every case in both containers of the pair: what differs is explained, and what is explained
/// differs.
fn compare(pair: &Pair, cases: Vec<Case>) -> Result<()> {
    let (old, mut complaints) = (runc_is_1_1()?, Vec::new());
    for (name, process) in cases {
        let [native, runtime] = pair.sides().map(|side| {
            let outcome = side.run(&pair.lab, &process)?;
            dump::lines(side, &outcome)
        });
        let (native, runtime) = (native?, runtime?);
        complaints.extend(explained::complaints(name, &differing(&native, &runtime), old));
    }
    ensure!(complaints.is_empty(), "differences:\n{}", complaints.join("\n"));
    Ok(())
}

/// Lines that are not in both; of one that did not start and one that did, the first of each.
fn differing<'a>(native: &'a [String], runtime: &'a [String]) -> Vec<(&'static str, &'a str)> {
    let first = |lines: &'a [String]| lines.first().map_or("", String::as_str);
    let refused = |lines| first(lines).starts_with("refused: ");
    if refused(native) != refused(runtime) {
        return vec![("native", first(native)), ("runtime", first(runtime))];
    }
    let only = |who, lines: &'a [String], others: &[String]| {
        let mut others = others.to_vec();
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines.retain(|line| match others.iter().position(|other| other == line) {
            Some(at) => {
                others.swap_remove(at);
                false
            }
            None => true,
        });
        lines.into_iter().map(move |line| (who, line)).collect::<Vec<_>>()
    };
    [only("native", native, runtime), only("runtime", runtime, native)].concat()
}

fn skipped() -> Result<bool> {
    ShimUnderTest::skips_go("it has no execs of its own")
}
