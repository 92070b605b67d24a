// SPDX-License-Identifier: Apache-2.0
//! On which CPUs an exec runs (docs/exec-affinity.md): what it asks for, what its container says,
//! and never what the shim itself was given. Tests called `isolated_…` run in a VM of four CPUs, of
//! which `nohz_full=1-3` isolates three.
#![forbid(unsafe_code)]

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use wedge_integration::proc::{Proc, kernel_is_since};
use wedge_integration::rpc::{Code, RpcError};
use wedge_integration::trace::{Trace, Traced};
use wedge_integration::{Cmd, Lab, Process, Rig, ShimUnderTest, Spec, payload, wait};

use Want::{Lands, Refused, Runs};

const ANNOTATION: &str = "org.opencontainers.runc.exec.isolated-cpu-affinity-transition";
const BAD: &str = "unable to start container process: getting CPU affinity: unknown transition value \"bad\" for \
    annotation org.opencontainers.runc.exec.isolated-cpu-affinity-transition";

/// What has to come of an exec. Lists are as in `Cpus_allowed_list`, proc_pid_status(5).
#[derive(Debug, Clone, Copy)]
enum Want {
    /// Joining the cgroup leaves it on one of the first CPUs, and it runs with the second ones.
    Lands(&'static str, &'static str),
    /// It is born in the cgroup and runs with these.
    Runs(&'static str),
    /// Start says this, behind "exec failed: ".
    Refused(&'static str),
}

/// The members `initial` and `final` of an exec's own `execCPUAffinity`.
type Own = (&'static str, &'static str);

/// A container and what records how its execs come into it.
struct Bench {
    rig: Rig,
    /// None where there is no tracefs: then only the outcome is seen.
    trace: Option<Trace>,
    execs: usize,
}

impl Bench {
    /// A running container whose `cpuset.cpus` and annotation are these, unless they are empty.
    fn new(cpuset: &str, annotation: &str) -> Result<Bench> {
        let mut spec = Spec::new([payload::PATH, "pause"]);
        if !cpuset.is_empty() {
            spec = spec.set("/linux/resources/cpu", json!({ "cpus": cpuset }));
        }
        if !annotation.is_empty() {
            spec = spec.annotation(ANNOTATION, annotation);
        }
        let lab = Lab::new()?;
        lab.configure("exec = \"native\"\n")?;
        let rig = Rig::on(lab, &spec)?;
        rig.run()?;
        Ok(Bench { rig, trace: None, execs: 0 })
    }

    /// With a record of who comes into which cgroup, and where it first runs.
    fn traced(self) -> Result<Bench> {
        let events =
            ["cgroup/cgroup_attach_task", "sched/sched_process_fork", "sched/sched_wakeup_new"];
        let trace = Trace::of(self.rig.id(), &events)?;
        Ok(Bench { trace: Some(trace), ..self })
    }

    /// Confines the shim, as `CPUAffinity=` of a systemd unit would.
    fn confine(&self, cpus: &str) -> Result<()> {
        let pid = self.rig.shim.proc().0.to_string();
        Cmd::new("taskset").args(["-a", "-c", "-p", cpus, &pid]).output()?.assert_ok();
        Ok(())
    }

    fn check(&mut self, own: Own, want: Want) -> Result<()> {
        self.execs += 1;
        let mut process = Process::new([payload::PATH, "status", "Cpus_allowed_list"]);
        if own != ("", "") {
            process = process.set("execCPUAffinity", json!({ "initial": own.0, "final": own.1 }));
        }
        if let Some(trace) = &self.trace {
            trace.take()?;
        }
        let ran = self.rig.run_exec(&format!("e{}", self.execs), &process)?;
        let (ran, mask) = match (ran, want) {
            (Ok(ran), Lands(_, mask) | Runs(mask)) => (ran, mask),
            (Err(RpcError::Status { code: Code::UNKNOWN, message }), Refused(text)) => {
                assert_eq!(message, format!("OCI runtime exec failed: exec failed: {text}"));
                return Ok(());
            }
            (other, _) => bail!("{other:?}"),
        };
        ensure!(ran.status == 0 && ran.stdout.trim() == mask, "{ran:?}");
        match (&self.trace, want) {
            (Some(trace), Lands(cpus, _)) => landed(&trace.take()?, ran.pid, Some(cpus), mask),
            (Some(trace), _) => landed(&trace.take()?, ran.pid, None, mask),
            (None, _) => Ok(()),
        }
    }

    /// Whatever the shim was confined to.
    fn check_confined(&mut self, shim: &[&str], own: Own, want: Want) -> Result<()> {
        for cpus in shim {
            self.confine(cpus)?;
            let checked = self.check(own, want);
            checked.with_context(|| format!("{own:?} of a shim confined to {cpus}: {want:?}"))?;
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        drop(self.trace);
        self.rig.end()
    }
}

/// Whether the parent of the process `pid` joined the cgroup on one of `cpus`; without them: whether
/// it was born there, on one of `mask` unless the shim's own CPUs are others.
fn landed(events: &[Traced], pid: u32, cpus: Option<&str>, mask: &str) -> Result<()> {
    let of = |name: &str, key: &str, value: &str| {
        events.iter().find(|event| event.name == name && event.field(key) == Some(value))
    };
    let fork = of("sched_process_fork", "child_pid", &pid.to_string());
    let helper = fork.and_then(|fork| fork.field("pid")).context("who has made it?")?;
    let joined = of("cgroup_attach_task", "pid", helper);
    match (cpus, joined) {
        (Some(cpus), Some(joined)) => {
            ensure!(contains(cpus, joined.cpu)?, "it joined on {}, not {cpus}", joined.cpu);
        }
        (None, None) => {
            let first = of("sched_wakeup_new", "pid", &pid.to_string());
            let first = first.and_then(|event| event.field("target_cpu")).context("no first")?;
            ensure!(contains(mask, first.parse()?)?, "it began on {first}, not {mask}");
        }
        (expected, joined) => bail!("expected to join on {expected:?}: {joined:?}"),
    }
    Ok(())
}

fn contains(list: &str, cpu: u32) -> Result<bool> {
    for range in list.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        if (from.parse::<u32>()?..=to.parse()?).contains(&cpu) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first version that lets a task keep the mask it asked for when it joins a cpuset
/// (da019032819a).
const KEEPS_MASKS: (u32, u32) = (6, 2);

fn assert_vm() -> Result<()> {
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let met = cmdline.contains("nohz_full=1-3") && online.trim() == "0-3";
    ensure!(met, "make test-vm VM_PROFILES=vm-affinity runs it: {cmdline}{online}");
    // A kernel with CONFIG_NO_HZ_FULL says the same.
    if let Ok(list) = fs::read_to_string("/sys/devices/system/cpu/nohz_full") {
        assert_eq!(list.trim(), "1-3");
    }
    Ok(())
}

fn skipped() -> Result<bool> {
    ShimUnderTest::skips_go("it has no execs of its own")
}

#[test]
fn isolated_cpus_are_entered_as_the_annotation_says() -> Result<()> {
    assert_vm()?;
    for (cpuset, annotation, want) in [
        // Without a cpuset it is not looked at.
        ("", "", Runs("0-3")),
        ("", "definitive", Runs("0-3")),
        ("", "bad", Runs("0-3")),
        // None isolated.
        ("0", "", Runs("0")),
        ("0", "temporary", Runs("0")),
        ("0", "definitive", Runs("0")),
        // Some.
        ("0-1", "", Runs("0-1")),
        ("0-1", "temporary", Lands("0", "0-1")),
        ("0-1", "definitive", Lands("0", "0")),
        ("0-3", "temporary", Lands("0", "0-3")),
        ("0-3", "definitive", Lands("0", "0")),
        ("0-3:1/2", "temporary", Lands("0", "0,2")),
        // All.
        ("1-2", "", Runs("1-2")),
        ("1-2", "temporary", Lands("1", "1-2")),
        ("1-2", "definitive", Lands("1", "1")),
        ("3", "definitive", Lands("3", "3")),
        ("1-2", "bad", Refused(BAD)),
    ] {
        let mut bench = Bench::new(cpuset, annotation)?.traced()?;
        let checked = bench.check_confined(&["0-3", "3"], ("", ""), want);
        checked.with_context(|| format!("cpuset {cpuset:?}, annotation {annotation:?}"))?;
        bench.end()?;
    }
    Ok(())
}

#[test]
fn isolated_cpus_are_entered_as_the_exec_says() -> Result<()> {
    assert_vm()?;
    let remembers = kernel_is_since(KEEPS_MASKS)?;
    let initial = |cpus, cpuset| Lands(cpus, if remembers { cpus } else { cpuset });
    for (cpuset, annotation, rows) in [
        // A wrong annotation does not matter.
        (
            "1-2",
            "bad",
            vec![
                (("1", ""), initial("1", "1-2")),
                (("", "2"), Runs("2")),
                (("", "0-3"), Runs("1-2")),
                (("1", "2"), Lands("1", "2")),
                (("2", "1-2"), Lands("2", "1-2")),
                // One the container does not have.
                (("0", ""), Lands("1-2", "1-2")),
                (("0", "1"), Lands("1-2", "1")),
                (("1", "0"), Refused(LAST)),
                (("4", ""), Refused(INITIAL)),
                (("3-1", ""), Refused("bad CPUAffinity.Initial: invalid range: 3-1")),
            ],
        ),
        // Nor does one that says something else.
        (
            "0-1",
            "definitive",
            vec![
                (("1", ""), initial("1", "0-1")),
                (("", "1"), Runs("1")),
                (("1", "0-1"), Lands("1", "0-1")),
            ],
        ),
    ] {
        let mut bench = Bench::new(cpuset, annotation)?.traced()?;
        for (own, want) in rows {
            let checked = bench.check_confined(&["0-3", "0"], own, want);
            checked.with_context(|| format!("cpuset {cpuset:?}, annotation {annotation:?}"))?;
        }
        bench.end()?;
    }
    Ok(())
}

const INITIAL: &str = "unable to start container process: error starting setns process: error \
    setting initial CPU affinity: invalid argument";
const LAST: &str =
    "unable to start container process: error setting final CPU affinity: invalid argument";

/// The eligible CPU is worked out once per container, and again when its cpuset is changed.
#[test]
fn isolated_cpus_are_looked_at_again_after_an_update() -> Result<()> {
    assert_vm()?;
    let mut bench = Bench::new("0-1", "definitive")?.traced()?;
    bench.check_confined(&["0-3", "3"], ("", ""), Lands("0", "0"))?;
    bench.rig.shim.update(bench.rig.id(), r#"{"cpu":{"cpus":"2-3"}}"#)?;
    bench.check_confined(&["0-3", "0"], ("", ""), Lands("2", "2"))?;
    bench.end()
}

/// The rows of no isolation, on any machine with two CPUs.
#[test]
fn a_cpuset_decides_where_nothing_is_isolated() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let isolated = fs::read_to_string("/sys/devices/system/cpu/nohz_full").unwrap_or_default();
    ensure!(matches!(isolated.trim(), "" | "(null)"), "this machine isolates {isolated}");
    for (cpuset, annotation, want) in [
        ("0", "", Runs("0")),
        ("1", "temporary", Runs("1")),
        ("1", "definitive", Runs("1")),
        ("0-1", "", Runs("0-1")),
        ("0-1", "definitive", Runs("0-1")),
        ("1", "bad", Refused(BAD)),
    ] {
        let mut bench = Bench::new(cpuset, annotation)?;
        let checked = bench.check_confined(&["0-1", "0", "1"], ("", ""), want);
        checked.with_context(|| format!("cpuset {cpuset:?}, annotation {annotation:?}"))?;
        bench.end()?;
    }
    Ok(())
}

#[test]
fn an_exec_decides_where_nothing_is_isolated() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let mut bench = Bench::new("0-1", "bad")?;
    let remembers = kernel_is_since(KEEPS_MASKS)?;
    let initial = |cpus| Lands(cpus, if remembers { cpus } else { "0-1" });
    for (own, want) in [
        (("0", ""), initial("0")),
        (("1", ""), initial("1")),
        (("", "0"), Runs("0")),
        (("1", "0"), Lands("1", "0")),
        (("1", "0-1"), Lands("1", "0-1")),
        (("3-1", ""), Refused("bad CPUAffinity.Initial: invalid range: 3-1")),
        (
            ("", "a"),
            Refused("bad CPUAffinity.Final: strconv.ParseUint: parsing \"a\": invalid syntax"),
        ),
    ] {
        bench.check_confined(&["0-1", "0", "1"], own, want)?;
    }
    bench.end()
}

/// Since Linux 6.2 one that was given a mask would stay behind.
#[test]
fn an_exec_follows_its_cpuset() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let bench = Bench::new("0", "")?;
    bench.confine("0")?;
    let exec = Proc(bench.rig.exec("e", [payload::PATH, "pause"])?);
    for cpus in ["0-1", "1", "0-1"] {
        bench.rig.shim.update(bench.rig.id(), &json!({ "cpu": { "cpus": cpus } }).to_string())?;
        wait::until("its mask has changed", || {
            let mask = exec.status("Cpus_allowed_list")?;
            ensure!(mask == cpus, "{mask}");
            Ok(())
        })?;
    }
    bench.rig.shim.kill(bench.rig.id(), "e", 9, false)?;
    bench.end()
}
