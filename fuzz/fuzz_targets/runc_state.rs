// SPDX-License-Identifier: Apache-2.0
//! runc's `state.json` and crun's `status`, as far as commands without them need it, and a
//! process's `stat`, in which a container chooses the name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedge_runc::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    // A key at the top that neither has written makes it another thing. (An array has no keys; serde
    // takes it for its fields.) Text that nobody needs is skipped, and need not be UTF-8.
    let text = String::from_utf8_lossy(bytes);
    let later = text.replacen('{', "{\"made_by_a_later_one\":1,", 1);
    if text.trim_start().starts_with('{') {
        assert!(fuzzing::state(bytes).is_none() || fuzzing::state(later.as_bytes()).is_none());
        assert!(fuzzing::status(bytes).is_none() || fuzzing::status(later.as_bytes()).is_none());
    } else {
        fuzzing::state(bytes);
        fuzzing::status(bytes);
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && !name.contains(')')
    {
        let fields = (4..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(fuzzing::start_time(&format!("7 ({name}) S {fields}")), Some(22));
        fuzzing::start_time(name);
    }
});
