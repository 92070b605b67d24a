// SPDX-License-Identifier: Apache-2.0
//! What only cgroup v2 has, and what may be done only to a machine that is thrown away: these tests
//! run in the VM of `make test-vm`, those called `systemd_…` in one with systemd as PID 1.
#![forbid(unsafe_code)]

mod apparmor;
#[path = "../commands/counter.rs"]
mod counter;
mod crun;
mod execs;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::inotify::{InitFlags, Inotify};
use wedge_integration::proc::{FdKind, Proc};
use wedge_integration::{
    Cmd, Env, Lab, Process, Rig, Spec, Stdio, fifo, in_parallel, payload, rounds,
};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 16 * MIB;
/// More than the limit.
const HOG: [&str; 3] = [payload::PATH, "alloc", "200"];
const OOM_STORY: [&str; 5] = ["create", "start", "oom", "exit 137", "delete 137"];

/// Where inotify(7) has its limit per user.
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";

fn assert_vm() {
    let vm = std::env::var_os("WEDGE_TEST_VM").is_some();
    assert!(vm && Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "make test-vm runs it");
}

/// Lets root have one inotify instance, and takes it.
fn take_the_inotify_instance() -> Result<Inotify> {
    fs::write(INSTANCES, "1")?;
    let held = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let another = Inotify::init(InitFlags::IN_CLOEXEC).map(drop);
    assert_eq!(another, Err(Errno::EMFILE));
    Ok(held)
}

/// containerd #10309: the Go shim has an instance per container, and a user has 128.
#[test]
fn fifty_containers_need_no_inotify_instance() -> Result<()> {
    assert_vm();
    let lab = Lab::new()?;
    let before = fs::read_to_string(INSTANCES)?;
    let held = take_the_inotify_instance()?;
    let first = lab.bundle("first", &Spec::new([payload::PATH, "pause"]))?;
    let shim = lab.start(&first)?;
    let bundles = in_parallel(2, 50, |number| {
        let go = lab.dir().join(format!("rootfs/go{number}"));
        fifo::make(&go)?;
        let wait = format!("/go{number}");
        let wait_then_hog = [&[payload::PATH, "await", &wait][..], &HOG].concat();
        let bundle = lab.bundle("hog", &Spec::new(wait_then_hog).memory_limit(LIMIT))?;
        shim.create(&bundle, &Stdio::null())?;
        shim.start(bundle.id(), "")?;
        // Both ends: whether or not the container reads already.
        Ok((bundle, OpenOptions::new().read(true).write(true).open(go)?))
    })?;
    assert_eq!(shim.proc().fds()?.count(FdKind::Inotify), 0);
    // All of them are watched by now.
    for (_, go) in &bundles {
        let mut go = go;
        go.write_all(b"\n")?;
    }
    for (bundle, _) in &bundles {
        assert_eq!(shim.wait(bundle.id(), "")?.status, 137);
    }
    in_parallel(2, bundles.len(), |number| {
        let id = bundles[number].0.id();
        shim.delete(id, "")?;
        assert_eq!(lab.events().log().story_until(id, "delete")?, OOM_STORY);
        Ok(())
    })?;
    drop(held);
    fs::write(INSTANCES, before)?;
    shim.shutdown()?;
    lab.finish()
}

/// A bench whose containers are scopes of systemd.
fn lab_of_scopes() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.options_mut().systemd_cgroup = true;
    Ok(lab)
}

/// The directory of a process's cgroup.
fn cgroup(pid: u32) -> Result<PathBuf> {
    let text = Proc(pid).cgroups()?;
    let path = text.trim_end().strip_prefix("0::/").with_context(|| text.clone())?;
    Ok(Path::new("/sys/fs/cgroup").join(path))
}

#[test]
fn systemd_makes_the_scope_of_a_container() -> Result<()> {
    assert_vm();
    let spec = Spec::new([payload::PATH, "pause"]).memory_limit(64 * MIB);
    let rig = Rig::on(lab_of_scopes()?, &spec)?;
    let dir = cgroup(rig.run()?)?;
    let scope = format!("{}.slice/wedge-{}.scope", rig.lab.namespace(), rig.id());
    assert_eq!(dir, Path::new("/sys/fs/cgroup").join(scope));
    let limit =
        || -> Result<u64> { Ok(fs::read_to_string(dir.join("memory.max"))?.trim().parse()?) };
    let of_systemd = || {
        let unit = format!("wedge-{}.scope", rig.id());
        Cmd::new("systemctl").args(["show", "--value", "-p", "MemoryMax", &unit]).output()
    };
    assert_eq!((limit()?, of_systemd()?.text()), (64 * MIB, format!("{}\n", 64 * MIB)));
    // systemd would undo a limit it does not know of.
    rig.shim.update(rig.id(), &format!("{{\"memory\":{{\"limit\":{}}}}}", 32 * MIB))?;
    assert_eq!((limit()?, of_systemd()?.text()), (32 * MIB, format!("{}\n", 32 * MIB)));
    let exec = rig.exec("e", [payload::PATH, "pause"])?;
    assert_eq!(cgroup(exec)?, dir);
    assert_eq!(rig.shim.pids(rig.id())?.processes.len(), 2);
    assert!(!rig.shim.stats(rig.id())?.stats.value.is_empty());
    rig.shim.pause(rig.id())?;
    assert!(fs::read_to_string(dir.join("cgroup.events"))?.contains("frozen 1"));
    rig.shim.resume(rig.id())?;
    rig.shim.kill(rig.id(), "e", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "e")?.status, 137);
    rig.end()?;
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn systemd_does_not_hide_an_oom_kill() -> Result<()> {
    assert_vm();
    no_oom_kill_is_hidden(lab_of_scopes()?)
}

/// systemd removes a scope as soon as its last process is gone, and the kernel's counter with it.
fn no_oom_kill_is_hidden(lab: Lab) -> Result<()> {
    let spec = Spec::new([payload::PATH, "pause"]).memory_limit(2 * LIMIT);
    let bystander = lab.bundle("bystander", &spec)?;
    let shim = lab.start(&bystander)?;
    shim.create(&bystander, &Stdio::null())?;
    shim.start(bystander.id(), "")?;
    in_parallel(4, rounds(40), |_| {
        let bundle = lab.bundle("hog", &Spec::new(HOG).memory_limit(LIMIT))?;
        shim.create(&bundle, &Stdio::null())?;
        shim.start(bundle.id(), "")?;
        assert_eq!(shim.wait(bundle.id(), "")?.status, 137);
        shim.delete(bundle.id(), "")?;
        assert_eq!(lab.events().log().story_until(bundle.id(), "delete")?, OOM_STORY);
        Ok(())
    })?;
    shim.exec(bystander.id(), "hog", &Process::new(HOG), &Stdio::null())?;
    shim.start(bystander.id(), "hog")?;
    assert_eq!(shim.wait(bystander.id(), "hog")?.status, 137);
    lab.events().log().wait(bystander.id(), "oom")?;
    shim.kill(bystander.id(), "", 9, false)?;
    shim.wait(bystander.id(), "")?;
    shim.delete(bystander.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn systemd_makes_the_scopes_that_ctr_asks_for() -> Result<()> {
    assert_vm();
    let env = Env::new()?;
    let events = env.events()?;
    let launch = |name: &str| {
        let launch = env.container(name)?;
        let cgroup = format!("--cgroup={}.slice:ctr:{}", env.namespace(), launch.id());
        anyhow::Ok(launch.flags(["--runc-systemd-cgroup".to_owned(), cgroup]))
    };
    let container = launch("idle")?.start(["sleep", "1000"])?;
    let scope = format!("/{}.slice/ctr-{}.scope\n", env.namespace(), container.id());
    assert_eq!(container.init()?.cgroups()?, format!("0::{scope}"));
    container.exec(["sh", "-c", "cat /proc/self/cgroup; exit 5"])?.assert_code(5);
    assert_eq!(container.remove()?, 137);
    let hog = launch("hog")?.memory_limit(LIMIT);
    let id = hog.id().to_owned();
    hog.run(HOG)?.assert_code(137);
    assert_eq!(events.story_until(&id, "delete")?, OOM_STORY);
    env.finish()
}
