// SPDX-License-Identifier: Apache-2.0
//! Profiles that are left to the runtime.

use serde_json::{Value, json};
use wedge_seccomp::Error;

use crate::{ALLOW, ERRNO, compile, profile, rule};

fn refused(profile: &Value) -> String {
    let err = compile(profile).unwrap_err();
    let known = matches!(err, Error::Unsupported { .. } | Error::Form(_));
    assert!(known, "{profile}: {err}");
    err.to_string()
}

#[test]
fn listeners_are_the_runtimes() {
    for profile in [
        profile(7, &[]),
        profile(ERRNO, &[rule("mkdir", 7)]),
        profile(ERRNO, &[rule("no_such_call", 7)]),
    ] {
        assert_eq!(refused(&profile), "seccomp action \"7\" is not supported");
    }
    let mut listener = profile(ALLOW, &[]);
    listener["listener_metadata"] = json!("data");
    assert!(compile(&listener).is_ok(), "nobody to tell it to");
    listener["listener_path"] = json!("/run/agent.sock");
    assert_eq!(refused(&listener), "seccomp listener \"/run/agent.sock\" is not supported");
}

#[test]
fn what_is_unknown_is_refused() {
    let with = |key: &str, value: Value| {
        let mut profile = profile(ALLOW, &[rule("mkdir", ERRNO)]);
        profile[key] = value;
        profile
    };
    let argument = |index: u64, op: i64| {
        let mut rule = rule("mkdir", ERRNO);
        rule["args"] = json!([{"index": index, "value": 0, "value_two": 0, "op": op}]);
        profile(ALLOW, &[rule])
    };
    let cases = [
        (with("default_action", json!(0)), "action \"0\""),
        (with("default_action", json!(10)), "action \"10\""),
        (with("architectures", json!(["s390x"])), "architecture \"s390x\""),
        (with("architectures", json!(["SCMP_ARCH_X86"])), "architecture \"SCMP_ARCH_X86\""),
        (with("flags", json!(["X"])), "flag \"X\""),
        (
            with("flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])),
            "flag \"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"",
        ),
        (profile(ALLOW, &[rule("", ERRNO)]), "system call \"\""),
        (argument(6, 1), "argument index \"6\""),
        (argument(0, 0), "operator \"0\""),
        (argument(0, 8), "operator \"8\""),
    ];
    for (profile, what) in cases {
        assert_eq!(refused(&profile), format!("seccomp {what} is not supported"));
    }
}

#[test]
fn names_that_only_a_newer_libseccomp_may_know_are_not_let_through() {
    for default in [4, 5, 6] {
        let denied = profile(default, &[rule("no_such_call", ERRNO)]);
        assert_eq!(refused(&denied), "seccomp system call \"no_such_call\" is not supported");
    }
}

#[test]
fn another_form_is_refused_and_garbage_is_an_error() {
    let mut unknown = rule("mkdir", ERRNO);
    unknown["priority"] = json!(1);
    for profile in [
        json!(null),
        json!({}),
        json!({"defaultAction": "SCMP_ACT_ALLOW"}),
        json!({"default_action": "SCMP_ACT_ALLOW"}),
        json!({"default_action": ALLOW, "another": 1}),
        profile(ALLOW, &[unknown]),
        profile(ALLOW, &[json!(null)]),
    ] {
        assert_eq!(refused(&profile), "unknown form of seccomp profile");
    }
    for garbage in [&b""[..], b"{", b"\xff"] {
        assert!(matches!(wedge_seccomp::compile(garbage), Err(Error::Json(_))));
    }
}
