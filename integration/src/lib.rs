// SPDX-License-Identifier: Apache-2.0
//! The harness of the integration tests: real binaries, a private containerd, no internals.
//!
//! Two ways to drive a shim, both for ours and for the Go one (`SHIM_UNDER_TEST=ours|go`):
//!
//! * [`Env`]: a containerd of its own for one test, driven with `ctr`; the contract as users see it.
//! * [`Lab`]: the shim alone. The test is the daemon: it writes the bundle, runs `start`, speaks
//!   ttrpc to the shim ([`ShimProcess`]), and receives its events ([`EventServer`]). With
//!   [`fake_runtime`] in place of runc, races happen on demand instead of by luck.
//!
//! What a test may assume: it is root; its directory, containerd namespace and ids are its own
//! ([`Scratch`]); every call has a limit, so a test fails rather than hangs; waiting is polling a
//! fact with a deadline ([`wait`]), never sleeping. A test ends with `env.finish()`, which checks
//! that nothing is left: processes, mounts, cgroups, runc state, sockets. An environment dropped
//! before that (an error or a failed assertion) prints what it knows, then removes what it made.
//!
//! Variables: `SHIM_UNDER_TEST` (`ours`, `go`), `WEDGE_SHIM` (path of ours; else the release build
//! beside this test's), `WEDGE_HELPERS` (directory of the helper binaries), `WEDGE_TEST_DIR`
//! (instead of `/run/wedge-test`, a tmpfs; keep it short), `WEDGE_TEST_DEBUG=1` (debug logs),
//! `WEDGE_TEST_SLOW` (how many times as long all limits are), `WEDGE_LONG=1` (more rounds).
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "test programs wait for their own children")]

pub mod apparmor;
mod binaries;
mod bundle;
mod capture;
mod command;
mod container;
mod ctr;
mod daemon;
mod env;
mod event_server;
mod events;
pub mod fake_runtime;
pub mod fifo;
mod footprint;
mod frame;
pub mod image;
mod lab;
mod leftovers;
mod meter;
mod output;
mod parallel;
pub mod payload;
pub mod proc;
mod rig;
pub mod rootfs;
pub mod rpc;
mod scratch;
mod shim;
pub mod spawned;
mod spec;
pub mod trace;
pub mod wait;

pub use containerd_shim_protos as protos;

pub use binaries::{ShimUnderTest, helper};
pub use bundle::Bundle;
pub use capture::Capture;
pub use command::{Cmd, Running};
pub use container::{Container, Launch};
pub use ctr::{Ctr, TaskRow};
pub use daemon::Daemon;
pub use env::{Env, EnvBuilder};
pub use event_server::{Answer, EventServer};
pub use events::{CtrEvents, Event, EventLog};
pub use fake_runtime::FakeRuntime;
pub use fifo::{Fifos, Stdio};
pub use footprint::Footprint;
pub use lab::Lab;
pub use meter::Meter;
pub use output::Output;
pub use parallel::{in_parallel, rounds};
pub use rig::{Ran, Rig};
pub use rpc::RpcError;
pub use scratch::Scratch;
pub use shim::{Exited, ShimProcess, TASK_V2, TASK_V3};
pub use spec::{Process, Spec};
