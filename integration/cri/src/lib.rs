// SPDX-License-Identifier: Apache-2.0
//! The harness of the tests through containerd's CRI plugin: what a kubelet does, without one.
//!
//! A [`Node`] is a private containerd with the CRI plugin, in a network namespace of its own: the
//! bridge of its pods is there, and so is the server of streams. A [`Pod`] is run on it, with
//! [`Container`]s; both take the messages of the CRI as they are, since what a test is about is a
//! field of one of them. Execs, attachments and forwarded ports are [`Stream`]s over WebSocket.
//!
//! The handler is `wedge` with our shim, and `runc` with containerd's own when
//! `SHIM_UNDER_TEST=go`: the same tests decide about both. Cgroups are made as the [`Driver`] in
//! `WEDGE_TEST_CGROUPS` makes them. The rules are those of
//! `wedge-integration`; a test ends with [`Node::finish`], which checks that nothing is left.
#![forbid(unsafe_code)]

mod client;
mod container;
mod driver;
mod left;
mod netns;
mod node;
mod pod;
mod stream;

pub use k8s_cri::v1;

pub use client::Client;
pub use container::{Container, Ran};
pub use driver::Driver;
pub use netns::NetNs;
pub use node::Node;
pub use pod::Pod;
pub use stream::{End, Stream};
