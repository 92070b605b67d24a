// SPDX-License-Identifier: Apache-2.0
//! How and when a process ended.

use std::fmt;
use std::time::SystemTime;

use wedge_sys::Ended;

/// The exit status containerd reports: the exit code, or 128 plus the signal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitStatus(u8);

impl ExitStatus {
    /// The status of a process that was killed by SIGKILL.
    pub const KILLED: ExitStatus = ExitStatus(137);

    /// The number that goes into events and replies, 0 to 255.
    pub fn code(self) -> u32 {
        u32::from(self.0)
    }

    /// Whether the process exited with code 0.
    pub fn success(self) -> bool {
        self.0 == 0
    }
}

impl From<Ended> for ExitStatus {
    fn from(ended: Ended) -> ExitStatus {
        let number = match ended {
            Ended::Exited(code) => code & 0xff,
            Ended::Signaled(signal) => 128 + (signal & 0x7f),
        };
        ExitStatus(u8::try_from(number).unwrap_or(u8::MAX))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit status {}", self.0)
    }
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The pid it had; free again.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// When it was reaped.
    pub at: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_signals_map_as_containerd_expects() {
        let table = [
            (Ended::Exited(0), 0),
            (Ended::Exited(7), 7),
            (Ended::Exited(255), 255),
            (Ended::Signaled(9), 137),
            (Ended::Signaled(34), 162),
            (Ended::Signaled(64), 192),
        ];
        for (ended, code) in table {
            assert_eq!(ExitStatus::from(ended).code(), code, "{ended:?}");
        }
    }
}
