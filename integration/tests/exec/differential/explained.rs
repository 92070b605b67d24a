// SPDX-License-Identifier: Apache-2.0
//! Where a native exec differs from that of Debian 12's runc, 1.1.5 built with Go 1.19: in what
//! later versions of it have changed, and nowhere else. docs/exec.md has this table in words.

/// A difference and its reason.
struct Explained {
    /// The cases it may be seen in.
    cases: &'static [&'static str],
    /// What one of the lines of the native process has that the runtime's does not.
    native: &'static [&'static str],
    /// The other way round.
    runtime: &'static [&'static str],
    /// It is seen each time, on any machine.
    certain: bool,
    /// Why, and since which version of runc there is none.
    why: &'static str,
}

const TABLE: &[Explained] = &[
    Explained {
        cases: &["directory"],
        native: &["exec: \"/tmp\": is a directory"],
        runtime: &["exec: \"/tmp\": permission denied"],
        certain: true,
        why: "LookPath of Go 1.20",
    },
    Explained {
        cases: &["interpreter missing", "no program", "a long argument"],
        native: &["status: 255"],
        runtime: &["status: 1"],
        certain: true,
        why: "runc 1.2: what fails in execve itself exits with 255",
    },
    Explained {
        cases: &["limit above", "limit raised", "soft above hard"],
        native: &["error setting rlimits for ready process: error setting rlimit type 7: "],
        runtime: &["error setting rlimits for process: error setting rlimit type 7: "],
        // Who has CAP_SYS_RESOURCE may.
        certain: false,
        why: "runc 1.3 sets limits later, and says so",
    },
    Explained {
        cases: &["limits below", "one limit twice"],
        native: &["Max open files "],
        runtime: &["Max open files            128  ", "Max open files            90  "],
        certain: false,
        why: "Go 1.19 raises the soft limit of files as it starts, at any time (#4195, runc 1.2)",
    },
    Explained {
        cases: &["effective but not permitted"],
        native: &["unable to apply caps: can't apply capabilities: operation not permitted"],
        runtime: &["unable to apply caps: operation not permitted"],
        certain: true,
        why: "the text of runc 1.3",
    },
    Explained {
        cases: &["environment without =", "environment without name", "environment with NUL"],
        native: &[": invalid environment variable"],
        runtime: &[": invalid environment variable: \"A\"", ": environment variable "],
        certain: true,
        why: "the texts of runc 1.3",
    },
    Explained {
        cases: &["group beyond 31 bits"],
        native: &["status: 7"],
        runtime: &["unable to setup user: uids and gids must be in range 0-2147483647"],
        certain: true,
        why: "runc 1.3 takes ids as they are (#3999)",
    },
    Explained {
        cases: &["unmapped user", "unmapped group"],
        native: &["unable to setup user: "],
        runtime: &["unable to setup user: "],
        certain: true,
        why: "the texts of runc 1.3 (#3999)",
    },
    Explained {
        cases: &["passwd a directory"],
        native: &["status: 0"],
        runtime: &["unable to find user 0: read /etc/passwd: is a directory"],
        certain: true,
        why: "runc 1.3 looks for a home only, and not finding one is no error (#3999)",
    },
    Explained {
        cases: &["home with NUL"],
        native: &["status: 0"],
        runtime: &["unable to setup user: setenv: invalid argument"],
        certain: true,
        why: "a home ends where a path of the kernel's does; runc 1.3 exits with 255",
    },
    Explained {
        cases: &["cwd by descriptor"],
        native: &["chdir to cwd (\"/proc/self/fd/7\") set in config.json failed: no such file"],
        runtime: &["chdir to cwd (\"/proc/self/fd/7\") set in config.json failed: not a dir"],
        certain: true,
        why: "7 is a descriptor of runc's own; the setns helper has none by then",
    },
    Explained {
        cases: &["config: root", "config: user", "config: terminal"],
        native: &["Umask 0077", "umask: 0077"],
        runtime: &["Umask 0022", "umask: 0022"],
        certain: true,
        why: "runc 1.2 sets the container's umask in an exec (#3661)",
    },
    Explained {
        cases: &["scheduler"],
        native: &[
            "policy                                       :                    3",
            "prio",
            "rt 0 3",
        ],
        runtime: &[
            "policy                                       :                    0",
            "prio",
            "rt 0 0",
        ],
        certain: true,
        why: "runc 1.2 knows process.scheduler",
    },
    Explained {
        cases: &["io priority"],
        native: &["ioprio: idle"],
        runtime: &["ioprio: none: prio 0"],
        certain: true,
        why: "runc 1.2 knows process.ioPriority",
    },
    Explained {
        cases: &["affinity"],
        native: &["Cpus_allowed 2", "Cpus_allowed_list 1"],
        runtime: &["Cpus_allowed ", "Cpus_allowed_list "],
        certain: true,
        why: "runc 1.3 knows process.execCPUAffinity",
    },
    Explained {
        cases: &["affinity that is wrong"],
        native: &["exec failed: bad CPUAffinity.Initial: invalid range: 3-1"],
        runtime: &["status: 7"],
        certain: true,
        why: "the same",
    },
];

impl Explained {
    /// Whether it is why only `who` has this line.
    fn is(&self, who: &str, line: &str) -> bool {
        let parts = if who == "native" { self.native } else { self.runtime };
        parts.iter().any(|part| line.contains(part))
    }
}

/// What is to be said of the lines of a case that only one of the two processes has: each that has no
/// explanation, and with `old`, the runc of this table, each explanation that nothing was seen of.
pub(super) fn complaints(case: &str, lines: &[(&str, &str)], old: bool) -> Vec<String> {
    let rows: Vec<&Explained> = TABLE.iter().filter(|row| row.cases.contains(&case)).collect();
    let explained = |(who, line): &(&str, &str)| rows.iter().any(|row| row.is(who, line));
    let seen = |row: &Explained| lines.iter().any(|(who, line)| row.is(who, line));
    let bugs = lines.iter().filter(|line| !explained(line));
    let bugs = bugs.map(|(who, line)| format!("{case}: only {who}: {line}"));
    let stale = rows.iter().filter(|row| old && row.certain && !seen(row));
    bugs.chain(stale.map(|row| format!("{case}: no more: {}", row.why))).collect()
}
