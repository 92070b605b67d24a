// SPDX-License-Identifier: Apache-2.0
//! Conditions on arguments.

use serde_json::{Value, json};

use crate::bpf::{Call, run};
use crate::{ALLOW, ERRNO, I386, RET_ALLOW, RET_EPERM, X86_64, compile, profile};

const SOCKET: u32 = 41;

fn condition(index: u64, op: i64, value: u64, value_two: u64) -> Value {
    json!({"index": index, "value": value, "value_two": value_two, "op": op})
}

fn denies_socket(conditions: &[Value]) -> impl Fn(&[u64]) -> bool + use<> {
    let rule = json!({"name": "socket", "action": ERRNO, "errnoRet": null, "args": conditions});
    let program = compile(&profile(ALLOW, &[rule])).unwrap();
    move |args| {
        let mut call = Call::new(X86_64, SOCKET);
        call.args[..args.len()].copy_from_slice(args);
        match run(program.filter(), call) {
            RET_EPERM => true,
            RET_ALLOW => false,
            other => panic!("{call:x?}: {other:#x}"),
        }
    }
}

/// Values whose halves compare differently from the whole.
const VALUES: [u64; 12] = [
    0,
    1,
    7,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7_0000_0000,
    0x7_0000_0007,
    0x7_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

type Compare = fn(&u64, &u64) -> bool;

#[test]
fn operators_compare_64_bits_unsigned() {
    let operators: [(i64, Compare); 6] =
        [(1, u64::eq), (2, u64::ne), (3, u64::gt), (4, u64::ge), (5, u64::lt), (6, u64::le)];
    for (op, compare) in operators {
        for operand in VALUES {
            // The second value is for the masked comparison only.
            let denies = denies_socket(&[condition(1, op, operand, 3)]);
            for value in VALUES {
                let expected = compare(&value, &operand);
                assert_eq!(denies(&[0, value]), expected, "operator {op}: {value:#x} {operand:#x}");
            }
        }
    }
}

#[test]
fn the_first_value_of_masked_eq_is_the_mask() {
    for (mask, datum) in
        [(0x6, 0x2), (0x7_0000_0001, 0x3_0000_0001), (u64::MAX, 7), (0x7e02_0000, 0)]
    {
        let denies = denies_socket(&[condition(0, 7, mask, datum)]);
        for value in VALUES.into_iter().chain([2, 3, 6, 0xfa, 0x3_0000_0001, 0x2_0000, datum]) {
            assert_eq!(
                denies(&[value]),
                value & mask == datum,
                "{value:#x} & {mask:#x} == {datum:#x}"
            );
        }
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold() {
    let denies = denies_socket(&[condition(0, 1, 2, 0), condition(5, 4, 10, 0)]);
    assert!(denies(&[2, 0, 0, 0, 0, 10]));
    assert!(!denies(&[2, 0, 0, 0, 0, 9]));
    assert!(!denies(&[1, 0, 0, 0, 0, 10]));
}

#[test]
fn as_soon_as_an_argument_has_two_conditions_any_will_do() {
    let denies =
        denies_socket(&[condition(0, 1, 2, 0), condition(1, 1, 5, 0), condition(0, 1, 3, 0)]);
    assert!(denies(&[2, 0]) && denies(&[3, 0]), "either of the two");
    assert!(denies(&[0, 5]), "and the one on another argument too");
    assert!(!denies(&[0, 0]));
    let between = denies_socket(&[condition(0, 3, 10, 0), condition(0, 5, 20, 0)]);
    assert!(between(&[15]) && between(&[30]) && between(&[0]), "not a range");
}

#[test]
fn several_rules_for_one_call_add_up() {
    let rule =
        |args: Value| json!({"name": "socket", "action": ERRNO, "errnoRet": 5, "args": args});
    let mut profile = profile(
        ALLOW,
        &[
            rule(json!([condition(0, 1, 2, 0)])),
            rule(json!([condition(0, 1, 2, 0)])),
            rule(json!([condition(0, 1, 4, 0), condition(1, 2, 1, 0)])),
        ],
    );
    let verdict = |profile: &Value, family, kind| {
        let call = Call::new(X86_64, SOCKET).arg(0, family).arg(1, kind);
        run(compile(profile).unwrap().filter(), call)
    };
    assert_eq!(verdict(&profile, 2, 1), 0x0005_0005);
    assert_eq!(verdict(&profile, 4, 2), 0x0005_0005);
    assert_eq!(verdict(&profile, 4, 1), RET_ALLOW);
    profile["syscalls"].as_array_mut().unwrap().push(rule(json!(null)));
    assert_eq!(verdict(&profile, 4, 1), 0x0005_0005, "a rule without conditions covers the others");
}

#[test]
fn socket_calls_of_i386_are_covered_both_ways() {
    let rule = json!({"name": "socket", "action": ERRNO, "errnoRet": null, "args": []});
    let program = compile(&profile(ALLOW, &[rule])).unwrap();
    let verdict = |call| run(program.filter(), call);
    assert_eq!(verdict(Call::new(I386, 359)), RET_EPERM, "socket");
    assert_eq!(verdict(Call::new(I386, 102).arg(0, 1)), RET_EPERM, "socketcall(SYS_SOCKET)");
    assert_eq!(verdict(Call::new(I386, 102).arg(0, 2)), RET_ALLOW, "socketcall(SYS_BIND)");
}
