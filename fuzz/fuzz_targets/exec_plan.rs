// SPDX-License-Identifier: Apache-2.0
//! The plan of an exec and the helper's reports, and a container's /etc/passwd. The shim writes
//! plans, but the helper checks them; reports come from a process on its way into a container.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedge_setns_wire::{Entry, Plan, Report, entry_of, home_of};

fuzz_target!(|bytes: &[u8]| {
    if let Some(report) = Report::decode(bytes) {
        assert!(report.aux.len() < bytes.len());
    }
    assert!(home_of(bytes, 0).is_none_or(|home| !home.contains(&b'\n')));
    if let Entry::Home(home) = entry_of(bytes, 0) {
        assert!(!home.contains(&b'\n') && !home.contains(&0));
    }
    let Ok(plan) = Plan::parse(bytes) else { return };
    let header = *plan.header();
    assert!(plan.entries(header.arguments) > 0 && !plan.string(header.cwd).is_empty());
    for table in [header.cgroups, header.candidates, header.arguments, header.environment] {
        for index in 0..=plan.entries(table) {
            let text = plan.entry(table, index).unwrap_or_default();
            assert!(text.to_bytes_with_nul().len() <= bytes.len());
        }
    }
    for slice in [header.groups, header.seccomp, header.scheduler, header.last_cpus] {
        assert_eq!(plan.slice(slice).len(), slice.len as usize);
        assert_eq!(plan.number(slice, slice.len as usize), None);
    }
});
