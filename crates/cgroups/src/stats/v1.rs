// SPDX-License-Identifier: Apache-2.0
//! The v1 controllers. What a controller has is read in containerd's order and up to the first
//! file that is missing: without `memory.memsw.…`, for instance, kernel memory is 0 too.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Pids, Rdma, page_sizes, rdma_entries, text};
use crate::keyed;

/// Nanoseconds in a tick of `USER_HZ`, which is 100 on every Linux this runs on.
const TICK: u64 = 1_000_000_000 / 100;

/// The container's directory in the hierarchy of each controller; none where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the controllers")]
pub struct Directories {
    pub pids: Option<PathBuf>,
    pub cpu: Option<PathBuf>,
    pub cpuacct: Option<PathBuf>,
    pub memory: Option<PathBuf>,
    pub blkio: Option<PathBuf>,
    pub rdma: Option<PathBuf>,
    pub hugetlb: Option<PathBuf>,
}

/// All of it. What is `None` has no controller, or is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// For each size of huge pages.
    pub hugetlb: Vec<Hugetlb>,
    /// Tasks.
    pub pids: Option<Pids>,
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Option<Memory>,
    /// Block devices; there, and empty, as long as there was a controller at Create.
    pub blkio: Option<Blkio>,
    /// RDMA devices.
    pub rdma: Option<Rdma>,
    /// `memory.oom_control`.
    pub oom_control: Option<OomControl>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hugetlb {
    /// Bytes in use.
    pub usage: u64,
    /// The most bytes that ever were.
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// "2MB", "1GB".
    pub pagesize: String,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// What was used.
    pub usage: CpuUsage,
    /// What was denied.
    pub throttling: Throttling,
}

/// Processor time used, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// `cpuacct.usage`.
    pub total: u64,
    /// `system` of `cpuacct.stat`, which is precise to 10 ms.
    pub kernel: u64,
    /// `user` of `cpuacct.stat`, which is precise to 10 ms.
    pub user: u64,
    /// `cpuacct.usage_percpu`.
    pub per_cpu: Vec<u64>,
}

counters! {
    /// `cpu.stat`: periods in which there was something to run, and how many of them and how many
    /// nanoseconds the quota took away.
    Throttling: nr_periods nr_throttled throttled_time
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// `memory.stat`.
    pub stat: MemoryStat,
    /// `memory.…`.
    pub usage: MemoryEntry,
    /// `memory.memsw.…`: memory and swap together.
    pub swap: MemoryEntry,
    /// `memory.kmem.…`.
    pub kernel: MemoryEntry,
    /// `memory.kmem.tcp.…`.
    pub kernel_tcp: MemoryEntry,
}

counters! {
    /// `memory.stat`, in bytes; `pg…` are events. What begins with `total_` includes the cgroups
    /// below this one.
    MemoryStat:
    cache rss rss_huge mapped_file dirty writeback pgpgin pgpgout pgfault pgmajfault
    inactive_anon active_anon inactive_file active_file unevictable
    hierarchical_memory_limit hierarchical_memsw_limit
    total_cache total_rss total_rss_huge total_mapped_file total_dirty total_writeback
    total_pgpgin total_pgpgout total_pgfault total_pgmajfault
    total_inactive_anon total_active_anon total_inactive_file total_active_file total_unevictable
}

/// One kind of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEntry {
    /// `limit_in_bytes`.
    pub limit: u64,
    /// `usage_in_bytes`.
    pub usage: u64,
    /// `max_usage_in_bytes`.
    pub max: u64,
    /// `failcnt`: how often the limit was hit.
    pub failcnt: u64,
}

counters! {
    /// `memory.oom_control`.
    OomControl: oom_kill_disable under_oom oom_kill
}

/// Block devices. With the CFQ scheduler (Linux before 5.0) the `blkio.….…_recursive` files; else
/// `blkio.throttle.io_service_bytes` and `blkio.throttle.io_serviced`, and the others are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blkio {
    /// Bytes.
    pub io_service_bytes: Vec<BlkioEntry>,
    /// Operations.
    pub io_serviced: Vec<BlkioEntry>,
    /// Operations queued.
    pub io_queued: Vec<BlkioEntry>,
    /// Nanoseconds from dispatch to completion.
    pub io_service_time: Vec<BlkioEntry>,
    /// Nanoseconds in queues.
    pub io_wait_time: Vec<BlkioEntry>,
    /// Operations merged.
    pub io_merged: Vec<BlkioEntry>,
    /// Milliseconds of disk time.
    pub io_time: Vec<BlkioEntry>,
    /// Sectors.
    pub sectors: Vec<BlkioEntry>,
}

/// A count of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// "Read", "Write", "Sync", "Async", "Discard", "Total"; empty where the kernel has only one.
    pub op: String,
    /// "/dev/sda"; empty when /proc/partitions does not have it.
    pub device: String,
    /// Its major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// The count.
    pub value: u64,
}

/// Reads everything. `root` is the root directory of the machine.
pub(crate) fn read(directories: &Directories, root: &Path) -> Metrics {
    let memory = directories.memory.as_deref().map(memory).unwrap_or_default();
    Metrics {
        hugetlb: directories.hugetlb.as_deref().map(|dir| hugetlb(dir, root)).unwrap_or_default(),
        pids: directories.pids.as_deref().and_then(pids),
        cpu: Cpu {
            usage: directories.cpuacct.as_deref().and_then(cpu_usage).unwrap_or_default(),
            throttling: directories.cpu.as_deref().and_then(throttling).unwrap_or_default(),
        },
        memory: memory.0,
        blkio: directories.blkio.as_deref().map(|dir| blkio(dir, root)),
        rdma: directories.rdma.as_deref().and_then(rdma),
        oom_control: memory.1,
    }
}

/// The number in a file; containerd has always said 0 for "max".
fn value(directory: &Path, name: &str) -> Option<u64> {
    super::value(directory, name, 0)
}

fn pids(directory: &Path) -> Option<Pids> {
    let current = value(directory, "pids.current")?;
    Some(Pids { current, limit: value(directory, "pids.max")? })
}

fn throttling(directory: &Path) -> Option<Throttling> {
    Some(Throttling::parse(&text(directory, "cpu.stat")?))
}

fn cpu_usage(directory: &Path) -> Option<CpuUsage> {
    let stat = text(directory, "cpuacct.stat")?;
    let ticks = |name| Some(keyed::value(&stat, name)?.saturating_mul(TICK));
    let per_cpu = |text: &str| text.split_whitespace().filter_map(keyed::number).collect();
    Some(CpuUsage {
        total: value(directory, "cpuacct.usage")?,
        kernel: ticks("system")?,
        user: ticks("user")?,
        per_cpu: per_cpu(&text(directory, "cpuacct.usage_percpu")?),
    })
}

fn memory(directory: &Path) -> (Option<Memory>, Option<OomControl>) {
    let Some(stat) = text(directory, "memory.stat") else { return (None, None) };
    let mut memory = Memory { stat: MemoryStat::parse(&stat), ..Memory::default() };
    let control = text(directory, "memory.oom_control").map(|text| OomControl::parse(&text));
    if control.is_some() {
        // What is missing stays 0.
        memory_entries(directory, &mut memory).unwrap_or_default();
    }
    (Some(memory), control)
}

fn memory_entries(directory: &Path, memory: &mut Memory) -> Option<()> {
    for (prefix, entry) in [
        ("memory", &mut memory.usage),
        ("memory.memsw", &mut memory.swap),
        ("memory.kmem", &mut memory.kernel),
        ("memory.kmem.tcp", &mut memory.kernel_tcp),
    ] {
        let value = |name| value(directory, &format!("{prefix}.{name}"));
        entry.usage = value("usage_in_bytes")?;
        entry.max = value("max_usage_in_bytes")?;
        entry.failcnt = value("failcnt")?;
        entry.limit = value("limit_in_bytes")?;
    }
    Some(())
}

fn blkio(directory: &Path, root: &Path) -> Blkio {
    let devices = text(root, "proc/partitions").map(|text| devices(&text)).unwrap_or_default();
    let entries = |name: &str| Some(blkio_entries(&text(directory, name)?, &devices));
    let mut all = Blkio::default();
    // A kernel that has CFQ does not use it for every device.
    if directory.join("blkio.io_serviced_recursive").exists() {
        let complete = fill(&entries, cfq(&mut all)).is_some();
        if !complete || all != Blkio::default() {
            return all;
        }
    }
    let throttle = [
        ("blkio.throttle.io_serviced", &mut all.io_serviced),
        ("blkio.throttle.io_service_bytes", &mut all.io_service_bytes),
    ];
    // What is missing stays empty.
    fill(&entries, throttle).unwrap_or_default();
    all
}

type List<'a> = (&'static str, &'a mut Vec<BlkioEntry>);

fn cfq(all: &mut Blkio) -> [List<'_>; 8] {
    [
        ("blkio.sectors_recursive", &mut all.sectors),
        ("blkio.io_service_bytes_recursive", &mut all.io_service_bytes),
        ("blkio.io_serviced_recursive", &mut all.io_serviced),
        ("blkio.io_queued_recursive", &mut all.io_queued),
        ("blkio.io_service_time_recursive", &mut all.io_service_time),
        ("blkio.io_wait_time_recursive", &mut all.io_wait_time),
        ("blkio.io_merged_recursive", &mut all.io_merged),
        ("blkio.time_recursive", &mut all.io_time),
    ]
}

fn fill<const N: usize>(
    entries: &impl Fn(&str) -> Option<Vec<BlkioEntry>>,
    lists: [List<'_>; N],
) -> Option<()> {
    for (name, list) in lists {
        *list = entries(name)?;
    }
    Some(())
}

/// Reads "8:0 Read 1024" and "8:0 1024"; the sum "Total 1024" is of no device.
fn blkio_entries(text: &str, devices: &Devices) -> Vec<BlkioEntry> {
    text.lines().filter_map(|line| blkio_entry(line, devices)).collect()
}

fn blkio_entry(line: &str, devices: &Devices) -> Option<BlkioEntry> {
    let words: Vec<&str> = line.split([' ', ':']).filter(|word| !word.is_empty()).collect();
    let (major, minor, op, value) = match *words.as_slice() {
        [major, minor, value] => (major, minor, "", value),
        [major, minor, op, value] => (major, minor, op, value),
        _ => return None,
    };
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let device = devices.get(&(major, minor)).cloned().unwrap_or_default();
    Some(BlkioEntry { op: op.to_owned(), device, major, minor, value: value.parse().ok()? })
}

/// Device files by major and minor number.
type Devices = HashMap<(u64, u64), String>;

/// Reads /proc/partitions: "major minor #blocks name".
fn devices(text: &str) -> Devices {
    let mut all = Devices::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let numbers = words.next().zip(words.next());
        let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        if let (Some(numbers), Some(name)) = (numbers, words.nth(1)) {
            all.entry(numbers).or_insert_with(|| format!("/dev/{name}"));
        }
    }
    all
}

/// Without a list of devices in `rdma.max` that fits, a device came or went in between.
fn rdma(directory: &Path) -> Option<Rdma> {
    let (current, limit) = (text(directory, "rdma.current")?, text(directory, "rdma.max")?);
    let same = current.lines().count() == limit.lines().count();
    same.then(|| Rdma { current: rdma_entries(&current), limit: rdma_entries(&limit) })
}

fn hugetlb(directory: &Path, root: &Path) -> Vec<Hugetlb> {
    let entry = |pagesize: String| {
        let value = |name| value(directory, &format!("hugetlb.{pagesize}.{name}"));
        let (usage, max) = (value("usage_in_bytes")?, value("max_usage_in_bytes")?);
        Some(Hugetlb { usage, max, failcnt: value("failcnt")?, pagesize })
    };
    page_sizes(root).into_iter().map_while(entry).collect()
}

#[cfg(test)]
mod tests;
