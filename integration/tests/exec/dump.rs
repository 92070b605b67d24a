// SPDX-License-Identifier: Apache-2.0
//! Everything a process can tell about itself, as lines that can be compared.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;

use crate::pair::{Outcome, Side};

/// Prints `# section` and its lines. What the shell can read it reads itself, so that it is the
/// process the shim made which is looked at.
const SCRIPT: &str = include_str!("dump.sh");

/// The arguments of a process that dumps itself, after `before` was done by the shell.
pub(crate) fn args(before: &str) -> [String; 3] {
    ["/bin/sh".to_owned(), "-c".to_owned(), format!("{before}\n{SCRIPT}")]
}

/// What an exec said, by section and name. Ids of processes, inodes and keys are replaced by what
/// they stand for.
pub(crate) fn lines(side: &Side, outcome: &Outcome) -> Result<Vec<String>> {
    let (status, stdout, stderr) = match outcome {
        Outcome::Refused(text) => return Ok(vec![format!("refused: {text}")]),
        Outcome::Ended { status, stdout, stderr } => (status, stdout, stderr),
    };
    let names = Names::of(side)?;
    let mut lines = vec![format!("status: {status}")];
    let mut section = String::new();
    for line in stdout.lines() {
        let line = line.trim_end_matches('\r');
        if let Some(name) = line.strip_prefix("# ") {
            section = name.to_owned();
            lines.push(format!("{section}:"));
            continue;
        }
        let line = names.line(&section, line).map(|line| format!("{section}: {line}"));
        // A key that is not used any more is there until the kernel has collected it.
        lines.extend(line.filter(|line| section != "keys" || !lines.contains(line)));
    }
    lines.extend(stderr.lines().map(|line| format!("stderr: {}", names.plain(line))));
    Ok(lines)
}

/// What differs between two containers of one specification.
struct Names {
    id: String,
    namespaces: BTreeMap<String, &'static str>,
}

impl Names {
    fn of(side: &Side) -> Result<Names> {
        let id = side.id().to_owned();
        let mut namespaces = BTreeMap::new();
        // The container's last: what it shares with the host is both.
        for (who, dir) in [
            ("the host's", "/proc/self/ns".to_owned()),
            ("its init's", side.init.path("ns").to_string_lossy().into_owned()),
        ] {
            for entry in fs::read_dir(dir)? {
                let target = fs::read_link(entry?.path())?;
                namespaces.insert(target.to_string_lossy().into_owned(), who);
            }
        }
        Ok(Names { id, namespaces })
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&self.id, "ID")
    }

    /// None for what cannot be compared.
    fn line(&self, section: &str, line: &str) -> Option<String> {
        let line = self.plain(line);
        match section {
            "status" => Names::status(&line),
            "stat" => Some(Names::stat(&line)),
            "links" => Some(self.link(&line)),
            "descriptors" | "tty" => Some(without_numbers(&line)),
            // Serial, flags, uses, expiry; then permissions, owner, type, description.
            "keys" => {
                let fields: Vec<&str> = line.split_whitespace().skip(4).collect();
                line.contains("_ses.ID").then(|| fields.join(" "))
            }
            _ => Some(line),
        }
    }

    fn status(line: &str) -> Option<String> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        match name {
            // Ids, counters, and what memory the shell happened to need.
            "Pid" | "Tgid" | "NStgid" | "NSpid" | "NSpgid" | "NSsid" => {
                Some(format!("{name} {} levels", value.split_whitespace().count()))
            }
            // The shim, or runc until that has ended.
            "PPid" => Some(format!("{name} {}", outside(value))),
            "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches" => None,
            _ if name.starts_with("Vm") || name.starts_with("Rss") => None,
            // Pending signals of the user, of as many as there may be.
            "SigQ" => Some(format!("{name} of {}", value.split('/').nth(1).unwrap_or_default())),
            _ => Some(format!("{name} {value}")),
        }
    }

    /// proc_pid_stat(5): what a session and a scheduler know of it.
    fn stat(line: &str) -> String {
        let (start, rest) = line.rsplit_once(')').unwrap_or(("", line));
        let pid = start.split(' ').next().unwrap_or_default();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Field 3 is the first one here.
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
        let own = |number| if field(number) == pid { "itself" } else { field(number) };
        format!(
            "parent {}, group {}, session {}, tty {}, foreground {}, priority {} {}, threads {}, \
             exit signal {}, rt {} {}",
            outside(field(4)),
            own(5),
            own(6),
            field(7),
            own(8),
            field(18),
            field(19),
            field(20),
            field(38),
            field(40),
            field(41)
        )
    }

    fn link(&self, line: &str) -> String {
        match line.rsplit_once(' ') {
            Some((start, target)) if line.starts_with("ns ") => {
                let known = self.namespaces.get(target);
                format!("{start} {}", known.copied().unwrap_or("another's"))
            }
            Some((start, target)) if target.starts_with("/proc/") => {
                let known = target.trim_end_matches(|char: char| char.is_ascii_digit());
                format!("{start} {known}")
            }
            _ => line.to_owned(),
        }
    }
}

/// Whether a parent is one of the process's pid namespace.
fn outside(parent: &str) -> &str {
    if parent == "0" { "not seen" } else { "seen" }
}

/// `pipe:[123]` without the inode.
fn without_numbers(line: &str) -> String {
    match (line.find('['), line.find(']')) {
        (Some(from), Some(to)) if from < to => {
            let (start, end) = line.split_at(from);
            format!("{start}[…{}", end.get(to - from..).unwrap_or_default())
        }
        _ => line.to_owned(),
    }
}
