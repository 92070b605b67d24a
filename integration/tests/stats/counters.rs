// SPDX-License-Identifier: Apache-2.0
//! The metrics messages, compared with the files field by field.

use std::fmt::Debug;

use anyhow::{Result, bail};
use protobuf::Message;
use wedge_integration::protos::api::StatsResponse;
use wedge_integration::protos::cgroups_v2;

use crate::cgroup::Cgroup;
use crate::rows::{ROWS_V1, ROWS_V2, Row, V1, V2};

/// What Stats answered.
#[derive(Debug)]
pub(crate) enum Metrics {
    V1(Box<V1>),
    V2(Box<V2>),
}

/// The value of an expression on either.
macro_rules! either {
    ($metrics:expr, $v1:expr, $v2:expr) => {
        match $metrics {
            Metrics::V1(metrics) => {
                let read: fn(&V1) -> u64 = $v1;
                read(metrics)
            }
            Metrics::V2(metrics) => {
                let read: fn(&V2) -> u64 = $v2;
                read(metrics)
            }
        }
    };
}

impl Metrics {
    pub(crate) fn decode(response: &StatsResponse) -> Result<Metrics> {
        let bytes = &response.stats.value;
        Ok(match response.stats.type_url.as_str() {
            "io.containerd.cgroups.v1.Metrics" => {
                Metrics::V1(Box::new(V1::parse_from_bytes(bytes)?))
            }
            "io.containerd.cgroups.v2.Metrics" => {
                Metrics::V2(Box::new(V2::parse_from_bytes(bytes)?))
            }
            other => bail!("{other:?}"),
        })
    }

    /// How limits of memory and tasks look when there are none.
    pub(crate) fn no_limits(&self) -> (u64, u64) {
        match self {
            Metrics::V1(_) => (0x7fff_ffff_ffff_f000, 0),
            Metrics::V2(_) => (u64::MAX, u64::MAX),
        }
    }

    pub(crate) fn memory(&self) -> u64 {
        either!(self, |v1| v1.memory.usage.usage, |v2| v2.memory.usage)
    }

    pub(crate) fn memory_peak(&self) -> u64 {
        either!(self, |v1| v1.memory.usage.max, |v2| v2.memory.max_usage)
    }

    pub(crate) fn memory_limit(&self) -> u64 {
        either!(self, |v1| v1.memory.usage.limit, |v2| v2.memory.usage_limit)
    }

    pub(crate) fn oom_kills(&self) -> u64 {
        either!(self, |v1| v1.memory_oom_control.oom_kill, |v2| v2.memory_events.oom_kill)
    }

    pub(crate) fn pids(&self) -> u64 {
        either!(self, |v1| v1.pids.current, |v2| v2.pids.current)
    }

    pub(crate) fn pids_limit(&self) -> u64 {
        either!(self, |v1| v1.pids.limit, |v2| v2.pids.limit)
    }

    /// In nanoseconds.
    pub(crate) fn cpu(&self) -> u64 {
        either!(self, |v1| v1.cpu.usage.total, |v2| v2.cpu.usage_usec * 1000)
    }

    pub(crate) fn throttled(&self) -> u64 {
        either!(self, |v1| v1.cpu.throttling.throttled_periods, |v2| v2.cpu.nr_throttled)
    }

    /// Every field that is not what its file says, a line each.
    pub(crate) fn differences(&self, cgroup: &Cgroup) -> Vec<String> {
        match self {
            Metrics::V1(metrics) => differences_v1(metrics, cgroup),
            Metrics::V2(metrics) => differences_v2(metrics, cgroup),
        }
    }
}

/// The rows in the order of reading, which stops at the first file that is missing when `stops`.
fn compare<M>(metrics: &M, rows: &[Row<M>], cgroup: &Cgroup, max: u64, stops: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut over = false;
    for (file, key, field) in rows {
        over |= stops && cgroup.text(file).is_none();
        let number = || cgroup.number(file, key, max).unwrap_or_default();
        let (seen, expected) = (field(metrics), if over { 0 } else { number() });
        found.extend(must_be(&format!("{file} {key}"), &seen, &expected));
    }
    found
}

fn must_be<T: PartialEq + Debug>(what: &str, seen: &T, expected: &T) -> Option<String> {
    (seen != expected).then(|| format!("{what}: {seen:?} instead of {expected:?}"))
}

fn differences_v1(metrics: &V1, cgroup: &Cgroup) -> Vec<String> {
    let rows = ROWS_V1.iter().flat_map(|rows| compare(metrics, rows, cgroup, 0, true));
    let mut found: Vec<String> = rows.collect();
    found.extend(blkio(metrics, cgroup));
    let per_cpu = cgroup.text("cpuacct.usage_percpu").unwrap_or_default();
    let per_cpu: Vec<u64> = per_cpu.split_whitespace().flat_map(str::parse).collect();
    found.extend(must_be("per cpu", &metrics.cpu.usage.per_cpu, &per_cpu));
    let memory = cgroup.text("memory.stat").is_some();
    let sizes = if memory && cgroup.has("hugetlb") { page_sizes() } else { 0 };
    let cpu = metrics.cpu.usage.is_some() && metrics.cpu.throttling.is_some();
    found.extend(must_be("hugetlb", &metrics.hugetlb.len(), &sizes));
    found.extend(must_be("memory", &metrics.memory.is_some(), &memory));
    found.extend(must_be("cpu", &cpu, &true));
    found.extend(must_be("cgroup stats", &metrics.cgroup_stats.is_some(), &false));
    found.extend(must_be("network", &metrics.network.len(), &0));
    found
}

/// As without the CFQ scheduler.
fn blkio(metrics: &V1, cgroup: &Cgroup) -> Vec<String> {
    let io: [(&str, &[_]); 2] = [
        ("blkio.throttle.io_service_bytes", &metrics.blkio.io_service_bytes_recursive),
        ("blkio.throttle.io_serviced", &metrics.blkio.io_serviced_recursive),
    ];
    let mut found = Vec::new();
    for (file, entries) in io {
        let text = cgroup.text(file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("Total")).collect();
        let entries: Vec<String> = entries
            .iter()
            .map(|entry| format!("{}:{} {} {}", entry.major, entry.minor, entry.op, entry.value))
            .collect();
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        found.extend(must_be(file, &entries, &lines));
    }
    found.extend(must_be("blkio", &metrics.blkio.is_some(), &cgroup.has("blkio")));
    found
}

fn differences_v2(metrics: &V2, cgroup: &Cgroup) -> Vec<String> {
    let mut found = compare(metrics, ROWS_V2, cgroup, u64::MAX, false);
    found.extend(io(metrics, cgroup));
    for (file, psi) in [
        ("cpu.pressure", &metrics.cpu.psi),
        ("memory.pressure", &metrics.memory.psi),
        ("io.pressure", &metrics.io.psi),
    ] {
        found.extend(must_be(file, &psi.is_some(), &cgroup.text(file).is_some()));
    }
    found.extend(must_be("hugetlb", &metrics.hugetlb.len(), &page_sizes()));
    for pages in &metrics.hugetlb {
        let file = |end| format!("hugetlb.{}.{end}", pages.pagesize);
        let number = |end, key| cgroup.number(&file(end), key, u64::MAX).unwrap_or_default();
        let expected = (number("current", ""), number("max", ""), number("events", "max"));
        let seen = (pages.current, pages.max, pages.failcnt);
        found.extend(must_be(&file("*"), &seen, &expected));
    }
    let events = cgroup.text("memory.events").is_some();
    found.extend(must_be("events", &metrics.memory_events.is_some(), &events));
    found.extend(must_be("network", &metrics.network.len(), &0));
    found
}

fn io(metrics: &V2, cgroup: &Cgroup) -> Option<String> {
    let entry = |entry: &cgroups_v2::metrics::IOEntry| {
        let (device, read) = ((entry.major, entry.minor), (entry.rbytes, entry.rios));
        (device, read, (entry.wbytes, entry.wios))
    };
    let seen: Vec<_> = metrics.io.usage.iter().map(entry).collect();
    let text = cgroup.text("io.stat").unwrap_or_default();
    let line = |line: &str| {
        let (major, minor) = line.split_once(' ')?.0.split_once(':')?;
        let words = || line.split_whitespace().filter_map(|word| word.split_once('='));
        let value = |name| words().find(|(key, _)| *key == name)?.1.parse::<u64>().ok();
        let device = (major.parse().ok()?, minor.parse().ok()?);
        Some((device, (value("rbytes")?, value("rios")?), (value("wbytes")?, value("wios")?)))
    };
    let expected: Vec<_> = text.lines().filter_map(line).collect();
    must_be("io.stat", &seen, &expected)
}

/// How many sizes of huge pages this machine has.
fn page_sizes() -> usize {
    std::fs::read_dir("/sys/kernel/mm/hugepages").map_or(0, Iterator::count)
}
