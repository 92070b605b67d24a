// SPDX-License-Identifier: Apache-2.0
//! Which files the helper touches once it is in the container (CVE-2019-14271).

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Bench, Process, Setup, until};

/// All that a process calls on its way to its program, without a terminal and priorities.
const CALLS: [&str; 19] = [
    "capget",
    "capset",
    "chdir",
    "close",
    "close_range",
    "faccessat2",
    "fchown",
    "getcwd",
    "keyctl",
    "openat",
    "prctl",
    "read",
    "seccomp",
    "setgid",
    "setgroups",
    "setsid",
    "setuid",
    "statx",
    "write",
];

/// The system calls of everything that starts during `exec`, one a line: `PID call(...) = ...`.
async fn trace(bench: &Bench<'_>, exec: impl AsyncFnOnce()) -> String {
    let log = bench.setup.dir().join("strace");
    let helper = bench.host.helper_pid().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-s", "200", "-p", &helper.to_string(), "-o"]).arg(&log);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut strace = bench.reaper.spawn(&mut command).unwrap_or_else(|err| panic!("strace: {err}"));
    until("strace has it", || {
        let tracer = Process::read(helper)?.status("TracerPid");
        (tracer == strace.pid.to_string()).then_some(())
    })
    .await;
    exec().await;
    wedge_sys::PidFd::open(strace.pid).unwrap().send_signal(2).unwrap();
    strace.exit.wait().await;
    fs::read_to_string(log).unwrap()
}

/// What one process called from the moment it was born in the container, or joined it.
fn inside<'a>(log: &'a str, pid: &str) -> Vec<&'a str> {
    let calls = log.lines().filter_map(|line| line.split_once(' ')).filter(|(who, _)| *who == pid);
    let calls = calls.map(|(_, call)| call.trim_start());
    let calls: Vec<&str> = calls.filter(|call| !call.starts_with("<...")).collect();
    let from = calls.iter().position(|call| call.starts_with("setns(")).map_or(0, |at| at + 1);
    calls[from..].to_vec()
}

/// The pid that the one line with `call` begins with.
fn who<'a>(log: &'a str, call: &str) -> &'a str {
    let mut lines = log.lines().filter(|line| line.contains(call));
    let line = lines.next().unwrap_or_else(|| panic!("no {call}: {log}"));
    assert!(lines.next().is_none(), "several {call}: {log}");
    line.split(' ').next().unwrap()
}

/// The calls that look up a path, up to its end. Reading shows what was read, and getcwd(2) what
/// the kernel calls the directory.
fn looked_up<'a>(calls: &[&'a str]) -> Vec<&'a str> {
    let looked_up = calls.iter().filter(|call| {
        call.contains("\"/") && !call.starts_with("read(") && !call.starts_with("getcwd(")
    });
    looked_up.map(|call| &call[..call.rfind('"').unwrap()]).collect()
}

#[test]
fn only_what_it_must_look_at_is_opened_in_the_container() {
    let mut setup = Setup::new();
    setup.file("etc/passwd", 0o644, "a:x:7:8::/home:\n");
    setup.config["process"]["user"] = json!({"uid": 7, "gid": 8});
    setup.config["process"]["cwd"] = json!("/home");
    setup.config["process"]["env"] = json!(["PATH=/nowhere:/bin"]);
    setup.config["linux"]["seccomp"] = crate::seccomp::containerds();
    setup.run(async |bench| {
        let process = bench.process(&["true"]);
        let log = trace(bench, async || assert_eq!(bench.output(&process).await, "")).await;
        let (joiner, payload) = (who(&log, " setns("), who(&log, " setsid("));
        assert_ne!(joiner, payload);

        let after: Vec<_> = inside(&log, joiner);
        let names: Vec<_> = after.iter().filter_map(|call| call.split('(').next()).collect();
        assert_eq!(names, ["close", "clone3", "exit_group"], "{after:#?}");

        let payload = inside(&log, payload);
        let program = payload.iter().position(|call| call.starts_with("execve(")).unwrap();
        let (before, program) = (&payload[..program], payload[program]);
        assert!(program.starts_with(r#"execve("/bin/true", ["true"]"#), "{program}");
        let names = before.iter().filter_map(|call| call.split('(').next());
        let unknown: Vec<_> = names.filter(|name| !CALLS.contains(name)).collect();
        assert_eq!(unknown, [""; 0]);
        let calls = looked_up(before);
        assert_eq!(
            calls,
            [
                r#"chdir("/home"#,
                r#"openat(AT_FDCWD, "/etc/passwd"#,
                r#"statx(AT_FDCWD, "/nowhere/true"#,
                r#"statx(AT_FDCWD, "/bin/true"#,
                r#"faccessat2(AT_FDCWD, "/bin/true"#,
            ]
        );
        let keyring = format!("KEYCTL_JOIN_SESSION_KEYRING, \"_ses.{}\"", bench.setup.id());
        assert!(before.iter().any(|call| call.contains(&keyring)), "{before:#?}");
        let filter = before.iter().position(|call| call.starts_with("seccomp(")).unwrap();
        let names: Vec<_> =
            before[filter..].iter().filter_map(|call| call.split('(').next()).collect();
        assert_eq!(names, ["seccomp", "capset", "prctl", "close"]);
    });
}
