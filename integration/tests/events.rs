// SPDX-License-Identifier: Apache-2.0
//! Exits and their order: for each process exactly one exit event, after its start and before its
//! delete, every exec's before its init's; and event, Wait, State and Delete say the same.
#![forbid(unsafe_code)]

use std::fs;
use std::panic::resume_unwind;
use std::slice;
use std::thread;

use anyhow::{Context, Result, ensure};
use wedge_integration::fake_runtime::{Pause, Step, VARIABLE};
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::protos::api::Status;
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{
    Bundle, Event, Exited, Lab, Process, RpcError, ShimProcess, ShimUnderTest, Spec, Stdio,
    in_parallel, payload, wait,
};

/// Calls at a time. The shim has one thread, so this is about its tasks, not about the machine.
const THREADS: usize = 8;

/// What the Go shim of containerd 1.6 does not do, and newer ones do: an init's exit waits for its
/// execs (#9719, #10589, #10634), an exec of a shared pid namespace is killed with it, and Wait for
/// an exec that did not start returns.
const GO_FORGETS_EXECS: &str = "containerd 1.6 forgets execs when their init ends";

/// A shim with the container it was started for, which may be left uncreated.
struct Pod {
    bundle: Bundle,
    shim: ShimProcess,
}

impl Pod {
    fn new(lab: &Lab) -> Result<Pod> {
        let bundle = lab.bundle("pod", &Spec::new([payload::PATH, "pause"]))?;
        let shim = lab.start(&bundle)?;
        Ok(Pod { bundle, shim })
    }

    fn running(lab: &Lab) -> Result<Pod> {
        let pod = Pod::new(lab)?;
        pod.shim.create(&pod.bundle, &Stdio::null())?;
        pod.shim.start(pod.bundle.id(), "")?;
        Ok(pod)
    }

    fn id(&self) -> &str {
        self.bundle.id()
    }

    fn exec(&self, exec_id: &str, process: &Process) -> Result<(), RpcError> {
        self.shim.exec(self.id(), exec_id, process, &Stdio::null())
    }

    /// Ends the container, deletes it and checks the whole of its story.
    fn end(self, lab: &Lab, mut ended: Vec<Ended>) -> Result<()> {
        self.shim.kill(self.id(), "", 9, false)?;
        let exited = self.shim.wait(self.id(), "")?;
        let pid = self.shim.delete(self.id(), "")?.pid;
        ended.push(Ended { id: self.id().to_owned(), exec: String::new(), pid, exited });
        check(lab, self.id(), &ended)?;
        Ok(self.shim.shutdown()?)
    }
}

/// A process that ended, as its client saw it.
#[derive(Debug)]
struct Ended {
    id: String,
    /// Empty for the init.
    exec: String,
    pid: u32,
    exited: Exited,
}

/// Starts a created process, with a Wait under way as the daemon has, and deletes it when it has
/// ended: three answers, one truth.
fn run_to_end(shim: &ShimProcess, id: &str, exec: &str) -> Result<Ended> {
    thread::scope(|scope| {
        let waiter = scope.spawn(|| shim.wait(id, exec));
        let pid = shim.start(id, exec)?;
        let exited = waiter.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let state = shim.state(id, exec)?;
        let at = state.exited_at.as_ref().map(|at| (at.seconds, at.nanos));
        assert_eq!((state.pid, state.status.unwrap()), (pid, Status::STOPPED));
        assert_eq!((state.exit_status, at), (exited.status, exited.at));
        assert_eq!(shim.wait(id, exec)?, exited);
        assert_eq!(shim.delete(id, exec)?, Exited { pid, ..exited });
        Ok(Ended { id: id.to_owned(), exec: exec.to_owned(), pid, exited })
    })
}

/// Checks the story of a deleted container against what is known of its processes.
fn check(lab: &Lab, id: &str, ended: &[Ended]) -> Result<()> {
    lab.events().log().wait(id, "delete")?;
    let events = lab.events().log().of(id);
    for process in ended {
        check_process(&events, process);
    }
    let exits: Vec<&Event> = events.iter().filter(|event| event.topic == "/tasks/exit").collect();
    assert_eq!(exits.len(), ended.len(), "{id}: {exits:?}");
    assert!(exits.last().is_some_and(|last| last.exec_id.is_empty()), "{id}: {exits:?}");
    Ok(())
}

fn check_process(events: &[Event], process: &Ended) {
    let topics: &[&str] = match process.exec.as_str() {
        "" => &["create", "start", "exit", "delete"],
        _ => &["exec-added", "exec-started", "exit"],
    };
    let own: Vec<&Event> =
        events.iter().filter(|e| e.exec_id == process.exec && topics.contains(&name(e))).collect();
    assert_eq!(own.iter().map(|event| name(event)).collect::<Vec<_>>(), topics, "{process:?}");
    for event in own {
        assert!(event.pid == process.pid || name(event) == "exec-added", "{event:?} {process:?}");
        if ["exit", "delete"].contains(&name(event)) {
            let seen = (event.exit_status, event.exited_at);
            assert_eq!(seen, (process.exited.status, process.exited.at), "{process:?}");
        }
    }
}

fn name(event: &Event) -> &str {
    event.topic.rsplit('/').next().unwrap_or_default()
}

/// A container's whole life, of no length. Of three with the fake runtime, one has ended when
/// `start` returns.
fn short_container(lab: &Lab, shim: &ShimProcess, number: usize, fake: bool) -> Result<()> {
    let code = number % 256;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "exit", &code.to_string()]))?;
    if fake && number.is_multiple_of(3) {
        lab.fake(&bundle).script("start", Step { wait_for_exit: true, ..Step::default() })?;
    }
    shim.create(&bundle, &Stdio::null())?;
    let ended = run_to_end(shim, bundle.id(), "")?;
    assert_eq!(ended.exited.status as usize, code);
    check(lab, bundle.id(), slice::from_ref(&ended))
}

/// An exec of no length. Of three with the fake runtime, one was reaped before `exec` returns, and
/// one is reaped together with it.
fn short_exec(pod: &Pod, number: usize, fake: bool) -> Result<Ended> {
    let (code, exec) = (number % 256, format!("e{number}"));
    let mut process = Process::new([payload::PATH, "exit", &code.to_string()]);
    if fake && !number.is_multiple_of(3) {
        let orphan = number % 3 == 1;
        let step = Step { orphan, wait_for_exit: true, ..Step::default() };
        process = process.env(VARIABLE, &step.to_json()?);
    }
    pod.exec(&exec, &process)?;
    let ended = run_to_end(&pod.shim, pod.id(), &exec)?;
    assert_eq!(ended.exited.status as usize, code);
    Ok(ended)
}

fn one_of(pods: &[Pod], number: usize) -> Result<&Pod> {
    pods.iter().cycle().nth(number % pods.len().max(1)).context("no pod")
}

fn short_containers(lab: &Lab, shims: usize, total: usize, fake: bool) -> Result<()> {
    let pods = (0..shims).map(|_| Pod::new(lab)).collect::<Result<Vec<_>>>()?;
    in_parallel(THREADS, total, |n| short_container(lab, &one_of(&pods, n)?.shim, n, fake))?;
    Ok(pods.iter().try_for_each(|pod| pod.shim.shutdown())?)
}

fn short_execs(lab: &Lab, shims: usize, total: usize, fake: bool) -> Result<()> {
    let pods = (0..shims).map(|_| Pod::running(lab)).collect::<Result<Vec<_>>>()?;
    let mut ended = in_parallel(THREADS, total, |n| short_exec(one_of(&pods, n)?, n, fake))?;
    pods.into_iter().try_for_each(|pod| {
        let (own, rest) = ended.drain(..).partition(|process| process.id == pod.id());
        ended = rest;
        pod.end(lab, own)
    })
}

#[test]
fn a_thousand_short_containers_of_one_shim() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    short_containers(&lab, 1, 1000, true)?;
    lab.finish()
}

#[test]
fn short_containers_of_several_shims() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    short_containers(&lab, 4, 400, true)?;
    lab.finish()
}

#[test]
fn a_thousand_short_execs_in_one_container() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    short_execs(&lab, 1, 1000, true)?;
    lab.finish()
}

#[test]
fn short_execs_in_several_shims() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    short_execs(&lab, 4, 400, true)?;
    lab.finish()
}

#[test]
fn a_hundred_short_containers_of_runc() -> Result<()> {
    let lab = Lab::new()?;
    short_containers(&lab, 2, 100, false)?;
    lab.finish()
}

#[test]
fn a_hundred_short_execs_of_runc() -> Result<()> {
    let lab = Lab::new()?;
    short_execs(&lab, 2, 100, false)?;
    lab.finish()
}

/// A container whose init dies with `number` execs running; the kernel ends them with runc.
fn execs_die_with_their_init(lab: &Lab, number: usize, all: bool) -> Result<()> {
    let pod = Pod::running(lab)?;
    let ids: Vec<String> = (0..number).map(|n| format!("e{n}")).collect();
    let mut pids = Vec::new();
    for exec in &ids {
        pod.exec(exec, &Process::new([payload::PATH, "pause"]))?;
        pids.push(pod.shim.start(pod.id(), exec)?);
    }
    pod.shim.kill(pod.id(), "", 9, all)?;
    let exited = pod.shim.wait(pod.id(), "")?;
    let mut ended = Vec::new();
    for (exec, pid) in ids.into_iter().zip(pids) {
        let exited = pod.shim.wait(pod.id(), &exec)?;
        assert_eq!(exited.status, 137);
        ended.push(Ended { id: pod.id().to_owned(), exec, pid, exited });
    }
    let pid = pod.shim.delete(pod.id(), "")?.pid;
    ended.push(Ended { id: pod.id().to_owned(), exec: String::new(), pid, exited });
    check(lab, pod.id(), &ended)?;
    Ok(pod.shim.shutdown()?)
}

#[test]
fn execs_that_die_with_their_init_exit_first() -> Result<()> {
    let lab = Lab::new()?;
    execs_die_with_their_init(&lab, 16, false)?;
    lab.finish()
}

#[test]
fn execs_killed_with_their_init_exit_first() -> Result<()> {
    if ShimUnderTest::skips_go(GO_FORGETS_EXECS)? {
        return Ok(());
    }
    let lab = Lab::with_fake_runtime()?;
    for _ in 0..20 {
        execs_die_with_their_init(&lab, 16, true)?;
    }
    lab.finish()
}

/// containerd #10589: the init ends while the runtime starts an exec whose process has ended too.
#[test]
fn an_init_that_dies_during_an_exec_waits_for_its_exit() -> Result<()> {
    if ShimUnderTest::skips_go(GO_FORGETS_EXECS)? {
        return Ok(());
    }
    let lab = Lab::with_fake_runtime()?;
    let pod = Pod::running(&lab)?;
    let gate = lab.fake(&pod.bundle).gate("exec", "after");
    let after = Pause { wait_for: Some(gate.path()), ..Pause::default() };
    let step = Step { orphan: true, wait_for_exit: true, after, ..Step::default() };
    let process = Process::new([payload::PATH, "exit", "3"]).env(VARIABLE, &step.to_json()?);
    pod.exec("e1", &process)?;
    let ended = thread::scope(|scope| -> Result<Ended> {
        let exec = scope.spawn(|| run_to_end(&pod.shim, pod.id(), "e1"));
        lab.fake(&pod.bundle).wait_call("exec")?;
        // The runtime has looked at the container and made the process.
        let pid_file = pod.bundle.dir().join("e1.pid");
        wait::until("the exec runs", || Ok(fs::metadata(&pid_file)?))?;
        kill_init(&pod)?;
        no_more_execs(&pod)?;
        assert!(!lab.events().log().story(pod.id()).iter().any(|event| event.starts_with("exit")));
        gate.open()?;
        exec.join().unwrap()
    })?;
    assert_eq!(ended.exited.status, 3);
    let story = lab.events().log().story_until(pod.id(), "exit 137")?;
    let exec = ["exec-added e1", "exec-added late", "exec-started e1", "exit e1 3"];
    assert_eq!(story, [&["create", "start"][..], &exec, &["exit 137"]].concat());
    pod.shim.delete(pod.id(), "")?;
    pod.shim.shutdown()?;
    lab.finish()
}

/// containerd #10634: the init ends before the runtime has looked at the container.
#[test]
fn an_exec_that_fails_since_its_init_died_has_no_exit() -> Result<()> {
    if ShimUnderTest::skips_go(GO_FORGETS_EXECS)? {
        return Ok(());
    }
    let lab = Lab::with_fake_runtime()?;
    let pod = Pod::running(&lab)?;
    let gate = lab.fake(&pod.bundle).hold_before("exec")?;
    pod.exec("e1", &Process::new([payload::PATH, "pause"]))?;
    thread::scope(|scope| -> Result<()> {
        let exec = scope.spawn(|| pod.shim.start(pod.id(), "e1"));
        lab.fake(&pod.bundle).wait_call("exec")?;
        kill_init(&pod)?;
        no_more_execs(&pod)?;
        gate.open()?;
        let refused = exec.join().unwrap().unwrap_err().to_string();
        assert!(refused.contains("cannot exec in a stopped container"), "{refused}");
        Ok(())
    })?;
    assert_eq!(pod.shim.wait(pod.id(), "e1")?.status, 0);
    assert_eq!(pod.shim.wait(pod.id(), "")?.status, 137);
    pod.shim.delete(pod.id(), "e1")?;
    pod.shim.delete(pod.id(), "")?;
    let story = lab.events().log().story_until(pod.id(), "delete")?;
    let added = ["exec-added e1", "exec-added late"];
    assert_eq!(story, [&["create", "start"][..], &added, &["exit 137", "delete 137"]].concat());
    pod.shim.shutdown()?;
    lab.finish()
}

/// containerd #9719: with a shared pid namespace an exec outlives its init, unless it is killed.
#[test]
fn an_exec_in_the_hosts_pid_namespace_dies_with_its_init() -> Result<()> {
    if ShimUnderTest::skips_go(GO_FORGETS_EXECS)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]).host_pid())?;
    let pod = Pod { shim: lab.start(&bundle)?, bundle };
    pod.shim.create(&pod.bundle, &Stdio::null())?;
    pod.shim.start(pod.id(), "")?;
    pod.exec("e1", &Process::new([payload::PATH, "pause"]))?;
    pod.shim.start(pod.id(), "e1")?;
    pod.shim.kill(pod.id(), "", 9, false)?;
    assert_eq!(pod.shim.wait(pod.id(), "")?.status, 137);
    pod.shim.delete(pod.id(), "e1")?;
    pod.shim.delete(pod.id(), "")?;
    let story = lab.events().log().story_until(pod.id(), "delete")?;
    let exec = ["exec-added e1", "exec-started e1", "exit e1 137"];
    let after = ["exit 137", "delete 137"];
    assert_eq!(story, [&["create", "start"][..], &exec, &after].concat());
    pod.shim.shutdown()?;
    lab.finish()
}

#[test]
fn an_init_that_dies_before_its_start_has_one_exit() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let pod = Pod::new(&lab)?;
    in_parallel(THREADS, 100, |number| {
        let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
        let orphan = number % 2 == 0;
        let step = Step { init_exits: Some(4), orphan, wait_for_exit: true, ..Step::default() };
        lab.fake(&bundle).script("create", step)?;
        pod.shim.create(&bundle, &Stdio::null())?;
        lab.events().log().wait(bundle.id(), "exit 4")?;
        let refused = pod.shim.start(bundle.id(), "").unwrap_err().to_string();
        ensure!(refused.contains("stopped"), "{refused}");
        assert_eq!(pod.shim.delete(bundle.id(), "")?.status, 4);
        let story = lab.events().log().story_until(bundle.id(), "delete")?;
        assert_eq!(story, ["create", "exit 4", "delete 4"]);
        Ok(())
    })?;
    pod.shim.shutdown()?;
    lab.finish()
}

fn kill_init(pod: &Pod) -> Result<()> {
    let init = Proc(pod.shim.connect_task(pod.id())?.task_pid);
    pod.shim.kill(pod.id(), "", 9, false)?;
    wait_gone(init)
}

/// The shim, which has not published the init's exit yet, knows of it and starts no exec.
fn no_more_execs(pod: &Pod) -> Result<()> {
    pod.exec("late", &Process::new([payload::PATH, "pause"]))?;
    let text = format!("container {} init process is not running: failed precondition", pod.id());
    assert_refused(pod.shim.start(pod.id(), "late"), Code::FAILED_PRECONDITION, &text);
    pod.shim.delete(pod.id(), "late")?;
    Ok(())
}
