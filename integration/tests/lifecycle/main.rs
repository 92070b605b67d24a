// SPDX-License-Identifier: Apache-2.0
//! State × operation over the wire, with containerd's exact texts
//! (cmd/containerd-shim-runc-v2/process/{init,exec}_state.go), and the calls around it.
#![forbid(unsafe_code)]

mod calls;
mod io;
mod states;

use wedge_integration::protos::api::{StateResponse, Status};

/// `0001-01-01T00:00:00Z`, Go's zero time.
pub(crate) const NEVER: i64 = -62_135_596_800;

/// What a client sees: status, exit status, and seconds of the exit's time.
pub(crate) fn seen(state: &StateResponse) -> (Status, u32, i64) {
    let at = state.exited_at.as_ref().map(|time| time.seconds).unwrap_or_default();
    (state.status.enum_value_or_default(), state.exit_status, at)
}
