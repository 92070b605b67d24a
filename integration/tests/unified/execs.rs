// SPDX-License-Identifier: Apache-2.0
//! How an exec comes into the cgroup of its container, and what keeps it out.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::proc::Proc;
use wedge_integration::rpc::{Code, RpcError, assert_refused};
use wedge_integration::trace::Trace;
use wedge_integration::{Lab, Process, Ran, Rig, Spec, Stdio, in_parallel, payload, rounds, wait};

use crate::{HOG, LIMIT, MIB, assert_vm, cgroup};

const PAUSED: &str = "OCI runtime exec failed: exec failed: cannot exec in a paused container \
    (use --ignore-paused to override)";
const START: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";
const OOM_SUFFIX: &str = " (possibly OOM-killed)";

/// Far less than an exec may take.
const SOON: Duration = Duration::from_secs(2);

/// A running container, the directory of its cgroup, and its init.
struct Bench {
    rig: Rig,
    dir: PathBuf,
    init: Proc,
}

impl Bench {
    fn new() -> Result<Bench> {
        Bench::of(&Spec::new([payload::PATH, "pause"]))
    }

    fn of(spec: &Spec) -> Result<Bench> {
        assert_vm();
        let rig = Rig::telling(Lab::new()?, spec)?;
        let init = Proc(rig.run()?);
        Ok(Bench { dir: cgroup(init.0)?, rig, init })
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let file = self.dir.join(file);
        fs::write(&file, value).with_context(|| format!("{value} to {}", file.display()))
    }

    fn put_init(&self, dir: &Path) -> Result<()> {
        fs::create_dir(dir)?;
        Ok(fs::write(dir.join("cgroup.procs"), self.init.0.to_string())?)
    }

    fn exec(&self, id: &str) -> Result<Result<Ran, RpcError>> {
        self.rig.run_exec(id, &Process::new(["echo", "a"]))
    }

    fn works(&self, id: &str) -> Result<()> {
        let ran = self.exec(id)??;
        assert_eq!((ran.status, ran.stdout.as_str()), (0, "a\n"), "{ran:?}");
        Ok(())
    }

    /// An exec that stays is in `dir`, and leaves it.
    fn lands_in(&self, id: &str, dir: &Path) -> Result<()> {
        let pid = self.rig.exec(id, [payload::PATH, "pause"])?;
        assert_eq!(cgroup(pid)?, dir);
        self.rig.shim.kill(self.rig.id(), id, 9, false)?;
        assert_eq!(self.rig.shim.wait(self.rig.id(), id)?.status, 137);
        Ok(self.rig.shim.delete(self.rig.id(), id).map(drop)?)
    }

    /// Start of an exec says `text`, soon, and nothing of it is left.
    fn refuses_start(&self, exec: &str, text: &str) -> Result<()> {
        let (shim, id) = (&self.rig.shim, self.rig.id());
        let others = || {
            let children = shim.proc().children();
            children.into_iter().filter(|child| Some(*child) != shim.proc().nursery()).count()
        };
        let before = others();
        let begun = Instant::now();
        assert_refused(shim.start(id, exec), Code::UNKNOWN, text);
        ensure!(begun.elapsed() < wait::scaled(SOON), "{:?}", begun.elapsed());
        assert_eq!(others(), before);
        Ok(shim.delete(id, exec).map(drop)?)
    }

    /// Runs an exec to its end.
    fn outcome(&self, exec: &str, args: &[&str]) -> Result<u32, RpcError> {
        let (shim, id) = (&self.rig.shim, self.rig.id());
        shim.exec(id, exec, &Process::new(args), &Stdio::null())?;
        let status = shim.start(id, exec).and_then(|_| Ok(shim.wait(id, exec)?.status));
        shim.delete(id, exec)?;
        status
    }

    /// None went to the OCI runtime.
    fn end(self, native: usize) -> Result<()> {
        let state = self.rig.lab.state(&self.rig.bundle)?;
        let counted = format!("; exec auto, {native} native, 0 by the OCI runtime");
        ensure!(state.contains(&counted), "expected {counted:?} in {state}");
        self.rig.end()
    }
}

#[test]
fn an_exec_is_born_in_its_cgroup() -> Result<()> {
    let bench = Bench::new()?;
    let trace = Trace::of(bench.rig.id(), &["cgroup/cgroup_attach_task"])?;
    bench.lands_in("e", &bench.dir)?;
    for number in 0..4 {
        bench.works(&format!("e{number}"))?;
    }
    let name = bench.rig.id();
    let here = trace.take()?.into_iter().filter(|event| {
        event.field("dst_path").is_some_and(|path| path.trim_end_matches('/').ends_with(name))
    });
    assert_eq!(here.collect::<Vec<_>>(), [], "it was moved");
    bench.end(5)
}

/// runc #2356: processes and limits for children exclude each other.
#[test]
fn an_exec_follows_an_init_that_moved_down() -> Result<()> {
    let bench = Bench::new()?;
    let below = bench.dir.join("init");
    bench.put_init(&below)?;
    bench.lands_in("before", &bench.dir)?;
    bench.write("cgroup.subtree_control", "+memory +pids")?;
    bench.lands_in("after", &below)?;
    bench.write("cgroup.subtree_control", "-memory -pids")?;
    bench.lands_in("again", &bench.dir)?;
    bench.end(3)
}

/// runc #5089.
#[test]
fn an_exec_follows_an_init_whose_cgroup_was_removed() -> Result<()> {
    let bench = Bench::new()?;
    let elsewhere = bench.dir.with_extension("moved");
    bench.put_init(&elsewhere)?;
    fs::remove_dir(&bench.dir)?;
    bench.lands_in("e", &elsewhere)?;
    bench.works("e2")?;
    bench.rig.shim.kill(bench.rig.id(), "", 9, false)?;
    bench.rig.shim.wait(bench.rig.id(), "")?;
    wait::until("it is empty", || Ok(fs::remove_dir(&elsewhere)?))?;
    bench.end(2)
}

#[test]
fn a_frozen_container_refuses_execs_at_once() -> Result<()> {
    let bench = Bench::new()?;
    let (shim, id) = (&bench.rig.shim, bench.rig.id());
    bench.rig.add("added", ["true"])?;
    shim.pause(id)?;
    bench.refuses_start("added", PAUSED)?;
    let another = bench.rig.add("paused", ["true"]);
    assert_refused(another, Code::UNKNOWN, "cannot exec in a paused state");
    shim.resume(id)?;
    bench.works("resumed")?;
    // By somebody else.
    bench.rig.add("frozen", ["true"])?;
    bench.write("cgroup.freeze", "1")?;
    bench.refuses_start("frozen", PAUSED)?;
    bench.write("cgroup.freeze", "0")?;
    bench.works("thawed")?;
    bench.end(2)
}

/// One of all containers, as a debugger of the node would freeze them: nobody is refused, and while
/// the exec waits the shim does not.
#[test]
fn an_exec_waits_for_a_frozen_ancestor() -> Result<()> {
    let bench = Bench::new()?;
    let freeze = bench.dir.parent().context("no parent")?.join("cgroup.freeze");
    let (shim, id) = (&bench.rig.shim, bench.rig.id());
    fs::write(&freeze, "1")?;
    shim.exec(id, "e", &Process::new([payload::PATH, "exit", "3"]), &Stdio::null())?;
    thread::scope(|scope| {
        let started = scope.spawn(|| shim.start(id, "e"));
        let helper = || shim.proc().nursery()?.children().into_iter().next();
        let helper = wait::until("a helper is there", || helper().context("none"))?;
        assert_eq!(cgroup(helper.0)?, bench.dir);
        shim.state(id, "")?;
        ensure!(!started.is_finished(), "it did not wait");
        fs::write(&freeze, "0")?;
        anyhow::Ok(started.join().ok().context("a panic")??)
    })?;
    assert_eq!(shim.wait(id, "e")?.status, 3);
    shim.delete(id, "e")?;
    bench.end(1)
}

/// It is refused when none comes free; the OCI runtime would have no more room.
#[test]
fn an_exec_needs_a_pid() -> Result<()> {
    let bench = Bench::new()?;
    bench.write("pids.max", "1")?;
    let refused = bench.exec("full")?;
    let Err(RpcError::Status { code: Code::UNKNOWN, message }) = refused else {
        anyhow::bail!("{refused:?}");
    };
    let text = "failed to start a process in the container: resource temporarily unavailable";
    ensure!(message.starts_with(START) && message.ends_with(text), "{message}");
    bench.write("pids.max", "3")?;
    bench.works("e")?;
    let state = bench.rig.lab.state(&bench.rig.bundle)?;
    ensure!(state.contains("; exec auto, 1 native, 0 by the OCI runtime"), "{state}");
    bench.rig.end()
}

/// kubelet sets it: the kernel kills all of the cgroup, and all that share memory with one of them.
#[test]
fn the_shim_survives_oom_groups_while_execs_start() -> Result<()> {
    for _ in 0..rounds(12) {
        let spec = Spec::new([payload::PATH, "pause"]).memory_limit(2 * LIMIT);
        let bench = Bench::of(&spec)?;
        bench.write("memory.oom.group", "1")?;
        let shim = bench.rig.shim.proc();
        // Some start before the kill, some during it, some after.
        in_parallel(4, 16, |number| {
            let args = if number == 6 { &HOG[..] } else { &["true"] };
            match bench.outcome(&format!("e{number}"), args) {
                Ok(status) => ensure!(matches!(status, 0 | 137), "{status}"),
                Err(refused) => ensure!(is_of_a_kill(&refused), "{refused}"),
            }
            Ok(())
        })?;
        assert_eq!(bench.rig.shim.wait(bench.rig.id(), "")?.status, 137);
        ensure!(shim.is_alive(), "the shim was killed");
        bench.rig.story_until("exit 137")?;
        let story = bench.rig.lab.events().log().story(bench.rig.id());
        ensure!(story.iter().any(|event| event == "oom"), "{story:?}");
        bench.rig.retire()?;
    }
    Ok(())
}

/// What an exec says when all of its container is killed, or is gone already.
fn is_of_a_kill(error: &RpcError) -> bool {
    let known = [
        OOM_SUFFIX,
        "cannot exec in a stopped",
        "init process is not running",
        "it was killed",
        "signal: killed",
    ];
    match error {
        RpcError::Status { message, .. } => known.iter().any(|text| message.contains(text)),
        RpcError::Timeout | RpcError::Closed | RpcError::Transport(_) => false,
    }
}

#[test]
fn an_exec_that_is_killed_on_its_way_says_so() -> Result<()> {
    let bench = Bench::of(&Spec::new([payload::PATH, "pause"]).memory_limit(64 * MIB))?;
    bench.works("before")?;
    // Nobody to kill but who comes; and the init does not run, for it might need a page, and die.
    fs::write(bench.init.path("oom_score_adj"), "-1000")?;
    bench.init.signal(Signal::SIGSTOP)?;
    bench.write("memory.max", "4096")?;
    for number in 0..3 {
        let Err(RpcError::Status { code: Code::UNKNOWN, message }) =
            bench.exec(&format!("e{number}"))?
        else {
            anyhow::bail!("it ran, or the code is another");
        };
        ensure!(message.starts_with(START) && message.ends_with(OOM_SUFFIX), "{message}");
    }
    ensure!(bench.init.is_alive(), "init was killed");
    bench.write("memory.max", "max")?;
    bench.init.signal(Signal::SIGCONT)?;
    bench.works("after")?;
    bench.end(2)
}

/// The helper waits in a cgroup where nothing goes on: whoever kills it ends the exec, not the shim.
#[test]
fn an_exec_that_is_killed_while_it_is_frozen_is_an_error() -> Result<()> {
    let bench = Bench::new()?;
    let freeze = bench.dir.parent().context("no parent")?.join("cgroup.freeze");
    let (shim, id) = (&bench.rig.shim, bench.rig.id());
    fs::write(&freeze, "1")?;
    shim.exec(id, "e", &Process::new(["true"]), &Stdio::null())?;
    thread::scope(|scope| {
        let started = scope.spawn(|| shim.start(id, "e"));
        let helper = || shim.proc().nursery()?.children().into_iter().next();
        let helper = wait::until("a helper is there", || helper().context("none"))?;
        helper.signal(Signal::SIGKILL)?;
        let started = started.join().ok().context("a panic")?;
        let text = format!("{START}procReady not received: it was killed");
        assert_refused(started, Code::UNKNOWN, &text);
        anyhow::Ok(fs::write(&freeze, "0")?)
    })?;
    shim.delete(id, "e")?;
    bench.works("after")?;
    bench.end(1)
}
