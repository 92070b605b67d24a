// SPDX-License-Identifier: Apache-2.0
//! Process specifications in a container of the usual kind.

use anyhow::Result;
use serde_json::{Value, json};
use wedge_integration::Process;

use super::{Case, as_user, compare, dumping, skipped, without};
use crate::pair::Pair;

/// `process.capabilities` of some sets.
pub(super) fn caps(sets: &[(&str, &[&str])]) -> Value {
    let object = sets.iter().map(|(set, names)| ((*set).to_owned(), json!(names)));
    Value::Object(object.collect())
}

fn identities() -> Vec<Case> {
    let user = |user: Value| dumping().set("user", user);
    vec![
        ("root", dumping()),
        ("user", as_user(dumping())),
        ("a group", user(json!({ "uid": 0, "gid": 42 }))),
        ("an unknown user", user(json!({ "uid": 4242, "gid": 4242, "additionalGids": [0] }))),
        ("groups", user(json!({ "uid": 0, "gid": 0, "additionalGids": [5, 7, 1000] }))),
        ("groups of a user", user(json!({ "uid": 1000, "gid": 5, "additionalGids": [7, 5] }))),
        (
            "group beyond 31 bits",
            user(json!({ "uid": 1000, "gid": 1000, "additionalGids": [4_294_967_294_u32] })),
        ),
        ("no user", without(dumping(), "user")),
        ("umask of the process", user(json!({ "uid": 0, "gid": 0, "umask": 63 }))),
    ]
}

fn privileges() -> Vec<Case> {
    let some: &[&str] = &["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"];
    let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
    let with = |process: Process, sets: &[(&str, &[&str])]| process.set("capabilities", caps(sets));
    let three = |names| [("bounding", names), ("effective", names), ("permitted", names)];
    let [b, e, p] = three(some);
    let unknown: &[&str] = &["CAP_NEW", "CAP_KILL", "KILL"];
    vec![
        ("no capabilities", with(dumping(), &[])),
        ("no capabilities of a user", with(as_user(dumping()), &[])),
        ("some capabilities", with(dumping(), &[b, ("effective", &["CAP_KILL"]), p])),
        ("all sets", with(dumping(), &sets.map(|set| (set, some)))),
        ("all sets of a user", with(as_user(dumping()), &sets.map(|set| (set, some)))),
        ("ambient but not inheritable", with(as_user(dumping()), &[b, e, p, ("ambient", some)])),
        ("effective but not permitted", with(as_user(dumping()), &[b, e])),
        ("more than its container", with(dumping(), &three(&["CAP_SYS_TIME"]))),
        ("capabilities absent", without(dumping(), "capabilities")),
        ("unknown capabilities", with(dumping(), &three(unknown))),
        ("privileges may grow", dumping().set("noNewPrivileges", false)),
        ("privileges of a user may grow", as_user(dumping()).set("noNewPrivileges", false)),
        ("privileges absent", without(as_user(dumping()), "noNewPrivileges")),
    ]
}

#[test]
fn identity() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec())?;
    compare(&pair, [identities(), privileges()].concat())?;
    pair.end()
}

fn terminals() -> Vec<Case> {
    let terminal = || dumping().set("terminal", true);
    let size = |height: u32, width: u32| json!({ "height": height, "width": width });
    vec![
        ("terminal", terminal()),
        ("terminal of a user", as_user(terminal())),
        ("terminal of 10 by 110", terminal().set("consoleSize", size(10, 110))),
        ("terminal of no height", terminal().set("consoleSize", size(0, 110))),
        ("terminal of huge size", terminal().set("consoleSize", size(70_000, 110))),
        ("a size and no terminal", dumping().set("consoleSize", size(10, 110))),
    ]
}

fn limits() -> Vec<Case> {
    let limit = |name: &str, soft: u64, hard: u64| json!({ "type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard });
    let with = |limits: &[Value]| dumping().set("rlimits", json!(limits));
    let (page, files) = (1 << 30, |soft, hard| limit("NOFILE", soft, hard));
    vec![
        ("limits below", with(&[files(64, 128), limit("CORE", 1, 2), limit("AS", page, page)])),
        // Neither is possible without CAP_SYS_RESOURCE; with it only the first is not.
        ("limit above", with(&[files(1 << 40, 1 << 40)])),
        ("limit raised", with(&[files(1 << 21, 1 << 21)])),
        ("soft above hard", with(&[files(20, 10)])),
        ("no limits", with(&[])),
        ("limits absent", without(dumping(), "rlimits")),
        ("one limit twice", with(&[files(20, 100), files(30, 90)])),
        ("unknown limit", with(&[limit("NEW", 20, 10)])),
        ("limit without its prefix", with(&[json!({ "type": "CORE", "soft": 1, "hard": 1 })])),
    ]
}

fn directories() -> Vec<Case> {
    let cwd = |path: &str| dumping().set("cwd", path);
    vec![
        ("cwd", cwd("/tmp")),
        ("cwd with dots", cwd("/tmp/../etc/.")),
        ("cwd missing", cwd("/nonexistent")),
        ("cwd a file", cwd("/etc/passwd")),
        ("cwd relative", cwd("tmp")),
        ("cwd empty", cwd("")),
        ("cwd in proc", cwd("/proc/self")),
        ("cwd by descriptor", cwd("/proc/self/fd/7")),
    ]
}

fn environments() -> Vec<Case> {
    let all = |env: &[&str]| dumping().set("env", json!(env));
    vec![
        ("environment", all(&["PATH=/bin", "A=1", "B=x=y z", "HOME=/h", "N=a\nb", "E="])),
        ("duplicates", all(&["A=1", "PATH=/lost", "B=2", "A=3", "PATH=/lost:/bin"])),
        ("an empty home", all(&["PATH=/bin", "HOME="])),
        ("environment empty", all(&[])),
        ("environment absent", without(dumping(), "env")),
        ("environment without =", all(&["PATH=/bin", "A"])),
        ("environment without name", all(&["PATH=/bin", "=A"])),
        ("environment with NUL", all(&["PATH=/bin", "A=b\0c"])),
    ]
}

fn attributes() -> Vec<Case> {
    let both = |value: Value| dumping().set("execCPUAffinity", value);
    let idle = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    vec![
        ("score of the process", dumping().set("oomScoreAdj", 500)),
        ("label", dumping().set("selinuxLabel", "a:b:c:d")),
        ("empty profile", dumping().set("apparmorProfile", "")),
        ("scheduler", dumping().set("scheduler", json!({ "policy": "SCHED_BATCH", "nice": 7 }))),
        ("io priority", dumping().set("ioPriority", idle)),
        ("affinity", both(json!({ "initial": "0", "final": "1" }))),
        ("affinity that is wrong", both(json!({ "initial": "3-1" }))),
        // The shell has handlers of its own.
        ("signals", Process::new(["grep", "-E", "Sig[PBIC]|Shd", "/proc/self/status"])),
    ]
}

#[test]
fn surroundings() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec())?;
    let cases = [terminals(), limits(), directories(), environments(), attributes()];
    compare(&pair, cases.concat())?;
    pair.end()
}
