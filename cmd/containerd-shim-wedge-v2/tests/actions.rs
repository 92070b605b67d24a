// SPDX-License-Identifier: Apache-2.0
//! The binary as containerd runs it, without containerd and without containers. As root.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use wedge_sys::PidFd;

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-wedge-v2");

/// A made-up containerd: a directory with bundles, whose path makes the socket's name unique.
struct Daemon {
    dir: tempfile::TempDir,
}

impl Daemon {
    fn new() -> Daemon {
        Daemon { dir: tempfile::tempdir().unwrap() }
    }

    fn bundle(&self, id: &str, config: &str) -> PathBuf {
        let bundle = self.dir.path().join(id);
        fs::create_dir(&bundle).unwrap();
        fs::write(bundle.join("config.json"), config).unwrap();
        bundle
    }

    fn shim(&self, id: &str, action: &str) -> Command {
        let mut command = Command::new(SHIM);
        command
            .args(["-namespace", "wedge-test", "-id", id, "-publish-binary", "/bin/true"])
            .arg("-address")
            .arg(self.dir.path().join("containerd.sock"))
            .arg(action)
            .current_dir(self.dir.path().join(id))
            .stdin(std::process::Stdio::null())
            .env("TTRPC_ADDRESS", self.dir.path().join("containerd.sock.ttrpc"));
        command
    }

    /// Processes of this daemon's shims. Their argument list names our directory.
    fn servers(&self) -> Vec<u32> {
        let mark = self.dir.path().to_str().unwrap();
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(mark) {
                pids.push(pid);
            }
        }
        pids
    }

    fn signal_servers(&self, signal: &str) {
        for pid in self.servers() {
            Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked, they remove their sockets.
        self.signal_servers("-TERM");
        until("every shim ends", || self.servers().is_empty());
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The address `start` printed, and nothing else.
fn address(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let path = text.strip_prefix("unix:///run/containerd/s/").unwrap();
    assert!(path.len() == 64 && path.chars().all(|c| c.is_ascii_hexdigit()), "{text:?}");
    PathBuf::from(text.strip_prefix("unix://").unwrap())
}

fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// A process group of its own, nothing of containerd's open, likelier to be killed than its
/// starter's parent, and no signal blocked.
fn assert_detached(pid: u32) {
    let group = Command::new("ps").args(["-o", "pgid=", "-p", &pid.to_string()]).output().unwrap();
    assert_eq!(String::from_utf8(group.stdout).unwrap().trim(), pid.to_string());
    for fd in [0, 1] {
        let file = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(file, Path::new("/dev/null"));
    }
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    let own: i32 = own.trim().parse().unwrap();
    assert_eq!(score.trim(), (own + 1).min(1000).to_string());
    assert_eq!(status(pid, "SigBlk:"), "0000000000000000");
}

#[test]
fn a_shim_is_started_shared_and_stopped() {
    let daemon = Daemon::new();
    let pod = r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pause"}}"#;
    let (pause, app) = (daemon.bundle("pause", "{}"), daemon.bundle("app", pod));
    Command::new("mkfifo").args(["-m", "700"]).arg(pause.join("log")).status().unwrap();
    // As containerd holds it: open for both, not blocking.
    let mut log = fs::OpenOptions::new();
    let mut log = log.read(true).write(true).custom_flags(0o4000).open(pause.join("log")).unwrap();

    let path = address(&daemon.shim("pause", "start").output().unwrap());
    let _connection = UnixStream::connect(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(pause.join("address")).unwrap();
    assert_eq!(written, format!("unix://{}", path.display()));

    assert_eq!(address(&daemon.shim("app", "start").output().unwrap()), path);
    assert_eq!(fs::read_to_string(app.join("address")).unwrap(), written);
    let servers = daemon.servers();
    let [pid] = servers.as_slice() else { panic!("not one shim: {servers:?}") };

    // However far the shim is: it takes signals up when it can.
    daemon.signal_servers("-USR1");
    let mut said = String::new();
    until("the shim logs its state", || {
        // Fails at the end of what is there, and keeps what it has read.
        std::io::Read::read_to_string(&mut log, &mut said).unwrap_or_default();
        said.contains("serving tasks") && said.contains("=== END goroutine stack dump ===")
    });
    assert_detached(*pid);
    assert!(said.contains(&format!("namespace=wedge-test pid={pid}")), "{said}");
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/2")).unwrap(), pause.join("log"));

    daemon.signal_servers("-TERM");
    until("the shim ends", || daemon.servers().is_empty());
    assert!(!path.exists());
}

#[test]
fn concurrent_starts_of_a_pod_share_one_shim() {
    let daemon = Daemon::new();
    let pod = r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}"#;
    let ids: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    for id in &ids {
        daemon.bundle(id, pod);
    }
    let starts: Vec<_> = std::thread::scope(|scope| {
        let start = |id| daemon.shim(id, "start").output().unwrap();
        let starts: Vec<_> = ids.iter().map(|id| scope.spawn(move || start(id))).collect();
        starts.into_iter().map(|start| address(&start.join().unwrap())).collect()
    });
    assert!(starts.iter().all(|path| path == &starts[0]), "{starts:?}");
    assert_eq!(daemon.servers().len(), 1);
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let daemon = Daemon::new();
    daemon.bundle("broken", "{");
    let output = daemon.shim("broken", "start").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("io.containerd.wedge.v2: failed to read the annotations"), "{text}");
    assert!(!text.ends_with('\n'), "{text:?}");
    assert!(daemon.servers().is_empty());
}

#[test]
fn an_unusable_shim_cgroup_undoes_the_start() {
    let daemon = Daemon::new();
    let bundle = daemon.bundle("task", "{}");
    // google.protobuf.Any{containerd.runc.v1.Options{shim_cgroup: "/wedge-none"}}
    let mut any = b"\x0a\x1acontainerd.runc.v1.Options\x12\x0d".to_vec();
    any.extend(b"\x1a\x0b/wedge-none");
    fs::write(bundle.join("stdin"), any).unwrap();
    let mut start = daemon.shim("task", "start");
    let output = start.stdin(fs::File::open(bundle.join("stdin")).unwrap()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let expected = "io.containerd.wedge.v2: failed to load cgroup /wedge-none: cgroup deleted";
    assert_eq!((output.status.code(), text.as_str()), (Some(1), expected));
    assert!(!bundle.join("address").exists());
    until("the shim is gone", || daemon.servers().is_empty());
    // Its socket, too: the next start makes a shim of its own.
    address(&daemon.shim("task", "start").output().unwrap());
}

#[test]
fn delete_cleans_up_after_a_killed_shim() {
    let daemon = Daemon::new();
    let bundle = daemon.bundle("dead", "{}");
    let runtime = daemon.dir.path().join("runtime");
    fs::write(&runtime, "#!/bin/sh\necho \"$@\" > \"${0%/*}/called\"\n").unwrap();
    fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(bundle.join("runtime"), runtime.to_str().unwrap()).unwrap();
    fs::write(bundle.join("options.json"), r#"{"root":"/x","new":1}"#).unwrap();
    fs::write(bundle.join("init.pid"), "300").unwrap();
    let path = address(&daemon.shim("dead", "start").output().unwrap());
    // Its arguments go before its descriptors do, and nothing listens any more only then.
    let shims = daemon.servers().into_iter().map(|pid| PidFd::open(pid).unwrap());
    let shims: Vec<PidFd> = shims.collect();
    daemon.signal_servers("-KILL");
    until("the shim is dead", || shims.iter().all(PidFd::has_ended));
    assert!(path.exists());

    let output = daemon.shim("dead", "delete").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // pid 300, exit_status 137, then exited_at.
    assert!(output.stdout.starts_with(b"\x08\xac\x02\x10\x89\x01\x1a"), "{output:?}");
    let called = fs::read_to_string(daemon.dir.path().join("called")).unwrap();
    assert!(called.starts_with("--root /x/wedge-test --log "), "{called}");
    assert!(called.ends_with("delete --force dead\n"), "{called}");
    assert!(!path.exists());
}

/// containerd runs the action for every shim that has ended.
#[test]
fn delete_asks_runc_only_for_what_it_knows() {
    let daemon = Daemon::new();
    let bundle = daemon.bundle("done", "{}");
    let (runc, root) = (daemon.dir.path().join("runc"), daemon.dir.path().join("root"));
    fs::write(&runc, "#!/bin/sh\necho \"$@\" > \"${0%/*}/called\"\n").unwrap();
    fs::set_permissions(&runc, PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(bundle.join("runtime"), runc.to_str().unwrap()).unwrap();
    fs::write(bundle.join("options.json"), format!("{{\"root\":{root:?}}}")).unwrap();
    let called = daemon.dir.path().join("called");
    for known in [false, true] {
        if known {
            fs::create_dir_all(root.join("wedge-test/done")).unwrap();
        }
        let output = daemon.shim("done", "delete").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(called.exists(), known);
    }
}

#[test]
fn delete_works_in_a_bundle_that_was_never_finished() {
    let daemon = Daemon::new();
    let bundle = daemon.bundle("half", "{");
    fs::write(bundle.join("runtime"), "/bin/true").unwrap();
    let output = daemon.shim("half", "delete").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(output.stdout.starts_with(b"\x10\x89\x01\x1a"), "{output:?}");
}

/// A configuration beside the bundles, and the environment that names it.
fn configured(daemon: &Daemon, command: &mut Command, text: &str) {
    let path = daemon.dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    command.env("WEDGE_CONFIG", path);
}

/// Standard error of a command that must fail.
fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_configuration_is_read_by_start_and_handed_to_the_shim() {
    let daemon = Daemon::new();
    let bundle = daemon.bundle("task", "{}");
    let mut start = daemon.shim("task", "start");
    configured(&daemon, &mut start, "\nexec = \"fast\"\n");
    let text = failure(&mut start);
    let file = daemon.dir.path().join("config.toml");
    let begins = format!("io.containerd.wedge.v2: {}:2: exec: expected one of ", file.display());
    assert!(text.starts_with(&begins), "{text}");
    assert!(!bundle.join("address").exists() && daemon.servers().is_empty());

    configured(&daemon, &mut start, "exec = \"runtime\"\ntimeouts.event_drain = \"5s\"\n");
    address(&start.output().unwrap());
    let servers = daemon.servers();
    let words = fs::read(format!("/proc/{}/cmdline", servers[0])).unwrap();
    let words = String::from_utf8(words).unwrap();
    assert!(words.contains("\0-settings\0exec = \"runtime\"\0"), "{words:?}");
}

#[test]
fn a_configuration_that_is_named_must_be_there() {
    let daemon = Daemon::new();
    daemon.bundle("task", "{}");
    let mut start = daemon.shim("task", "start");
    let text = failure(start.env("WEDGE_CONFIG", "/nonexistent/config.toml"));
    let expected = "io.containerd.wedge.v2: failed to read the configuration \
                    /nonexistent/config.toml: No such file or directory";
    assert!(text.starts_with(expected), "{text}");
    let text = failure(start.env("WEDGE_CONFIG", "config.toml"));
    let expected = "WEDGE_CONFIG: config.toml is not an absolute path";
    assert_eq!(text, format!("io.containerd.wedge.v2: {expected}"));
    address(&start.env("WEDGE_CONFIG", "").output().unwrap());
}

#[test]
fn the_debug_socket_tells_the_state() {
    use std::io::{Read, Write};
    let daemon = Daemon::new();
    daemon.bundle("task", "{}");
    let path = daemon.dir.path().join("debug/socket");
    // Flags come before the action.
    let mut start = Command::new(SHIM);
    start.arg("-debug-socket").arg(&path).args(daemon.shim("task", "start").get_args());
    start.current_dir(daemon.dir.path().join("task")).stdin(std::process::Stdio::null());
    configured(&daemon, &mut start, "exec = \"native\"");
    address(&start.output().unwrap());
    until("it listens", || UnixStream::connect(&path).is_ok());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"GET /debug/pprof/goroutine?debug=2 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\n0 containers; "), "{answer}");
    let execs = "; exec native, 0 native, 0 by the OCI runtime; commands auto\n\
                 configured: exec = \"native\"\n";
    assert!(answer.ends_with(execs), "{answer}");
    daemon.signal_servers("-TERM");
    until("the shim ends", || daemon.servers().is_empty());
    assert!(!path.exists());
}

fn run(program: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(program);
    let output = command.args(args).stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_line_answers_as_go() {
    let dir = tempfile::tempdir().unwrap();
    let runc = dir.path().join("containerd-shim-runc-v2");
    symlink(SHIM, &runc).unwrap();

    let (code, out, err) = run(&runc, &["-v"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("containerd-shim-runc-v2:\n  Version:  "), "{out}");
    let (code, out, err) = run(&runc, &["-bogus"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let usage = format!("Usage of {}:\n  -address string\n", runc.display());
    assert!(err.starts_with(&format!("flag provided but not defined: -bogus\n{usage}")), "{err}");
    let (code, out, err) = run(&runc, &["-help"]);
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert!(err.starts_with(&usage), "{err}");
    let expected = "io.containerd.runc.v2: shim namespace cannot be empty";
    assert_eq!(run(&runc, &["start"]), (Some(1), String::new(), expected.to_owned()));
    let expected = "io.containerd.wedge.v2: shim namespace cannot be empty";
    assert_eq!(run(Path::new(SHIM), &[]), (Some(1), String::new(), expected.to_owned()));
}

#[test]
fn info_is_a_bare_message_with_our_name() {
    let dir = tempfile::tempdir().unwrap();
    let runc = dir.path().join("runc");
    fs::write(&runc, "#!/bin/sh\necho '{\"linux\":{}}'\n").unwrap();
    fs::set_permissions(&runc, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/bin", dir.path().display());
    let mut info = Command::new(SHIM);
    info.arg("-info").env("PATH", path).stdin(std::process::Stdio::null());
    // Nothing it says depends on the configuration.
    info.env("WEDGE_CONFIG", "/nonexistent");
    let output = info.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(output.stdout.starts_with(b"\x0a\x16io.containerd.wedge.v2\x12"), "{output:?}");
    assert!(output.stdout.ends_with(b"\x12\x0c{\"linux\":{}}"), "{output:?}");
}
