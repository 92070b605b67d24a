// SPDX-License-Identifier: Apache-2.0
//! The address of standard output in a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedge_stdio::fuzzing::address;

fuzz_target!(|text: &str| {
    if let Ok(Some((path, args))) = address(text) {
        assert!(!text.starts_with('/') && path.is_absolute(), "{path:?}");
        let keys: Vec<_> = args.iter().step_by(2).collect();
        let once = |key: &_| keys.iter().filter(|other| *other == key).count() == 1;
        assert!(args.len() % 2 == 0 && keys.iter().all(once), "{args:?}");
    }
});
