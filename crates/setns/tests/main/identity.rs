// SPDX-License-Identifier: Apache-2.0
//! Who a process is: as with runc's own exec, line by line.

use serde_json::{Value, json};
use wedge_setns_wire::Stage;

use crate::support::{Bench, Setup};

/// Lines of `/proc/self/status` that belong to one process or moment.
const OWN: [&str; 10] = [
    "Pid",
    "Tgid",
    "PPid",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "voluntary_ctxt_switches",
    "nonvoluntary_ctxt_switches",
    "SigQ",
];

/// Everything the kernel says about a process, but what is its own.
const FILES: &str = "status limits cgroup oom_score_adj timerslack_ns coredump_filter personality \
    mountinfo environ attr/current loginuid setgroups uid_map gid_map";

fn dump(process: &Value) -> Value {
    let mut process = process.clone();
    if process["rlimits"].is_null() {
        // Go raises this one, and not every version undoes it.
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 900, "hard": 900}]);
    }
    let files = FILES.split(' ').map(|file| format!("/proc/self/{file}"));
    process["args"] = ["grep", "-a", "."].map(str::to_owned).into_iter().chain(files).collect();
    process
}

fn comparable(dump: &str) -> Vec<String> {
    let own = |line: &&str| {
        let key = line.strip_prefix("/proc/self/status:").and_then(|line| line.split(':').next());
        !key.is_some_and(|key| {
            OWN.contains(&key) || key.starts_with("Vm") || key.starts_with("Rss")
        })
    };
    dump.lines().filter(own).map(str::to_owned).collect()
}

/// Compares with runc, and returns the dump for what is to be looked at closer.
async fn same_as_runc(bench: &Bench<'_>, process: &Value) -> String {
    let process = dump(process);
    let ours = bench.exec(&process).await.unwrap().stdout;
    let theirs = bench.output_of_runc(&process).await;
    assert_eq!(comparable(&ours), comparable(&theirs), "{process}");
    assert!(comparable(&ours).len() > 40, "{ours}");
    ours
}

/// The value of a line of `/proc/self/FILE`.
fn value<'a>(dump: &'a str, key: &str) -> &'a str {
    let line = dump.lines().find_map(|line| line.strip_prefix("/proc/self/")?.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key}: {dump}")).trim()
}

#[test]
fn root_and_users() {
    let mut setup = Setup::new();
    setup.config["process"]["oomScoreAdj"] = json!(500);
    setup.config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 800, "hard": 800},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 8_388_608},
    ]);
    setup.run(async |bench| {
        let mut process = bench.process(&[]);
        // The container's counts.
        process["oomScoreAdj"] = json!(100);
        let root = same_as_runc(bench, &process).await;
        for (key, expected) in [
            ("status:CapEff:", "00000000a80425fb"),
            ("status:CapBnd:", "00000000a80425fb"),
            ("status:CapInh:", "0000000000000000"),
            ("status:NoNewPrivs:", "0"),
            ("status:Groups:", ""),
            ("oom_score_adj:", "500"),
            ("personality:", "00000000"),
        ] {
            assert_eq!(value(&root, key), expected, "{key}");
        }
        let files = value(&root, "limits:Max open files");
        assert_eq!(files.split_whitespace().collect::<Vec<_>>(), ["800", "800", "files"]);

        for user in [
            json!({"uid": 1000, "gid": 1000}),
            json!({"uid": 1000, "gid": 50, "additionalGids": [50, 4_000_000, 7]}),
            json!({"uid": 0, "gid": 9, "additionalGids": [9]}),
        ] {
            process["user"] = user;
            same_as_runc(bench, &process).await;
        }
        let user = json!({"uid": 1000, "gid": 50, "additionalGids": [50, 7]});
        process["user"] = user;
        process["args"] = json!(["id"]);
        assert_eq!(bench.output(&process).await, "uid=1000 gid=50 groups=7,50\n");
    });
}

#[test]
fn the_umask_is_the_containers() {
    let mut setup = Setup::new();
    setup.config["process"]["user"]["umask"] = json!(0o27);
    setup.run(async |bench| {
        // So since runc 1.2, that of the process does not matter.
        let mut process = bench.process(&["sh", "-c", "umask"]);
        process["user"]["umask"] = json!(0);
        assert_eq!(bench.output(&process).await, "0027\n");
    });
}

#[test]
fn capabilities() {
    Setup::new().run(async |bench| {
        let one = json!(["CAP_NET_RAW"]);
        let mut inherited = json!({"bounding": one, "effective": one, "permitted": one});
        let plain = inherited.clone();
        inherited["inheritable"] = one.clone();
        inherited["ambient"] = one.clone();
        // Without the inheritable one the ambient one cannot be raised, which is no error.
        let mut ambient = plain.clone();
        ambient["ambient"] = one;
        let few = json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_CHOWN"]});
        let unknown = json!({"bounding": ["CAP_NONSENSE", "CAP_KILL"], "permitted": ["CAP_KILL"]});
        let mut masks = Vec::new();
        for sets in [json!({}), json!(null), plain, inherited, ambient, few, unknown] {
            for uid in [0, 1000] {
                let mut process = bench.process(&[]);
                process["capabilities"] = sets.clone();
                process["user"] = json!({"uid": uid, "gid": 0});
                let dump = same_as_runc(bench, &process).await;
                masks.push(["Eff", "Prm", "Inh", "Bnd", "Amb"].map(|set| {
                    u64::from_str_radix(value(&dump, &format!("status:Cap{set}:")), 16).unwrap()
                }));
            }
        }
        let raw = 1 << 13;
        assert_eq!(masks[0], [0; 5], "empty is not absent");
        assert_eq!(masks[2][0], 0xa804_25fb, "what is absent is the container's");
        assert_eq!(masks[5], [0, 0, 0, raw, 0]);
        assert_eq!(masks[7], [raw; 5]);
    });
}

#[test]
fn no_new_privileges_is_the_processs_own() {
    let mut setup = Setup::new();
    setup.config["process"]["noNewPrivileges"] = json!(true);
    setup.config["linux"]["seccomp"] = crate::seccomp::containerds();
    setup.run(async |bench| {
        let mut process = bench.process(&[]);
        for (own, expected) in [(json!(true), "1"), (json!(false), "0"), (json!(null), "0")] {
            process["noNewPrivileges"] = own;
            let dump = same_as_runc(bench, &process).await;
            assert_eq!(value(&dump, "status:NoNewPrivs:"), expected);
            assert_eq!(value(&dump, "status:Seccomp:"), "2");
        }
    });
}

#[test]
fn in_a_user_namespace() {
    Setup::in_user_namespace().run(async |bench| {
        let mut process = bench.process(&[]);
        let dump = same_as_runc(bench, &process).await;
        assert_eq!(value(&dump, "uid_map:").split_whitespace().nth(1), Some("100000"));
        process["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5]});
        same_as_runc(bench, &process).await;
    });
}

#[test]
fn priorities_and_personality() {
    let mut setup = Setup::new();
    setup.state["personality"] = json!({"domain": 8});
    setup.state["io_priority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    setup.state["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    setup.run(async |bench| {
        assert_eq!(bench.sh("uname -m; ionice").await, "i686\nidle\n");
        // nice and policy, proc_pid_stat(5).
        let fields = async |process| {
            let (_, process) = bench.waiting(process).await;
            bench.signal(&process, 9);
            [process.field(19).to_owned(), process.field(41).to_owned()]
        };
        assert_eq!(fields(bench.process(&[])).await, ["7", "3"]);
        // Those of the process come first.
        let mut process = bench.process(&["ionice"]);
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        process["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 9});
        assert_eq!(bench.output(&process).await, "best-effort: prio 6\n");
        assert_eq!(fields(process).await, ["9", "0"]);
    });
}

#[test]
fn a_session_keyring_is_joined_unless_the_container_has_none() {
    for (no_new_keyring, joins) in [(false, true), (true, false)] {
        let mut setup = Setup::new();
        setup.state["no_new_keyring"] = json!(no_new_keyring);
        setup.run(async |bench| {
            // What it is called is in the trace.
            bench.kill_at(Stage::Keyring);
            assert_eq!(bench.exec(&bench.process(&["true"])).await.is_err(), joins);
        });
    }
}

#[test]
fn streams_belong_to_the_user() {
    Setup::new().run(async |bench| {
        let mut process =
            bench.process(&["sh", "-c", "echo out >/dev/stdout; echo err >/dev/stderr"]);
        process["user"] = json!({"uid": 1000, "gid": 1000});
        process["args"][2] = json!("echo out >/proc/self/fd/1; echo err >/proc/self/fd/2");
        let done = bench.exec(&process).await.unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata("/dev/null").unwrap().uid(), 0, "stdin was this one");
    });
}
