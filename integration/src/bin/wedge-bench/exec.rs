// SPDX-License-Identifier: Apache-2.0
//! Execs of `/bin/true` in one running container, one after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wedge_integration::{Meter, Process, Rig, ShimProcess, Stdio, payload};

use crate::Wishes;
use crate::lane::{Lane, Runtime, Shim};
use crate::outlet::Outlet;
use crate::report::{Row, Table, Unit};
use crate::samples::Samples;
use crate::world::{World, spec};

/// Execs in a row of each kind: on cgroup v1 the kernel lets the first after a pause wait.
const BURST: usize = 10;

/// The exec that goes on.
const FILTERED: &str = "filtered";

/// What is measured of each exec.
#[derive(Debug, Default)]
struct Figures {
    add: Samples,
    started: Samples,
    start: Samples,
    delete: Samples,
    until_exit: Samples,
    whole: Samples,
    output: Samples,
    cpu: Samples,
    null: Samples,
}

type Figure = fn(&mut Figures) -> &mut Samples;

/// A shim with a running container.
struct Contestant {
    lane: Lane,
    rig: Rig,
    meter: Meter,
    init: u32,
    /// An exec that goes on, for its seccomp filter.
    filtered: Option<u32>,
    count: usize,
    figures: Figures,
    /// What the kernel takes for the same, in the same container, and of CPU time.
    floor: [Samples; 2],
}

impl Contestant {
    fn new(world: &World, lane: Lane, profile: bool) -> Result<Contestant> {
        let mut lab = world.lab(lane)?;
        let meter = Meter::on(&mut lab)?;
        let rig = Rig::on(lab, &spec(profile))?;
        let init = rig.run()?;
        let (figures, floor) = Default::default();
        let filtered = profile.then(|| rig.exec(FILTERED, [payload::PATH, "pause"])).transpose()?;
        let mut contestant =
            Contestant { lane, rig, meter, init, filtered, count: 0, figures, floor };
        // The first one gathers what is kept for the next.
        for _ in 0..3 {
            contestant.whole()?;
        }
        contestant.figures = Figures::default();
        Ok(contestant)
    }

    fn next(&mut self) -> String {
        self.count += 1;
        format!("e{}", self.count)
    }

    /// Exec, Start, Wait, Delete.
    fn whole(&mut self) -> Result<()> {
        let exec_id = self.next();
        let (shim, id, process) = (&self.rig.shim, self.rig.id(), Process::new(["/bin/true"]));
        let begun = Instant::now();
        shim.exec(id, &exec_id, &process, &Stdio::null())?;
        let added = begun.elapsed();
        shim.start(id, &exec_id)?;
        let started = begun.elapsed();
        let exited = shim.wait(id, &exec_id)?;
        let ended = begun.elapsed();
        shim.delete(id, &exec_id)?;
        let took = begun.elapsed();
        ensure!(exited.status == 0, "{}: exit status {}", self.lane.name(), exited.status);
        self.figures.add.add(ms(added));
        self.figures.start.add(ms(started - added));
        self.figures.started.add(ms(started));
        self.figures.delete.add(ms(took - ended));
        self.figures.whole.add(ms(took));
        Ok(())
    }

    /// Exec and Start, until the exit event is here.
    fn until_exit(&mut self) -> Result<()> {
        let exec_id = self.next();
        let (shim, id, process) = (&self.rig.shim, self.rig.id(), Process::new(["/bin/true"]));
        let log = self.rig.lab.events().log();
        let (seen, exit) = (log.len(), format!("exit {exec_id}"));
        let begun = Instant::now();
        shim.exec(id, &exec_id, &process, &Stdio::null())?;
        shim.start(id, &exec_id)?;
        log.block_until(seen, id, &exit)?;
        self.figures.until_exit.add(ms(begun.elapsed()));
        shim.wait(id, &exec_id)?;
        shim.delete(id, &exec_id)?;
        Ok(())
    }

    /// As [`Contestant::whole`], with FIFOs for its output that are read to their end: a probe.
    fn with_output(&mut self) -> Result<()> {
        let exec_id = self.next();
        let (shim, id, process) = (&self.rig.shim, self.rig.id(), Process::new(["/bin/true"]));
        let dir = self.rig.lab.dir().join("fifo");
        let (out, err) = (Outlet::new(&dir, &exec_id, "out")?, Outlet::new(&dir, &exec_id, "err")?);
        let (stdin, stdout, stderr) = (String::new(), out.path.clone(), err.path.clone());
        let stdio = Stdio { stdin, stdout, stderr, terminal: false };
        let begun = Instant::now();
        shim.exec(id, &exec_id, &process, &stdio)?;
        shim.start(id, &exec_id)?;
        shim.wait(id, &exec_id)?;
        out.finish()?;
        err.finish()?;
        shim.delete(id, &exec_id)?;
        self.figures.output.add(ms(begun.elapsed()));
        Ok(())
    }

    fn burst(&mut self, pause: u64) -> Result<()> {
        let before = self.meter.all()?;
        for _ in 0..BURST {
            rest(pause);
            self.whole()?;
        }
        let burst = u32::try_from(BURST)?;
        self.figures.cpu.add(ms((self.meter.all()? - before) / burst));
        for _ in 0..BURST / 2 {
            rest(pause);
            self.until_exit()?;
            rest(pause);
            self.with_output()?;
        }
        let begun = Instant::now();
        self.rig.shim.connect_task(self.rig.id())?;
        self.figures.null.add(ms(begun.elapsed()));
        Ok(())
    }

    fn floor(&mut self, world: &World) -> Result<()> {
        let mut args = vec!["exec".to_owned(), self.init.to_string(), BURST.to_string()];
        args.extend(self.filtered.map(|pid| pid.to_string()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        for (sum, new) in self.floor.iter_mut().zip(world.floor::<2>(&args)?) {
            sum.extend(new.values().iter().copied());
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        let proc = self.rig.shim.proc();
        self.rig.shim.kill(self.rig.id(), "", 9, true)?;
        self.rig.shim.wait(self.rig.id(), "")?;
        if self.filtered.is_some() {
            self.rig.shim.wait(self.rig.id(), FILTERED)?;
            self.rig.shim.delete(self.rig.id(), FILTERED)?;
        }
        self.rig.shim.delete(self.rig.id(), "")?;
        self.rig.shim.shutdown()?;
        wedge_integration::proc::wait_gone(proc)?;
        self.meter.remove()?;
        self.rig.lab.finish()
    }
}

/// Measures each in turn, so that what else the machine does hits all alike.
pub(crate) fn run(world: &World, wishes: &Wishes) -> Result<Vec<Table>> {
    let mut lanes = world.lanes();
    if wishes.alone {
        lanes.retain(|lane| *lane == Lane::new(Shim::Wedge, Runtime::Runc));
    } else {
        // What its own way of making execs is worth, and what the rest of it.
        lanes.insert(1, Lane::new(Shim::WedgeRuntimeExec, Runtime::Runc));
    }
    let mut sets = Vec::new();
    for profile in [false, true] {
        let contestant =
            |lane: &Lane| Contestant::new(world, *lane, profile).with_context(|| lane.name());
        sets.push(lanes.iter().map(contestant).collect::<Result<Vec<_>>>()?);
    }
    for _ in 0..wishes.rounds.div_ceil(BURST) {
        for contestant in sets.iter_mut().flatten() {
            contestant.burst(wishes.pause).with_context(|| contestant.lane.name())?;
        }
        let first = sets.iter_mut().filter_map(|set| set.first_mut());
        for contestant in first.filter(|_| !wishes.alone) {
            contestant.floor(world)?;
        }
    }
    let tables = sets.iter_mut().zip(["", ", containerd's default seccomp profile"]);
    let tables = tables.map(|(set, profile)| table(lanes.clone(), set, profile)).collect();
    sets.into_iter().flatten().try_for_each(Contestant::end)?;
    Ok(tables)
}

fn table(lanes: Vec<Lane>, set: &mut [Contestant], profile: &str) -> Table {
    const ROWS: [(&str, Figure, Option<usize>); 9] = [
        ("Exec + Start", |figures| &mut figures.started, Some(0)),
        ("Exec + Start until the exit event", |figures| &mut figures.until_exit, Some(0)),
        ("whole exec: Exec, Start, Wait, Delete", |figures| &mut figures.whole, Some(0)),
        ("the same, its output read by FIFOs", |figures| &mut figures.output, Some(0)),
        ("of the whole: Exec", |figures| &mut figures.add, None),
        ("of the whole: Start", |figures| &mut figures.start, None),
        ("of the whole: Delete", |figures| &mut figures.delete, None),
        ("CPU time of all, per exec", |figures| &mut figures.cpu, Some(1)),
        ("a call that does nothing (Connect)", |figures| &mut figures.null, None),
    ];
    let mut table = Table::new("exec", format!("exec of /bin/true{profile}"), lanes);
    let floors = set.first().map(|first| first.floor.clone()).unwrap_or_default();
    for (name, figure, floor) in ROWS {
        let cells = set.iter_mut().map(|one| std::mem::take(figure(&mut one.figures))).collect();
        let row = Row::new(name, Unit::Milliseconds, cells);
        let floor = floor.and_then(|number| floors.get(number).cloned());
        table.rows.push(row.floor(floor.unwrap_or_default()));
    }
    table
}

/// One exec of `/bin/true` to its end, and away.
pub(crate) fn once(shim: &ShimProcess, id: &str, exec_id: &str) -> Result<()> {
    shim.exec(id, exec_id, &Process::new(["/bin/true"]), &Stdio::null())?;
    shim.start(id, exec_id)?;
    let exited = shim.wait(id, exec_id)?;
    shim.delete(id, exec_id)?;
    ensure!(exited.status == 0, "exit status {}", exited.status);
    Ok(())
}

/// As the unit of most rows.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Some milliseconds.
#[expect(clippy::disallowed_methods, reason = "the pause is part of what is measured")]
pub(crate) fn rest(pause: u64) {
    std::thread::sleep(Duration::from_millis(pause));
}
