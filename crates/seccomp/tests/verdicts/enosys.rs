// SPDX-License-Identifier: Apache-2.0
//! System calls newer than the profile.

use serde_json::json;

use crate::bpf::{Call, run};
use crate::{
    ALLOW, ERRNO, I386, RET_ALLOW, RET_ENOSYS, RET_EPERM, RET_KILL_THREAD, X32_BIT, X86_64,
    compile, profile, rule, verdict,
};

// The largest one named below: execveat is 322 on x86-64, 545 on x32, 358 on i386.
const LARGEST: &str = "execveat";
const X86_64_LARGEST: u32 = 322;
const X32_LARGEST: u32 = X32_BIT | 545;
const I386_LARGEST: u32 = 358;

#[test]
fn above_the_largest_number_of_each_abi_nothing_exists() {
    let program = compile(&profile(ERRNO, &[rule("mkdir", ALLOW), rule(LARGEST, ALLOW)])).unwrap();
    let verdict = |arch, nr| run(program.filter(), Call::new(arch, nr));
    for (arch, largest) in [(X86_64, X86_64_LARGEST), (X86_64, X32_LARGEST), (I386, I386_LARGEST)] {
        assert_eq!(verdict(arch, largest - 1), RET_EPERM, "{arch:#x} {largest}");
        assert_eq!(verdict(arch, largest), RET_ALLOW, "{arch:#x} {largest}");
        assert_eq!(verdict(arch, largest + 1), RET_ENOSYS, "{arch:#x} {largest}");
    }
    assert_eq!(verdict(X86_64, X32_BIT - 1), RET_ENOSYS, "the largest without bit 30");
    // A tracer sets -1 to skip a call; bit 30 is in it.
    assert_eq!(verdict(X86_64, u32::MAX), RET_ENOSYS);
    assert_eq!(verdict(I386, u32::MAX), RET_ENOSYS);
    assert_eq!(verdict(0, 1000), RET_KILL_THREAD, "not one of the profile's architectures");
}

#[test]
fn only_restrictive_defaults_have_it() {
    let above = Call::new(X86_64, X86_64_LARGEST + 1);
    for (default, expected) in [
        (1, RET_ENOSYS),
        (2, RET_ENOSYS),
        (3, RET_ENOSYS),
        (8, RET_ENOSYS),
        (9, RET_ENOSYS),
        (4, RET_ALLOW),
        (5, 0x7ff0_0001),
        (6, 0x7ffc_0000),
    ] {
        let named = if default == ALLOW { ERRNO } else { ALLOW };
        assert_eq!(
            verdict(&profile(default, &[rule(LARGEST, named)]), above),
            expected,
            "{default}"
        );
    }
}

#[test]
fn without_x32_its_calls_are_of_a_bad_architecture() {
    let mut profile = profile(ERRNO, &[rule(LARGEST, ALLOW)]);
    profile["architectures"] = json!(["amd64", "x86"]);
    assert_eq!(verdict(&profile, Call::new(X86_64, X32_BIT | 1000)), RET_KILL_THREAD);
    assert_eq!(verdict(&profile, Call::new(X86_64, X86_64_LARGEST + 1)), RET_ENOSYS);
}

#[test]
fn the_native_architecture_has_it_without_being_named() {
    for archs in [json!(null), json!(["x86"])] {
        let mut profile = profile(ERRNO, &[rule(LARGEST, ALLOW)]);
        profile["architectures"] = archs;
        assert_eq!(verdict(&profile, Call::new(X86_64, X86_64_LARGEST + 1)), RET_ENOSYS);
    }
}

#[test]
fn skipped_rules_count_and_unknown_names_do_not() {
    let profile =
        profile(ERRNO, &[rule("mkdir", ALLOW), rule(LARGEST, ERRNO), rule("nope", ALLOW)]);
    assert_eq!(verdict(&profile, Call::new(X86_64, X86_64_LARGEST)), RET_EPERM);
    assert_eq!(verdict(&profile, Call::new(X86_64, X86_64_LARGEST + 1)), RET_ENOSYS);
}

#[test]
fn an_abi_without_a_named_call_is_left_to_the_filter() {
    // vm86 is of i386 only; its number on x86-64 is one of libseccomp's own below zero.
    let vm86 = profile(ERRNO, &[rule("vm86", ALLOW)]);
    assert_eq!(verdict(&vm86, Call::new(X86_64, 1000)), RET_EPERM);
    assert_eq!(verdict(&vm86, Call::new(X86_64, X32_BIT | 1000)), RET_EPERM);
    assert_eq!(verdict(&vm86, Call::new(I386, 166)), RET_ALLOW);
    assert_eq!(verdict(&vm86, Call::new(I386, 167)), RET_ENOSYS);
    // 0 on x86-64 is read, and runc takes it for nothing.
    let read = profile(ERRNO, &[rule("read", ALLOW)]);
    assert_eq!(verdict(&read, Call::new(X86_64, 1000)), RET_EPERM);
}
