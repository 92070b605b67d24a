// SPDX-License-Identifier: Apache-2.0
//! Why an affinity cannot be had. Joined with their sources by ": " these are runc's texts.

use std::fmt;

use super::{ANNOTATION, ListError};

/// A wrong affinity. Clonable, because an annotation is evaluated once for all execs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AffinityError {
    /// `execCPUAffinity` has a wrong list.
    #[error("bad CPUAffinity.{member}")]
    Exec {
        /// Which of the two.
        member: Member,
        /// What is wrong.
        #[source]
        source: ListError,
    },
    /// The annotation has a value that does not exist.
    #[error("getting CPU affinity: unknown transition value {value:?} for annotation {ANNOTATION}")]
    UnknownTransition {
        /// The value.
        value: String,
    },
    /// The container's `cpuset.cpus` makes no sense.
    #[error("getting CPU affinity: getting eligible cpu: parsing cpuset cpus list {list}")]
    CpusetList {
        /// The list.
        list: String,
        /// What is wrong.
        #[source]
        source: ListError,
    },
    /// The kernel's list of isolated CPUs makes no sense.
    #[error("getting CPU affinity: getting eligible cpu: parsing isolated cpus list {list}")]
    IsolatedList {
        /// The list.
        list: String,
        /// What is wrong.
        #[source]
        source: ListError,
    },
}

/// A member of `execCPUAffinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// `initial`
    Initial,
    /// `final`
    Final,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Member::Initial => "Initial",
            Member::Final => "Final",
        })
    }
}
