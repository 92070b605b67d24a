// SPDX-License-Identifier: Apache-2.0
//! Link options of the shim alone.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A hundred KiB of relocations, all read at every start, become five (glibc 2.36 and later).
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
