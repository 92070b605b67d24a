// SPDX-License-Identifier: Apache-2.0
//! Execs at the same time, in one container.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use wedge_integration::Rig;

use crate::Wishes;
use crate::exec::once;
use crate::lane::Lane;
use crate::report::{Row, Table, Unit};
use crate::samples::Samples;
use crate::world::{World, spec};

const LEVELS: [usize; 3] = [1, 8, 32];
/// A window that took longer than this is not repeated: the Go shim may hang for half a minute.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is counted at a time.
const WINDOW: Duration = Duration::from_secs(1);

struct Contestant {
    lane: Lane,
    rig: Rig,
    figures: [Samples; LEVELS.len()],
    /// Execs that failed.
    failed: usize,
    /// At which levels it takes too long.
    slow: [bool; LEVELS.len()],
    next: AtomicUsize,
}

impl Contestant {
    fn new(world: &World, lane: Lane) -> Result<Contestant> {
        let rig = Rig::on(world.lab(lane)?, &spec(false))?;
        rig.run()?;
        once(&rig.shim, rig.id(), "warm")?;
        let (figures, slow) = Default::default();
        Ok(Contestant { lane, rig, figures, failed: 0, slow, next: 0.into() })
    }

    /// Keeps `level` execs under way for a while; how many came to their end each second, those
    /// included that had begun by then.
    fn window(&mut self, number: usize, level: usize) -> Result<()> {
        let slow = self.slow.get_mut(number).context("no such level")?;
        if *slow {
            return Ok(());
        }
        let begun = Instant::now();
        let work = || {
            let (mut done, mut failed) = (0, 0);
            while begun.elapsed() < WINDOW {
                let exec_id = format!("p{}", self.next.fetch_add(1, Ordering::Relaxed));
                match once(&self.rig.shim, self.rig.id(), &exec_id) {
                    Ok(()) => done += 1,
                    Err(_) => failed += 1,
                }
            }
            (done, failed)
        };
        let counts = thread::scope(|scope| {
            let all: Vec<_> = (0..level).map(|_| scope.spawn(work)).collect();
            let join = |one: thread::ScopedJoinHandle<'_, (u32, usize)>| one.join();
            all.into_iter().map(join).collect::<Result<Vec<_>, _>>()
        });
        let counts = counts.map_err(|_| anyhow!("a thread panicked"))?;
        *slow = begun.elapsed() > PATIENCE;
        let took = begun.elapsed().as_secs_f64();
        self.failed += counts.iter().map(|(_, failed)| failed).sum::<usize>();
        let done: u32 = counts.iter().map(|(done, _)| done).sum();
        let figures = self.figures.get_mut(number).context("no such level")?;
        figures.add(f64::from(done) / took);
        Ok(())
    }
}

pub(crate) fn run(world: &World, wishes: &Wishes) -> Result<Vec<Table>> {
    let lanes = world.lanes();
    let all = lanes.iter().map(|lane| Contestant::new(world, *lane).with_context(|| lane.name()));
    let mut all = all.collect::<Result<Vec<_>>>()?;
    for _ in 0..wishes.rounds.div_ceil(70) {
        for contestant in &mut all {
            for (number, level) in LEVELS.into_iter().enumerate() {
                contestant.window(number, level).with_context(|| contestant.lane.name())?;
            }
        }
    }
    let mut table = Table::new("parallel", "execs per second, in one container", lanes);
    for (number, level) in LEVELS.into_iter().enumerate() {
        let cell = |one: &Contestant| one.figures.get(number).cloned().unwrap_or_default();
        let cells = all.iter().map(cell).collect();
        table.rows.push(Row::new(format!("{level} at a time"), Unit::PerSecond, cells));
    }
    for contestant in all {
        if contestant.failed > 0 {
            let (name, failed) = (contestant.lane.name(), contestant.failed);
            table.notes.push(format!("{name}: {failed} execs failed"));
        }
        contestant.rig.end()?;
    }
    Ok(vec![table])
}
