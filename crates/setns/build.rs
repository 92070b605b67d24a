// SPDX-License-Identifier: Apache-2.0
//! Builds the setns helper, which is embedded in the shim.
//!
//! It is linked without a C library and at a fixed address, flags that cargo applies to whole
//! builds only; it has one dependency and no build script, so rustc is called directly.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything but names and paths.
const FLAGS: &[&str] = &[
    "--edition=2024",
    "-Copt-level=2",
    "-Ccodegen-units=1",
    "-Cpanic=abort",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Cstrip=symbols",
];

const LINK: &[&str] =
    &["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,norelro"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(required("CARGO_MANIFEST_DIR")?).join("../..");
    let (wire, helper) = (root.join("crates/setns-wire/src"), root.join("cmd/wedge-setns/src"));
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", wire.display());
    println!("cargo:rerun-if-changed={}", helper.display());

    let out = PathBuf::from(required("OUT_DIR")?);
    let library = out.join("libwedge_setns_wire.rlib");
    let mut build = rustc("wedge_setns_wire", "rlib", &library)?;
    run(build.arg(wire.join("lib.rs")))?;

    let mut build = rustc("wedge_setns", "bin", &out.join("wedge-setns"))?;
    build.args(["-Clto=fat", "--extern"]).arg(format!("wedge_setns_wire={}", library.display()));
    build.args(LINK.iter().map(|flag| format!("-Clink-arg={flag}")));
    // The tests of this crate kill the helper at every stage; the one that is released cannot.
    if required("PROFILE")? == "debug" {
        build.args(["--cfg", "failpoints"]);
    }
    run(build.arg(helper.join("main.rs")))
}

fn rustc(name: &str, kind: &str, output: &Path) -> io::Result<Command> {
    let mut command = Command::new(required("RUSTC")?);
    command.args(["--crate-name", name, "--crate-type", kind, "--target", &required("TARGET")?]);
    command.args(FLAGS).arg("-o").arg(output);
    Ok(command)
}

#[expect(clippy::disallowed_methods, reason = "nobody else waits for children here")]
fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{command:?}: {status}")));
    }
    Ok(())
}

fn required(name: &str) -> io::Result<String> {
    env::var(name).map_err(|err| io::Error::other(format!("{name}: {err}")))
}
