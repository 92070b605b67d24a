// SPDX-License-Identifier: Apache-2.0
//! What a kubelet asks of containerd, with the handler of the shim under test.

mod cgroups;
mod containers;
mod execs;
mod handlers;
mod logs;
mod network;
mod node;
mod pods;
mod resources;
mod security;
mod streams;
mod unified;
