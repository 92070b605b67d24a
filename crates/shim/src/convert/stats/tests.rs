// SPDX-License-Identifier: Apache-2.0
//! By field number, as containerd's metrics.proto has them, not by the generated names: each
//! counter here has the number of its field as value.

use protobuf::{Message, UnknownValueRef};
use wedge_cgroups::stats::{Pids, Rdma, RdmaEntry, v1, v2};

use super::*;

/// A message without its type.
#[derive(Debug)]
struct Fields(api::Empty);

impl Fields {
    fn parse(bytes: &[u8]) -> Fields {
        Fields(api::Empty::parse_from_bytes(bytes).unwrap())
    }

    fn all(&self) -> Vec<(u32, UnknownValueRef<'_>)> {
        let mut all: Vec<_> = self.0.special_fields.unknown_fields().iter().collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }

    /// The messages in a field.
    fn at(&self, number: u32) -> Vec<Fields> {
        let mut found = Vec::new();
        for (_, value) in self.all().into_iter().filter(|(field, _)| *field == number) {
            let UnknownValueRef::LengthDelimited(bytes) = value else { panic!("{value:?}") };
            found.push(Fields::parse(bytes));
        }
        found
    }

    /// The only message in a field.
    fn one(&self, number: u32) -> Fields {
        let [message] = <[Fields; 1]>::try_from(self.at(number)).unwrap();
        message
    }

    /// Checks that it has exactly these fields and that each has its own number as value.
    fn check(&self, numbers: impl IntoIterator<Item = u32>) {
        let expected: Vec<_> =
            numbers.into_iter().map(|n| (n, UnknownValueRef::Varint(n.into()))).collect();
        assert_eq!(self.all(), expected);
    }

    fn text(&self, number: u32) -> String {
        let found = self.all().into_iter().find(|(field, _)| *field == number).unwrap();
        let UnknownValueRef::LengthDelimited(bytes) = found.1 else { panic!("{found:?}") };
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

fn encode(stats: Stats, type_url: &str) -> Fields {
    let response = stats_response(stats).unwrap();
    assert_eq!(response.stats.type_url, type_url);
    Fields::parse(&response.stats.value)
}

fn encode_v1(stats: v1::Metrics) -> Fields {
    encode(Stats::V1(stats), "io.containerd.cgroups.v1.Metrics")
}

fn encode_v2(stats: v2::Metrics) -> Fields {
    encode(Stats::V2(stats), "io.containerd.cgroups.v2.Metrics")
}

const PIDS: Pids = Pids { current: 1, limit: 2 };

fn rdma() -> Rdma {
    let entry = || RdmaEntry { device: "d".to_owned(), hca_handles: 2, hca_objects: 3 };
    Rdma { current: vec![entry()], limit: vec![entry(), entry()] }
}

#[test]
fn a_removed_cgroup_has_the_parts_that_clients_take_for_granted() {
    let nothing = encode_v1(v1::Metrics::default());
    nothing.one(3).one(1).check([]);
    nothing.one(3).one(2).check([]);
    assert_eq!(nothing.all().len(), 1);
    let nothing = encode_v2(v2::Metrics::default());
    for number in [1, 2, 4, 5, 6] {
        nothing.one(number).check([]);
    }
    assert_eq!(nothing.all().len(), 5);
}

#[test]
fn small_parts_of_v1() {
    let pagesize = "2MB".to_owned();
    let metrics = encode_v1(v1::Metrics {
        hugetlb: vec![v1::Hugetlb { usage: 1, max: 2, failcnt: 3, pagesize }],
        pids: Some(PIDS),
        cpu: v1::Cpu {
            usage: v1::CpuUsage { total: 1, kernel: 2, user: 3, per_cpu: vec![7, 8] },
            throttling: v1::Throttling { nr_periods: 1, nr_throttled: 2, throttled_time: 3 },
        },
        rdma: Some(rdma()),
        oom_control: Some(v1::OomControl { oom_kill_disable: 1, under_oom: 2, oom_kill: 3 }),
        ..v1::Metrics::default()
    });
    assert_eq!(metrics.one(1).text(4), "2MB");
    metrics.one(2).check([1, 2]);
    let packed: Vec<_> = metrics.one(3).one(1).text(4).into_bytes();
    assert_eq!(packed, [7, 8]);
    metrics.one(3).one(2).check([1, 2, 3]);
    assert_eq!((metrics.one(6).at(1).len(), metrics.one(6).at(2).len()), (1, 2));
    assert_eq!(metrics.one(6).one(1).text(1), "d");
    metrics.one(9).check([1, 2, 3]);
}

fn v1_memory_stat() -> v1::MemoryStat {
    v1::MemoryStat {
        cache: 1,
        rss: 2,
        rss_huge: 3,
        mapped_file: 4,
        dirty: 5,
        writeback: 6,
        pgpgin: 7,
        pgpgout: 8,
        pgfault: 9,
        pgmajfault: 10,
        inactive_anon: 11,
        active_anon: 12,
        inactive_file: 13,
        active_file: 14,
        unevictable: 15,
        hierarchical_memory_limit: 16,
        hierarchical_memsw_limit: 17,
        total_cache: 18,
        total_rss: 19,
        total_rss_huge: 20,
        total_mapped_file: 21,
        total_dirty: 22,
        total_writeback: 23,
        total_pgpgin: 24,
        total_pgpgout: 25,
        total_pgfault: 26,
        total_pgmajfault: 27,
        total_inactive_anon: 28,
        total_active_anon: 29,
        total_inactive_file: 30,
        total_active_file: 31,
        total_unevictable: 32,
    }
}

#[test]
fn memory_of_v1() {
    let entry = v1::MemoryEntry { limit: 1, usage: 2, max: 3, failcnt: 4 };
    let other = v1::MemoryEntry::default();
    let stat = v1_memory_stat();
    let all = [33, 34, 35, 36];
    for only in all {
        let pick = |number| if number == only { entry } else { other };
        let [usage, swap, kernel, kernel_tcp] = all.map(pick);
        let memory = Some(v1::Memory { stat, usage, swap, kernel, kernel_tcp });
        let memory = encode_v1(v1::Metrics { memory, ..v1::Metrics::default() }).one(4);
        let mut counters = memory.all();
        counters.retain(|(number, _)| *number < 33);
        assert_eq!(
            counters,
            Vec::from_iter((1..=32).map(|n| (n, UnknownValueRef::Varint(n.into()))))
        );
        for number in all {
            memory.one(number).check(if number == only { 1..5 } else { 0..0 });
        }
    }
}

#[test]
fn block_devices_of_v1() {
    let entries = |value| {
        let (op, device) = ("Read".to_owned(), "/dev/sda".to_owned());
        vec![v1::BlkioEntry { op, device, major: 3, minor: 4, value }]
    };
    let blkio = Some(v1::Blkio {
        io_service_bytes: entries(1),
        io_serviced: entries(2),
        io_queued: entries(3),
        io_service_time: entries(4),
        io_wait_time: entries(5),
        io_merged: entries(6),
        io_time: entries(7),
        sectors: entries(8),
    });
    let blkio = encode_v1(v1::Metrics { blkio, ..v1::Metrics::default() }).one(5);
    for number in 1..=8 {
        let entry = blkio.one(number);
        assert_eq!((entry.text(1).as_str(), entry.text(2).as_str()), ("Read", "/dev/sda"));
        let counters = [(3, 3), (4, 4), (5, u64::from(number))];
        assert_eq!(
            entry.all()[2..],
            counters.map(|(n, value)| (n, UnknownValueRef::Varint(value)))
        );
    }
}

#[test]
fn small_parts_of_v2() {
    let pagesize = "2MB".to_owned();
    let usage = vec![v2::IoEntry { major: 1, minor: 2, rbytes: 3, wbytes: 4, rios: 5, wios: 6 }];
    let metrics = encode_v2(v2::Metrics {
        pids: PIDS,
        cpu: v2::Cpu {
            stat: v2::CpuStat {
                usage_usec: 1,
                user_usec: 2,
                system_usec: 3,
                nr_periods: 4,
                nr_throttled: 5,
                throttled_usec: 6,
                nr_bursts: 8,
                burst_usec: 9,
            },
            pressure: None,
        },
        rdma: rdma(),
        io: v2::Io { usage, pressure: None },
        hugetlb: vec![v2::Hugetlb { current: 1, max: 2, pagesize, failcnt: 4 }],
        memory_events: Some(v2::MemoryEvents {
            low: 1,
            high: 2,
            max: 3,
            oom: 4,
            oom_kill: 5,
            oom_group_kill: 6,
        }),
        ..v2::Metrics::default()
    });
    metrics.one(1).check([1, 2]);
    metrics.one(2).check([1, 2, 3, 4, 5, 6, 8, 9]);
    assert_eq!((metrics.one(5).at(1).len(), metrics.one(5).at(2).len()), (1, 2));
    metrics.one(6).one(1).check(1..=6);
    assert_eq!(metrics.one(7).text(3), "2MB");
    metrics.one(8).check(1..=6);
}

fn v2_memory_stat() -> v2::MemoryStat {
    v2::MemoryStat {
        anon: 1,
        file: 2,
        kernel_stack: 3,
        slab: 4,
        sock: 5,
        shmem: 6,
        file_mapped: 7,
        file_dirty: 8,
        file_writeback: 9,
        anon_thp: 10,
        inactive_anon: 11,
        active_anon: 12,
        inactive_file: 13,
        active_file: 14,
        unevictable: 15,
        slab_reclaimable: 16,
        slab_unreclaimable: 17,
        pgfault: 18,
        pgmajfault: 19,
        workingset_refault: 20,
        workingset_activate: 21,
        workingset_nodereclaim: 22,
        pgrefill: 23,
        pgscan: 24,
        pgsteal: 25,
        pgactivate: 26,
        pgdeactivate: 27,
        pglazyfree: 28,
        pglazyfreed: 29,
        thp_fault_alloc: 30,
        thp_collapse_alloc: 31,
    }
}

#[test]
fn memory_of_v2() {
    let memory = v2::Memory {
        stat: v2_memory_stat(),
        usage: 32,
        usage_limit: 33,
        swap_usage: 34,
        swap_limit: 35,
        max_usage: 36,
        swap_max_usage: 37,
        pressure: None,
    };
    encode_v2(v2::Metrics { memory, ..v2::Metrics::default() }).one(4).check(1..=37);
}

#[test]
fn pressure_is_told_by_each_resource_that_has_it() {
    let stalls = v2::Stalls { avg10: 1.0, avg60: 2.0, avg300: 3.0, total: 4 };
    let both = v2::Pressure { some: Some(stalls), full: Some(stalls) };
    let some = v2::Pressure { full: None, ..both };
    let metrics = encode_v2(v2::Metrics {
        cpu: v2::Cpu { pressure: Some(some), ..v2::Cpu::default() },
        memory: v2::Memory { pressure: Some(both), ..v2::Memory::default() },
        io: v2::Io { pressure: Some(v2::Pressure::default()), ..v2::Io::default() },
        ..v2::Metrics::default()
    });
    let double = |value: f64| UnknownValueRef::Fixed64(value.to_bits());
    let expected =
        [(1, double(1.0)), (2, double(2.0)), (3, double(3.0)), (4, UnknownValueRef::Varint(4))];
    for (field, psi, kinds) in [(2, 7, [1, 0]), (4, 38, [1, 1]), (6, 2, [0, 0])] {
        let psi = metrics.one(field).one(psi);
        assert_eq!([psi.at(1).len(), psi.at(2).len()], kinds);
        for stalls in psi.at(1).iter().chain(&psi.at(2)) {
            assert_eq!(stalls.all(), expected);
        }
    }
}
