// SPDX-License-Identifier: Apache-2.0
//! What idle shims hold: 1, 10 and 50 containers, in one pod and in a shim each.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use wedge_integration::proc::{FdKind, Proc};
use wedge_integration::{Bundle, ShimProcess};

use crate::Wishes;
use crate::lane::Lane;
use crate::report::{Row, Table, Unit};
use crate::samples::Samples;
use crate::world::{World, spec};

/// How many containers there are when it is looked at.
const STEPS: [usize; 3] = [1, 10, 50];
/// Execs of each first container before anything is measured: no shim is without any for long.
const EXECS: usize = 10;

/// Of each shim, on average.
#[derive(Debug, Clone, Copy, Default)]
struct Holding {
    pss: f64,
    private_dirty: f64,
    rss: f64,
    threads: f64,
    fds: f64,
    inotify: f64,
}

type Field = fn(&Holding) -> f64;

const FIELDS: [(&str, Unit, Field); 6] = [
    ("PSS", Unit::Kibibytes, |holding| holding.pss),
    ("Private_Dirty", Unit::Kibibytes, |holding| holding.private_dirty),
    ("RSS", Unit::Kibibytes, |holding| holding.rss),
    ("threads", Unit::Count, |holding| holding.threads),
    ("descriptors", Unit::Count, |holding| holding.fds),
    ("inotify instances", Unit::Count, |holding| holding.inotify),
];

pub(crate) fn run(world: &World, _: &Wishes) -> Result<Vec<Table>> {
    let lanes = world.shims();
    let floor = floor(world)?;
    let mut tables = Vec::new();
    for (pod, title) in [
        (true, "an idle shim, its containers in one pod"),
        (false, "idle shims of a container each"),
    ] {
        let held = lanes.iter().map(|lane| grow(world, *lane, pod).with_context(|| lane.name()));
        let held = held.collect::<Result<Vec<_>>>()?;
        let mut table = Table::new("memory", title, lanes.clone());
        for (name, unit, field) in FIELDS {
            for (number, step) in STEPS.into_iter().enumerate() {
                let value = |held: &[Holding; STEPS.len()]| held.get(number).map(field);
                let cells = held.iter().filter_map(value).map(Samples::one).collect();
                let each = if pod { "" } else { ", each" };
                let containers = if step == 1 { "container" } else { "containers" };
                let row = Row::new(format!("{name}{each}, {step} {containers}"), unit, cells);
                let alone = number == 0 && unit == Unit::Kibibytes;
                table.rows.push(if alone { row.floor(Samples::one(field(&floor))) } else { row });
            }
        }
        if pod {
            let more = |held: &[Holding; STEPS.len()]| {
                let [first, .., last] = held;
                Samples::one((last.private_dirty - first.private_dirty) / 49.0)
            };
            let cells = held.iter().map(more).collect();
            table.rows.push(Row::new("Private_Dirty, per further one", Unit::Kibibytes, cells));
        }
        table.notes.push(format!("each shim has done {EXECS} execs before"));
        tables.push(table);
    }
    Ok(tables)
}

/// Starts container after container; what is held at each step.
fn grow(world: &World, lane: Lane, pod: bool) -> Result<[Holding; STEPS.len()]> {
    let lab = world.lab(lane)?;
    let group = lab.pod("pod")?;
    let mut shims: Vec<ShimProcess> = Vec::new();
    let mut containers: Vec<(usize, Bundle)> = Vec::new();
    let mut held = [Holding::default(); STEPS.len()];
    for (step, holding) in STEPS.into_iter().zip(&mut held) {
        while containers.len() < step {
            let spec = if pod { spec(false).pod(&group) } else { spec(false) };
            let bundle = lab.bundle("c", &spec)?;
            let shim = lab.start(&bundle)?;
            let known = shims.iter().position(|other| other.proc() == shim.proc());
            run_one(&shim, &bundle, known.is_none())?;
            containers.push((known.unwrap_or(shims.len()), bundle));
            if known.is_none() {
                shims.push(shim);
            }
        }
        *holding = average(&shims)?;
    }
    end(&shims, &containers)?;
    lab.finish()?;
    Ok(held)
}

fn run_one(shim: &ShimProcess, bundle: &Bundle, is_first: bool) -> Result<()> {
    shim.create(bundle, &wedge_integration::Stdio::null())?;
    shim.start(bundle.id(), "")?;
    for number in 0..if is_first { EXECS } else { 0 } {
        crate::exec::once(shim, bundle.id(), &format!("e{number}"))?;
    }
    Ok(())
}

fn end(shims: &[ShimProcess], containers: &[(usize, Bundle)]) -> Result<()> {
    for (number, bundle) in containers {
        let shim = shims.get(*number).context("no such shim")?;
        shim.kill(bundle.id(), "", 9, false)?;
        shim.wait(bundle.id(), "")?;
        shim.delete(bundle.id(), "")?;
    }
    shims.iter().try_for_each(|shim| Ok(shim.shutdown()?))
}

fn average(shims: &[ShimProcess]) -> Result<Holding> {
    settle();
    let mut sum = Holding::default();
    for shim in shims {
        let one = holding(shim.proc())?;
        sum.pss += one.pss;
        sum.private_dirty += one.private_dirty;
        sum.rss += one.rss;
        sum.threads += one.threads;
        sum.fds += one.fds;
        sum.inotify += one.inotify;
    }
    let count: f64 = shims.iter().map(|_| 1.0).sum();
    Ok(Holding {
        pss: sum.pss / count,
        private_dirty: sum.private_dirty / count,
        rss: sum.rss / count,
        threads: sum.threads / count,
        fds: sum.fds / count,
        inotify: sum.inotify / count,
    })
}

/// Of a shim, and of the process that it keeps for execs, if it has one.
fn holding(shim: Proc) -> Result<Holding> {
    let number = |number: u64| Ok::<f64, anyhow::Error>(f64::from(u32::try_from(number)?));
    let mut sum = Holding::default();
    for process in shim.forkers() {
        let (memory, fds) = (process.memory()?, process.fds()?);
        sum.pss += number(memory.pss)?;
        sum.private_dirty += number(memory.private_dirty)?;
        sum.rss += number(memory.rss)?;
        sum.threads += number(process.threads()?.try_into()?)?;
        sum.fds += number(fds.len().try_into()?)?;
        sum.inotify += number(fds.count(FdKind::Inotify).try_into()?)?;
    }
    Ok(sum)
}

/// A static program that waits on a socket and can do nothing else.
#[expect(clippy::disallowed_methods, reason = "a program waits for its own child")]
fn floor(world: &World) -> Result<Holding> {
    let socket = world.dir().join("floor.sock");
    let listener = OwnedFd::from(UnixListener::bind(&socket)?);
    // A copy on a disk, as the shims are.
    let program = world.dir().join("floor");
    std::fs::copy(world.floor_program(), &program)?;
    File::open(&program)?.sync_all()?;
    let mut child = Command::new(program).arg("serve").stdin(Stdio::from(listener)).spawn()?;
    settle();
    let held = holding(Proc(child.id()));
    child.kill()?;
    child.wait()?;
    held
}

/// Until what has just been done is over, a garbage collector has had its turn, and a shim that gives
/// memory back when it rests has done so.
#[expect(clippy::disallowed_methods, reason = "idleness is what is measured")]
fn settle() {
    std::thread::sleep(Duration::from_millis(2500));
}
