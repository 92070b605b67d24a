// SPDX-License-Identifier: Apache-2.0

use std::error::Error;

use proptest::prelude::*;

use super::{
    ANNOTATION, AffinityError, CpuSet, ExecCpuAffinity, Last, Pin, Plan, Transition, decide,
    eligible, isolated_cpus, pin, transition,
};

fn list(text: &str) -> CpuSet {
    CpuSet::parse_kernel_list(text).unwrap()
}

/// The error as a client sees it: the chain, joined as at the edge.
fn text(error: &AffinityError) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

fn never() -> Result<Option<CpuSet>, AffinityError> {
    panic!("nobody needs to know which CPUs are isolated")
}

/// runc's TestGetEligibleCPU, and what its walk by bytes did not get right.
#[test]
fn eligible_cpus() {
    let socket = "2-15,18-31,34-47";
    let cases = [
        ("", socket, None),
        ("0-15", "", None),
        ("0-1,16-17,32-33", socket, None),
        (socket, "0-1,16-17,32-33", None),
        ("8-31", socket, Some(16)),
        ("4-7", socket, Some(4)),
        ("40-47", socket, Some(40)),
        ("24-31", socket, Some(24)),
        ("60-63", "0-1", None),
        ("0-1,100", "0-1", Some(100)),
        ("3-4", "0-4", Some(3)),
        ("1200-1203", "1100-1299", Some(1200)),
        ("1200-1203", "all", Some(1200)),
    ];
    for (cpuset, isolated, expected) in cases {
        let found = eligible(Some(&list(cpuset)), Some(&list(isolated)));
        assert_eq!(found, expected, "cpuset {cpuset}, isolated {isolated}");
    }
    assert_eq!(eligible(None, Some(&list(socket))), None);
    assert_eq!(eligible(Some(&list("0-15")), None), None);
}

#[test]
fn transitions() {
    assert_eq!(transition(None), Ok(None));
    assert_eq!(transition(Some("")), Ok(None));
    assert_eq!(transition(Some("temporary")), Ok(Some(Transition::Temporary)));
    assert_eq!(transition(Some("definitive")), Ok(Some(Transition::Definitive)));
    for value in ["Temporary", " temporary", "true", "definitive\n"] {
        let error = transition(Some(value)).unwrap_err();
        let expected = format!(
            "getting CPU affinity: unknown transition value {value:?} for annotation \
             org.opencontainers.runc.exec.isolated-cpu-affinity-transition"
        );
        assert_eq!(text(&error), expected);
    }
}

/// runc's TestIsolatedCPUAffinityTransition.
#[test]
fn pins() {
    use Transition::{Definitive, Temporary};
    let at = |transition, cpu| Some(Pin { transition, cpu });
    let cases = [
        (Some("temporary"), "3-4", "", Some("0-4\n"), at(Temporary, 3)),
        (Some("temporary"), "3-4", "nohz_full=0-4\n", None, at(Temporary, 3)),
        (Some("definitive"), "3-4", "", Some("0-4\n"), at(Definitive, 3)),
        (Some("definitive"), "3-4", "nohz_full=0-4\n", None, at(Definitive, 3)),
        (Some("definitive"), "8-9", "nohz_full=0-4\n", None, None),
        (Some("temporary"), "0-15", "", Some("(null)\n"), None),
        (Some("temporary"), "0-15", "", None, None),
    ];
    for (annotation, cpuset, cmdline, sysfs, expected) in cases {
        let found = pin(annotation, cpuset, || isolated_cpus(cmdline, sysfs));
        assert_eq!(found, Ok(expected), "{annotation:?} {cpuset} {cmdline:?} {sysfs:?}");
    }
}

#[test]
fn nothing_is_read_without_need() {
    assert_eq!(pin(None, "0-15", never), Ok(None));
    assert_eq!(pin(Some(""), "0-15", never), Ok(None));
    // Without a configured cpuset runc does not come as far as the annotation's value.
    assert_eq!(pin(Some("temporary"), "", never), Ok(None));
    assert_eq!(pin(Some("nonsense"), "", never), Ok(None));
    assert!(pin(Some("nonsense"), "0-15", never).is_err());
}

#[test]
fn bad_lists_are_runcs_errors() {
    let prefix = "getting CPU affinity: getting eligible cpu: parsing";
    let syntax = |text: &str| format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
    let error = pin(Some("temporary"), "core0", never).unwrap_err();
    assert_eq!(text(&error), format!("{prefix} cpuset cpus list core0: {}", syntax("core0")));
    let sysfs = || isolated_cpus("", Some("bad_isolated_set\n"));
    let error = pin(Some("temporary"), "0-15", sysfs).unwrap_err();
    let list = "isolated cpus list bad_isolated_set";
    assert_eq!(text(&error), format!("{prefix} {list}: {}", syntax("bad_isolated_set")));
}

#[test]
fn exec_affinity_errors_name_the_member() {
    let cases = [
        ("x", "y", r#"bad CPUAffinity.Initial: strconv.ParseUint: parsing "x": invalid syntax"#),
        ("0", "3-1", "bad CPUAffinity.Final: invalid range: 3-1"),
        (",", "", r#"bad CPUAffinity.Initial: no members found in set ",""#),
        ("", "65537", "bad CPUAffinity.Final: values larger than 65536 are not supported"),
    ];
    for (initial, last, expected) in cases {
        assert_eq!(text(&ExecCpuAffinity::parse(initial, last).unwrap_err()), expected);
    }
}

#[test]
fn the_process_comes_before_the_container() {
    let parse = |initial, last| ExecCpuAffinity::parse(initial, last).unwrap();
    let container = ExecCpuAffinity::from_words(Some(&[0b0110, 0]), Some(&[0, 1]));
    assert_eq!(container, parse("1-2", "64"));
    assert_eq!(ExecCpuAffinity::from_words(None, Some(&[0; 16])), parse("", ""));
    assert_eq!(parse("", "").or(&container), &container);
    // Not mixed: the container's final mask does not become this process's.
    assert_eq!(parse("3", "").or(&container), &parse("3", ""));
    assert_eq!(parse("", "3").or(&container), &parse("", "3"));
}

#[test]
fn decisions() {
    use Transition::{Definitive, Temporary};
    let at = |transition| Ok(Some(Pin { transition, cpu: 4 }));
    let four = || Some(CpuSet::single(4));
    let cases = [
        ("", "", Ok(None), None, Last::Reset),
        ("", "", at(Temporary), four(), Last::Reset),
        ("", "", at(Definitive), four(), Last::Set(CpuSet::single(4))),
        ("0-1", "", Ok(None), Some(list("0-1")), Last::Keep),
        ("", "2", Ok(None), None, Last::Set(list("2"))),
        ("0-1", "2,5", Ok(None), Some(list("0-1")), Last::Set(list("2,5"))),
        ("0-1", "", at(Temporary), Some(list("0-1")), Last::Keep),
        ("", "2", at(Definitive), None, Last::Set(list("2"))),
        ("0-1", "2", at(Temporary), Some(list("0-1")), Last::Set(list("2"))),
    ];
    for (initial, last_cpus, annotation, expected, last) in cases {
        let exec = ExecCpuAffinity::parse(initial, last_cpus).unwrap();
        let plan = decide(&exec, &annotation);
        let expected = Plan { initial: expected, last };
        assert_eq!(plan, Ok(expected), "{initial:?} {last_cpus:?} {annotation:?}");
    }
}

#[test]
fn a_wrong_annotation_fails_only_who_needs_it() {
    let wrong = pin(Some("nonsense"), "0-15", never);
    let error = decide(&ExecCpuAffinity::default(), &wrong).unwrap_err();
    assert!(text(&error).contains(ANNOTATION));
    let exec = ExecCpuAffinity::parse("", "1").unwrap();
    let plan = Plan { initial: None, last: Last::Set(CpuSet::single(1)) };
    assert_eq!(decide(&exec, &wrong), Ok(plan));
}

/// The rules word by word, on plain lists.
fn naive(cpuset: &[bool], isolated: &[bool]) -> Option<usize> {
    let both = |cpu: usize| cpuset[cpu] && isolated[cpu];
    let cpus = 0..cpuset.len();
    if cpuset.iter().all(|is| !is) || isolated.iter().all(|is| !is) || !cpus.clone().any(both) {
        return None;
    }
    if cpus.clone().all(|cpu| !cpuset[cpu] || isolated[cpu]) {
        return cpus.clone().find(|cpu| cpuset[*cpu]);
    }
    cpus.clone().find(|cpu| cpuset[*cpu] && !isolated[*cpu])
}

fn words(cpus: &[bool]) -> Vec<u64> {
    let word = |bits: &[bool]| bits.iter().rev().fold(0, |word, is| (word << 1) | u64::from(*is));
    cpus.chunks(64).map(word).collect()
}

/// 1,024 CPUs, from none to all of them: dense lists alone would hardly ever be subsets.
fn machine() -> impl Strategy<Value = Vec<bool>> {
    let some = (0.0..=1.0_f64)
        .prop_flat_map(|share| prop::collection::vec(prop::bool::weighted(share), 1024));
    let range = (0..1024_usize, 0..1024_usize)
        .prop_map(|(a, b)| (0..1024).map(|cpu| (a.min(b)..=a.max(b)).contains(&cpu)).collect());
    prop_oneof![2 => some, 3 => range, 1 => Just(vec![false; 1024]), 1 => Just(vec![true; 1024])]
}

proptest! {
    #[test]
    fn eligible_is_what_the_rules_say(cpuset in machine(), isolated in machine()) {
        let (c, i) = (CpuSet::from_words(&words(&cpuset)), CpuSet::from_words(&words(&isolated)));
        let found = eligible(Some(&c), Some(&i));
        prop_assert_eq!(found, naive(&cpuset, &isolated));
        prop_assert!(found.is_none_or(|cpu| c.contains(cpu)));
        // By way of the texts the kernel and the config have.
        let cmdline = format!("quiet nohz_full={i} ro");
        let by_text = pin(Some("temporary"), &c.to_string(), || isolated_cpus(&cmdline, None));
        prop_assert_eq!(by_text.map(|pin| pin.map(|pin| pin.cpu)), Ok(found));
    }
}
