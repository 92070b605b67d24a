// SPDX-License-Identifier: Apache-2.0
//! Through containerd: `ctr` commands as a whole. Most of that is ctr's and containerd's.

use anyhow::{Context, Result, ensure};
use wedge_integration::{Container, Env, Output, Spec};

use crate::Wishes;
use crate::exec::ms;
use crate::lane::Lane;
use crate::report::{Row, Table, Unit};
use crate::samples::Samples;
use crate::world::{World, spec};

/// A containerd with a running container.
struct Contestant {
    lane: Lane,
    env: Env,
    container: Container,
    run: Samples,
    exec: Samples,
}

impl Contestant {
    fn new(world: &World, lane: Lane) -> Result<Contestant> {
        let builder = Env::builder().shim(world.shim(lane).clone());
        let env = match world.variables(lane) {
            Some((name, value)) => builder.variable(name, &value),
            None => builder,
        };
        let env = env.start()?;
        let launch = env.container("base")?.flags(flags(lane)).config(&spec(false))?;
        let container = launch.start(["ignored"])?;
        let (run, exec) = (Samples::default(), Samples::default());
        Ok(Contestant { lane, env, container, run, exec })
    }

    fn round(&mut self) -> Result<()> {
        let spec = Spec::new(["/bin/true"]);
        let launch = self.env.container("run")?.flags(flags(self.lane)).config(&spec)?;
        let out = launch.cmd(&["--rm"], ["ignored"]).measure()?;
        self.run.add(took(&out)?);
        let out = self.container.exec_cmd(&[], ["/bin/true"]).measure()?;
        self.exec.add(took(&out)?);
        Ok(())
    }
}

/// `ctr run` hands them on for this runtime's name only: the harness has every shim under it.
fn flags(lane: Lane) -> [String; 1] {
    [format!("--runc-binary={}", lane.runtime.name())]
}

fn took(out: &Output) -> Result<f64> {
    ensure!(out.code == 0, "{out}");
    Ok(ms(out.took))
}

pub(crate) fn run(world: &World, wishes: &Wishes) -> Result<Vec<Table>> {
    let lanes = world.lanes();
    let all = lanes.iter().map(|lane| Contestant::new(world, *lane).with_context(|| lane.name()));
    let mut all = all.collect::<Result<Vec<_>>>()?;
    for round in 0..=wishes.rounds.div_ceil(8) {
        for contestant in &mut all {
            contestant.round().with_context(|| contestant.lane.name())?;
            if round == 0 {
                (contestant.run, contestant.exec) = Default::default();
            }
        }
    }
    let mut table = Table::new("ctr", "whole commands, through containerd", lanes);
    let runs = all.iter().map(|one| one.run.clone()).collect();
    let execs = all.iter().map(|one| one.exec.clone()).collect();
    table.rows.push(Row::new("ctr run --rm … /bin/true", Unit::Milliseconds, runs));
    table.rows.push(Row::new("ctr task exec … /bin/true", Unit::Milliseconds, execs));
    for contestant in all {
        contestant.container.remove()?;
        contestant.env.finish()?;
    }
    Ok(vec![table])
}
