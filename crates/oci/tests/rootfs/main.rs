// SPDX-License-Identifier: Apache-2.0
//! Real mounts of a root file system; needs root.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

mod fuse;
mod id_map;
mod loop_device;
mod overlay;
mod plain;
mod support;
mod user_namespace;
