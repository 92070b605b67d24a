// SPDX-License-Identifier: Apache-2.0
//! What the programs say: case by case, and beside those that the real runc loads.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![expect(clippy::print_stdout, reason = "sizes and times, for who wants to see them")]

mod actions;
mod arguments;
mod bpf;
mod enosys;
mod refusals;
mod runc;

use serde_json::{Value, json};
use wedge_seccomp::{Error, Program};

use bpf::Call;

// Actions of runc's state.json, and what they become in linux/seccomp.h.
const ERRNO: i64 = 2;
const ALLOW: i64 = 4;

const RET_KILL_THREAD: u32 = 0;
const RET_EPERM: u32 = 0x0005_0001;
const RET_ENOSYS: u32 = 0x0005_0026;
const RET_ALLOW: u32 = 0x7fff_0000;

// linux/audit.h.
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
/// Set in the numbers of x32, which has the audit architecture of x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// A profile as in runc's state.json.
fn profile(default_action: i64, syscalls: &[Value]) -> Value {
    json!({"default_action": default_action, "default_errno_ret": null,
        "architectures": ["amd64", "x86", "x32"], "syscalls": syscalls})
}

fn rule(name: &str, action: i64) -> Value {
    json!({"name": name, "action": action, "errnoRet": null, "args": []})
}

fn compile(profile: &Value) -> Result<Program, Error> {
    wedge_seccomp::compile(profile.to_string().as_bytes())
}

fn verdict(profile: &Value, call: Call) -> u32 {
    bpf::run(compile(profile).unwrap().filter(), call)
}
