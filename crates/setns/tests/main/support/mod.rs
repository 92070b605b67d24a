// SPDX-License-Identifier: Apache-2.0
//! A container of runc's, made for one test, and execs in it.

mod bench;
mod proc;
mod setup;

pub(crate) use bench::{Bench, Done, START, path_of};
pub(crate) use proc::{Process, until};
pub(crate) use setup::{Setup, on_reaper};
