// SPDX-License-Identifier: Apache-2.0
//! The setns helper: joins a container and becomes the process of an exec.
//!
//! It is three processes. The *nursery* is started once per shim and forks a *joiner* for each exec,
//! in the container's cgroup where there is one to be born in. The joiner starts in the host's
//! namespaces, joins the container's and forks the *payload*, which is born inside, sets itself up and
//! executes the program. That fork comes last for security: a process is visible in the container
//! from its birth, and at that moment it must hold nothing of the host (CVE-2016-9962,
//! CVE-2024-21626).
//!
//! No C library and no allocator: nothing is loaded from the container (CVE-2019-14271), and it
//! starts in some ten microseconds. It runs only from a sealed memfd, so that
//! `/proc/PID/exe` leads to nothing that could be overwritten (CVE-2019-5736).
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "system calls without a C library")]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the setns helper has system calls for x86_64 only");

mod call;
mod capabilities;
mod entry;
mod home;
mod identity;
mod joiner;
mod kernel;
mod label;
mod nursery;
mod payload;
mod program;
mod report;
mod socket;
mod sys;
mod terminal;
mod work;
