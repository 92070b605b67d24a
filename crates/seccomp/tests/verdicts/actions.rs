// SPDX-License-Identifier: Apache-2.0
//! Actions and what they return, names, flags, architectures.

use serde_json::{Value, json};

use crate::bpf::{Call, run};
use crate::{
    AARCH64, ALLOW, ERRNO, I386, RET_ALLOW, RET_ENOSYS, RET_EPERM, RET_KILL_THREAD, X32_BIT,
    X86_64, compile, profile, rule, verdict,
};

// Numbers of mkdir(2), which all ABIs have, and differently.
const MKDIR: u32 = 83;
const MKDIR_I386: u32 = 39;

/// Action, `errnoRet`, and the kernel's result. Without `errnoRet` Trace returns EPERM as well.
const ACTIONS: &[(i64, Option<u64>, u32)] = &[
    (1, None, RET_KILL_THREAD),
    (2, None, RET_EPERM),
    (2, Some(0), 0x0005_0000),
    (2, Some(38), RET_ENOSYS),
    (2, Some(0x1_0005), 0x0005_0005), // Go's int16(…)
    (3, Some(5), 0x0003_0000),
    (4, None, RET_ALLOW),
    (5, None, 0x7ff0_0001),
    (5, Some(7), 0x7ff0_0007),
    (6, None, 0x7ffc_0000),
    (8, None, RET_KILL_THREAD),
    (9, None, 0x8000_0000),
];

#[test]
fn actions_of_rules() {
    for (action, ret, expected) in ACTIONS {
        let mut mkdir = rule("mkdir", *action);
        mkdir["errnoRet"] = json!(ret);
        let default = if *action == ALLOW { ERRNO } else { ALLOW };
        let profile = profile(default, &[mkdir, rule("execveat", default)]);
        assert_eq!(verdict(&profile, Call::new(X86_64, MKDIR)), *expected, "{action} {ret:?}");
    }
}

#[test]
fn default_actions() {
    for (action, ret, expected) in ACTIONS {
        let named = if *action == ALLOW { ERRNO } else { ALLOW };
        let mut profile = profile(*action, &[rule("execveat", named)]);
        profile["default_errno_ret"] = json!(ret);
        assert_eq!(verdict(&profile, Call::new(X86_64, MKDIR)), *expected, "{action} {ret:?}");
    }
}

#[test]
fn rules_that_say_the_same_as_the_default_are_skipped() {
    let mut errno_7 = rule("mkdir", ERRNO);
    errno_7["errnoRet"] = json!(7);
    // An argument index that would be refused shows that such a rule is not even looked at.
    let mut same = rule("rmdir", ERRNO);
    same["args"] = json!([{"index": 9, "value": 0, "value_two": 0, "op": 1}]);
    let profile = profile(ERRNO, &[errno_7, same, rule("execveat", ALLOW)]);
    assert_eq!(verdict(&profile, Call::new(X86_64, MKDIR)), 0x0005_0007, "another number");
    assert_eq!(verdict(&profile, Call::new(X86_64, 84)), RET_EPERM);
}

#[test]
fn kill_and_kill_thread_are_the_same_default() {
    let profile = profile(1, &[rule("mkdir", 8), rule("execveat", ALLOW)]);
    assert_eq!(verdict(&profile, Call::new(X86_64, MKDIR)), RET_KILL_THREAD);
}

#[test]
fn unknown_names_are_ignored_where_that_denies_them() {
    let long = "x".repeat(100);
    for default in [1, 2, 3, 8, 9] {
        let unknown = [rule("no_such_call", ALLOW), rule(&long, 5), rule("mkdir", ALLOW)];
        let profile = profile(default, &unknown);
        assert_eq!(verdict(&profile, Call::new(X86_64, MKDIR)), RET_ALLOW);
    }
    let skipped = [rule("no_such_call", ALLOW), rule("mkdir", ERRNO)];
    assert_eq!(verdict(&profile(ALLOW, &skipped), Call::new(X86_64, MKDIR)), RET_EPERM);
}

#[test]
fn a_profile_without_rules_is_its_default() {
    for syscalls in [json!(null), json!([])] {
        let profile = json!({"default_action": ALLOW, "syscalls": syscalls});
        assert_eq!(verdict(&profile, Call::new(X86_64, MKDIR)), RET_ALLOW);
        assert_eq!(verdict(&profile, Call::new(I386, MKDIR_I386)), RET_KILL_THREAD);
    }
}

#[test]
fn a_long_profile_of_nothing_but_its_default_compiles() {
    for archs in [json!(null), json!(["amd64", "x86", "x32"])] {
        for (default, expected) in [(ERRNO, RET_EPERM), (ALLOW, RET_ALLOW)] {
            let rules: Vec<_> = (0..40).map(|_| rule("mkdir", default)).collect();
            let mut profile = profile(default, &rules);
            profile["architectures"] = archs.clone();
            for nr in [0, MKDIR - 1, MKDIR] {
                assert_eq!(verdict(&profile, Call::new(X86_64, nr)), expected, "{archs} {nr}");
            }
        }
    }
}

#[test]
fn architectures() {
    let calls = [
        Call::new(X86_64, MKDIR),
        Call::new(I386, MKDIR_I386),
        Call::new(X86_64, X32_BIT | MKDIR),
        Call::new(AARCH64, 34),
        Call::new(0, MKDIR),
    ];
    let (yes, no) = (RET_ALLOW, RET_KILL_THREAD);
    let cases: &[(Value, [u32; 5])] = &[
        (json!(null), [yes, no, no, no, no]),
        (json!([]), [yes, no, no, no, no]),
        (json!(["amd64"]), [yes, no, no, no, no]),
        (json!(["x86"]), [yes, yes, no, no, no]), // the native one is always there
        (json!(["x32", "x32"]), [yes, no, yes, no, no]),
        (json!(["amd64", "x86", "x32"]), [yes, yes, yes, no, no]),
        (
            json!(["arm64", "riscv64", "ppc64le", "arm", "mipsel", "mipsel64", "mipsel64n32"]),
            [yes, no, no, yes, no],
        ),
    ];
    for (archs, expected) in cases {
        for default in [ERRNO, 1] {
            let mut profile = profile(default, &[rule("mkdir", ALLOW), rule("execveat", ALLOW)]);
            // mkdir is mkdirat there.
            profile["syscalls"].as_array_mut().unwrap().push(rule("mkdirat", ALLOW));
            profile["architectures"] = archs.clone();
            let program = compile(&profile).unwrap();
            let verdicts = calls.map(|call| run(program.filter(), call));
            assert_eq!(verdicts, *expected, "{archs}, default {default}");
        }
    }
}

#[test]
fn flags() {
    const LOG: &str = "SECCOMP_FILTER_FLAG_LOG";
    const SPEC_ALLOW: &str = "SECCOMP_FILTER_FLAG_SPEC_ALLOW";
    const TSYNC: &str = "SECCOMP_FILTER_FLAG_TSYNC";
    let cases = [
        (json!(null), 0), // what runc leaves of an empty list in config.json
        (json!([]), 0),
        (json!([TSYNC]), 0),
        (json!([LOG]), 2),
        (json!([SPEC_ALLOW]), 4),
        (json!([SPEC_ALLOW, TSYNC, LOG, LOG]), 6),
    ];
    for (flags, expected) in cases {
        let mut profile = profile(ALLOW, &[rule("mkdir", ERRNO)]);
        profile["flags"] = flags.clone();
        let program = compile(&profile).unwrap();
        assert_eq!(program.flags(), expected, "{flags}");
    }
    let program = compile(&profile(ALLOW, &[rule("mkdir", ERRNO)])).unwrap();
    assert_eq!(program.flags(), 0, "runc 1.1 has no flags at all");
}
