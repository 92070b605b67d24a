// SPDX-License-Identifier: Apache-2.0
//! Containers of the installed runc: each command beside runc's own, before it and after it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod delete;
mod kill;
mod pause;
mod start;
mod support;
mod unsupported;
