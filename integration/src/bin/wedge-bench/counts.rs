// SPDX-License-Identifier: Apache-2.0
//! How many processes an operation takes, and how many execve calls.

use anyhow::{Context, Result};
use wedge_integration::proc::{self, Proc};
use wedge_integration::spawned::{Spawned, Watch};
use wedge_integration::trace::Trace;
use wedge_integration::{Bundle, Lab, ShimProcess, Stdio};

use crate::Wishes;
use crate::lane::Lane;
use crate::report::{Row, Table, Unit};
use crate::samples::Samples;
use crate::world::{World, spec};

const OPERATIONS: [&str; 6] = ["shim start", "Create", "Start", "exec", "Kill", "Delete"];

/// Containers that are counted: how many threads a Go program starts is chance.
const ROUNDS: usize = 5;

type Counts = [Vec<Spawned>; OPERATIONS.len()];

type Field = fn(&Spawned) -> usize;

const FIELDS: [(&str, Field); 3] = [
    ("processes", |spawned| spawned.processes),
    ("execve calls", |spawned| spawned.programs),
    ("threads besides", |spawned| spawned.threads),
];

pub(crate) fn run(world: &World, _: &Wishes) -> Result<Vec<Table>> {
    let lanes = world.lanes();
    let mut table = Table::new("counts", "processes, execve calls and threads", lanes.clone());
    if let Err(error) = Trace::reach() {
        table.notes.push(format!("not counted: {error:#}"));
        return Ok(vec![table]);
    }
    let counts = lanes.iter().map(|lane| all(world, *lane).with_context(|| lane.name()));
    let counts = counts.collect::<Result<Vec<_>>>()?;
    for (number, operation) in OPERATIONS.into_iter().enumerate() {
        for (name, field) in FIELDS {
            let cell = |counts: &Counts| {
                let spawned = counts.get(number).into_iter().flatten();
                let number = |spawned| u32::try_from(field(spawned)).unwrap_or(u32::MAX).into();
                spawned.map(number).collect::<Samples>()
            };
            let cells = counts.iter().map(cell).collect();
            table.rows.push(Row::new(format!("{operation}: {name}"), Unit::Count, cells));
        }
    }
    table.notes.push("counted by tracefs: sched_process_fork, sched_process_exec".to_owned());
    Ok(vec![table])
}

fn all(world: &World, lane: Lane) -> Result<Counts> {
    let lab = world.lab(lane)?;
    let mut watch = Watch::new(lab.namespace())?;
    let mut counts = Counts::default();
    for _ in 0..ROUNDS {
        let bundle = lab.bundle("c", &spec(false))?;
        for (all, one) in counts.iter_mut().zip(life(&lab, &bundle, &mut watch)?) {
            all.push(one);
        }
    }
    drop(watch);
    lab.finish()?;
    Ok(counts)
}

fn life(lab: &Lab, bundle: &Bundle, watch: &mut Watch) -> Result<[Spawned; OPERATIONS.len()]> {
    let id = bundle.id();
    watch.follow(&[Proc(std::process::id())])?;
    let shim = lab.attach(&lab.start_measured(bundle)?)?;
    // That of the program `start` itself is among them.
    let begun = watch.count()?;
    let create = step(watch, &shim, |shim| Ok(shim.create(bundle, &Stdio::null()).map(drop)?))?;
    let start = step(watch, &shim, |shim| Ok(shim.start(id, "").map(drop)?))?;
    crate::exec::once(&shim, id, "first")?;
    let exec = step(watch, &shim, |shim| crate::exec::once(shim, id, "counted"))?;
    let kill = step(watch, &shim, |shim| {
        shim.kill(id, "", 9, false)?;
        Ok(shim.wait(id, "").map(drop)?)
    })?;
    let delete = step(watch, &shim, |shim| Ok(shim.delete(id, "").map(drop)?))?;
    shim.shutdown()?;
    proc::wait_gone(shim.proc())?;
    Ok([begun, create, start, exec, kill, delete])
}

/// What the shim starts to do something.
fn step(
    watch: &mut Watch,
    shim: &ShimProcess,
    work: impl FnOnce(&ShimProcess) -> Result<()>,
) -> Result<Spawned> {
    watch.follow(&shim.proc().forkers())?;
    work(shim)?;
    watch.count()
}
