// SPDX-License-Identifier: Apache-2.0
//! What a shim costs a node, against the Go shim in the same run. Ratios are far below what
//! `make bench` shows (docs/performance.md): they must hold on a busy machine. What can be counted
//! is exact.
#![forbid(unsafe_code)]

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wedge_integration::proc::{FdKind, Memory, Proc};
use wedge_integration::spawned::{Spawned, Watch};
use wedge_integration::trace::Trace;
use wedge_integration::{
    Bundle, Lab, Meter, Process, Rig, ShimProcess, ShimUnderTest, Spec, Stdio, payload, proc, wait,
};

/// Why none of this runs for the Go shim.
const REFERENCE: &str = "it is what ours is compared with";

#[expect(clippy::print_stdout, reason = "the figures are what one runs this for")]
fn report(text: &str) {
    println!("{text}");
}

fn sleeper() -> Spec {
    Spec::new([payload::PATH, "pause"])
}

/// An exec of `/bin/true` to its end; how long it took.
fn exec(shim: &ShimProcess, id: &str, exec_id: &str) -> Result<Duration> {
    let begun = Instant::now();
    shim.exec(id, exec_id, &Process::new(["/bin/true"]), &Stdio::null())?;
    shim.start(id, exec_id)?;
    let exited = shim.wait(id, exec_id)?;
    shim.delete(id, exec_id)?;
    ensure!(exited.status == 0, "exit status {}", exited.status);
    Ok(begun.elapsed())
}

fn end(shim: &ShimProcess, bundles: &[Bundle]) -> Result<()> {
    for bundle in bundles {
        shim.kill(bundle.id(), "", 9, false)?;
        shim.wait(bundle.id(), "")?;
        shim.delete(bundle.id(), "")?;
    }
    shim.shutdown()?;
    proc::wait_gone(shim.proc())
}

/// The memory of a shim, with the process that its execs are forked of.
fn all_of(shim: &ShimProcess) -> Result<Memory> {
    let mut all = Memory::default();
    for process in shim.proc().forkers() {
        let one = process.memory()?;
        all.rss += one.rss;
        all.pss += one.pss;
        all.private_dirty += one.private_dirty;
    }
    Ok(all)
}

/// A shim with one running container: its memory at first and after 50 execs.
fn memory(shim: &ShimUnderTest) -> Result<[Memory; 2]> {
    let lab = Lab::with_copy_of(shim)?;
    let bundle = lab.bundle("c", &sleeper())?;
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    shim.start(bundle.id(), "")?;
    let first = all_of(&shim)?;
    for number in 0..50 {
        exec(&shim, bundle.id(), &format!("e{number}"))?;
    }
    let used = all_of(&shim)?;
    end(&shim, &[bundle])?;
    lab.finish()?;
    Ok([first, used])
}

#[test]
fn an_idle_shim_takes_a_quarter_of_the_go_shims_memory() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    let ours = memory(&ShimUnderTest::from_env()?)?;
    let go = memory(&ShimUnderTest::go()?)?;
    for (when, (ours, go)) in ["at first", "after 50 execs"].iter().zip(ours.iter().zip(&go)) {
        for (what, ours, go) in
            [("PSS", ours.pss, go.pss), ("Private_Dirty", ours.private_dirty, go.private_dirty)]
        {
            let tenths = go * 10 / ours;
            let times = format!("{}.{}", tenths / 10, tenths % 10);
            println!("{what} {when}: ours {ours} KiB, Go {go} KiB, {times} times as much");
            assert!(ours * 4 <= go, "{what} {when}: ours {ours} KiB, Go {go} KiB");
        }
    }
    Ok(())
}

/// What is free by then is the kernel's again, and the next exec takes it anew.
#[test]
fn a_shim_that_rests_keeps_little() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    // Of these, 28 are the process for execs.
    const RESTING: u64 = 172;
    let lab = Lab::with_copy_of(&ShimUnderTest::from_env()?)?;
    let bundle = lab.bundle("c", &sleeper())?;
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    shim.start(bundle.id(), "")?;
    for round in 0..2 {
        for number in 0..50 {
            exec(&shim, bundle.id(), &format!("e{round}-{number}"))?;
        }
        wait::until("the shim gives memory back", || {
            let kept = all_of(&shim)?.private_dirty;
            ensure!(kept <= RESTING, "{kept} KiB");
            Ok(())
        })?;
    }
    end(&shim, &[bundle])?;
    lab.finish()
}

/// How the shim's allocator was told to keep little is nothing that a runtime inherits.
#[test]
fn the_allocator_of_a_runtime_is_its_own() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    const VARIABLE: &str = "GLIBC_TUNABLES=";
    let told = |process: Proc| -> Result<Vec<String>> {
        // In the middle of an execve(2) there is none.
        let all = wait::until("a process has its environment", || {
            let all = process.environ()?;
            ensure!(all.iter().any(|one| one.starts_with("WEDGE_TEST=")), "{all:?}");
            Ok(all)
        })?;
        Ok(all.into_iter().filter_map(|one| Some(one.strip_prefix(VARIABLE)?.to_owned())).collect())
    };
    for set in [None, Some("glibc.malloc.check=0")] {
        let mut lab = Lab::with_fake_runtime()?;
        if let Some(set) = set {
            lab.variable("GLIBC_TUNABLES", set);
        }
        let bundle = lab.bundle("c", &sleeper())?;
        let shim = lab.start(&bundle)?;
        let init = Proc(shim.create(&bundle, &Stdio::null())?);
        assert_eq!(told(shim.proc())?, [set.unwrap_or("glibc.malloc.tcache_count=0")]);
        // The fake runtime hands its environment on.
        assert_eq!(told(init)?, Vec::from_iter(set));
        end(&shim, &[bundle])?;
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn the_binary_is_small() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    let size = |shim: ShimUnderTest| Ok::<u64, anyhow::Error>(fs::metadata(shim.path())?.len());
    let (ours, go) = (size(ShimUnderTest::from_env()?)?, size(ShimUnderTest::go()?)?);
    println!("ours {} KiB, Go {} KiB", ours >> 10, go >> 10);
    assert!(ours * 2 <= go, "ours {ours}, Go {go}");
    Ok(())
}

#[test]
fn a_further_container_of_a_pod_takes_30_kib_and_no_thread() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    const MORE: u64 = 19;
    let lab = Lab::with_copy_of(&ShimUnderTest::from_env()?)?;
    let pod = lab.pod("pod")?;
    let run = || -> Result<(Bundle, ShimProcess)> {
        let bundle = lab.bundle("c", &sleeper().pod(&pod))?;
        let shim = lab.start(&bundle)?;
        shim.create(&bundle, &Stdio::null())?;
        shim.start(bundle.id(), "")?;
        exec(&shim, bundle.id(), "e")?;
        Ok((bundle, shim))
    };
    let (first, shim) = run()?;
    let mut bundles = vec![first];
    let (before, threads) = (all_of(&shim)?.private_dirty, shim.proc().threads()?);
    for _ in 0..MORE {
        bundles.push(run()?.0);
    }
    let each = all_of(&shim)?.private_dirty.saturating_sub(before) / MORE;
    let fds = shim.proc().fds()?;
    report(&format!("{each} KiB for each further one, {threads} threads, {} fds", fds.len()));
    assert!(each <= 30, "{each} KiB for each further container");
    assert!(fds.count(FdKind::Inotify) == 0, "{fds}");
    // Threads for blocking calls end when there were none for a while.
    wait::until("there are no more threads than with one container", || {
        let now = shim.proc().threads()?;
        ensure!(now <= threads, "{threads}, now {now}");
        Ok(())
    })?;
    end(&shim, &bundles)?;
    lab.finish()
}

#[test]
fn a_native_exec_is_two_processes_and_one_execve_call() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    Trace::reach()?;
    let rig = Rig::runc()?;
    rig.run()?;
    // The first one gathers what is kept for the next.
    exec(&rig.shim, rig.id(), "first")?;
    let mut watch = Watch::new(rig.lab.namespace())?;
    for number in 0..5 {
        watch.follow(&rig.shim.proc().forkers())?;
        exec(&rig.shim, rig.id(), &format!("e{number}"))?;
        let spawned = watch.count()?;
        assert_eq!(spawned, Spawned { processes: 2, threads: 0, programs: 1 });
    }
    rig.end()
}

/// A shim with a running container, whose CPU time is known.
struct Contestant {
    rig: Rig,
    meter: Meter,
    times: Vec<Duration>,
}

impl Contestant {
    fn new(shim: ShimUnderTest) -> Result<Contestant> {
        let mut lab = Lab::with_shim(shim)?;
        let meter = Meter::on(&mut lab)?;
        let rig = Rig::on(lab, &sleeper())?;
        rig.run()?;
        exec(&rig.shim, rig.id(), "first")?;
        Ok(Contestant { rig, meter, times: Vec::new() })
    }

    fn burst(&mut self, round: usize) -> Result<()> {
        for turn in 0..5 {
            let exec_id = format!("e{round}-{turn}");
            self.times.push(exec(&self.rig.shim, self.rig.id(), &exec_id)?);
        }
        Ok(())
    }

    /// The median time of an exec, and the CPU time of all.
    fn end(mut self) -> Result<(Duration, Duration)> {
        let used = self.meter.all()?;
        self.times.sort_unstable();
        let median = self.times.get(self.times.len() / 2).copied().context("no exec")?;
        let Rig { shim, bundle, lab } = self.rig;
        end(&shim, &[bundle])?;
        self.meter.remove()?;
        lab.finish()?;
        Ok((median, used))
    }
}

#[test]
fn an_exec_takes_a_third_of_the_go_shims_time_and_a_quarter_of_its_cpu() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    let shims = [ShimUnderTest::from_env()?, ShimUnderTest::go()?];
    let mut all = shims.into_iter().map(Contestant::new).collect::<Result<Vec<_>>>()?;
    let before = all.iter().map(|one| one.meter.all()).collect::<Result<Vec<_>>>()?;
    for round in 0..10 {
        all.iter_mut().try_for_each(|one| one.burst(round))?;
    }
    let figures = all.into_iter().map(Contestant::end).collect::<Result<Vec<_>>>()?;
    let [(ours, our_cpu), (go, go_cpu)] = *figures else { anyhow::bail!("two were measured") };
    let (our_cpu, go_cpu) = (our_cpu - before[0], go_cpu - before[1]);
    report(&format!("an exec: ours {ours:?}, Go {go:?}; CPU of 50: {our_cpu:?}, {go_cpu:?}"));
    assert!(ours * 3 <= go, "an exec: ours {ours:?}, Go {go:?}");
    assert!(our_cpu * 4 <= go_cpu, "CPU time of 50 execs: ours {our_cpu:?}, Go {go_cpu:?}");
    Ok(())
}
