// SPDX-License-Identifier: Apache-2.0
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::encode::Encoder;

fn encoder_with_header() -> (Encoder, Header) {
    let mut encoder = Encoder::new();
    let header = Header {
        flags: flags::FIND_HOME | flags::SEARCH,
        uid: 1000,
        cwd: encoder.string(b"/work"),
        groups: encoder.bytes(&[1, 0, 0, 0, 2, 0, 0, 0]),
        arguments: encoder.table(["sh", "-c", ""], 0),
        candidates: encoder.table(["/bin/sh", "/usr/bin/sh"], 0),
        environment: encoder.table(["A=1"], 1),
        cgroups: encoder.table(Vec::<&str>::new(), 0),
        ..Header::default()
    };
    (encoder, header)
}

fn plan() -> Vec<u8> {
    let (encoder, header) = encoder_with_header();
    encoder.finish(header).unwrap()
}

#[test]
fn what_was_written_is_read() {
    let bytes = plan();
    let plan = Plan::parse(&bytes).unwrap();
    let header = *plan.header();
    assert_eq!((header.uid, header.version), (1000, VERSION));
    assert!(plan.has(flags::FIND_HOME) && !plan.has(flags::TERMINAL));
    assert_eq!(plan.string(header.cwd), c"/work");
    assert_eq!((plan.number(header.groups, 1), plan.number(header.groups, 2)), (Some(2), None));
    assert_eq!(plan.entries(header.arguments), 3);
    assert_eq!(plan.entry(header.arguments, 1), Some(c"-c"));
    assert_eq!(plan.entry(header.arguments, 2), Some(c""));
    assert_eq!(plan.entry(header.arguments, 3), None);
    assert_eq!((plan.entries(header.environment), plan.entries(header.cgroups)), (2, 0));
    assert_eq!(plan.entry(header.environment, 1), None, "room for HOME");
}

#[test]
fn broken_plans_are_refused() {
    let refused = |header: Header| {
        let (encoder, _) = encoder_with_header();
        Plan::parse(&encoder.finish(header).unwrap()).unwrap_err()
    };
    let (_, good) = encoder_with_header();
    let beyond = Slice { offset: u32::MAX - 7, len: 16 };
    refused(Header { flags: u32::MAX, ..good });
    refused(Header { cwd: beyond, ..good });
    refused(Header { cwd: Slice { offset: good.cwd.offset + 5, len: 0 }, ..good });
    refused(Header { groups: Slice { len: 5, ..good.groups }, ..good });
    refused(Header { seccomp: Slice { offset: 0, len: 0xffff_fff8 }, ..good });
    refused(Header { scheduler: Slice { offset: 4, len: 8 }, ..good });
    refused(Header { arguments: Slice { len: 0, ..good.arguments }, ..good });
    refused(Header { arguments: good.cgroups, ..good });
    refused(Header { candidates: Slice { len: 8, ..good.candidates }, ..good });
    refused(Header { environment: good.arguments, ..good });
    for length in [0, 1, Header::SIZE, plan().len() - 1] {
        assert_eq!(Plan::parse(&plan()[..length]).unwrap_err(), Invalid, "{length}");
    }
    let mut longer = plan();
    longer.push(0);
    assert_eq!(Plan::parse(&longer).unwrap_err(), Invalid);
}

#[test]
fn a_plan_that_is_too_long_is_not_written() {
    let (mut encoder, header) = encoder_with_header();
    encoder.bytes(&vec![0; LIMIT]);
    assert_eq!(encoder.finish(header), None);
}

/// Uses everything a plan offers, as the helper does.
fn use_up(plan: &Plan<'_>) {
    let header = plan.header();
    for table in [header.cgroups, header.candidates, header.arguments, header.environment] {
        for index in 0..=plan.entries(table) {
            plan.entry(table, index);
        }
    }
    for slice in [header.groups, header.seccomp, header.scheduler] {
        plan.number(slice, 0);
        plan.slice(slice);
    }
    for text in [header.cwd, header.keyring, header.apparmor] {
        plan.string(text);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(plan) = Plan::parse(&bytes) {
            use_up(&plan);
        }
    }

    #[test]
    fn changed_plans_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = plan();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(plan) = Plan::parse(&bytes) {
            use_up(&plan);
        }
    }
}
