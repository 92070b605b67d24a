// SPDX-License-Identifier: Apache-2.0
//! `io.containerd.cgroups.v1.Metrics`. Never set, as in Go: `network` and `cgroup_stats`.

use containerd_shim_protos::cgroups::metrics as proto;
use protobuf::MessageField;
use wedge_cgroups::stats::v1::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, MemoryStat, Metrics,
    OomControl, Throttling,
};
use wedge_cgroups::stats::{Pids, Rdma, RdmaEntry};

use super::{field, list};

pub(super) fn metrics(stats: Metrics) -> proto::Metrics {
    let Metrics { hugetlb, pids, cpu, memory, blkio, rdma, oom_control } = stats;
    proto::Metrics {
        hugetlb: list(
            hugetlb,
            |entry| message!(proto::HugetlbStat = entry => Hugetlb { usage max failcnt pagesize }),
        ),
        pids: field(pids, |pids| message!(proto::PidsStat = pids => Pids { current limit })),
        cpu: MessageField::some(processor(cpu)),
        memory: field(memory, memory_stat),
        blkio: field(blkio, block_devices),
        rdma: field(rdma, rdma_stat),
        memory_oom_control: field(oom_control, |control| {
            message!(proto::MemoryOomControl = control => OomControl {
                oom_kill_disable under_oom oom_kill
            })
        }),
        ..Default::default()
    }
}

fn processor(Cpu { usage, throttling }: Cpu) -> proto::CPUStat {
    let usage = message!(proto::CPUUsage = usage => CpuUsage { total kernel user per_cpu });
    let throttling = message!(proto::Throttle = throttling => Throttling {
        throttled_time; periods: nr_periods throttled_periods: nr_throttled
    });
    proto::CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..Default::default()
    }
}

fn memory_stat(Memory { stat, usage, swap, kernel, kernel_tcp }: Memory) -> proto::MemoryStat {
    let entry = |entry: MemoryEntry| {
        let entry = message!(proto::MemoryEntry = entry => MemoryEntry { limit usage max failcnt });
        MessageField::some(entry)
    };
    let stat = message!(proto::MemoryStat = stat => MemoryStat {
        cache rss rss_huge mapped_file dirty writeback
        inactive_anon active_anon inactive_file active_file unevictable
        hierarchical_memory_limit
        total_cache total_rss total_rss_huge total_mapped_file total_dirty total_writeback
        total_inactive_anon total_active_anon total_inactive_file total_active_file
        total_unevictable;
        pg_pg_in: pgpgin pg_pg_out: pgpgout pg_fault: pgfault pg_maj_fault: pgmajfault
        hierarchical_swap_limit: hierarchical_memsw_limit
        total_pg_pg_in: total_pgpgin total_pg_pg_out: total_pgpgout
        total_pg_fault: total_pgfault total_pg_maj_fault: total_pgmajfault
    });
    proto::MemoryStat {
        usage: entry(usage),
        swap: entry(swap),
        kernel: entry(kernel),
        kernel_tcp: entry(kernel_tcp),
        ..stat
    }
}

fn block_devices(blkio: Blkio) -> proto::BlkIOStat {
    let entries = |entries| {
        list(
            entries,
            |entry| message!(proto::BlkIOEntry = entry => BlkioEntry { op device major minor value }),
        )
    };
    proto::BlkIOStat {
        io_service_bytes_recursive: entries(blkio.io_service_bytes),
        io_serviced_recursive: entries(blkio.io_serviced),
        io_queued_recursive: entries(blkio.io_queued),
        io_service_time_recursive: entries(blkio.io_service_time),
        io_wait_time_recursive: entries(blkio.io_wait_time),
        io_merged_recursive: entries(blkio.io_merged),
        io_time_recursive: entries(blkio.io_time),
        sectors_recursive: entries(blkio.sectors),
        ..Default::default()
    }
}

fn rdma_stat(Rdma { current, limit }: Rdma) -> proto::RdmaStat {
    let entries = |entries| {
        list(
            entries,
            |entry| message!(proto::RdmaEntry = entry => RdmaEntry { device hca_handles hca_objects }),
        )
    };
    proto::RdmaStat { current: entries(current), limit: entries(limit), ..Default::default() }
}
