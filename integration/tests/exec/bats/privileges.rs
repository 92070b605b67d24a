// SPDX-License-Identifier: Apache-2.0
//! capabilities.bats, seccomp.bats, scheduler.bats, ioprio.bats.

use anyhow::Result;
use serde_json::{Value, json};
use wedge_integration::Process;

use super::{Check, Want, as_1000, check, check_all, sh, skipped};
use crate::pair::Pair;

type Names = &'static [&'static str];

fn caps(process: Process, sets: &[(&str, &[&str])]) -> Process {
    let object = sets.iter().map(|(set, names)| ((*set).to_owned(), json!(names)));
    process.set("capabilities", Value::Object(object.collect()))
}

fn capabilities() -> Vec<Check> {
    // Inheritable, permitted, effective, bounding, ambient; the lower half of each.
    let awk = "/^Cap/ {printf \"%s \", substr($2, 9)}";
    let shown = || Process::new(["awk", awk, "/proc/self/status"]);
    let three = |names: Names| [("bounding", names), ("effective", names), ("permitted", names)];
    let kill: Names = &["CAP_KILL"];
    let all = ["bounding", "effective", "permitted", "inheritable", "ambient"].map(|s| (s, kill));
    let [b, e, p] = three(kill);
    let unknown = &three(&["CAP_UNKNOWN", "UNKNOWN_CAP"]);
    let admin = &three(&["CAP_SYS_ADMIN"]);
    let two = &three(&["CAP_KILL", "CAP_AUDIT_WRITE"]);
    let not_inheritable = &[b, e, p, ("ambient", kill)];
    let rows: [(_, _, &[(&str, Names)], _); 6] = [
        ("no capabilities", shown(), &[], "00000000 00000000 00000000 00000000 00000000 "),
        ("unknown ones", shown(), unknown, "00000000 00000000 00000000 00000000 00000000 "),
        ("some", shown(), admin, "00000000 00200000 00200000 00200000 00000000 "),
        ("exec --cap", shown(), two, "00000000 20000020 20000020 20000020 00000000 "),
        ("ambient", as_1000(shown()), &all, "00000020 00000020 00000020 00000020 00000020 "),
        (
            "ambient, but not inheritable",
            as_1000(shown()),
            not_inheritable,
            "00000000 00000000 00000000 00000020 00000000 ",
        ),
    ];
    let rows = rows.map(|(name, process, sets, shown)| {
        check(name, caps(process, sets), Want::Prints(0, shown))
    });
    rows.into_iter().collect()
}

fn new_privileges() -> [Check; 2] {
    let shown = || Process::new(["grep", "NoNewPrivs", "/proc/self/status"]);
    let free = shown().set("noNewPrivileges", false);
    [
        check("no new privileges", shown(), Want::Prints(0, "NoNewPrivs:\t1\n")),
        check("new privileges", free, Want::Prints(0, "NoNewPrivs:\t0\n")),
    ]
}

fn priorities() -> Vec<Check> {
    let deadline = json!({ "policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        "runtime": 42_000_000, "deadline": 1_000_000_000, "period": 1_000_000_000 });
    let of_itself = || Process::new(["sh", "-c", "grep ^policy /proc/$$/sched | tr -d ' '"]);
    vec![
        check(
            "scheduler: batch",
            of_itself().set("scheduler", json!({ "policy": "SCHED_BATCH" })),
            Want::Prints(0, "policy:3\n"),
        )
        .since("1.2"),
        check(
            "scheduler: deadline",
            of_itself().set("scheduler", deadline),
            Want::Prints(0, "policy:6\n"),
        )
        .since("1.2"),
        check(
            "ioprio",
            sh("ionice -p $$")
                .set("ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 3 })),
            Want::Prints(0, "best-effort: prio 3\n"),
        )
        .since("1.2"),
    ]
}

#[test]
fn of_processes() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec())?;
    check_all(&pair, &capabilities())?;
    check_all(&pair, &new_privileges())?;
    check_all(&pair, &priorities())?;
    pair.end()
}

fn rule(names: &[&str], action: &str, errno: &Value) -> Value {
    json!({ "names": names, "action": action, "errnoRet": errno })
}

/// With and without `no_new_privs`: the filter is then loaded at another time, by another right.
fn both(name: &'static str, script: &str, want: fn() -> Want) -> [Check; 2] {
    let process = sh(script);
    [
        check(name, process.clone(), want()),
        check(name, process.set("noNewPrivileges", false), want()),
    ]
}

#[test]
fn of_filters_that_allow_the_rest() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO", &Value::Null),
            rule(&["symlink", "symlinkat"], "SCMP_ACT_ERRNO", &json!(100)),
            rule(&["sync"], "SCMP_ACT_KILL", &Value::Null),
            rule(&["sethostname"], "SCMP_ACT_KILL_PROCESS", &Value::Null)] });
    let pair = Pair::new(&Pair::spec().set("/linux/seccomp", profile))?;
    let checks = [
        both("the default errno", "mkdir /tmp/x", || Want::Says(1, &["Operation not permitted"])),
        both("an errno", "ln -s a /tmp/x", || Want::Says(1, &["Network is down"])),
        both("kill", "exec sync", || Want::Prints(159, "")),
        both("kill the process", "exec hostname x", || Want::Prints(159, "")),
        both("mode", "grep ^Seccomp: /proc/self/status", || Want::Prints(0, "Seccomp:\t2\n")),
    ];
    check_all(&pair, checks.as_flattened())?;
    pair.end()
}

/// seccomp.bats: `defaultErrnoRet`; the profile of containerd but for one call.
#[test]
fn of_filters_that_deny_the_rest() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let mut profile: Value = serde_json::from_str(crate::differential::DEFAULT_PROFILE)?;
    if let Some(Value::Array(rules)) = profile.get_mut("syscalls") {
        for names in rules.iter_mut().filter_map(|rule| rule.get_mut("names")?.as_array_mut()) {
            names.retain(|name| !name.as_str().is_some_and(|name| name.starts_with("mkdir")));
        }
    }
    let spec = Pair::spec().set("/linux/seccomp", profile);
    let pair = Pair::new(&spec.set("/linux/seccomp/defaultErrnoRet", 6))?;
    let denied = || Want::Says(1, &["No such device or address"]);
    check_all(&pair, &both("defaultErrnoRet", "mkdir /tmp/x", denied))?;
    pair.end()
}
