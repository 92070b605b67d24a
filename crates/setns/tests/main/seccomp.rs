// SPDX-License-Identifier: Apache-2.0
//! The container's seccomp profile holds for execs, and asks no more of them than of runc.

use serde_json::{Value, json};

use crate::support::{Done, START, Setup};

/// What `ctr run --seccomp` of containerd 1.6 puts into config.json.
pub(crate) fn containerds() -> Value {
    serde_json::from_str(include_str!("../../../seccomp/tests/verdicts/containerd-1.6.json"))
        .unwrap()
}

/// A profile as in runc's state, of calls that are allowed; all others fail with EPERM.
fn allowing(calls: &str) -> Value {
    let rules: Vec<_> = calls
        .split_whitespace()
        .map(|name| json!({"name": name, "action": 4, "errnoRet": null, "args": []}))
        .collect();
    json!({"default_action": 2, "default_errno_ret": null, "architectures": null, "flags": null,
        "syscalls": rules})
}

/// What busybox itself needs for `true`.
const BUSYBOX: &str = "execve exit_group brk arch_prctl set_tid_address set_robust_list rseq \
    prlimit64 readlinkat readlink getrandom mprotect mmap getuid uname ioctl newfstatat";

#[test]
fn an_exec_is_filtered_whatever_its_privileges() {
    let mut setup = Setup::new();
    setup.config["linux"]["seccomp"] = containerds();
    setup.run(async |bench| {
        let all = json!(["CAP_SYS_ADMIN"]);
        let admin = json!({"bounding": all, "effective": all, "permitted": all});
        for capabilities in [json!(null), json!({}), admin] {
            for no_new_privileges in [false, true] {
                let mut process = bench.process(&["grep", "^Seccomp", "/proc/self/status"]);
                process["capabilities"] = capabilities.clone();
                process["noNewPrivileges"] = json!(no_new_privileges);
                let ours = bench.output(&process).await;
                assert_eq!(ours, "Seccomp:\t2\nSeccomp_filters:\t1\n");
                assert_eq!(ours, bench.output_of_runc(&process).await);

                // Its capability would allow this one.
                process["args"] = json!(["unshare", "-u", "true"]);
                let done = bench.exec(&process).await.unwrap();
                assert!(done.stderr.contains("Operation not permitted"), "{done:?}");
                // What it needed for the filter is gone.
                process["args"] = json!(["grep", "^Cap[IPEA]", "/proc/self/status"]);
                assert_eq!(bench.output(&process).await, bench.output_of_runc(&process).await);
            }
        }
    });
}

#[test]
fn little_is_called_under_the_filter() {
    for (calls, no_new_privileges) in [("close prctl", true), ("close prctl capset", false)] {
        let mut setup = Setup::new();
        setup.state["seccomp"] = allowing(&format!("{BUSYBOX} {calls}"));
        setup.run(async |bench| {
            let mut process = bench.process(&["true"]);
            process["noNewPrivileges"] = json!(no_new_privileges);
            assert_eq!(bench.output(&process).await, "");
        });
    }
}

#[test]
fn a_filter_that_forbids_the_end_of_an_exec() {
    let mut setup = Setup::new();
    setup.state["seccomp"] = allowing("close capset prctl write exit_group");
    setup.run(async |bench| {
        let done = bench.exec(&bench.process(&["true"])).await.unwrap();
        let stderr = "exec /bin/true: operation not permitted\n".to_owned();
        assert_eq!(done, Done { code: 255, stdout: String::new(), stderr });
    });
}

#[test]
fn capabilities_that_cannot_be_given_back_start_nothing() {
    let mut setup = Setup::new();
    setup.state["seccomp"] = allowing("close prctl write execve exit_group");
    setup.run(async |bench| {
        let error = bench.error(&bench.process(&["true"])).await;
        let text = "unable to apply caps: can't apply capabilities: operation not permitted";
        assert_eq!(error, format!("{START}{text}"));
    });
}
