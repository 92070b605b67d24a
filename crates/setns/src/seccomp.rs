// SPDX-License-Identifier: Apache-2.0
//! The seccomp program of a container, compiled once.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use wedge_reaper::{CommandError, Limits, Reaper};
use wedge_seccomp::Program;

use crate::error::Unsupported;
use crate::host::Host;

/// The first argument of a process of our own binary that compiles: a profile on its standard
/// input, the program on its standard output ([`wedge_seccomp::compile_stdin`]).
pub const COMMAND: &str = "seccomp-compile";

/// Compiles in a process of its own, so that the library's memory is not the shim's.
pub(crate) async fn compile(
    host: &Host,
    reaper: &Reaper,
    profile: &Value,
) -> Result<Program, Unsupported> {
    // libseccomp takes minutes for some profiles; runc then takes them too, on every exec.
    let limits = Limits { time: Duration::from_secs(10), output: 1 << 20, survives: false };
    let mut command = Command::new(&host.compiler);
    command.arg(COMMAND);
    let json = profile.to_string();
    let ran = reaper.capture(command, Some(json.as_bytes()), limits).await;
    let output = ran.map_err(|err| not_run(&err))?;
    match output.status.code() {
        0 => {}
        // It was killed, for want of memory maybe.
        code @ 129.. => {
            return Err(Unsupported::for_now(format!("the seccomp compiler ended with {code}")));
        }
        _ => {
            let text = String::from_utf8_lossy(&output.output);
            return Err(Unsupported::new(format!("seccomp profile: {}", text.trim())));
        }
    }
    Program::decode(&output.output)
        .map_err(|err| Unsupported::new(format!("seccomp program: {err}")))
}

fn not_run(err: &CommandError) -> Unsupported {
    match err {
        CommandError::Spawn { source, .. } | CommandError::Pipe { source, .. } => {
            Unsupported::of(format_args!("no seccomp compiler: {err}"), source)
        }
        // As slow the next time, and every exec would wait for it.
        CommandError::Timeout { .. } => Unsupported::new(format!("no seccomp compiler: {err}")),
    }
}
