// SPDX-License-Identifier: Apache-2.0
//! Which field of containerd's metrics comes from which file.

use wedge_integration::protos::{cgroups, cgroups_v2};

pub(crate) type V1 = cgroups::metrics::Metrics;
pub(crate) type V2 = cgroups_v2::metrics::Metrics;

/// A file, a line of it or "" for a file with one number, and the field.
pub(crate) type Row<M> = (&'static str, &'static str, fn(&M) -> u64);

/// Nanoseconds in a tick of v1's `cpuacct.stat`.
const TICK: u64 = 10_000_000;

/// In the order in which each controller's files are read.
pub(crate) const ROWS_V1: [&[Row<V1>]; 4] = [PIDS, CPUACCT, CPU, MEMORY];

const PIDS: &[Row<V1>] =
    &[("pids.current", "", |m| m.pids.current), ("pids.max", "", |m| m.pids.limit)];

const CPUACCT: &[Row<V1>] = &[
    ("cpuacct.stat", "user", |m| m.cpu.usage.user / TICK),
    ("cpuacct.stat", "system", |m| m.cpu.usage.kernel / TICK),
    ("cpuacct.usage", "", |m| m.cpu.usage.total),
];

const CPU: &[Row<V1>] = &[
    ("cpu.stat", "nr_periods", |m| m.cpu.throttling.periods),
    ("cpu.stat", "nr_throttled", |m| m.cpu.throttling.throttled_periods),
    ("cpu.stat", "throttled_time", |m| m.cpu.throttling.throttled_time),
];

const MEMORY: &[Row<V1>] = &[
    ("memory.stat", "cache", |m| m.memory.cache),
    ("memory.stat", "rss", |m| m.memory.rss),
    ("memory.stat", "rss_huge", |m| m.memory.rss_huge),
    ("memory.stat", "mapped_file", |m| m.memory.mapped_file),
    ("memory.stat", "dirty", |m| m.memory.dirty),
    ("memory.stat", "writeback", |m| m.memory.writeback),
    ("memory.stat", "pgpgin", |m| m.memory.pg_pg_in),
    ("memory.stat", "pgpgout", |m| m.memory.pg_pg_out),
    ("memory.stat", "pgfault", |m| m.memory.pg_fault),
    ("memory.stat", "pgmajfault", |m| m.memory.pg_maj_fault),
    ("memory.stat", "inactive_anon", |m| m.memory.inactive_anon),
    ("memory.stat", "active_anon", |m| m.memory.active_anon),
    ("memory.stat", "inactive_file", |m| m.memory.inactive_file),
    ("memory.stat", "active_file", |m| m.memory.active_file),
    ("memory.stat", "unevictable", |m| m.memory.unevictable),
    ("memory.stat", "hierarchical_memory_limit", |m| m.memory.hierarchical_memory_limit),
    ("memory.stat", "hierarchical_memsw_limit", |m| m.memory.hierarchical_swap_limit),
    ("memory.stat", "total_cache", |m| m.memory.total_cache),
    ("memory.stat", "total_rss", |m| m.memory.total_rss),
    ("memory.stat", "total_rss_huge", |m| m.memory.total_rss_huge),
    ("memory.stat", "total_mapped_file", |m| m.memory.total_mapped_file),
    ("memory.stat", "total_dirty", |m| m.memory.total_dirty),
    ("memory.stat", "total_writeback", |m| m.memory.total_writeback),
    ("memory.stat", "total_pgpgin", |m| m.memory.total_pg_pg_in),
    ("memory.stat", "total_pgpgout", |m| m.memory.total_pg_pg_out),
    ("memory.stat", "total_pgfault", |m| m.memory.total_pg_fault),
    ("memory.stat", "total_pgmajfault", |m| m.memory.total_pg_maj_fault),
    ("memory.stat", "total_inactive_anon", |m| m.memory.total_inactive_anon),
    ("memory.stat", "total_active_anon", |m| m.memory.total_active_anon),
    ("memory.stat", "total_inactive_file", |m| m.memory.total_inactive_file),
    ("memory.stat", "total_active_file", |m| m.memory.total_active_file),
    ("memory.stat", "total_unevictable", |m| m.memory.total_unevictable),
    ("memory.oom_control", "oom_kill_disable", |m| m.memory_oom_control.oom_kill_disable),
    ("memory.oom_control", "under_oom", |m| m.memory_oom_control.under_oom),
    ("memory.oom_control", "oom_kill", |m| m.memory_oom_control.oom_kill),
    ("memory.usage_in_bytes", "", |m| m.memory.usage.usage),
    ("memory.max_usage_in_bytes", "", |m| m.memory.usage.max),
    ("memory.failcnt", "", |m| m.memory.usage.failcnt),
    ("memory.limit_in_bytes", "", |m| m.memory.usage.limit),
    ("memory.memsw.usage_in_bytes", "", |m| m.memory.swap.usage),
    ("memory.memsw.max_usage_in_bytes", "", |m| m.memory.swap.max),
    ("memory.memsw.failcnt", "", |m| m.memory.swap.failcnt),
    ("memory.memsw.limit_in_bytes", "", |m| m.memory.swap.limit),
    ("memory.kmem.usage_in_bytes", "", |m| m.memory.kernel.usage),
    ("memory.kmem.max_usage_in_bytes", "", |m| m.memory.kernel.max),
    ("memory.kmem.failcnt", "", |m| m.memory.kernel.failcnt),
    ("memory.kmem.limit_in_bytes", "", |m| m.memory.kernel.limit),
    ("memory.kmem.tcp.usage_in_bytes", "", |m| m.memory.kernel_tcp.usage),
    ("memory.kmem.tcp.max_usage_in_bytes", "", |m| m.memory.kernel_tcp.max),
    ("memory.kmem.tcp.failcnt", "", |m| m.memory.kernel_tcp.failcnt),
    ("memory.kmem.tcp.limit_in_bytes", "", |m| m.memory.kernel_tcp.limit),
];

pub(crate) const ROWS_V2: &[Row<V2>] = &[
    ("pids.current", "", |m| m.pids.current),
    ("pids.max", "", |m| m.pids.limit),
    ("cpu.stat", "usage_usec", |m| m.cpu.usage_usec),
    ("cpu.stat", "user_usec", |m| m.cpu.user_usec),
    ("cpu.stat", "system_usec", |m| m.cpu.system_usec),
    ("cpu.stat", "nr_periods", |m| m.cpu.nr_periods),
    ("cpu.stat", "nr_throttled", |m| m.cpu.nr_throttled),
    ("cpu.stat", "throttled_usec", |m| m.cpu.throttled_usec),
    ("cpu.stat", "nr_bursts", |m| m.cpu.nr_bursts),
    ("cpu.stat", "burst_usec", |m| m.cpu.burst_usec),
    ("memory.stat", "anon", |m| m.memory.anon),
    ("memory.stat", "file", |m| m.memory.file),
    ("memory.stat", "kernel_stack", |m| m.memory.kernel_stack),
    ("memory.stat", "slab", |m| m.memory.slab),
    ("memory.stat", "sock", |m| m.memory.sock),
    ("memory.stat", "shmem", |m| m.memory.shmem),
    ("memory.stat", "file_mapped", |m| m.memory.file_mapped),
    ("memory.stat", "file_dirty", |m| m.memory.file_dirty),
    ("memory.stat", "file_writeback", |m| m.memory.file_writeback),
    ("memory.stat", "anon_thp", |m| m.memory.anon_thp),
    ("memory.stat", "inactive_anon", |m| m.memory.inactive_anon),
    ("memory.stat", "active_anon", |m| m.memory.active_anon),
    ("memory.stat", "inactive_file", |m| m.memory.inactive_file),
    ("memory.stat", "active_file", |m| m.memory.active_file),
    ("memory.stat", "unevictable", |m| m.memory.unevictable),
    ("memory.stat", "slab_reclaimable", |m| m.memory.slab_reclaimable),
    ("memory.stat", "slab_unreclaimable", |m| m.memory.slab_unreclaimable),
    ("memory.stat", "pgfault", |m| m.memory.pgfault),
    ("memory.stat", "pgmajfault", |m| m.memory.pgmajfault),
    ("memory.stat", "workingset_refault", |m| m.memory.workingset_refault),
    ("memory.stat", "workingset_activate", |m| m.memory.workingset_activate),
    ("memory.stat", "workingset_nodereclaim", |m| m.memory.workingset_nodereclaim),
    ("memory.stat", "pgrefill", |m| m.memory.pgrefill),
    ("memory.stat", "pgscan", |m| m.memory.pgscan),
    ("memory.stat", "pgsteal", |m| m.memory.pgsteal),
    ("memory.stat", "pgactivate", |m| m.memory.pgactivate),
    ("memory.stat", "pgdeactivate", |m| m.memory.pgdeactivate),
    ("memory.stat", "pglazyfree", |m| m.memory.pglazyfree),
    ("memory.stat", "pglazyfreed", |m| m.memory.pglazyfreed),
    ("memory.stat", "thp_fault_alloc", |m| m.memory.thp_fault_alloc),
    ("memory.stat", "thp_collapse_alloc", |m| m.memory.thp_collapse_alloc),
    ("memory.current", "", |m| m.memory.usage),
    ("memory.max", "", |m| m.memory.usage_limit),
    ("memory.swap.current", "", |m| m.memory.swap_usage),
    ("memory.swap.max", "", |m| m.memory.swap_limit),
    ("memory.peak", "", |m| m.memory.max_usage),
    ("memory.swap.peak", "", |m| m.memory.swap_max_usage),
    ("memory.events", "low", |m| m.memory_events.low),
    ("memory.events", "high", |m| m.memory_events.high),
    ("memory.events", "max", |m| m.memory_events.max),
    ("memory.events", "oom", |m| m.memory_events.oom),
    ("memory.events", "oom_kill", |m| m.memory_events.oom_kill),
    ("memory.events", "oom_group_kill", |m| m.memory_events.oom_group_kill),
];
