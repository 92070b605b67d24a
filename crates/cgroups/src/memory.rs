// SPDX-License-Identifier: Apache-2.0
//! What an OOM kill is about: how much memory a cgroup may use, and the most it ever did.

use std::fmt;
use std::path::Path;

use crate::stats::value;

/// Without a limit, v1 says the largest multiple of a page that is a `long` (`PAGE_COUNTER_MAX` in
/// include/linux/page_counter.h); no machine has as much as this.
const NO_LIMIT: u64 = 1 << 62;

/// Of a cgroup's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// `memory.limit_in_bytes` or `memory.max`; `None` when it has none of its own, or is gone.
    pub limit: Option<u64>,
    /// `memory.max_usage_in_bytes` or, from Linux 5.19, `memory.peak`.
    pub peak: Option<u64>,
}

impl MemoryUse {
    pub(crate) fn v1(directory: &Path) -> MemoryUse {
        MemoryUse::read(directory, "memory.limit_in_bytes", "memory.max_usage_in_bytes")
    }

    pub(crate) fn v2(directory: &Path) -> MemoryUse {
        MemoryUse::read(directory, "memory.max", "memory.peak")
    }

    fn read(directory: &Path, limit: &str, peak: &str) -> MemoryUse {
        let limit = value(directory, limit, u64::MAX).filter(|limit| *limit < NO_LIMIT);
        MemoryUse { limit, peak: value(directory, peak, u64::MAX) }
    }
}

impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "limit {limit}")?,
            None => f.write_str("no limit of its own")?,
        }
        self.peak.map_or(Ok(()), |peak| write!(f, ", peak {peak}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn both_versions_say_it_in_one_way() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name, text| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(MemoryUse::v2(dir.path()), MemoryUse::default());
        write("memory.max", "max\n");
        assert_eq!(MemoryUse::v2(dir.path()).to_string(), "no limit of its own");
        write("memory.peak", "7\n");
        write("memory.max", "16777216\n");
        assert_eq!(MemoryUse::v2(dir.path()).to_string(), "limit 16777216, peak 7");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory.max_usage_in_bytes", "4096\n");
        assert_eq!(MemoryUse::v1(dir.path()).to_string(), "no limit of its own, peak 4096");
        write("memory.limit_in_bytes", "8192\n");
        assert_eq!(MemoryUse::v1(dir.path()).limit, Some(8192));
    }
}
