// SPDX-License-Identifier: Apache-2.0
//! The TOML of `runtimeoptions.v1.Options`, from the configuration of containerd.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedge_oci::Options;

fuzz_target!(|text: &str| {
    if let Ok(options) = Options::from_toml(text) {
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&json).unwrap(), options);
    }
});
