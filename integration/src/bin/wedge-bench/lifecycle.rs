// SPDX-License-Identifier: Apache-2.0
//! The life of a container, from its shim's start to its end.

use std::time::Instant;

use anyhow::{Context, Result};
use wedge_integration::{Bundle, Lab, Meter, ShimProcess, Stdio, proc};

use crate::Wishes;
use crate::exec::{ms, rest};
use crate::lane::Lane;
use crate::report::{Row, Table, Unit};
use crate::samples::Samples;
use crate::world::{World, spec};

#[derive(Debug, Default)]
struct Figures {
    connected: Samples,
    create: Samples,
    start: Samples,
    running: Samples,
    kill: Samples,
    exit: Samples,
    delete: Samples,
    cpu: Samples,
}

type Figure = fn(&mut Figures) -> &mut Samples;

struct Contestant {
    lane: Lane,
    lab: Lab,
    meter: Meter,
    figures: Figures,
}

/// What the kernel takes for the same.
#[derive(Debug, Default)]
struct Floor {
    connected: Samples,
    create: Samples,
    start: Samples,
    running: Samples,
    exit: Samples,
    delete: Samples,
    cpu: Samples,
}

impl Contestant {
    fn new(world: &World, lane: Lane) -> Result<Contestant> {
        let mut lab = world.lab(lane)?;
        let meter = Meter::on(&mut lab)?;
        Ok(Contestant { lane, lab, meter, figures: Figures::default() })
    }

    fn round(&mut self) -> Result<()> {
        self.lab.confine(None);
        let bundle = self.lab.bundle("c", &spec(false))?;
        let shim = self.timed_start(&bundle)?;
        self.timed_life(&bundle, &shim)?;
        end(&bundle, &shim)?;
        self.lab.confine(Some(self.meter.dir()));
        let bundle = self.lab.bundle("c", &spec(false))?;
        let before = self.meter.all()?;
        let shim = self.lab.start(&bundle)?;
        shim.create(&bundle, &Stdio::null())?;
        shim.start(bundle.id(), "")?;
        shim.kill(bundle.id(), "", 9, false)?;
        shim.wait(bundle.id(), "")?;
        shim.delete(bundle.id(), "")?;
        end(&bundle, &shim)?;
        self.figures.cpu.add(ms(self.meter.all()? - before));
        Ok(())
    }

    fn timed_start(&mut self, bundle: &Bundle) -> Result<ShimProcess> {
        let begun = Instant::now();
        let started = self.lab.start_measured(bundle)?;
        let shim = self.lab.attach(&started)?;
        self.figures.connected.add(ms(begun.elapsed()));
        Ok(shim)
    }

    fn timed_life(&mut self, bundle: &Bundle, shim: &ShimProcess) -> Result<()> {
        let (id, log) = (bundle.id(), self.lab.events().log());
        let begun = Instant::now();
        shim.create(bundle, &Stdio::null())?;
        let created = begun.elapsed();
        shim.start(id, "")?;
        let started = begun.elapsed();
        // Then the init sleeps: who kills a container does not do so while it starts.
        rest(5);
        let seen = log.len();
        let begun = Instant::now();
        shim.kill(id, "", 9, false)?;
        let killed = begun.elapsed();
        log.block_until(seen, id, "exit")?;
        let exited = begun.elapsed();
        shim.wait(id, "")?;
        let begun = Instant::now();
        shim.delete(id, "")?;
        let deleted = begun.elapsed();
        self.figures.create.add(ms(created));
        self.figures.start.add(ms(started - created));
        self.figures.running.add(ms(started));
        self.figures.kill.add(ms(killed));
        self.figures.exit.add(ms(exited));
        self.figures.delete.add(ms(deleted));
        Ok(())
    }
}

/// The shim goes, so that it takes no time from the next.
fn end(bundle: &Bundle, shim: &ShimProcess) -> Result<()> {
    shim.shutdown()?;
    proc::wait_gone(shim.proc())?;
    Ok(std::fs::remove_dir_all(bundle.dir())?)
}

impl Floor {
    fn add(&mut self, world: &World, lab: &Lab) -> Result<()> {
        const ROUNDS: &str = "2";
        let (dir, rootfs) = (lab.dir().to_string_lossy(), lab.dir().join("rootfs"));
        let [connected] = world.floor(&["serve-start", &dir, ROUNDS])?;
        let life: [Samples; 5] = world.floor(&["create", &rootfs.to_string_lossy(), ROUNDS])?;
        let running = |(create, start): (&f64, &f64)| create + start;
        let [create, start, exit, delete, cpu] = &life;
        self.running.extend(create.values().iter().zip(start.values()).map(running));
        self.connected.extend(connected.values().iter().copied());
        let Floor {
            create: creates, start: starts, exit: exits, delete: deletes, cpu: cpus, ..
        } = self;
        let all = [creates, starts, exits, deletes, cpus];
        for (sum, new) in all.into_iter().zip([create, start, exit, delete, cpu]) {
            sum.extend(new.values().iter().copied());
        }
        Ok(())
    }
}

pub(crate) fn run(world: &World, wishes: &Wishes) -> Result<Vec<Table>> {
    let lanes = world.lanes();
    let all = lanes.iter().map(|lane| Contestant::new(world, *lane).with_context(|| lane.name()));
    let mut all = all.collect::<Result<Vec<_>>>()?;
    let mut floor = Floor::default();
    // One that is not counted: binaries are read, directories made.
    for round in 0..=wishes.rounds.div_ceil(5) {
        for contestant in &mut all {
            contestant.round().with_context(|| contestant.lane.name())?;
        }
        if let Some(first) = all.first() {
            floor.add(world, &first.lab)?;
        }
        if round == 0 {
            all.iter_mut().for_each(|contestant| contestant.figures = Figures::default());
            floor = Floor::default();
        }
    }
    let table = table(lanes, &mut all, floor);
    for contestant in all {
        contestant.meter.remove()?;
        contestant.lab.finish()?;
    }
    Ok(vec![table])
}

fn table(lanes: Vec<Lane>, all: &mut [Contestant], floor: Floor) -> Table {
    let none = Samples::default;
    let rows: [(&str, Figure, Samples); 8] = [
        ("shim start until connected", |figures| &mut figures.connected, floor.connected),
        ("Create", |figures| &mut figures.create, floor.create),
        ("Start", |figures| &mut figures.start, floor.start),
        ("Create + Start", |figures| &mut figures.running, floor.running),
        ("Kill", |figures| &mut figures.kill, none()),
        ("Kill until the exit event", |figures| &mut figures.exit, floor.exit),
        ("Delete", |figures| &mut figures.delete, floor.delete),
        ("CPU time of all, per container", |figures| &mut figures.cpu, floor.cpu),
    ];
    let mut table = Table::new("lifecycle", "life of a container", lanes);
    for (name, figure, floor) in rows {
        let cells = all.iter_mut().map(|one| std::mem::take(figure(&mut one.figures))).collect();
        table.rows.push(Row::new(name, Unit::Milliseconds, cells).floor(floor));
    }
    table
}
