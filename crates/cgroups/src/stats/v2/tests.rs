// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::stats::RdmaEntry;
use crate::stats::tests::{Fixture, contents};

fn stats(fixture: &Fixture) -> Metrics {
    read(&fixture.cgroup(), fixture.root())
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn both(stalls: Stalls) -> Option<Pressure> {
    Some(Pressure { some: Some(stalls), full: Some(stalls) })
}

fn huge_pages(pagesize: &str, max: u64) -> Hugetlb {
    Hugetlb { current: 0, max, pagesize: pagesize.to_owned(), failcnt: 0 }
}

/// What is in testdata/v2, of Linux 6.1, with a limit for huge pages of 2 MiB only.
fn captured() -> Metrics {
    let cpu = Stalls { avg10: 60.19, avg60: 30.23, avg300: 7.91, total: 26_516_031 };
    Metrics {
        pids: Pids { current: 2, limit: 32 },
        cpu: Cpu {
            stat: CpuStat {
                usage_usec: 7_371_522,
                user_usec: 4_312_941,
                system_usec: 3_058_580,
                nr_periods: 370,
                nr_throttled: 368,
                throttled_usec: 29_171_076,
                nr_bursts: 0,
                burst_usec: 0,
            },
            pressure: Some(Pressure {
                some: Some(cpu),
                full: Some(Stalls { total: 26_515_600, ..cpu }),
            }),
        },
        memory: captured_memory(),
        rdma: Rdma::default(),
        io: Io {
            usage: vec![IoEntry {
                major: 254,
                minor: 0,
                rbytes: 41_943_040,
                wbytes: 41_979_904,
                rios: 40,
                wios: 49,
            }],
            pressure: both(Stalls { total: 31_760, ..Stalls::default() }),
        },
        hugetlb: vec![huge_pages("1GB", 0), huge_pages("2MB", 2_097_152)],
        memory_events: Some(MemoryEvents { max: 32, oom: 1, oom_kill: 1, ..Default::default() }),
    }
}

fn captured_memory() -> Memory {
    Memory {
        stat: MemoryStat {
            anon: 114_688,
            file: 139_264,
            kernel_stack: 16_384,
            slab: 33_232,
            file_mapped: 40_960,
            inactive_anon: 86_016,
            active_anon: 4096,
            inactive_file: 135_168,
            active_file: 4096,
            slab_reclaimable: 7984,
            slab_unreclaimable: 25_248,
            pgfault: 1305,
            pgmajfault: 3,
            pgrefill: 40,
            pgscan: 60,
            pgsteal: 24,
            pgactivate: 38,
            pgdeactivate: 40,
            thp_fault_alloc: 31,
            ..MemoryStat::default()
        },
        usage: 872_448,
        usage_limit: 67_108_864,
        swap_usage: 0,
        swap_limit: 8_388_608,
        max_usage: 67_108_864,
        swap_max_usage: 0,
        pressure: both(Stalls { avg10: 0.07, avg60: 0.15, avg300: 0.04, total: 169_225 }),
    }
}

#[test]
fn captured_files_are_read() {
    assert_eq!(stats(&Fixture::new("v2")), captured());
}

#[test]
fn of_a_removed_cgroup_everything_is_0() {
    let fixture = Fixture::new("v2");
    let hugetlb = vec![huge_pages("1GB", 0), huge_pages("2MB", 0)];
    let gone = fixture.cgroup().join("gone");
    assert_eq!(read(&gone, fixture.root()), Metrics { hugetlb, ..Metrics::default() });
}

#[test]
fn a_missing_file_is_0_or_absent() {
    type Change = fn(&mut Metrics);
    let table: [(&str, Change); 12] = [
        ("pids.max", |all| all.pids.limit = 0),
        ("cpu.stat", |all| all.cpu.stat = CpuStat::default()),
        ("cpu.pressure", |all| all.cpu.pressure = None),
        ("memory.stat", |all| all.memory = Memory::default()),
        ("memory.max", |all| all.memory.usage_limit = 0),
        ("memory.peak", |all| all.memory.max_usage = 0),
        ("memory.swap.max", |all| all.memory.swap_limit = 0),
        ("memory.pressure", |all| all.memory.pressure = None),
        ("memory.events", |all| all.memory_events = None),
        ("io.stat", |all| all.io.usage = Vec::new()),
        ("io.pressure", |all| all.io.pressure = None),
        ("hugetlb.2MB.max", |all| all.hugetlb = vec![huge_pages("1GB", 0), huge_pages("2MB", 0)]),
    ];
    for (name, change) in table {
        let (fixture, mut expected) = (Fixture::new("v2"), captured());
        fixture.remove(name);
        change(&mut expected);
        assert_eq!(stats(&fixture), expected, "without {name}");
    }
}

#[test]
fn what_the_captured_kernel_did_not_have() {
    let (fixture, mut expected) = (Fixture::new("v2"), captured());
    let device = |hca_handles, hca_objects| {
        vec![RdmaEntry { device: "mlx4_0".to_owned(), hca_handles, hca_objects }]
    };
    fixture.write("memory.swap.current", "1\n");
    fixture.write("memory.swap.peak", "2\n");
    fixture.write("rdma.current", "mlx4_0 hca_handle=2 hca_object=5\n");
    fixture.write("rdma.max", "mlx4_0 hca_handle=max hca_object=9\n");
    fixture.write("hugetlb.1GB.current", "1073741824\n");
    fixture.write("hugetlb.1GB.max", "max\n");
    fixture.write("hugetlb.1GB.events", "max 4\n");
    (expected.memory.swap_usage, expected.memory.swap_max_usage) = (1, 2);
    expected.rdma = Rdma { current: device(2, 5), limit: device(u32::MAX, 9) };
    let pages = Hugetlb { current: 1 << 30, failcnt: 4, ..huge_pages("1GB", u64::MAX) };
    expected.hugetlb[0] = pages;
    assert_eq!(stats(&fixture), expected);
}

#[test]
fn no_limit_is_the_largest_number() {
    let fixture = Fixture::new("v2");
    for name in ["pids.max", "memory.max", "memory.swap.max"] {
        fixture.write(name, "max\n");
    }
    let seen = stats(&fixture);
    let limits = [seen.pids.limit, seen.memory.usage_limit, seen.memory.swap_limit];
    assert_eq!(limits, [u64::MAX; 3]);
    fixture.write("memory.events", "");
    assert_eq!(stats(&fixture).memory_events, None);
}

#[test]
fn pressure_lines() {
    let pressure = parse_pressure("some avg10=1.71 avg60=2.36 avg300=2.57 total=230548833\n");
    let some = Stalls { avg10: 1.71, avg60: 2.36, avg300: 2.57, total: 230_548_833 };
    assert_eq!(pressure, Pressure { some: Some(some), full: None });
    let odd = parse_pressure("full avg10=x total=-1 what\nsome\nelse avg10=1.0\n");
    assert_eq!(odd, Pressure { some: None, full: Some(Stalls::default()) });
}

#[test]
fn io_lines() {
    let entry =
        |minor, rbytes, wios| IoEntry { major: 8, minor, rbytes, wios, ..Default::default() };
    let table = [
        ("8:0 rbytes=1 wios=2 dbytes=3\n8:16 wios=4", vec![entry(0, 1, 2), entry(16, 0, 4)]),
        // Counters of another controller only.
        ("8:0 cost.usage=0", vec![entry(0, 0, 0)]),
        ("8:0\n8:0 \nrbytes=1\n\n8:x rbytes=1", vec![]),
        ("7:1 7:0 8:0 rbytes=5", vec![entry(0, 5, 0)]),
        ("8:0 rbytes=x wios=2", vec![entry(0, 0, 2)]),
    ];
    for (text, expected) in table {
        assert_eq!(io_entries(text), expected, "{text:?}");
    }
}

#[test]
fn any_text_is_survived() {
    let fixture = Fixture::new("v2");
    proptest!(|(text in contents())| {
        io_entries(&text);
        parse_pressure(&text);
        MemoryStat::parse(&text);
        for name in ["pids.max", "memory.stat", "memory.max", "memory.events", "hugetlb.2MB.events"] {
            fixture.write(name, &text);
        }
        stats(&fixture);
    });
}
