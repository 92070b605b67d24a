// SPDX-License-Identifier: Apache-2.0
//! Execs of `/bin/true` in one running container: the calls Exec, Start, Wait and Delete.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use wedge_integration::{Lab, Process, Rig, ShimUnderTest, Spec, Stdio, payload};

use crate::Wishes;
use crate::figures::Figures;

/// containerd 1.6's default profile as `ctr run --seccomp` writes it.
const PROFILE: &str = include_str!("../../../../crates/seccomp/tests/verdicts/containerd-1.6.json");

/// Execs in a row of each kind: on cgroup v1 the kernel lets the first after a pause wait.
const BURST: usize = 10;

/// A shim with a container.
struct Contestant {
    name: String,
    rig: Rig,
    figures: Figures,
    /// Exec, Start, Wait and Delete apart.
    calls: [Figures; 4],
}

impl Contestant {
    fn new(name: &str, shim: &ShimUnderTest, config: &str, profile: bool) -> Result<Contestant> {
        let lab = Lab::with_copy_of(shim)?;
        lab.configure(config)?;
        let mut spec = Spec::new([payload::PATH, "pause"]);
        if profile {
            let profile: Value = serde_json::from_str(PROFILE)?;
            spec = spec.set("/linux/seccomp", profile);
        }
        let rig = Rig::on(lab, &spec)?;
        rig.run()?;
        let seccomp = if profile { ", default seccomp" } else { "" };
        Ok(Contestant {
            name: format!("{name}{seccomp}"),
            rig,
            figures: Figures::default(),
            calls: Default::default(),
        })
    }

    fn exec(&mut self, exec_id: &str) -> Result<Duration> {
        let (shim, id) = (&self.rig.shim, self.rig.id());
        let process = Process::new(["/bin/true"]);
        let begun = Instant::now();
        shim.exec(id, exec_id, &process, &Stdio::null())?;
        let added = begun.elapsed();
        shim.start(id, exec_id)?;
        let started = begun.elapsed();
        let exited = shim.wait(id, exec_id)?;
        let ended = begun.elapsed();
        shim.delete(id, exec_id)?;
        let took = begun.elapsed();
        let calls = [added, started - added, ended - started, took - ended];
        self.calls.iter_mut().zip(calls).for_each(|(figures, call)| figures.add(call));
        anyhow::ensure!(exited.status == 0, "{}: exit status {}", self.name, exited.status);
        Ok(took)
    }
}

/// Measures each in turn, so that what else the machine does hits all alike.
pub(crate) fn compare(wishes: Wishes) -> Result<()> {
    let (ours, go) = (ShimUnderTest::from_env()?, ShimUnderTest::go()?);
    let mut contestants = Vec::new();
    for profile in [false, true] {
        contestants.push(Contestant::new("wedge", &ours, "exec = \"native\"\n", profile)?);
        if wishes.alone {
            continue;
        }
        contestants.push(Contestant::new(
            "wedge, runc exec",
            &ours,
            "exec = \"runtime\"\n",
            profile,
        )?);
        contestants.push(Contestant::new("Go shim", &go, "", profile)?);
    }
    for contestant in &mut contestants {
        // The first one gathers what is kept for the next.
        contestant.exec("warm").with_context(|| contestant.name.clone())?;
    }
    for round in 0..wishes.rounds.div_ceil(BURST) {
        for contestant in &mut contestants {
            for turn in 0..BURST {
                pause(wishes);
                let took = contestant.exec(&format!("e{round}-{turn}"))?;
                contestant.figures.add(took);
            }
        }
    }
    report(wishes, &contestants);
    contestants.into_iter().try_for_each(|contestant| contestant.rig.end())
}

#[expect(clippy::disallowed_methods, reason = "the pause is part of what is measured")]
fn pause(wishes: Wishes) {
    std::thread::sleep(Duration::from_millis(wishes.pause));
}

#[expect(clippy::print_stdout, reason = "the result")]
fn report(wishes: Wishes, contestants: &[Contestant]) {
    let cgroup = if wishes.unified { "v2" } else { "as mounted" };
    println!("exec of /bin/true: Exec + Start + Wait + Delete; cgroup {cgroup}");
    println!(
        "{:36} {:>8} {:>8} {:>8}   ratio   Exec, Start, Wait, Delete",
        "milliseconds", "least", "median", "p99"
    );
    for group in contestants.chunks(if wishes.alone { 1 } else { 3 }) {
        let ours = group.first().map(|first| first.figures.median());
        for contestant in group {
            let median = contestant.figures.median();
            let ratio = ours.map_or(1.0, |ours| median.as_secs_f64() / ours.as_secs_f64());
            let calls = contestant
                .calls
                .each_ref()
                .map(|call| format!("{:.2}", call.median().as_secs_f64() * 1e3));
            let calls = calls.join(", ");
            println!("{:36} {}   {ratio:5.1}   {calls}", contestant.name, contestant.figures);
        }
    }
}
