// SPDX-License-Identifier: Apache-2.0
//! Execs of the shim's own beside those of the OCI runtime (docs/exec.md): the same process, the
//! same refusals, and the OCI runtime's where they cannot be the same.
#![forbid(unsafe_code)]

mod bats;
mod differential;
mod dump;
mod fallback;
mod pair;
