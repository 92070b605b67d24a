// SPDX-License-Identifier: Apache-2.0
//! Execs in containers of crun: the same processes as crun's own exec makes of them.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};

use serde_json::{Value, json};
use wedge_reaper::Limits;
use wedge_setns::{Failure, Stdio};
use wedge_setns_wire::Stage;

use crate::support::{Bench, Done, Process, Setup, path_of};

/// All that a process can say of itself and that is not another each time.
const DUMP: &str = "id; umask; env; pwd; echo \"$0\"; cat /proc/self/cgroup /proc/self/limits \
    /proc/self/oom_score_adj /proc/self/personality; \
    grep -E '^(Uid|Gid|Groups|Umask|Sig(Blk|Ign)|Cap|NoNew|Seccomp|NS(pgid|sid)|Cpus_allowed:|Threads|THP)' \
    /proc/self/status; for ns in /proc/self/ns/*; do readlink $ns; done; \
    for fd in 0 1 2 3 4 5; do stat -L -c \"$fd %F\" /proc/self/fd/$fd 2>/dev/null; done";

const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// What crun's own exec does with a process, its outputs in files.
async fn by_crun(bench: &Bench<'_>, process: &Value) -> Done {
    let path = |name: &str| bench.setup.dir().join(name);
    fs::write(path("process.json"), process.to_string()).unwrap();
    let file = path("process.json");
    let mut command = bench.setup.command(&["exec", "--process"]);
    command.arg(file).arg(bench.setup.id());
    // Not /dev/null: Debian's crun would give the host's to the process's user.
    let [input, out, err] = STREAMS.map(|name| File::create(path(name)).unwrap());
    command.stdin(input).stdout(out).stderr(err);
    let ended = bench.reaper.complete(command, Limits::default()).await.unwrap();
    let text = |name: &str| fs::read_to_string(path(name)).unwrap();
    Done { code: ended.status.code(), stdout: text("stdout"), stderr: text("stderr") }
}

/// What ours does, its outputs in files, too.
async fn natively(bench: &Bench<'_>, process: &Value) -> Done {
    let path = |name: &str| bench.setup.dir().join(name);
    let streams = STREAMS.map(|name| OwnedFd::from(File::create(path(name)).unwrap()));
    let [stdin, stdout, stderr] = streams.each_ref().map(|stream| Some(stream.as_fd()));
    let mut started = bench.start(process, Stdio { stdin, stdout, stderr }).await.unwrap();
    let code = started.exit.wait().await.status.code();
    let text = |name: &str| fs::read_to_string(path(name)).unwrap();
    Done { code, stdout: text("stdout"), stderr: text("stderr") }
}

async fn assert_same(bench: &Bench<'_>, process: &Value) -> Done {
    let theirs = by_crun(bench, process).await;
    let ours = natively(bench, process).await;
    assert_eq!(ours, theirs, "{process}");
    ours
}

/// The same process with something else in it.
fn with(process: &Value, path: &str, value: Value) -> Value {
    let mut process = process.clone();
    match process.pointer_mut(path) {
        Some(place) => *place = value,
        None => {
            let (parent, key) = path.rsplit_once('/').unwrap();
            process.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    process
}

fn filled() -> Setup {
    let setup = Setup::crun();
    let passwd = "root:x:0:0:root:/root:/bin/sh\n# none\nu:x:1000:1000::/home/u:/bin/sh\n";
    setup.file("etc/passwd", 0o644, passwd);
    setup
}

#[test]
fn a_process_is_as_crun_makes_it() {
    filled().run(async |bench| {
        let plain = bench.process(&["sh", "-c", DUMP]);
        assert!(assert_same(bench, &plain).await.stdout.contains("HOME=/root\n"));
        let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 7]});
        let caps = json!(["CAP_KILL", "CAP_CHOWN"]);
        let ambient = json!({"bounding": caps, "effective": caps, "permitted": caps,
            "inheritable": caps, "ambient": ["CAP_KILL"]});
        let limits = json!([{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 500}]);
        for (path, value) in [
            ("/user", user.clone()),
            ("/user", json!({"uid": 1002, "gid": 0})),
            ("/user", json!({"uid": 0, "gid": 5, "umask": 63})),
            ("/noNewPrivileges", json!(true)),
            ("/capabilities", json!({})),
            ("/capabilities", ambient.clone()),
            ("/rlimits", limits),
            ("/cwd", json!("/tmp")),
            ("/oomScoreAdj", json!(500)),
            ("/env", json!(["PATH=/bin/:/sbin", "A=1", "B=2", "A=3", "HOME="])),
        ] {
            assert_same(bench, &with(&plain, path, value)).await;
        }
        let both = with(&with(&plain, "/user", user), "/capabilities", ambient);
        assert_same(bench, &with(&both, "/noNewPrivileges", json!(true))).await;
        let mut without = plain;
        without.as_object_mut().unwrap().remove("capabilities");
        assert_same(bench, &without).await;
    });
}

#[test]
fn a_process_finds_what_crun_finds() {
    let setup = filled();
    for (name, mode, text) in [
        ("bin/name.sh", 0o755, "#!/bin/sh\necho \"$0 $*\"\n"),
        ("bin/noexec", 0o755, "xx"),
        ("bin/interpreter", 0o755, "#!/nonexistent\n"),
        ("bin/roots", 0o700, "#!/bin/sh\n"),
    ] {
        setup.file(name, mode, text);
    }
    setup.run(async |bench| {
        for (cwd, args, code) in [
            ("/", &["name.sh", "a"][..], 0),
            ("/bin", &["./name.sh", "a"], 0),
            ("/tmp", &["../bin/name.sh"], 0),
            ("/", &["/bin/name.sh"], 0),
            // By then it was started, so that the error is the process's own.
            ("/", &["noexec"], 1),
            ("/", &["/bin/interpreter"], 1),
        ] {
            let process = with(&bench.process(args), "/cwd", json!(cwd));
            assert_eq!(assert_same(bench, &process).await.code, code, "{args:?}");
        }
        let user = with(&bench.process(&["roots"]), "/user", json!({"uid": 1000, "gid": 1000}));
        let user = with(&user, "/capabilities", json!({}));
        assert_eq!(assert_same(bench, &user).await.code, 1);
    });
}

/// Streams get the group, too, but not devices.
#[test]
fn streams_are_the_users_as_with_crun() {
    filled().run(async |bench| {
        let process = bench.process(&["stat", "-L", "-c", "%u:%g", "/proc/self/fd/1"]);
        let process = with(&process, "/user", json!({"uid": 1000, "gid": 1001}));
        assert_eq!(assert_same(bench, &process).await.stdout, "1000:1001\n");
        let null = bench.process(&["stat", "-L", "-c", "%u:%g", "/proc/self/fd/0"]);
        let null = with(&null, "/user", json!({"uid": 1000, "gid": 1001}));
        assert_eq!(bench.output(&null).await, "0:0\n");
    });
}

#[test]
fn cruns_seccomp_program_is_loaded_with_and_without_new_privileges() {
    let mut setup = filled();
    setup.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    });
    setup.run(async |bench| {
        for (privileges, uid) in [(false, 0), (true, 0), (false, 1000), (true, 1000)] {
            let process = bench.process(&["sh", "-c", &format!("{DUMP}; mkdir /tmp/x")]);
            let process = with(&process, "/noNewPrivileges", json!(privileges));
            let done = assert_same(bench, &with(&process, "/user/uid", json!(uid))).await;
            assert!(done.stdout.contains("Seccomp:\t2\n"), "{done:?}");
            assert!(done.stderr.contains("Function not implemented"), "{done:?}");
        }
    });
}

#[test]
fn in_a_user_namespace_it_is_the_same_process() {
    let mut setup = Setup::in_user_namespace().with_crun();
    setup.config["process"]["noNewPrivileges"] = json!(true);
    setup.run(async |bench| {
        let process = bench.process(&["sh", "-c", DUMP]);
        assert_same(bench, &process).await;
        let limits = json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1000}]);
        assert_same(bench, &with(&process, "/rlimits", limits)).await;
        assert_same(bench, &with(&process, "/user", json!({"uid": 7, "gid": 8}))).await;
    });
}

/// The terminal of a root; whose another's is depends on the version of crun.
#[test]
fn a_terminal_leads_a_session() {
    filled().run(async |bench| {
        let process = bench.process(&["sleep", "1000"]);
        let process = with(&process, "/terminal", json!(true));
        let started = bench.start(&process, Stdio::default()).await.unwrap();
        let leads = Process::read(started.pid).unwrap();
        assert_eq!(leads.field(6), started.pid.to_string());
        assert!(started.console.is_some());
        started.pidfd.unwrap().send_signal(9).unwrap();
        started.exit.clone().wait().await;
        let user = with(&process, "/user", json!({"uid": 1000, "gid": 0}));
        assert!(unsupported(bench, &user).await.contains("terminal"));
    });
}

async fn unsupported(bench: &Bench<'_>, process: &Value) -> String {
    match bench.exec(process).await {
        Err(Failure::Unsupported(reason) | Failure::Refused(reason)) => reason.to_string(),
        other => panic!("{process}: {other:?}"),
    }
}

/// What the shim says when crun has said this.
fn said(done: &Done) -> String {
    format!("OCI runtime exec failed: {}", done.stderr.trim_end())
}

#[test]
fn a_program_that_is_nowhere_is_refused_in_cruns_words() {
    filled().run(async |bench| {
        for user in [0, 1000] {
            let process = with(&bench.process(&["nofoo"]), "/user/uid", json!(user));
            assert_eq!(bench.error(&process).await, said(&by_crun(bench, &process).await));
        }
    });
}

/// crun has other words for these in each version.
#[test]
fn other_refusals_are_cruns() {
    let setup = filled();
    setup.file("etc/data", 0o644, "x");
    setup.run(async |bench| {
        let process = bench.process(&["true"]);
        for (path, value) in [
            ("/args", json!(["/bin/nofoo"])),
            ("/args", json!(["/etc/data"])),
            ("/args", json!(["/etc/data/x"])),
            ("/args", json!(["/etc"])),
            ("/args", json!([""])),
            ("/args", json!([])),
            ("/cwd", json!("/nonexistent")),
            ("/cwd", json!("tmp")),
            ("/env", json!([])),
            ("/env", json!(["A=1"])),
            ("/env", json!(["PATH=:/bin"])),
            ("/env", json!(["PATH=/bin", "A"])),
            ("/user", json!(null)),
            ("/capabilities", json!({"bounding": ["CAP_NEW"]})),
            ("/capabilities", json!({"effective": ["CAP_KILL"]})),
            ("/capabilities", json!({"ambient": ["CAP_KILL"]})),
            ("/rlimits", json!([{"type": "RLIMIT_NEW", "hard": 1, "soft": 1}])),
            ("/scheduler", json!({"policy": "SCHED_BATCH"})),
            ("/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0})),
            ("/execCPUAffinity", json!({"initial": "0"})),
            ("/cwd", json!(7)),
        ] {
            let reason = unsupported(bench, &with(&process, path, value)).await;
            assert!(!reason.is_empty());
        }
    });
}

#[test]
fn a_passwd_that_libraries_read_otherwise_is_cruns() {
    let setup = Setup::crun();
    setup.run(async |bench| {
        let process = bench.process(&["sh", "-c", "echo \"${HOME-none}\""]);
        assert_eq!(assert_same(bench, &process).await.stdout, "/\n", "there is none");
        for (passwd, home) in [
            ("root:x:0:0::/r:\n", Some("/r\n")),
            ("root:x:0:0:::\n", Some("\n")),
            ("u:x:1000:0::/u:\n", Some("none\n")),
            ("", Some("none\n")),
            ("+::::::\nroot:x:0:0::/r:\n", None),
            ("root:x:0:0\n", None),
        ] {
            bench.setup.file("etc/passwd", 0o644, passwd);
            match home {
                Some(home) => assert_eq!(assert_same(bench, &process).await.stdout, home),
                None => assert!(unsupported(bench, &process).await.contains("/etc/passwd")),
            }
        }
    });
}

#[test]
fn an_init_that_is_paused_or_gone_is_for_crun_to_refuse() {
    filled().run(async |bench| {
        let process = bench.process(&["true"]);
        let freeze = path_of(bench.setup, "cgroup.freeze");
        fs::write(&freeze, "1").unwrap();
        assert!(unsupported(bench, &process).await.contains("paused"));
        fs::write(&freeze, "0").unwrap();
        assert_eq!(bench.exec(&process).await.unwrap().code, 0);
        bench.kill_init().await;
        assert!(unsupported(bench, &process).await.contains("stopped"));
    });
}

/// Whoever dies, nothing is left.
#[test]
fn a_helper_that_dies_is_an_error() {
    filled().run(async |bench| {
        for stage in [Stage::Namespaces, Stage::Session, Stage::Home, Stage::NotFound, Stage::Uid] {
            bench.kill_at(stage);
            let error = bench.error(&bench.process(&["true"])).await;
            assert!(error.contains("procReady not received"), "{stage:?}: {error}");
        }
        bench.go_through();
        assert_eq!(bench.exec(&bench.process(&["true"])).await.unwrap().code, 0);
    });
}
