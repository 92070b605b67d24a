// SPDX-License-Identifier: Apache-2.0
//! Telling the shim.

#[cfg(failpoints)]
use wedge_setns_wire::STOP;
use wedge_setns_wire::{Kind, PACKET, Plan, Report, Stage, fd};

use crate::call;
#[cfg(failpoints)]
use crate::kernel::{SIGKILL, SIGSTOP};
use crate::socket;
use crate::sys::{Errno, Result};

/// Sends a report without a text. A shim that is gone cannot be told: whoever waits for its answer
/// sees the end of the socket.
pub(crate) fn tell(kind: Kind) -> Result<()> {
    send(Report { kind, stage: 0, errno: 0, aux: b"" }, None)
}

/// Sends the master of the terminal.
pub(crate) fn tell_terminal(master: i32) -> Result<()> {
    let report = Report { kind: Kind::Terminal, stage: 0, errno: 0, aux: b"" };
    send(report, Some(master))
}

/// Ends this process; the shim knows why.
pub(crate) fn fail(stage: Stage, error: Errno, aux: &[u8]) -> ! {
    end(Kind::Failed, stage, error, aux)
}

/// Ends this process; the OCI runtime may do what could not be done here.
pub(crate) fn unsupported(stage: Stage, error: Errno) -> ! {
    end(Kind::Unsupported, stage, error, b"")
}

fn end(kind: Kind, stage: Stage, error: Errno, aux: &[u8]) -> ! {
    let report = Report { kind, stage: stage as u32, errno: error.0, aux };
    match send(report, None) {
        Ok(()) => call::exit(1),
        // The shim is gone, or the filter forbids even this; it then sees a death it cannot
        // explain.
        Err(_) => call::exit(255),
    }
}

fn send(report: Report<'_>, passed: Option<i32>) -> Result<()> {
    let mut packet = [0; PACKET];
    let length = report.encode(&mut packet);
    let packet = packet.get(..length).unwrap_or_default();
    match passed {
        Some(passed) => socket::send(fd::CONTROL, packet, passed),
        // A plain write: a filter that is loaded by now may forbid the calls of sockets.
        None => call::write(fd::CONTROL, packet).map(drop),
    }
}

/// Runs one step; an error of it is the end.
pub(crate) fn step<T>(plan: &Plan<'_>, stage: Stage, run: impl FnOnce() -> Result<T>) -> T {
    reach(plan, stage);
    match run() {
        Ok(value) => value,
        Err(error) => fail(stage, error, b""),
    }
}

/// In a helper built for tests, the plan can ask for a death or a stop at any stage.
pub(crate) fn reach(plan: &Plan<'_>, stage: Stage) {
    #[cfg(failpoints)]
    {
        let wanted = plan.header().failpoint & !STOP;
        if wanted != 0 && wanted == stage as u32 {
            call::signal_self(if wanted == plan.header().failpoint { SIGKILL } else { SIGSTOP });
        }
    }
    #[cfg(not(failpoints))]
    {
        _ = (plan, stage);
    }
}
