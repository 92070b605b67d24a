// SPDX-License-Identifier: Apache-2.0
//! Containers that run out of memory: the event comes, before the exit, each time; and watching
//! for it costs one eventfd per container, whatever runs in it.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Result, ensure};
use wedge_integration::proc::{FdKind, Proc, wait_gone};
use wedge_integration::{
    Env, Lab, Process, ShimProcess, ShimUnderTest, Spec, Stdio, in_parallel, payload, wait,
};

/// One OOM might be reported in time by luck.
const TIMES: usize = 20;
const LIMIT: u64 = 16 << 20;
/// Why a container that runs out of memory at once is nothing to compare with.
const GO_WATCHES_LATE: &str = "containerd 1.6 watches from after Start, and misses earlier kills";

/// More than the limit.
const HOG: [&str; 3] = [payload::PATH, "alloc", "200"];

#[test]
fn an_oom_kill_is_always_reported_before_the_exit() -> Result<()> {
    if ShimUnderTest::skips_go(GO_WATCHES_LATE)? {
        return Ok(());
    }
    let env = Env::new()?;
    let events = env.events()?;
    for _ in 0..TIMES {
        let launch = env.container("hog")?.memory_limit(LIMIT);
        let id = launch.id().to_owned();
        launch.run(HOG)?.assert_code(137);
        let story = events.story_until(&id, "delete")?;
        assert_eq!(story, ["create", "start", "oom", "exit 137", "delete 137"]);
    }
    env.finish()
}

#[test]
fn an_oom_kill_is_reported_for_its_container_only() -> Result<()> {
    if ShimUnderTest::skips_go(GO_WATCHES_LATE)? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let bystander = lab.bundle("bystander", &Spec::new([payload::PATH, "pause"]))?;
    let shim = lab.start(&bystander)?;
    shim.create(&bystander, &Stdio::null())?;
    shim.start(bystander.id(), "")?;
    in_parallel(4, TIMES, |_| {
        let bundle = lab.bundle("hog", &Spec::new(HOG).memory_limit(LIMIT))?;
        shim.create(&bundle, &Stdio::null())?;
        shim.start(bundle.id(), "")?;
        assert_eq!(shim.wait(bundle.id(), "")?.status, 137);
        shim.delete(bundle.id(), "")?;
        let story = lab.events().log().story_until(bundle.id(), "delete")?;
        assert_eq!(story, ["create", "start", "oom", "exit 137", "delete 137"]);
        Ok(())
    })?;
    end(&shim, bystander.id())?;
    let story = lab.events().log().story_until(bystander.id(), "delete")?;
    assert_eq!(story, ["create", "start", "exit 137", "delete 137"]);
    shim.shutdown()?;
    lab.finish()
}

/// runc, whose `start` does not return before the file `go` exists.
fn write_slow_runc(dir: &Path) -> Result<PathBuf> {
    let (path, go) = (dir.join("slow-runc"), dir.join("go"));
    let wait = format!("while [ ! -e {} ]; do busybox sleep 0.01; done", go.display());
    let script =
        format!("#!/bin/sh\nrunc \"$@\" || exit\ncase \"$*\" in *\" start \"*) {wait};; esac\n");
    fs::write(&path, script)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

#[test]
fn an_oom_kill_is_reported_after_the_start() -> Result<()> {
    if ShimUnderTest::skips_go(GO_WATCHES_LATE)? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    lab.options_mut().binary_name = write_slow_runc(lab.dir())?.to_string_lossy().into_owned();
    let bundle = lab.bundle("hog", &Spec::new(HOG).memory_limit(LIMIT))?;
    let shim = lab.start(&bundle)?;
    let init = Proc(shim.create(&bundle, &Stdio::null())?);
    thread::scope(|scope| {
        let start = scope.spawn(|| shim.start(bundle.id(), ""));
        wait_gone(init)?;
        fs::write(lab.dir().join("go"), "")?;
        start.join().unwrap().map(drop).map_err(anyhow::Error::from)
    })?;
    assert_eq!(shim.wait(bundle.id(), "")?.status, 137);
    shim.delete(bundle.id(), "")?;
    let story = lab.events().log().story_until(bundle.id(), "delete")?;
    assert_eq!(story, ["create", "start", "oom", "exit 137", "delete 137"]);
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn an_exec_that_runs_out_of_memory_is_reported_while_init_lives() -> Result<()> {
    let lab = Lab::new()?;
    // Room for the runtime's own process, which is in the container's cgroup for a moment.
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]).memory_limit(2 * LIMIT))?;
    let shim = lab.start(&bundle)?;
    let init = Proc(shim.create(&bundle, &Stdio::null())?);
    shim.start(bundle.id(), "")?;
    for number in 1..=TIMES {
        let exec = format!("e{number}");
        shim.exec(bundle.id(), &exec, &Process::new(HOG), &Stdio::null())?;
        shim.start(bundle.id(), &exec)?;
        assert_eq!(shim.wait(bundle.id(), &exec)?.status, 137);
        shim.delete(bundle.id(), &exec)?;
        wait::until("another oom event", || {
            let story = lab.events().log().story(bundle.id());
            let ooms = story.iter().filter(|event| *event == "oom").count();
            ensure!(ooms == number, "{ooms} of {number}");
            Ok(())
        })?;
    }
    assert!(init.is_alive());
    end(&shim, bundle.id())?;
    // None for the end of the cgroup, which cgroup v1 signals too.
    let story = lab.events().log().story_until(bundle.id(), "delete")?;
    assert_eq!(story.iter().filter(|event| *event == "oom").count(), TIMES);
    shim.shutdown()?;
    lab.finish()
}

/// containerd #3949.
#[test]
fn a_container_is_watched_once_and_an_exec_never() -> Result<()> {
    let lab = Lab::new()?;
    let spec = Spec::new([payload::PATH, "pause"]);
    let bundles = [lab.bundle("first", &spec)?, lab.bundle("second", &spec)?];
    let shim = lab.start(&bundles[0])?;
    let idle = eventfds(&shim)?;
    for bundle in &bundles {
        shim.create(bundle, &Stdio::null())?;
    }
    assert_eq!(eventfds(&shim)?, idle);
    for (bundle, number) in bundles.iter().zip(1..) {
        shim.start(bundle.id(), "")?;
        assert_eq!(eventfds(&shim)?, idle + number * per_container());
    }
    in_parallel(4, 50, |number| {
        let (id, exec) = (bundles[number % 2].id(), format!("e{number}"));
        shim.exec(id, &exec, &Process::new(["true"]), &Stdio::null())?;
        shim.start(id, &exec)?;
        shim.wait(id, &exec)?;
        Ok(shim.delete(id, &exec)?)
    })?;
    assert_eq!(eventfds(&shim)?, idle + 2 * per_container());
    for (bundle, left) in bundles.iter().zip([1, 0]) {
        end(&shim, bundle.id())?;
        wait::until("its eventfd is closed", || {
            let seen = eventfds(&shim)?;
            ensure!(seen == idle + left * per_container(), "{seen}, {idle} at the beginning");
            Ok(())
        })?;
    }
    assert_eq!(shim.proc().fds()?.count(FdKind::Cgroup), 0);
    shim.shutdown()?;
    lab.finish()
}

/// The shim's eventfds; its own inotify instances, which the kernel limits per user, must not be.
fn eventfds(shim: &ShimProcess) -> Result<usize> {
    let fds = shim.proc().fds()?;
    assert_eq!(fds.count(FdKind::Inotify), 0, "{fds}");
    Ok(fds.count(FdKind::Eventfd))
}

/// An eventfd is how cgroup v1 tells; v2 has a file to watch.
fn per_container() -> usize {
    usize::from(Path::new("/sys/fs/cgroup/memory").is_dir())
}

fn end(shim: &ShimProcess, id: &str) -> Result<()> {
    shim.kill(id, "", 9, false)?;
    shim.wait(id, "")?;
    Ok(shim.delete(id, "").map(drop)?)
}
