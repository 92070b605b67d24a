// SPDX-License-Identifier: Apache-2.0
//! Scheduling policy and I/O priority, sched(7) and ioprio_set(2).

use serde::Deserialize;

use crate::error::Unsupported;

/// `process.scheduler` of the OCI runtime specification; runc keeps it as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Scheduler {
    policy: String,
    nice: i32,
    priority: i32,
    flags: Option<Vec<String>>,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// `process.ioPriority` of the OCI runtime specification.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IoPriority {
    class: String,
    priority: i32,
}

const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
const CLASSES: [(&str, i32); 3] =
    [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

fn find<T: Copy>(table: &[(&str, T)], name: &str, what: &str) -> Result<T, Unsupported> {
    let found = table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    found.ok_or_else(|| Unsupported::new(format!("{what} {name:?} is not known")))
}

impl Scheduler {
    /// `struct sched_attr`, `linux/sched/types.h`, all 56 bytes of it.
    pub(crate) fn attributes(&self) -> Result<Vec<u8>, Unsupported> {
        const SIZE: u32 = 56;
        let policy = find(&POLICIES, &self.policy, "scheduler policy")?;
        let mut flags = 0;
        for name in self.flags.as_deref().unwrap_or_default() {
            flags |= find(&FLAGS, name, "scheduler flag")?;
        }
        let mut attributes = Vec::new();
        attributes.extend(SIZE.to_ne_bytes());
        attributes.extend(policy.to_ne_bytes());
        attributes.extend(flags.to_ne_bytes());
        attributes.extend(self.nice.to_ne_bytes());
        attributes.extend(self.priority.to_ne_bytes());
        for time in [self.runtime, self.deadline, self.period] {
            attributes.extend(time.to_ne_bytes());
        }
        // No clamps of utilisation.
        attributes.extend([0; 8]);
        Ok(attributes)
    }
}

impl IoPriority {
    /// The argument of ioprio_set(2).
    pub(crate) fn value(&self) -> Result<i32, Unsupported> {
        const CLASS_SHIFT: i32 = 13;
        Ok((find(&CLASSES, &self.class, "I/O priority class")? << CLASS_SHIFT) | self.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_kernels_layout() {
        let json = r#"{"policy":"SCHED_DEADLINE","nice":-5,"priority":3,"flags":
            ["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_RECLAIM"],"runtime":1,"deadline":2,"period":4}"#;
        let scheduler: Scheduler = serde_json::from_str(json).unwrap();
        let bytes = scheduler.attributes().unwrap();
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words, [56, 6, 3, 0, (-5_i32).cast_unsigned(), 3, 1, 0, 2, 0, 4, 0, 0, 0]);
    }

    #[test]
    fn what_is_not_known_is_left_to_the_runtime() {
        let scheduler = |json| serde_json::from_str::<Scheduler>(json).unwrap().attributes();
        assert!(scheduler(r#"{"policy":"SCHED_EXT"}"#).is_err());
        assert!(scheduler(r#"{"policy":"SCHED_RR","flags":["SCHED_FLAG_NEW"]}"#).is_err());
        let priority = |class: &str| IoPriority { class: class.to_owned(), priority: 4 }.value();
        assert_eq!(priority("IOPRIO_CLASS_BE"), Ok((2 << 13) | 4));
        assert!(priority("").is_err());
    }
}
