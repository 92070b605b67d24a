// SPDX-License-Identifier: Apache-2.0
//! What a figure depends on.

use std::fs;

use anyhow::{Context, Result};
use wedge_integration::Cmd;

use crate::lane::{Lane, Runtime, Shim};
use crate::world::World;

/// The machine and the versions, a name and a value each.
pub(crate) fn facts(world: &World) -> Result<Vec<(String, String)>> {
    let first = |program: &str, flag: &str| -> Result<String> {
        let out = Cmd::new(program).arg(flag).output()?;
        Ok(out.text().lines().next().unwrap_or_default().to_owned())
    };
    let shim = |shim: Shim| -> Result<String> {
        let binary = world.shim(Lane::new(shim, Runtime::Runc)).path();
        let out = Cmd::new(binary).arg("-v").output()?;
        let line = |name: &str| {
            let line =
                out.text().lines().find_map(|line| Some(line.split_once(name)?.1.to_owned()));
            line.map(|line| line.trim().to_owned()).unwrap_or_default()
        };
        Ok(format!("{} ({})", line("Version:"), line("Revision:")))
    };
    // What differs from one part of a run to the next.
    let here = |name: &str| format!("{name}, cgroup {}", world.cgroup());
    let facts = [
        ("processor", processor()?),
        ("memory", memory()?),
        ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("Wedge", shim(Shim::Wedge)?),
        ("Go shim", shim(Shim::Go)?),
        ("containerd", first("containerd", "--version")?),
        ("runc", first("runc", "--version")?),
    ];
    let mut facts: Vec<(String, String)> =
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    facts.push((here("load before"), fs::read_to_string("/proc/loadavg")?.trim().to_owned()));
    match &world.without_crun {
        Some(reason) => facts.push((here("crun"), reason.clone())),
        None => facts.push((here("crun"), first("crun", "--version")?)),
    }
    if world.variables(Lane::new(Shim::Go, Runtime::Crun)).is_some() {
        let ignored = "ignored, by a preloaded library (no CAP_SYS_RESOURCE)";
        facts.push(("crun's limit of locked memory".to_owned(), ignored.to_owned()));
    }
    Ok(facts)
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let model = models.first().copied().unwrap_or("unknown");
    Ok(format!("{} × {model}", models.len()))
}

fn memory() -> Result<String> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("no total")?;
    let kib: u64 = total.split_whitespace().next().context("no number")?.parse()?;
    Ok(format!("{} MiB", kib >> 10))
}
