// SPDX-License-Identifier: Apache-2.0
//! The same verdicts as the program that the installed runc loads.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use libseccomp::{ScmpArch, ScmpSyscall};
use serde_json::{Value, json};

use crate::bpf::{Call, run};
use crate::{AARCH64, I386, X32_BIT, X86_64};

/// What `ctr run --seccomp` of containerd 1.6 puts into config.json.
const CONTAINERD: &str = include_str!("containerd-1.6.json");

/// A container of runc's, in a state directory of its own.
struct Container {
    dir: tempfile::TempDir,
    id: String,
}

impl Container {
    fn start(profile: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let random = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        let id = format!("wedge-seccomp-{random}");
        let rootfs = dir.path().join("rootfs");
        for sub in ["bin", "proc"] {
            fs::create_dir_all(rootfs.join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/busybox", "sleep", "1000"],
                "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"cgroupsPath": format!("/{id}"), "seccomp": profile,
                "namespaces": [{"type": "pid"}, {"type": "mount"}]},
        });
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let container = Self { dir, id };
        let log = container.path("log");
        container.runc(&["--log", log.to_str().unwrap(), "run", "--detach", &container.id]);
        container
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    #[expect(clippy::disallowed_methods, reason = "a test without a reaper: nobody else waits")]
    fn runc(&self, args: &[&str]) {
        let status = Command::new("runc")
            .arg("--root")
            .arg(self.path("state"))
            .args(args)
            .current_dir(self.dir.path())
            // Pipes would stay open in the container, and be waited for.
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(status.unwrap().success(), "runc {args:?}: {log}");
    }

    fn state(&self) -> Value {
        let path = self.path("state").join(Path::new(&self.id)).join("state.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.runc(&["delete", "--force", &self.id]);
    }
}

/// What to look at closely: numbers with conditions, per audit architecture, and values around
/// those of the conditions.
fn conditions(profile: &Value) -> (BTreeSet<(u32, u32)>, BTreeSet<u64>) {
    let mut numbers = BTreeSet::from([(I386, 102), (I386, 117)]); // socketcall, ipc
    let mut values = BTreeSet::from([0, 1, 1 << 31, 1 << 32, u64::MAX]);
    for rule in profile["syscalls"].as_array().unwrap() {
        let args = rule["args"].as_array().unwrap();
        if args.is_empty() {
            continue;
        }
        let abis = [(X86_64, ScmpArch::X8664), (X86_64, ScmpArch::X32), (I386, ScmpArch::X86)];
        for (audit, arch) in abis {
            let name = rule["name"].as_str().unwrap();
            let nr = ScmpSyscall::from_name_by_arch(name, arch).map(ScmpSyscall::as_raw_syscall);
            numbers.extend(nr.ok().and_then(|nr| Some((audit, u32::try_from(nr).ok()?))));
        }
        for value in args.iter().flat_map(|arg| [&arg["value"], &arg["value_two"]]) {
            let value = value.as_u64().unwrap();
            values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), !value]);
            values.extend([value | 1 << 32, value << 32, value & value.wrapping_sub(1)]);
        }
    }
    (numbers, values)
}

/// The calls to try: every number there is and some there are not, on every ABI, and on other
/// architectures.
fn calls(profile: &Value) -> Vec<Call> {
    let (conditional, values) = conditions(profile);
    let mut calls = Vec::new();
    for arch in [X86_64, I386, AARCH64, 0] {
        let edges = [X32_BIT - 1, 0x8000_0000, u32::MAX];
        for nr in (0..600).chain(X32_BIT..X32_BIT + 600).chain(edges) {
            let call = Call::new(arch, nr);
            calls.extend([call, Call { args: [u64::MAX; 6], ..call }]);
            if !conditional.contains(&(arch, nr)) {
                continue;
            }
            for value in &values {
                calls.push(Call { args: [*value; 6], ..call });
                calls.extend((0..6).map(|index| call.arg(index, *value)));
                calls.extend(values.iter().map(|second| call.arg(0, *value).arg(1, *second)));
            }
        }
    }
    for multiplexed in [102, 117] {
        calls.extend((0..32).map(|call| Call::new(I386, multiplexed).arg(0, call)));
    }
    calls
}

/// The lengths of runc's program and of ours, which say the same.
fn same_as_runc(oci: &Value) -> (usize, usize) {
    let container = Container::start(oci);
    let state = container.state();
    let pid = i32::try_from(state["init_process_pid"].as_i64().unwrap()).unwrap();
    let theirs = wedge_sys::seccomp_filter_of(pid).unwrap();
    let profile = &state["config"]["seccomp"];

    let start = Instant::now();
    let program = wedge_seccomp::compile(profile.to_string().as_bytes()).unwrap();
    let took = start.elapsed();
    let calls = calls(profile);
    println!(
        "{} rules: {} instructions of runc's, {} of ours in {took:?}; {} calls",
        profile["syscalls"].as_array().unwrap().len(),
        theirs.len() / 8,
        program.insns(),
        calls.len()
    );
    let mut verdicts = BTreeSet::new();
    for call in calls {
        let (theirs, ours) = (run(&theirs, call), run(program.filter(), call));
        assert_eq!(ours, theirs, "{ours:#x}, and runc {theirs:#x}, to {call:x?}");
        verdicts.insert(ours);
    }
    assert!(verdicts.len() >= 4, "a comparison that saw only {verdicts:x?}");
    (theirs.len() / 8, program.insns())
}

#[test]
fn containerds_default_profile() {
    let (theirs, ours) = same_as_runc(&serde_json::from_str(CONTAINERD).unwrap());
    assert!(ours * 2 < theirs, "{ours} instructions, not far from runc's {theirs}");
}

/// Rules of every kind, about calls that neither runc nor busybox makes.
fn odd_rules() -> Vec<Value> {
    let masked = json!({"index": 2, "value": 0x7_0000_00f0_u64, "valueTwo": 0x1_0000_0010_u64,
        "op": "SCMP_CMP_MASKED_EQ"});
    let compare =
        |index: u32, op: &str, value: u64| json!({"index": index, "value": value, "op": op});
    vec![
        json!({"names": ["socket", "semget"], "action": "SCMP_ACT_LOG",
            "args": [compare(0, "SCMP_CMP_EQ", 38)]}),
        json!({"names": ["mq_open", "socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65_606}),
        json!({"names": ["mq_notify"], "action": "SCMP_ACT_TRACE", "errnoRet": 9}),
        json!({"names": ["mq_unlink"], "action": "SCMP_ACT_TRACE"}),
        json!({"names": ["swapon"], "action": "SCMP_ACT_KILL_PROCESS"}),
        json!({"names": ["swapoff"], "action": "SCMP_ACT_KILL"}),
        json!({"names": ["reboot"], "action": "SCMP_ACT_TRAP", "args": [masked]}),
        json!({"names": ["acct"], "action": "SCMP_ACT_TRAP",
            "args": [compare(0, "SCMP_CMP_GT", 0x2_0000_0005), compare(1, "SCMP_CMP_LE", 7)]}),
        json!({"names": ["syslog"], "action": "SCMP_ACT_TRAP",
            "args": [compare(0, "SCMP_CMP_LT", 2), compare(0, "SCMP_CMP_GE", 9),
                compare(1, "SCMP_CMP_NE", 4)]}),
    ]
}

#[test]
fn rules_of_every_kind_added_to_containerds() {
    let mut profile: Value = serde_json::from_str(CONTAINERD).unwrap();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    for rule in rules.iter_mut() {
        rule["names"].as_array_mut().unwrap().retain(|name| {
            !["socket", "semget", "mq_open", "mq_notify", "mq_unlink", "socketcall"]
                .contains(&name.as_str().unwrap())
        });
    }
    rules.extend(odd_rules());
    rules.push(json!({"names": ["no_such_call"], "action": "SCMP_ACT_ALLOW"}));
    profile["defaultErrnoRet"] = json!(13);
    same_as_runc(&profile);
}

#[test]
fn a_short_profile_that_allows() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": odd_rules(),
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]});
    same_as_runc(&profile);
}

#[test]
fn a_short_profile_that_logs_on_this_architecture_only() {
    let mut rules = odd_rules();
    rules.push(json!({"names": ["mkdir"], "action": "SCMP_ACT_LOG"}));
    same_as_runc(&json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": rules}));
}
