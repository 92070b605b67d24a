// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::stats::RdmaEntry;
use crate::stats::tests::{Fixture, contents};

/// "9223372036854771712": no limit.
const UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;

fn everywhere(directory: &Path) -> Directories {
    let directory = || Some(directory.to_owned());
    Directories {
        pids: directory(),
        cpu: directory(),
        cpuacct: directory(),
        memory: directory(),
        blkio: directory(),
        rdma: directory(),
        hugetlb: directory(),
    }
}

fn stats(fixture: &Fixture) -> Metrics {
    read(&everywhere(&fixture.cgroup()), fixture.root())
}

/// What is in testdata/v1, of Linux 6.18, without the controllers rdma and hugetlb.
fn captured() -> Metrics {
    Metrics {
        pids: Some(Pids { current: 2, limit: 32 }),
        cpu: Cpu {
            usage: CpuUsage {
                total: 413_012_111,
                kernel: 60_000_000,
                user: 350_000_000,
                per_cpu: vec![68_272_397, 344_739_714],
            },
            throttling: Throttling {
                nr_periods: 22,
                nr_throttled: 19,
                throttled_time: 849_786_690,
            },
        },
        memory: Some(captured_memory()),
        blkio: Some(Blkio::default()),
        oom_control: Some(OomControl { oom_kill_disable: 0, under_oom: 0, oom_kill: 1 }),
        ..Metrics::default()
    }
}

fn captured_memory() -> Memory {
    Memory {
        stat: captured_memory_stat(),
        usage: MemoryEntry { limit: 67_108_864, usage: 835_584, max: 67_108_864, failcnt: 36 },
        swap: MemoryEntry { limit: UNLIMITED, usage: 655_360, max: 67_371_008, failcnt: 0 },
        kernel: MemoryEntry { limit: UNLIMITED, usage: 229_376, max: 233_472, failcnt: 0 },
        kernel_tcp: MemoryEntry { limit: UNLIMITED, ..MemoryEntry::default() },
    }
}

fn captured_memory_stat() -> MemoryStat {
    MemoryStat {
        cache: 65_536,
        rss: 204_800,
        dirty: 65_536,
        pgpgin: 16_743,
        pgpgout: 16_677,
        pgfault: 16_948,
        inactive_anon: 188_416,
        active_anon: 4096,
        inactive_file: 65_536,
        hierarchical_memory_limit: 67_108_864,
        hierarchical_memsw_limit: UNLIMITED,
        total_cache: 65_536,
        total_rss: 204_800,
        total_dirty: 65_536,
        total_pgpgin: 16_743,
        total_pgpgout: 16_677,
        total_pgfault: 16_948,
        total_inactive_anon: 188_416,
        total_active_anon: 4096,
        total_inactive_file: 65_536,
        ..MemoryStat::default()
    }
}

#[test]
fn captured_files_are_read() {
    assert_eq!(stats(&Fixture::new("v1")), captured());
}

#[test]
fn nothing_is_left_of_a_removed_cgroup() {
    let fixture = Fixture::new("v1");
    let gone = everywhere(&fixture.cgroup().join("gone"));
    let nothing = Metrics { blkio: Some(Blkio::default()), ..Metrics::default() };
    assert_eq!(read(&gone, fixture.root()), nothing);
    let no_controllers = Directories::default();
    assert_eq!(read(&no_controllers, fixture.root()), Metrics::default());
}

/// Each file whose absence is seen elsewhere than in itself.
#[test]
fn a_missing_file_ends_what_its_controller_tells() {
    type Change = fn(&mut Metrics);
    let table: [(&str, Change); 9] = [
        ("pids.current", |all| all.pids = None),
        ("pids.max", |all| all.pids = None),
        ("cpu.stat", |all| all.cpu.throttling = Throttling::default()),
        ("cpuacct.stat", |all| all.cpu.usage = CpuUsage::default()),
        ("cpuacct.usage", |all| all.cpu.usage = CpuUsage::default()),
        ("cpuacct.usage_percpu", |all| all.cpu.usage = CpuUsage::default()),
        ("memory.stat", |all| (all.memory, all.oom_control) = (None, None)),
        ("memory.oom_control", |all| {
            all.oom_control = None;
            all.memory = Some(Memory { stat: captured_memory_stat(), ..Memory::default() });
        }),
        // Swap accounting is off.
        ("memory.memsw.usage_in_bytes", |all| {
            let (stat, usage) = (captured_memory_stat(), captured_memory().usage);
            all.memory = Some(Memory { stat, usage, ..Memory::default() });
        }),
    ];
    for (name, change) in table {
        let (fixture, mut expected) = (Fixture::new("v1"), captured());
        fixture.remove(name);
        change(&mut expected);
        assert_eq!(stats(&fixture), expected, "without {name}");
    }
}

#[test]
fn no_limit_is_0_and_a_negative_number_too() {
    let fixture = Fixture::new("v1");
    fixture.write("pids.max", "max\n");
    fixture.write("memory.limit_in_bytes", "-1\n");
    let seen = stats(&fixture);
    assert_eq!(seen.pids, Some(Pids { current: 2, limit: 0 }));
    let usage = MemoryEntry { limit: 0, ..captured_memory().usage };
    assert_eq!(seen.memory, Some(Memory { usage, ..captured_memory() }));
}

fn io(device: &str, minor: u64, op: &str, value: u64) -> BlkioEntry {
    BlkioEntry { op: op.to_owned(), device: device.to_owned(), major: 8, minor, value }
}

#[test]
fn block_devices_without_cfq_are_counted_by_the_throttle() {
    let fixture = Fixture::new("v1");
    fixture.write("blkio.throttle.io_serviced", "8:0 Read 3\n8:0 Total 3\nTotal 3\n");
    fixture.write("blkio.throttle.io_service_bytes", "8:0 Read 4096\n8:16 Write 1\nTotal 4097\n");
    let expected = Blkio {
        io_serviced: vec![io("/dev/sda", 0, "Read", 3), io("/dev/sda", 0, "Total", 3)],
        io_service_bytes: vec![io("/dev/sda", 0, "Read", 4096), io("", 16, "Write", 1)],
        ..Blkio::default()
    };
    assert_eq!(stats(&fixture).blkio, Some(expected.clone()));
    // CFQ is there but has none of the devices.
    for name in ["sectors", "io_service_bytes", "io_serviced", "io_queued", "io_service_time"] {
        fixture.write(&format!("blkio.{name}_recursive"), "Total 0\n");
    }
    assert_eq!(stats(&fixture).blkio, Some(Blkio::default()), "three files are missing");
    for name in ["io_wait_time", "io_merged", "time"] {
        fixture.write(&format!("blkio.{name}_recursive"), "");
    }
    assert_eq!(stats(&fixture).blkio, Some(expected));
}

#[test]
fn block_devices_with_cfq() {
    let fixture = Fixture::new("v1");
    fixture.write("blkio.throttle.io_serviced", "8:0 Read 99\n");
    fixture.write("blkio.sectors_recursive", "8:1 8\n");
    fixture.write("blkio.time_recursive", "8:1 9\n");
    let names =
        ["service_bytes", "serviced", "queued", "service_time", "wait_time", "merged"].into_iter();
    for (name, value) in names.zip(1..) {
        fixture.write(&format!("blkio.io_{name}_recursive"), &format!("8:1 Sync {value}\n"));
    }
    let sync = |value| vec![io("/dev/sda1", 1, "Sync", value)];
    let expected = Blkio {
        io_service_bytes: sync(1),
        io_serviced: sync(2),
        io_queued: sync(3),
        io_service_time: sync(4),
        io_wait_time: sync(5),
        io_merged: sync(6),
        io_time: vec![io("/dev/sda1", 1, "", 9)],
        sectors: vec![io("/dev/sda1", 1, "", 8)],
    };
    assert_eq!(stats(&fixture).blkio, Some(expected));
}

#[test]
fn rdma_is_told_only_with_limits_of_the_same_devices() {
    let fixture = Fixture::new("v1");
    fixture.write("rdma.current", "mlx4_0 hca_handle=2 hca_object=5\n");
    assert_eq!(stats(&fixture).rdma, None);
    fixture.write("rdma.max", "");
    assert_eq!(stats(&fixture).rdma, None);
    fixture.write("rdma.max", "mlx4_0 hca_handle=max hca_object=9\n");
    let entry = |hca_handles, hca_objects| RdmaEntry {
        device: "mlx4_0".to_owned(),
        hca_handles,
        hca_objects,
    };
    let expected = Rdma { current: vec![entry(2, 5)], limit: vec![entry(u32::MAX, 9)] };
    assert_eq!(stats(&fixture).rdma, Some(expected));
}

#[test]
fn huge_pages_up_to_the_first_missing_file() {
    let fixture = Fixture::new("v1");
    let entry =
        |pagesize: &str| Hugetlb { usage: 1, max: 2, failcnt: 3, pagesize: pagesize.to_owned() };
    for size in ["1GB", "2MB"] {
        fixture.write(&format!("hugetlb.{size}.usage_in_bytes"), "1\n");
        fixture.write(&format!("hugetlb.{size}.max_usage_in_bytes"), "2\n");
        fixture.write(&format!("hugetlb.{size}.failcnt"), "3\n");
    }
    assert_eq!(stats(&fixture).hugetlb, [entry("1GB"), entry("2MB")]);
    fixture.remove("hugetlb.2MB.failcnt");
    assert_eq!(stats(&fixture).hugetlb, [entry("1GB")]);
}

#[test]
fn any_text_is_survived() {
    let fixture = Fixture::new("v1");
    proptest!(|(text in contents())| {
        blkio_entries(&text, &devices(&text));
        MemoryStat::parse(&text);
        for name in ["pids.max", "cpu.stat", "cpuacct.stat", "cpuacct.usage_percpu", "memory.stat",
            "memory.oom_control", "memory.failcnt", "blkio.throttle.io_serviced", "rdma.current"]
        {
            fixture.write(name, &text);
        }
        stats(&fixture);
    });
}
