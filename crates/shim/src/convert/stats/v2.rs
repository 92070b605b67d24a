// SPDX-License-Identifier: Apache-2.0
//! `io.containerd.cgroups.v2.Metrics`. Never set, as in Go: `network`.

use containerd_shim_protos::cgroups_v2::metrics as proto;
use protobuf::MessageField;
use wedge_cgroups::stats::v2::{
    Cpu, CpuStat, Hugetlb, Io, IoEntry, Memory, MemoryEvents, MemoryStat, Metrics, Pressure, Stalls,
};
use wedge_cgroups::stats::{Pids, Rdma, RdmaEntry};

use super::{field, list};

pub(super) fn metrics(stats: Metrics) -> proto::Metrics {
    let Metrics { pids, cpu, memory, rdma, io, hugetlb, memory_events } = stats;
    let pids = message!(proto::PidsStat = pids => Pids { current limit });
    proto::Metrics {
        pids: MessageField::some(pids),
        cpu: MessageField::some(processor(cpu)),
        memory: MessageField::some(memory_stat(&memory)),
        rdma: MessageField::some(rdma_stat(rdma)),
        io: MessageField::some(io_stat(io)),
        hugetlb: list(
            hugetlb,
            |entry| message!(proto::HugeTlbStat = entry => Hugetlb { current max pagesize failcnt }),
        ),
        memory_events: field(memory_events, |events| {
            message!(proto::MemoryEvents = events => MemoryEvents {
                low high max oom oom_kill oom_group_kill
            })
        }),
        ..Default::default()
    }
}

fn processor(Cpu { stat, pressure }: Cpu) -> proto::CPUStat {
    let stat = message!(proto::CPUStat = stat => CpuStat {
        usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec nr_bursts burst_usec
    });
    proto::CPUStat { psi: psi(pressure), ..stat }
}

fn memory_stat(memory: &Memory) -> proto::MemoryStat {
    let stat = message!(proto::MemoryStat = memory.stat => MemoryStat {
        anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp
        inactive_anon active_anon inactive_file active_file unevictable
        slab_reclaimable slab_unreclaimable pgfault pgmajfault
        workingset_refault workingset_activate workingset_nodereclaim
        pgrefill pgscan pgsteal pgactivate pgdeactivate pglazyfree pglazyfreed
        thp_fault_alloc thp_collapse_alloc
    });
    proto::MemoryStat {
        usage: memory.usage,
        usage_limit: memory.usage_limit,
        swap_usage: memory.swap_usage,
        swap_limit: memory.swap_limit,
        max_usage: memory.max_usage,
        swap_max_usage: memory.swap_max_usage,
        psi: psi(memory.pressure),
        ..stat
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

fn io_stat(Io { usage, pressure }: Io) -> proto::IOStat {
    let usage = list(
        usage,
        |entry| message!(proto::IOEntry = entry => IoEntry { major minor rbytes wbytes rios wios }),
    );
    proto::IOStat { usage, psi: psi(pressure), ..Default::default() }
}

fn psi(pressure: Option<Pressure>) -> MessageField<proto::PSIStats> {
    let stalls = |stalls| {
        field(
            stalls,
            |stalls| message!(proto::PSIData = stalls => Stalls { avg10 avg60 avg300 total }),
        )
    };
    field(pressure, |Pressure { some, full }| proto::PSIStats {
        some: stalls(some),
        full: stalls(full),
        ..Default::default()
    })
}
