// SPDX-License-Identifier: Apache-2.0
//! Containers of the installed runc and crun: each command beside the runtime's own, before it and
//! after it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod crun;
mod delete;
#[path = "../ground/mod.rs"]
mod ground;
mod kill;
mod pause;
mod start;
mod support;
mod unsupported;
