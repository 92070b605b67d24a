// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{CpuSet, ListError, MAX_CPU};

fn set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::default();
    for cpu in cpus {
        set.insert_range(*cpu, *cpu);
    }
    set
}

/// The cases of runc's TestToCPUSet.
#[test]
fn runc_lists() {
    let cases: &[(&str, &[usize])] = &[
        ("0", &[0]),
        ("1", &[1]),
        ("0-1", &[0, 1]),
        ("0,1", &[0, 1]),
        (",0,1,", &[0, 1]),
        ("0-3", &[0, 1, 2, 3]),
        ("0,1,2-3", &[0, 1, 2, 3]),
        ("4-7", &[4, 5, 6, 7]),
        ("16", &[16]),
        ("1, 2, 1-2", &[1, 2]),
        ("    , 1   , 3  ,  5-7,    ", &[1, 3, 5, 6, 7]),
        ("0-3,32-33", &[0, 1, 2, 3, 32, 33]),
        ("127-129, 1", &[1, 127, 128, 129]),
        ("1023", &[1023]),
        ("1024", &[1024]),
        ("8191", &[8191]),
        ("4096-4098", &[4096, 4097, 4098]),
        ("0,65536", &[0, 65536]),
        ("007", &[7]),
    ];
    for (text, cpus) in cases {
        assert_eq!(CpuSet::parse_list(text), Ok(set(cpus)), "{text:?}");
    }
}

#[test]
fn runc_list_errors() {
    let syntax = |text: &str| format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
    let large = "values larger than 65536 are not supported";
    let cases = [
        ("-", syntax("")),
        ("1-", syntax("")),
        ("-3", syntax("")),
        ("1 - 2", syntax("1 ")),
        ("1-2-3", syntax("2-3")),
        ("+1", syntax("+1")),
        ("0x1", syntax("0x1")),
        ("1_0", syntax("1_0")),
        ("1 2", syntax("1 2")),
        ("all", syntax("all")),
        ("0-N", syntax("N")),
        ("0-7:1/2", syntax("7:1/2")),
        ("१", syntax("१")),
        (",", r#"no members found in set ",""#.to_owned()),
        (" ", r#"no members found in set " ""#.to_owned()),
        ("54-53", "invalid range: 54-53".to_owned()),
        ("0, 54-53 ", "invalid range: 54-53".to_owned()),
        ("65537", large.to_owned()),
        ("0-65537", large.to_owned()),
        ("4294967295", large.to_owned()),
        ("4294967296", r#"strconv.ParseUint: parsing "4294967296": value out of range"#.to_owned()),
    ];
    for (text, expected) in cases {
        let error = CpuSet::parse_list(text).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text:?}");
    }
}

/// From Documentation/admin-guide/kernel-parameters.rst and lib/test_bitmap.c.
#[test]
fn kernel_lists() {
    let cases: &[(&str, &[usize])] = &[
        ("", &[]),
        ("\n", &[]),
        (",,  ,,", &[]),
        ("0", &[0]),
        ("0-3,7\n", &[0, 1, 2, 3, 7]),
        ("1,2\n3", &[1, 2]),
        ("1 2\t3", &[1, 2, 3]),
        (" 0-1 , 4 ", &[0, 1, 4]),
        ("9-38:4/10", &[9, 10, 11, 12, 19, 20, 21, 22, 29, 30, 31, 32]),
        ("0-7:1/2", &[0, 2, 4, 6]),
        ("0-4:3/3", &[0, 1, 2, 3, 4]),
        ("0-3:0/2", &[]),
        ("64-67:1/2,128", &[64, 66, 128]),
    ];
    for (text, cpus) in cases {
        assert_eq!(CpuSet::parse_kernel_list(text), Ok(set(cpus)), "{text:?}");
    }
    for all in ["all", "ALL", "0-N", "all:1/1", "0-8191"] {
        assert_eq!(CpuSet::parse_kernel_list(all), Ok(CpuSet::all()), "{all:?}");
    }
    let even = CpuSet::from_words(&[0x5555_5555_5555_5555; 128]);
    assert_eq!(CpuSet::parse_kernel_list("all:1/2"), Ok(even.clone()));
    assert_eq!(CpuSet::parse_kernel_list("0-N:1/2"), Ok(even));
}

#[test]
fn kernel_list_errors() {
    let cases = [
        "-1",
        "0-",
        "10-1",
        "10-1:1/2",
        "0-31:",
        "0-31:0",
        "0-31:0/",
        "0-31:0/0",
        "0-31:1/0",
        "0-31:10/1",
        "8:2/4",
        "0-3:1/2/3",
        "a",
        "0-a",
        "N",
        "N-N",
        "allx",
        "0--3",
        "65537",
        "0-4294967296",
        "(null)",
        "bad_isolated_set",
    ];
    for text in cases {
        let result = CpuSet::parse_kernel_list(text);
        assert!(result.is_err(), "{text:?}: {result:?}");
    }
    let pattern = CpuSet::parse_kernel_list("0-31:10/1");
    assert_eq!(pattern, Err(ListError::Pattern { region: "0-31:10/1".to_owned() }));
}

/// runc releases before 5343 write 16 words, whatever is set.
#[test]
fn words_of_any_number() {
    assert_eq!(CpuSet::from_words(&[0b1011]), set(&[0, 1, 3]));
    assert_eq!(CpuSet::from_words(&[0b1011, 0, 0]), set(&[0, 1, 3]));
    assert_eq!(CpuSet::from_words(&[0; 16]), CpuSet::default());
    assert_eq!(CpuSet::from_words(&[0, 1 << 63]), set(&[127]));
}

#[test]
fn all_is_every_cpu_of_any_kernel() {
    let all = CpuSet::all();
    assert_eq!(all.to_bytes(), vec![0xff; 8192 / 8]);
    assert!(all.contains(8191) && !all.contains(8192));
    assert_eq!(all.to_string(), "0-8191");
}

#[test]
fn bytes_are_those_of_a_cpu_mask() {
    assert_eq!(CpuSet::default().to_bytes(), Vec::<u8>::new());
    let mask = set(&[0, 9, 64]).to_bytes();
    let expected = [(1_u64 | 1 << 9).to_ne_bytes(), 1_u64.to_ne_bytes()].concat();
    assert_eq!(mask, expected);
    assert_eq!(CpuSet::single(MAX_CPU).to_bytes().len(), 8200);
}

fn cpus() -> impl Strategy<Value = BTreeSet<usize>> {
    let scattered = prop::collection::btree_set(0..1024_usize, 0..40);
    let range =
        (0..1024_usize, 0..200_usize).prop_map(|(start, len)| (start..start + len).collect());
    let high = prop::collection::btree_set(65000..=MAX_CPU, 0..4);
    (scattered, range, high).prop_map(|(a, b, c): (_, BTreeSet<usize>, _)| {
        let mut cpus: BTreeSet<usize> = a;
        cpus.extend(b);
        cpus.extend(c);
        cpus
    })
}

fn of(cpus: &BTreeSet<usize>) -> CpuSet {
    set(&cpus.iter().copied().collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn text_and_words_come_back(cpus in cpus()) {
        let set = of(&cpus);
        prop_assert!(set.iter().eq(cpus.iter().copied()));
        prop_assert_eq!(CpuSet::parse_kernel_list(&set.to_string()), Ok(set.clone()));
        if !set.is_empty() {
            prop_assert_eq!(CpuSet::parse_list(&set.to_string()), Ok(set.clone()));
        }
        prop_assert_eq!(CpuSet::from_words(&set.words), set);
    }

    #[test]
    fn operations_are_those_of_sets(a in cpus(), b in cpus(), cpu in 0..1100_usize) {
        let (x, y) = (of(&a), of(&b));
        prop_assert_eq!(x.contains(cpu), a.contains(&cpu));
        prop_assert_eq!(x.lowest(), a.first().copied());
        prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
        prop_assert!(x.difference(&y).difference(&x).is_empty());
        prop_assert_eq!(x.difference(&y), of(&a.difference(&b).copied().collect()));
    }

    #[test]
    fn ranges_are_those_of_a_loop(start in 0..300_usize, len in 0..300_usize) {
        let mut ranged = CpuSet::single(70);
        ranged.insert_range(start, start + len);
        let mut naive: BTreeSet<usize> = (start..=start + len).collect();
        naive.insert(70);
        prop_assert_eq!(ranged, of(&naive));
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[0-9N,:/ al-]{0,24}") {
        for parsed in [CpuSet::parse_list(&text), CpuSet::parse_kernel_list(&text)] {
            prop_assert!(parsed.is_err() || parsed.is_ok_and(|set| set.iter().all(|cpu| cpu <= MAX_CPU)));
        }
    }
}
