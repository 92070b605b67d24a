// SPDX-License-Identifier: Apache-2.0
//! Execs by the thousand in one container, one after the other and 32 at a time: every one ends
//! once, with its own status, and nothing grows.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use anyhow::{Result, ensure};
use wedge_integration::{Process, Rig, ShimUnderTest, Stdio, in_parallel, payload, rounds, wait};

/// Execs at a time in the second half.
const THREADS: usize = 32;
/// What allocators may keep after a storm, in KiB.
const SLACK: u64 = 512;

/// Runs exec `number`, whose exit status tells it from its neighbours.
fn exec(rig: &Rig, name: &str, number: usize) -> Result<()> {
    let (id, exec_id) = (rig.id(), format!("{name}-{number}"));
    let status = status(number);
    let process = Process::new([payload::PATH, "exit", &status.to_string()]);
    rig.shim.exec(id, &exec_id, &process, &Stdio::null())?;
    let pid = rig.shim.start(id, &exec_id)?;
    let waited = rig.shim.wait(id, &exec_id)?;
    let deleted = rig.shim.delete(id, &exec_id)?;
    ensure!(pid > 0 && deleted.pid == pid, "{exec_id}: pid {pid}, then {}", deleted.pid);
    ensure!((waited.status, deleted.status) == (status, status), "{exec_id}: {waited:?}");
    Ok(())
}

fn status(number: usize) -> u32 {
    u32::try_from(number % 200).unwrap_or_default()
}

/// Each exec has one exit event, with its status.
fn check_events(rig: &Rig, name: &str, total: usize) -> Result<()> {
    let last = format!("{name}-");
    wait::until("every exit is told", || {
        let mut exits: HashMap<String, usize> = HashMap::new();
        for event in rig.lab.events().log().story(rig.id()) {
            if let Some(exit) = event.strip_prefix("exit ").filter(|exit| exit.starts_with(&last)) {
                *exits.entry(exit.to_owned()).or_default() += 1;
            }
        }
        ensure!(exits.len() == total, "{} exits of {total}", exits.len());
        for number in 0..total {
            let exit = format!("{name}-{number} {}", status(number));
            ensure!(exits.get(&exit) == Some(&1), "{exit}: {:?}", exits.get(&exit));
        }
        Ok(())
    })
}

#[test]
fn every_exec_of_a_storm_ends_once_and_nothing_grows() -> Result<()> {
    if ShimUnderTest::skips_go("32 execs at a time take it a minute")? {
        return Ok(());
    }
    let rig = Rig::runc()?;
    rig.run()?;
    // What is made once, at the first exec and at the first burst.
    exec(&rig, "warm", 0)?;
    in_parallel(THREADS, 2 * THREADS, |number| exec(&rig, "burst", number))?;
    let (before, memory) = (rig.footprint()?, rig.shim.proc().memory()?);

    let total = rounds(2000);
    (0..total).try_for_each(|number| exec(&rig, "one", number))?;
    check_events(&rig, "one", total)?;
    let total = if std::env::var_os("WEDGE_LONG").is_some() { 2000 } else { rounds(50) } * THREADS;
    in_parallel(THREADS, total, |number| exec(&rig, "many", number))?;
    check_events(&rig, "many", total)?;

    rig.unchanged_since(&before)?;
    // What a burst has taken is given back when the shim has come to rest.
    wait::until("memory is as before", || {
        let now = rig.shim.proc().memory()?;
        let grown = now.private_dirty.saturating_sub(memory.private_dirty);
        ensure!(grown <= SLACK, "{memory:?} before, {now:?} now");
        Ok(())
    })?;
    rig.end()
}
