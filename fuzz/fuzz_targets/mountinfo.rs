// SPDX-License-Identifier: Apache-2.0
//! /proc/self/mountinfo: paths in it are anybody's who may mount.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wedge_oci::fuzzing::mounts_below;

fuzz_target!(|list: &[u8]| {
    let root = Path::new("/r");
    let points = mounts_below(list, root);
    assert!(points.iter().all(|point| point.starts_with(root)), "{points:?}");
    for pair in points.windows(2) {
        assert!(pair[0] != pair[1] && !pair[1].starts_with(&pair[0]), "{points:?}");
    }
});
