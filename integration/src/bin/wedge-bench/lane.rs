// SPDX-License-Identifier: Apache-2.0
//! Who is measured: a shim and the OCI runtime below it.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shim {
    /// Wedge, with nothing configured.
    Wedge,
    /// Wedge, with `exec = "runtime"`.
    WedgeRuntimeExec,
    /// containerd's own.
    Go,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Runtime {
    Runc,
    Crun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lane {
    pub(crate) shim: Shim,
    pub(crate) runtime: Runtime,
}

impl Lane {
    pub(crate) const fn new(shim: Shim, runtime: Runtime) -> Lane {
        Lane { shim, runtime }
    }

    pub(crate) fn is_go(self) -> bool {
        self.shim == Shim::Go
    }

    pub(crate) fn name(self) -> String {
        let runtime = self.runtime.name();
        match self.shim {
            Shim::Wedge => format!("Wedge + {runtime}"),
            Shim::WedgeRuntimeExec => format!("Wedge, {runtime} exec"),
            Shim::Go => format!("Go shim + {runtime}"),
        }
    }
}

impl Runtime {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Runtime::Runc => "runc",
            Runtime::Crun => "crun",
        }
    }
}
