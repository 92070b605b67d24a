// SPDX-License-Identifier: Apache-2.0
//! The options of a rootfs mount, here one a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedge_oci::fuzzing::mount_data;

fuzz_target!(|text: &str| {
    let options: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(data) = mount_data(&options) {
        // What is not understood goes to the file system: as it is, in order, nothing twice.
        let mut sent = options.iter();
        assert!(data.iter().all(|told| sent.any(|option| option == told)), "{data:?}");
    }
});
