// SPDX-License-Identifier: Apache-2.0
//! What a process must not have from its parent.

use std::fs;
use std::os::fd::AsRawFd;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;
use serde_json::json;
use wedge_setns_wire::Stage;

use crate::support::{START, Setup};

/// The lowest and the highest number under which `leak` leaves something.
const LEAKED: std::ops::Range<i32> = 6..41;

/// Directories of the host under every number there may be, for whoever we execute.
fn leak() -> fs::File {
    let root = fs::File::open("/").unwrap();
    for number in LEAKED {
        // Without close-on-exec, and never closed.
        let leaked = fcntl(&root, FcntlArg::F_DUPFD(number)).unwrap();
        assert!(leaked.as_raw_fd() >= number);
    }
    root
}

#[test]
fn descriptors() {
    let _root = leak();
    Setup::new().run(async |bench| {
        let (_, process) = bench.waiting(bench.process(&[])).await;
        let mut numbers: Vec<_> =
            fs::read_dir(process.path("fd")).unwrap().map(|fd| fd.unwrap().file_name()).collect();
        numbers.sort();
        assert_eq!(numbers, ["0", "1", "2"]);
        bench.signal(&process, 9);
    });
}

#[test]
fn working_directories_by_descriptor() {
    let _root = leak();
    // CVE-2024-21626.
    Setup::new().run(async |bench| {
        for number in 3..LEAKED.end {
            for behind in ["", "/..", "/../../..", "/."] {
                let cwd = format!("/proc/self/fd/{number}{behind}");
                let mut process = bench.process(&["pwd"]);
                process["cwd"] = json!(cwd);
                let cause = match number {
                    // The control socket.
                    3 => "not a directory",
                    _ => "no such file or directory",
                };
                let text = format!("chdir to cwd (\"{cwd}\") set in config.json failed: {cause}");
                assert_eq!(bench.error(&process).await, format!("{START}{text}"));
            }
        }
    });
}

#[test]
fn signals() {
    // Rust ignores SIGPIPE in the first place.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.add(Signal::SIGUSR1);
    Setup::new().run(async |bench| {
        blocked.thread_block().unwrap();
        let (_, process) = bench.waiting(bench.process(&[])).await;
        for key in ["SigBlk", "SigIgn", "SigCgt", "SigPnd"] {
            assert_eq!(process.status(key), "0000000000000000", "{key}");
        }
        bench.signal(&process, 15);
    });
}

#[test]
fn cpus() {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let mut first = CpuSet::new();
    first.set(0).unwrap();
    Setup::new().run(async |bench| {
        sched_setaffinity(Pid::from_raw(0), &first).unwrap();
        let allowed = async |affinity| {
            let mut process = bench.process(&["grep", "Cpus_allowed_list", "/proc/self/status"]);
            process["execCPUAffinity"] = affinity;
            let line = bench.output(&process).await;
            line.strip_prefix("Cpus_allowed_list:").unwrap().trim().to_owned()
        };
        assert_eq!(allowed(json!(null)).await, online.trim());
        assert_eq!(allowed(json!({"final": "0"})).await, "0");
        if online.trim() != "0" {
            assert_eq!(allowed(json!({"final": "1"})).await, "1");
            assert_eq!(allowed(json!({"initial": "0", "final": "1"})).await, "1");
        }
    });
}

#[test]
fn the_cpus_before_the_cgroup() {
    Setup::new().run(async |bench| {
        let mut process = bench.process(&["true"]);
        process["execCPUAffinity"] = json!({"initial": " 0,"});
        bench.stop_at(Stage::Cgroup);
        let look = async {
            let helper = bench.stopped().await;
            let cpus = helper.status("Cpus_allowed_list");
            bench.go_through();
            bench.signal(&helper, 18);
            cpus
        };
        // What becomes of them then is the kernel's business: up to 6.1 it forgets them.
        assert_eq!(tokio::join!(bench.output(&process), look).1, "0");
    });
}

#[test]
fn the_session_and_the_parent() {
    Setup::new().run(async |bench| {
        let (started, process) = bench.waiting(bench.process(&[])).await;
        let own = std::process::id().to_string();
        let pid = started.pid.to_string();
        // ppid, pgrp, session, tty
        let fields = [4, 5, 6, 7].map(|number| process.field(number).to_owned());
        assert_eq!(fields, [own, pid.clone(), pid, "0".to_owned()]);
        assert_eq!(process.status("Threads"), "1");
        bench.signal(&process, 9);
    });
}
