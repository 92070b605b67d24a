// SPDX-License-Identifier: Apache-2.0
//! What the controllers have counted: the contents of containerd's metrics messages, as structs.
//!
//! What is where, and what a missing or odd file means, is as in containerd's own library
//! (github.com/containerd/cgroups, `cgroup1` and `cgroup2/manager.go`), which kubelet and cadvisor
//! are used to; `docs/adr/0008-stats.md` says where this differs. Reading cannot fail: a missing
//! file, one that the kernel refuses to read and a line that is not understood count as nothing.

use std::fs;
use std::path::Path;

use crate::keyed::number;

/// Defines a struct of counters, and how it is read from a flat keyed file ("name value" lines).
/// A counter that has no line is 0.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident: $($counter:ident)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = concat!("`", stringify!($counter), "` of the file.")] pub $counter: u64,)*
        }

        impl $name {
            pub(crate) fn parse(text: &str) -> $name {
                let mut all = $name::default();
                for (name, value) in crate::keyed::pairs(text) {
                    match name {
                        $(stringify!($counter) => all.$counter = value,)*
                        _ => {}
                    }
                }
                all
            }
        }
    };
}

pub mod v1;
pub mod v2;

/// The counters of a container's cgroups.
#[derive(Debug, Clone, PartialEq)]
pub enum Stats {
    /// Of the v1 controllers.
    V1(v1::Metrics),
    /// Of the unified hierarchy.
    V2(v2::Metrics),
}

/// Tasks, threads included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be. Without a limit 0 in v1 and `u64::MAX` in v2, as in containerd.
    pub limit: u64,
}

/// What is used of the RDMA devices, and what may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rdma {
    /// `rdma.current`.
    pub current: Vec<RdmaEntry>,
    /// `rdma.max`; `u32::MAX` where there is no limit.
    pub limit: Vec<RdmaEntry>,
}

/// One RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles of host channel adapters.
    pub hca_handles: u32,
    /// Objects of host channel adapters.
    pub hca_objects: u32,
}

/// The text of a file. `None` when it cannot be read: missing, of a removed cgroup (`ENODEV`), or
/// of a feature that is switched off (`EOPNOTSUPP`).
fn text(directory: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(directory.join(name)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number in a file that holds nothing else, with `max` for the word "max".
pub(crate) fn value(directory: &Path, name: &str, max: u64) -> Option<u64> {
    let text = text(directory, name)?;
    if text.trim() == "max" { Some(max) } else { number(&text) }
}

/// Reads `rdma.current` or `rdma.max`: lines like "mlx4_0 hca_handle=2 hca_object=max".
fn rdma_entries(text: &str) -> Vec<RdmaEntry> {
    text.lines().filter_map(rdma_entry).collect()
}

fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[device, first, second] = words.as_slice() else { return None };
    let mut entry = RdmaEntry { device: device.to_owned(), ..RdmaEntry::default() };
    for (name, value) in [first, second].into_iter().filter_map(|word| word.split_once('=')) {
        let number = || number(value).and_then(|value| value.try_into().ok());
        let value = if value == "max" { u32::MAX } else { number().unwrap_or_default() };
        match name {
            "hca_handle" => entry.hca_handles = value,
            "hca_object" => entry.hca_objects = value,
            _ => {}
        }
    }
    Some(entry)
}

/// The sizes of huge pages of the machine at `root`, as hugetlb files have them in their names:
/// "2MB", "1GB" (`mem_fmt` in mm/hugetlb_cgroup.c).
fn page_sizes(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("sys/kernel/mm/hugepages")) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.iter().filter_map(|name| page_size(name)).collect()
}

/// From "hugepages-2048kB" to "2MB".
fn page_size(name: &str) -> Option<String> {
    let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        1_048_576.. => format!("{}GB", kib >> 20),
        1024.. => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

#[cfg(test)]
mod tests;
