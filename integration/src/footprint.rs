// SPDX-License-Identifier: Apache-2.0
//! What a shim holds and has made, to be compared before and after something that must leave
//! nothing behind.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::leftovers::{self, Names};
use crate::proc::Proc;

/// Files of a bundle that come with a Create, whether or not it succeeds, or belong to the test;
/// by the beginnings of their names.
const USUAL: [&str; 9] = [
    "address",
    "config.json",
    "fake-runtime",
    "gate-",
    "log.json",
    "options.json",
    "rootfs",
    "runtime",
    "work",
];

/// Descriptors and children of a shim; mounts, cgroups, runtime state and processes of the test;
/// files of the bundle such as pid files. Each line with the number of times it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footprint(BTreeMap<String, usize>);

impl Footprint {
    /// Looks at everything. `root` is where the runtime keeps its state.
    pub(crate) fn take(shim: Proc, names: &Names, root: &Path, bundle: &Path) -> Result<Footprint> {
        let mut seen = Footprint::default();
        for target in shim.fds()?.0.values() {
            seen.add(format!("descriptor {}", plain(target)));
        }
        for child in shim.children() {
            let what = if child.is_alive() { "child" } else { "zombie" };
            seen.add(format!("{what} {}", child.0));
        }
        for line in leftovers::find(names) {
            // Without the arguments: an init that was just started is about to change them.
            let process = line.starts_with("process ");
            let end = line.match_indices(' ').nth(1).filter(|_| process).map(|(at, _)| at);
            seen.add(line.get(..end.unwrap_or(line.len())).unwrap_or_default().to_owned());
        }
        for name in listed(root) {
            seen.add(format!("runtime state {name}"));
        }
        let unusual =
            |name: &String| *name != "log" && !USUAL.iter().any(|usual| name.starts_with(usual));
        for name in listed(bundle).into_iter().filter(unusual) {
            seen.add(format!("file {name}"));
        }
        Ok(seen)
    }

    fn add(&mut self, line: String) {
        *self.0.entry(line).or_default() += 1;
    }

    fn count(&self, line: &str) -> usize {
        self.0.get(line).copied().unwrap_or_default()
    }

    /// What differs from `before`, a line each. Descriptors do not count for `go`, whose runtime
    /// opens some when it likes, and which leaks others.
    pub fn since(&self, before: &Footprint, go: bool) -> Vec<String> {
        let gone = before.0.keys().filter(|line| !self.0.contains_key(*line));
        let change = |line: &String| {
            let (then, now) = (before.count(line), self.count(line));
            let counts = !(go && line.starts_with("descriptor"));
            (counts && then != now).then(|| format!("{line}: {then} before, {now} now"))
        };
        self.0.keys().chain(gone).filter_map(change).collect()
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(line, count)| writeln!(f, "{count:4} {line}"))
    }
}

/// Pipes and sockets without their numbers.
fn plain(target: &str) -> &str {
    target.split_once(":[").map_or(target, |(kind, _)| kind)
}

fn listed(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
