// SPDX-License-Identifier: Apache-2.0
//! Whether a shim grows with its execs.

use anyhow::{Context, Result};
use wedge_integration::Rig;

use crate::Wishes;
use crate::exec::once;
use crate::lane::Lane;
use crate::report::{Row, Table, Unit};
use crate::samples::{Samples, slope};
use crate::world::{World, spec};

/// How often it is looked at.
const LOOKS: u32 = 20;
/// Execs before the first look: what is kept for all later ones is there then.
const WARM: u32 = 200;

struct Contestant {
    lane: Lane,
    rig: Rig,
    /// Execs between two looks.
    step: u32,
    done: u32,
    points: Vec<(f64, f64)>,
    threads: Samples,
    fds: Samples,
}

impl Contestant {
    fn new(world: &World, lane: Lane, wishes: &Wishes) -> Result<Contestant> {
        let rig = Rig::on(world.lab(lane)?, &spec(false))?;
        rig.run()?;
        // The Go shim starts runc for each: a tenth of the number takes as long.
        let total = match (wishes.long, lane.is_go()) {
            (true, false) => 100_000,
            (true, true) => 10_000,
            (false, false) => 3_000,
            (false, true) => 1_000,
        };
        let (threads, fds) = (Samples::default(), Samples::default());
        let step = total / LOOKS;
        let mut contestant =
            Contestant { lane, rig, step, done: 0, points: Vec::new(), threads, fds };
        contestant.execs(WARM)?;
        contestant.done = 0;
        contestant.look()?;
        Ok(contestant)
    }

    fn execs(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            self.done += 1;
            once(&self.rig.shim, self.rig.id(), &format!("g{}-{count}", self.done))?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        let process = self.rig.shim.proc();
        let mut dirty = 0.0;
        for process in process.forkers() {
            dirty += f64::from(u32::try_from(process.memory()?.private_dirty)?);
        }
        self.points.push((self.done.into(), dirty));
        self.threads.add(f64::from(u32::try_from(process.threads()?)?));
        self.fds.add(f64::from(u32::try_from(process.fds()?.len())?));
        Ok(())
    }
}

pub(crate) fn run(world: &World, wishes: &Wishes) -> Result<Vec<Table>> {
    let lanes = world.shims();
    let new = |lane: &Lane| Contestant::new(world, *lane, wishes).with_context(|| lane.name());
    let mut all = lanes.iter().map(new).collect::<Result<Vec<_>>>()?;
    for _ in 0..LOOKS {
        for contestant in &mut all {
            contestant.execs(contestant.step).with_context(|| contestant.lane.name())?;
            contestant.look()?;
        }
    }
    let table = table(lanes, &all);
    all.into_iter().try_for_each(|contestant| contestant.rig.end())?;
    Ok(vec![table])
}

fn table(lanes: Vec<Lane>, all: &[Contestant]) -> Table {
    let row = |name: &str, unit, cell: fn(&Contestant) -> Samples| {
        Row::new(name, unit, all.iter().map(cell).collect())
    };
    let mut table = Table::new("growth", "one container's shim after many execs", lanes);
    table.rows = vec![
        // In their order: the plot is made of them.
        row("execs at each look", Unit::Execs, |one| one.points.iter().map(|(x, _)| *x).collect()),
        row("Private_Dirty", Unit::Kibibytes, |one| one.points.iter().map(|(_, y)| *y).collect()),
        row("Private_Dirty, per exec", Unit::Bytes, |one| {
            slope(&one.points).map(|(slope, _)| slope * 1024.0).into_iter().collect()
        }),
        row("threads", Unit::Count, |one| one.threads.clone()),
        row("descriptors", Unit::Count, |one| one.fds.clone()),
    ];
    for one in all {
        let name = one.lane.name();
        let later = one.points.get(one.points.len() / 2..).unwrap_or_default();
        // What grows at first and then no more is a pool, not a leak.
        for (points, which) in [(one.points.as_slice(), "all"), (later, "the later half of")] {
            let Some((slope, error)) = slope(points) else { continue };
            let (slope, error, execs) = (slope * 1024.0, error * 1024.0, one.done);
            table.notes.push(format!(
                "{name}: {slope:.2} bytes per exec (± {error:.2}, standard error) in {which} {execs}"
            ));
        }
    }
    table
}
