// SPDX-License-Identifier: Apache-2.0
//! The unified hierarchy.

use std::path::Path;

use super::{Pids, Rdma, page_sizes, rdma_entries, text};
use crate::keyed;

/// All of it. There is a value for every controller, 0 for one that is not enabled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Tasks.
    pub pids: Pids,
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// RDMA devices.
    pub rdma: Rdma,
    /// Block devices.
    pub io: Io,
    /// For each size of huge pages the machine has.
    pub hugetlb: Vec<Hugetlb>,
    /// `memory.events`. `None` when the file is missing or empty.
    pub memory_events: Option<MemoryEvents>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpu {
    /// `cpu.stat`.
    pub stat: CpuStat,
    /// `cpu.pressure`.
    pub pressure: Option<Pressure>,
}

counters! {
    /// `cpu.stat`, times in microseconds.
    CpuStat:
    usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec nr_bursts burst_usec
}

/// Memory, in bytes. All of it is 0 when `memory.stat` is missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// `memory.stat`.
    pub stat: MemoryStat,
    /// `memory.current`.
    pub usage: u64,
    /// `memory.max`; `u64::MAX` without a limit.
    pub usage_limit: u64,
    /// `memory.swap.current`.
    pub swap_usage: u64,
    /// `memory.swap.max`; `u64::MAX` without a limit.
    pub swap_limit: u64,
    /// `memory.peak`, from Linux 5.19.
    pub max_usage: u64,
    /// `memory.swap.peak`, from Linux 6.5.
    pub swap_max_usage: u64,
    /// `memory.pressure`.
    pub pressure: Option<Pressure>,
}

counters! {
    /// `memory.stat`, in bytes; `pg…`, `workingset_…` and `thp_…` are events. Linux 5.9 has split
    /// `workingset_refault` and `workingset_activate` in two, so that these are 0, as in containerd.
    MemoryStat:
    anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp
    inactive_anon active_anon inactive_file active_file unevictable
    slab_reclaimable slab_unreclaimable pgfault pgmajfault
    workingset_refault workingset_activate workingset_nodereclaim
    pgrefill pgscan pgsteal pgactivate pgdeactivate pglazyfree pglazyfreed
    thp_fault_alloc thp_collapse_alloc
}

counters! {
    /// `memory.events`: how often each of them has happened.
    MemoryEvents: low high max oom oom_kill oom_group_kill
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some task was held up.
    pub some: Option<Stalls>,
    /// All of them were. Linux before 5.13 has no such line for the processor.
    pub full: Option<Stalls>,
}

/// The share of time in percent, over the last 10, 60 and 300 seconds, and all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[expect(missing_docs, reason = "named after the kernel's")]
pub struct Stalls {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    /// In microseconds.
    pub total: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Io {
    /// `io.stat`.
    pub usage: Vec<IoEntry>,
    /// `io.pressure`.
    pub pressure: Option<Pressure>,
}

/// One device, by its numbers: bytes and operations, read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the kernel's")]
pub struct IoEntry {
    pub major: u64,
    pub minor: u64,
    pub rbytes: u64,
    pub wbytes: u64,
    pub rios: u64,
    pub wios: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hugetlb {
    /// Bytes in use.
    pub current: u64,
    /// Bytes that may be; `u64::MAX` without a limit.
    pub max: u64,
    /// "2MB", "1GB".
    pub pagesize: String,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Reads everything. `root` is the root directory of the machine.
pub(crate) fn read(directory: &Path, root: &Path) -> Metrics {
    let counted = |name| text(directory, name).unwrap_or_default();
    let events = counted("memory.events");
    Metrics {
        pids: Pids {
            current: value(directory, "pids.current"),
            limit: value(directory, "pids.max"),
        },
        cpu: Cpu {
            stat: CpuStat::parse(&counted("cpu.stat")),
            pressure: pressure(directory, "cpu.pressure"),
        },
        memory: memory(directory).unwrap_or_default(),
        rdma: Rdma {
            current: rdma_entries(&counted("rdma.current")),
            limit: rdma_entries(&counted("rdma.max")),
        },
        io: Io {
            usage: io_entries(&counted("io.stat")),
            pressure: pressure(directory, "io.pressure"),
        },
        hugetlb: page_sizes(root).into_iter().map(|size| hugetlb(directory, size)).collect(),
        memory_events: (!events.is_empty()).then(|| MemoryEvents::parse(&events)),
    }
}

/// The number in a file; 0 when there is none.
fn value(directory: &Path, name: &str) -> u64 {
    super::value(directory, name, u64::MAX).unwrap_or_default()
}

fn memory(directory: &Path) -> Option<Memory> {
    let stat = MemoryStat::parse(&text(directory, "memory.stat")?);
    Some(Memory {
        stat,
        usage: value(directory, "memory.current"),
        usage_limit: value(directory, "memory.max"),
        swap_usage: value(directory, "memory.swap.current"),
        swap_limit: value(directory, "memory.swap.max"),
        max_usage: value(directory, "memory.peak"),
        swap_max_usage: value(directory, "memory.swap.peak"),
        pressure: pressure(directory, "memory.pressure"),
    })
}

fn hugetlb(directory: &Path, pagesize: String) -> Hugetlb {
    let name = |suffix| format!("hugetlb.{pagesize}.{suffix}");
    let events = text(directory, &name("events")).unwrap_or_default();
    Hugetlb {
        current: value(directory, &name("current")),
        max: value(directory, &name("max")),
        failcnt: keyed::value(&events, "max").unwrap_or_default(),
        pagesize,
    }
}

/// `None` when the file is missing, or PSI is switched off, which reading it tells.
fn pressure(directory: &Path, name: &str) -> Option<Pressure> {
    Some(parse_pressure(&text(directory, name)?))
}

/// Reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and the same for "full".
fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (kind, words) = line.split_once(' ').unwrap_or_default();
        match kind {
            "some" => pressure.some = Some(stalls(words)),
            "full" => pressure.full = Some(stalls(words)),
            _ => {}
        }
    }
    pressure
}

fn stalls(words: &str) -> Stalls {
    let mut stalls = Stalls::default();
    for (name, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
        let average = || value.parse().unwrap_or_default();
        match name {
            "avg10" => stalls.avg10 = average(),
            "avg60" => stalls.avg60 = average(),
            "avg300" => stalls.avg300 = average(),
            "total" => stalls.total = keyed::number(value).unwrap_or_default(),
            _ => {}
        }
    }
    stalls
}

/// Reads "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6". Some kernels put devices that have
/// no counters in front, "7:1 7:0 8:0 rbytes=1 …": it is the last one's line.
fn io_entries(text: &str) -> Vec<IoEntry> {
    text.lines().filter_map(io_entry).collect()
}

fn io_entry(line: &str) -> Option<IoEntry> {
    let (mut entry, mut device, mut counted) = (IoEntry::default(), false, false);
    for word in line.split_whitespace() {
        if let Some((name, value)) = word.split_once('=') {
            counted = true;
            let value = keyed::number(value).unwrap_or_default();
            match name {
                "rbytes" => entry.rbytes = value,
                "wbytes" => entry.wbytes = value,
                "rios" => entry.rios = value,
                "wios" => entry.wios = value,
                _ => {}
            }
        } else if let Some((major, minor)) = word.split_once(':') {
            (entry.major, entry.minor) = (major.parse().ok()?, minor.parse().ok()?);
            device = true;
        }
    }
    (device && counted).then_some(entry)
}

#[cfg(test)]
mod tests;
