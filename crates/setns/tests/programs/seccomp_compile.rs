// SPDX-License-Identifier: Apache-2.0
//! What the shim's binary is to `Host::new`: a program that compiles seccomp profiles.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(wedge_setns::SECCOMP_COMMAND) => wedge_seccomp::compile_stdin(),
        _ => ExitCode::from(2),
    }
}
