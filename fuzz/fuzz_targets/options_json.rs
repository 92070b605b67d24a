// SPDX-License-Identifier: Apache-2.0
//! `options.json` of a bundle, which another version or another shim may have written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedge_oci::Options;

fuzz_target!(|text: &str| {
    if let Ok(options) = serde_json::from_str::<Options>(text) {
        let again = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&again).unwrap(), options);
    }
});
