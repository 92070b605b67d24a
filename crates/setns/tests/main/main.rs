// SPDX-License-Identifier: Apache-2.0
//! Native execs in containers of the real runc and crun. Needs root, both, busybox, cc and strace.
//!
//! A process has one waiter for its children, so each test needs a process of its own: nextest.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod support;

mod cgroups;
mod crun;
mod environment;
mod errors;
mod failpoints;
#[path = "../../../runc/tests/ground/mod.rs"]
mod ground;
mod identity;
mod inherited;
mod joined;
mod races;
mod refused;
mod seccomp;
mod security;
mod trace;
mod unsupported;
