// SPDX-License-Identifier: Apache-2.0
//! Bad input and failing surroundings, at the shim alone: a clear error of the right class each
//! time, nothing left behind, and the shim serves on.
#![forbid(unsafe_code)]

mod fuzz;
mod ids;
mod requests;
mod surroundings;

pub(crate) const METHODS: [&str; 17] = [
    "State",
    "Create",
    "Start",
    "Delete",
    "Pids",
    "Pause",
    "Resume",
    "Checkpoint",
    "Kill",
    "Exec",
    "ResizePty",
    "CloseIO",
    "Update",
    "Wait",
    "Stats",
    "Connect",
    "Shutdown",
];
