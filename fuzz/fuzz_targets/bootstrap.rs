// SPDX-License-Identifier: Apache-2.0
//! Standard input of `start`: `BootstrapParams`, or an `Any` of options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedge_shim::Flags;
use wedge_shim::fuzzing::bootstrap;

fuzz_target!(|input: &[u8]| {
    let flags = Flags {
        namespace: "n".to_owned(),
        id: "i".to_owned(),
        address: "/run/containerd/containerd.sock".to_owned(),
        ..Flags::default()
    };
    if let Ok(address) = bootstrap(input, &flags) {
        let (_, name) = address.rsplit_once('/').unwrap();
        assert!(address.starts_with("unix://"), "{address}");
        assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{address}");
    }
});
