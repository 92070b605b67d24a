// SPDX-License-Identifier: Apache-2.0
//! runc's `state.json` and crun's `status`, as far as commands without them need it, and a
//! process's `stat`, in which a container chooses the name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedge_runc::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if fuzzing::state(bytes).is_some() {
        // A key at the top that no runc has written makes it another thing. Text that nobody needs
        // is skipped, and need not be UTF-8.
        let text = String::from_utf8_lossy(bytes);
        let more = text.replacen('{', "{\"made_by_a_later_runc\":1,", 1);
        assert_eq!(fuzzing::state(more.as_bytes()), None);
    }
    if fuzzing::status(bytes).is_some() {
        let text = String::from_utf8_lossy(bytes);
        let more = text.replacen('{', "{\"made_by_a_later_crun\":1,", 1);
        assert_eq!(fuzzing::status(more.as_bytes()), None);
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && !name.contains(')')
    {
        let fields = (4..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(fuzzing::start_time(&format!("7 ({name}) S {fields}")), Some(22));
        fuzzing::start_time(name);
    }
});
