// SPDX-License-Identifier: Apache-2.0
//! A few process specifications in containers of every kind.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use wedge_integration::{Lab, Process, Spec};

use super::{as_user, compare, dumping, skipped, without};
use crate::dump;
use crate::pair::{Pair, Side};

/// containerd 1.6's default profile.
pub(crate) const DEFAULT_PROFILE: &str =
    include_str!("../../../../crates/seccomp/tests/verdicts/containerd-1.6.json");

fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({ "type": kind })).collect()
}

/// A profile that does something to whoever makes a directory.
fn on_mkdir(action: &str, errno: &Value) -> Value {
    let names = json!(["mkdir", "mkdirat"]);
    let rule = json!({ "names": names, "action": action, "errnoRet": errno });
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

/// Runs the cases for every container in both of the pair.
fn check(pair: &Pair) -> Result<()> {
    let making = || Process::new(dump::args("mkdir /tmp/made 2>&1 && rmdir /tmp/made"));
    let free = || making().set("noNewPrivileges", false);
    compare(
        pair,
        vec![
            ("root", making()),
            ("user", as_user(making())),
            ("terminal", as_user(dumping()).set("terminal", true)),
            ("privileges may grow", free()),
            ("privileges of a user may grow", as_user(free())),
            ("no capabilities", free().set("capabilities", json!({}))),
            ("the container's capabilities", without(free(), "capabilities")),
            ("no limits", without(dumping(), "rlimits")),
            ("not found", Process::new(["nofoo"])),
        ],
    )
}

fn check_kind(spec: &Spec) -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(spec)?;
    check(&pair)?;
    pair.end()
}

#[test]
fn with_the_default_profile() -> Result<()> {
    let profile: Value = serde_json::from_str(DEFAULT_PROFILE)?;
    check_kind(&Pair::spec().set("/linux/seccomp", profile))
}

#[test]
fn with_a_filter_that_denies() -> Result<()> {
    check_kind(&Pair::spec().set("/linux/seccomp", on_mkdir("SCMP_ACT_ERRNO", &json!(18))))
}

#[test]
fn with_a_filter_that_kills() -> Result<()> {
    check_kind(&Pair::spec().set("/linux/seccomp", on_mkdir("SCMP_ACT_KILL", &Value::Null)))
}

#[test]
fn in_a_user_namespace() -> Result<()> {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let kinds = namespaces(&["pid", "ipc", "uts", "mount", "network", "user"]);
    let spec = Pair::spec().set("/linux/namespaces", kinds);
    check_kind(&spec.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map))
}

/// runc #4390: a namespace that the user namespace does not own.
#[test]
fn in_a_user_namespace_and_the_hosts_network() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let kinds = namespaces(&["pid", "ipc", "mount", "user"]);
    let mounts = json!([{ "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }]);
    let spec = Pair::spec().set("/linux/namespaces", kinds).set("/mounts", mounts);
    let spec = spec.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let pair = Pair::new(&spec)?;
    check(&pair)?;
    let user = |uid, gid, groups: &[u32]| {
        dumping().set("user", json!({ "uid": uid, "gid": gid, "additionalGids": groups }))
    };
    let cases = vec![
        ("unmapped user", user(70_000, 0, &[])),
        ("unmapped group", user(0, 70_000, &[])),
        ("unmapped groups", user(0, 0, &[5, 70_000])),
        ("last of the mapped", user(65_535, 65_535, &[65_534])),
    ];
    compare(&pair, cases)?;
    pair.end()
}

#[test]
fn in_the_hosts_pid_namespace() -> Result<()> {
    check_kind(&Pair::spec().host_pid())
}

#[test]
fn in_the_hosts_network_and_a_cgroup_namespace() -> Result<()> {
    check_kind(&Pair::spec().set("/linux/namespaces", namespaces(&["pid", "mount", "cgroup"])))
}

/// As the containers of a pod, and as one that joins all of another's.
#[test]
fn in_the_namespaces_of_another() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let other = Side::start(&lab, "runtime", &Pair::spec())?;
    let join =
        |kind: &str, name: &str| json!({ "type": kind, "path": other.init.path("ns").join(name) });
    let own = |kind: &str| json!({ "type": kind });
    let shared =
        [join("pid", "pid"), join("network", "net"), join("ipc", "ipc"), join("uts", "uts")];
    let pod = [shared.to_vec(), vec![own("mount")]].concat();
    let pair = Pair::on(lab, &Pair::spec().set("/linux/namespaces", pod))?;
    check(&pair)?;
    other.end()?;
    pair.end()
}

/// What an exec takes from the configuration, and not from its process.
#[test]
fn with_all_that_an_exec_inherits() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let spec = Pair::spec()
        .set("/process/oomScoreAdj", 500)
        .set("/process/user", json!({ "uid": 1000, "gid": 1000, "umask": 63 }))
        .set("/process/capabilities", json!({ "bounding": ["CAP_CHOWN"] }))
        .set("/linux/personality", json!({ "domain": "LINUX32" }))
        .set("/linux/resources/cpu", json!({ "cpus": "0" }))
        .set("/linux/resources/pids", json!({ "limit": 50 }));
    let pair = Pair::new(&spec)?;
    compare(
        &pair,
        vec![
            ("config: root", dumping().set("oomScoreAdj", 100)),
            ("config: user", as_user(without(dumping(), "capabilities"))),
            ("config: terminal", dumping().set("terminal", true)),
        ],
    )?;
    for side in pair.sides() {
        let score = fs::read_to_string(side.init.path("oom_score_adj"))?;
        assert_eq!(score, "500\n");
    }
    pair.end()
}

/// runc then changes the root with MS_MOVE and chroot.
#[test]
fn in_a_container_that_was_not_pivoted() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    lab.options_mut().no_pivot_root = true;
    let pair = Pair::on(lab, &Pair::spec())?;
    check(&pair)?;
    pair.end()
}

/// The session keyring is then the shim's.
#[test]
fn without_a_keyring_of_its_own() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    lab.options_mut().no_new_keyring = true;
    let pair = Pair::on(lab, &Pair::spec())?;
    check(&pair)?;
    pair.end()
}
