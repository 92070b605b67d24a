// SPDX-License-Identifier: Apache-2.0
//! cpu_affinity.bats, as far as two CPUs can show it (docs/exec-affinity.md). runc does this since
//! 1.3, so these execs are native ones.

use std::fs;

use anyhow::{Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;
use wedge_integration::proc::kernel_is_since;
use wedge_integration::{Lab, Process};

use super::skipped;
use crate::pair::{Outcome, Pair, Side};

fn allowed(side: &Side, lab: &Lab, affinity: Option<(&str, &str)>) -> Result<String> {
    let process = Process::new(["grep", "Cpus_allowed_list", "/proc/self/status"]);
    let process = match affinity {
        Some((first, last)) => {
            process.set("execCPUAffinity", json!({ "initial": first, "final": last }))
        }
        None => process,
    };
    match side.run(lab, &process)? {
        Outcome::Ended { status: 0, stdout, .. } => {
            Ok(stdout.trim_start_matches("Cpus_allowed_list:").trim().to_owned())
        }
        other @ (Outcome::Ended { .. } | Outcome::Refused(_)) => anyhow::bail!("{other:?}"),
    }
}

/// Confines every thread of the shim to one CPU, as `CPUAffinity=` of a systemd unit would.
fn confine(side: &Side) -> Result<()> {
    let mut first = CpuSet::new();
    first.set(0)?;
    for task in fs::read_dir(side.shim.proc().path("task"))? {
        let task = task?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(task), &first)?;
    }
    Ok(())
}

#[test]
fn an_exec_gets_the_cpus_of_its_container_whatever_the_shim_has() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let all = online.trim();
    ensure!(all.contains(['-', ',']), "a second CPU is needed: {all}");
    let lab = Lab::new()?;
    let side = Side::start(&lab, "native", &Pair::spec())?;
    confine(&side)?;
    // Before Linux 6.2 who joins a cpuset forgets the mask it had.
    let remembers = kernel_is_since((6, 2))?;
    let initial = |mask| if remembers { mask } else { all };
    for (affinity, expected) in [
        (None, all),
        (Some(("", "")), all),
        (Some(("0", "")), initial("0")),
        (Some(("1", "")), initial("1")),
        (Some(("", "1")), "1"),
        (Some(("0", "1")), "1"),
        (Some(("1", "0-1")), "0-1"),
        (Some(("0,1", " 1 , ")), "1"),
    ] {
        assert_eq!(allowed(&side, &lab, affinity)?, expected, "{affinity:?}");
    }
    side.end()?;

    // A CPU that the shim does not have.
    let cpus = Pair::spec().set("/linux/resources/cpu", json!({ "cpus": "1" }));
    let side = Side::start(&lab, "native", &cpus)?;
    confine(&side)?;
    for affinity in [None, Some(("0", "1")), Some(("", "0-1"))] {
        assert_eq!(allowed(&side, &lab, affinity)?, "1", "{affinity:?}");
    }
    side.end()?;
    lab.finish()
}
