// SPDX-License-Identifier: Apache-2.0
//! Standard output: how fast a container's goes to a reader, and what it takes of the shim.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wedge_integration::{Meter, Process, Rig, Stdio, fifo, helper, payload};

use crate::Wishes;
use crate::lane::Lane;
use crate::report::{Row, Table, Unit};
use crate::samples::Samples;
use crate::world::{World, spec};

/// Writers at a time, and how much each writes, in MiB.
const LOADS: [(u32, u32); 2] = [(1, 1024), (8, 128)];

#[derive(Debug, Default)]
struct Figures {
    rate: Samples,
    cpu: Samples,
}

struct Contestant {
    lane: Lane,
    rig: Rig,
    meter: Meter,
    figures: [Figures; LOADS.len()],
    count: usize,
}

/// A FIFO and who reads it, to nowhere.
struct Sink {
    path: PathBuf,
    reader: JoinHandle<Result<()>>,
}

impl Sink {
    fn new(path: PathBuf) -> Result<Sink> {
        fifo::make(&path)?;
        let nonblock = OFlag::O_NONBLOCK.bits();
        let source = OpenOptions::new().read(true).custom_flags(nonblock).open(&path)?;
        Ok(Sink { path, reader: thread::spawn(move || drain(&source)) })
    }

    /// Waits for the end of the stream.
    fn finish(self) -> Result<()> {
        self.reader.join().map_err(|_| anyhow!("the reader panicked"))?
    }
}

/// Without a look at it: the reader must not be what limits the rate.
fn drain(source: &File) -> Result<()> {
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        // Only poll(2) can tell a FIFO that has had no writer yet.
        poll(&mut [PollFd::new(source.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        match splice(source, None, &nowhere, None, 1 << 20, flags) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Contestant {
    fn new(world: &World, lane: Lane) -> Result<Contestant> {
        let mut lab = world.lab(lane)?;
        let meter = Meter::on(&mut lab)?;
        let rig = Rig::on(lab, &spec(false))?;
        rig.run()?;
        Ok(Contestant { lane, rig, meter, figures: Default::default(), count: 0 })
    }

    /// Execs that wait for their input, and then write at the same time.
    fn flood(&mut self, load: usize) -> Result<()> {
        let (writers, mib) = *LOADS.get(load).context("no such load")?;
        let (shim, id) = (&self.rig.shim, self.rig.id());
        let process = Process::new([payload::PATH, "flood", &(u64::from(mib) << 20).to_string()]);
        let (mut sinks, mut inputs, mut execs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..writers {
            self.count += 1;
            let exec_id = format!("w{}", self.count);
            let path = |stream| self.rig.lab.dir().join("fifo").join(format!("{exec_id}-{stream}"));
            let (input, sink, errors) =
                (path("in"), Sink::new(path("out"))?, Sink::new(path("err"))?);
            fifo::make(&input)?;
            let text = |path: &Path| path.to_string_lossy().into_owned();
            // The Go shim takes no output without errors.
            let (stdin, stdout, stderr) = (text(&input), text(&sink.path), text(&errors.path));
            shim.exec(id, &exec_id, &process, &Stdio { stdin, stdout, stderr, terminal: false })?;
            shim.start(id, &exec_id)?;
            inputs.push(fifo::writer(&input)?);
            sinks.extend([sink, errors]);
            execs.push(exec_id);
        }
        settle();
        let (before, begun) = (self.meter.shim()?, Instant::now());
        go(&inputs)?;
        sinks.into_iter().try_for_each(Sink::finish)?;
        let (took, used) = (begun.elapsed(), self.meter.shim()? - before);
        for exec_id in execs {
            shim.wait(id, &exec_id)?;
            shim.delete(id, &exec_id)?;
        }
        let figures = self.figures.get_mut(load).context("no such load")?;
        figures.rate.add(rate(writers * mib, took));
        figures.cpu.add(used.as_secs_f64() * 1024.0 / f64::from(writers * mib));
        Ok(())
    }

    fn end(self) -> Result<()> {
        let process = self.rig.shim.proc();
        let Rig { shim, bundle, lab } = self.rig;
        shim.kill(bundle.id(), "", 9, true)?;
        shim.wait(bundle.id(), "")?;
        shim.delete(bundle.id(), "")?;
        shim.shutdown()?;
        wedge_integration::proc::wait_gone(process)?;
        self.meter.remove()?;
        lab.finish()
    }
}

pub(crate) fn run(world: &World, wishes: &Wishes) -> Result<Vec<Table>> {
    let lanes = world.shims();
    let all = lanes.iter().map(|lane| Contestant::new(world, *lane).with_context(|| lane.name()));
    let mut all = all.collect::<Result<Vec<_>>>()?;
    let mut floor: [Samples; LOADS.len()] = Default::default();
    for round in 0..wishes.rounds.div_ceil(40) {
        for (load, floor) in floor.iter_mut().enumerate() {
            for contestant in &mut all {
                contestant.flood(load).with_context(|| contestant.lane.name())?;
            }
            floor.add(direct(world, load, round)?);
        }
    }
    let mut table = Table::new("stdout", "standard output, through the shim", lanes);
    for (load, ((writers, _), floor)) in LOADS.into_iter().zip(floor).enumerate() {
        let cells = |figure: fn(&Figures) -> &Samples| {
            let one = |one: &Contestant| one.figures.get(load).map(figure).cloned();
            all.iter().map(|contestant| one(contestant).unwrap_or_default()).collect()
        };
        let name = |what: &str| format!("{what}, {writers} writing");
        let rate = cells(|figures| &figures.rate);
        table.rows.push(Row::new(name("rate"), Unit::MegabytesPerSecond, rate).floor(floor));
        let cpu = cells(|figures| &figures.cpu);
        table.rows.push(Row::new(name("CPU time of the shim"), Unit::SecondsPerGib, cpu));
    }
    table.notes.push("the floor is a FIFO with nobody in between".to_owned());
    all.into_iter().try_for_each(Contestant::end)?;
    Ok(vec![table])
}

/// The same program, writing to the FIFO itself.
#[expect(clippy::disallowed_methods, reason = "a program waits for its own children")]
fn direct(world: &World, load: usize, round: usize) -> Result<f64> {
    let (writers, mib) = *LOADS.get(load).context("no such load")?;
    let bytes = (u64::from(mib) << 20).to_string();
    let (mut sinks, mut inputs, mut children) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..writers {
        let sink = Sink::new(world.dir().join(format!("direct-{load}-{round}-{number}")))?;
        let mut command = Command::new(helper("wedge-payload")?);
        command.args(["flood", &bytes]).stdin(std::process::Stdio::piped());
        // Both ends: a FIFO opened so waits for nobody, and never ends before its time.
        let output = OpenOptions::new().read(true).write(true).open(&sink.path)?;
        let mut child = command.stdout(output).spawn()?;
        // The command holds the FIFO open as well.
        drop(command);
        let input = child.stdin.take().context("no input")?;
        inputs.push(File::from(std::os::fd::OwnedFd::from(input)));
        sinks.push(sink);
        children.push(child);
    }
    settle();
    let begun = Instant::now();
    go(&inputs)?;
    sinks.into_iter().try_for_each(Sink::finish)?;
    let took = begun.elapsed();
    children.iter_mut().try_for_each(|child| child.wait().map(drop))?;
    Ok(rate(writers * mib, took))
}

fn go(mut inputs: &[File]) -> io::Result<()> {
    use std::io::Write;
    while let Some((mut first, rest)) = inputs.split_first() {
        first.write_all(b"g")?;
        inputs = rest;
    }
    Ok(())
}

/// Millions of bytes each second.
fn rate(mib: u32, took: Duration) -> f64 {
    f64::from(mib) * 1.048_576 / took.as_secs_f64()
}

/// Until all have come to where they wait.
#[expect(clippy::disallowed_methods, reason = "what follows is measured")]
fn settle() {
    thread::sleep(Duration::from_millis(100));
}
