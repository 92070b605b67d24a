// SPDX-License-Identifier: Apache-2.0
//! Bugs that were real in other shims, and that no other file is about. The numbers are containerd
//! issues; docs/testing.md has the list of all.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::protos::api::Mount;
use wedge_integration::rpc::Code;
use wedge_integration::{Cmd, Lab, Process, Rig, RpcError, Spec, Stdio, fifo, payload, wait};

/// How long Delete waits for output that nobody takes.
const DRAIN: Duration = Duration::from_secs(10);

/// #7496, #8931: a root file system that cannot be unmounted yet. #11392, #7733: the Delete that
/// fails for it can be repeated.
#[test]
fn issue_7496_a_busy_root_fails_delete_and_blocks_nobody() -> Result<()> {
    let rig = Rig::fake()?;
    let mut request = rig.shim.create_request(&rig.bundle, &Stdio::null());
    let (type_, source) = ("tmpfs".to_owned(), "tmpfs".to_owned());
    request.rootfs.push(Mount { type_, source, ..Mount::default() });
    rig.shim.create_with(&request)?;
    rig.shim.start(rig.id(), "")?;
    let busy = File::create(rig.bundle.dir().join("rootfs/busy"))?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    thread::scope(|scope| {
        let delete = scope.spawn(|| rig.shim.delete(rig.id(), ""));
        rig.script().wait_returned("delete")?;
        // In Go of 1.6 State waits for the lock that Delete holds. Delete tries again for seconds.
        if !rig.lab.shim().is_go() {
            rig.shim.state(rig.id(), "")?;
            assert!(!delete.is_finished(), "State has waited for it, or it did not try again");
        }
        let refused = delete.join().unwrap().err().context("it succeeded")?.to_string();
        ensure!(refused.contains("failed rootfs umount: "), "{refused}");
        ensure!(refused.ends_with("device or resource busy"), "{refused}");
        Ok(())
    })?;
    assert_eq!(rig.shim.state(rig.id(), "")?.exit_status, 137);
    drop(busy);
    assert_eq!(rig.shim.delete(rig.id(), "")?.status, 137);
    assert_eq!(rig.story_until("delete")?, ["create", "start", "exit 137", "delete 137"]);
    rig.close()
}

/// #7717, #9979, #5708: in the host's pid namespace daemons become the shim's children.
#[test]
fn issue_9979_orphans_are_no_zombies() -> Result<()> {
    let rig = Rig::on(Lab::new()?, &Spec::new([payload::PATH, "pause"]).host_pid())?;
    rig.run()?;
    let storm = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); (sleep 3 &); done; sleep 1000";
    rig.exec("storm", ["sh", "-c", storm])?;
    wait::until("daemons are the shim's", || {
        let orphans = rig.shim.proc().children().len();
        ensure!(orphans > 20, "{orphans}");
        Ok(())
    })?;
    wait::until("init and the exec are its only children", || {
        let shim = rig.shim.proc();
        let children = shim.children();
        let nursery = usize::from(shim.nursery().is_some());
        ensure!(children.len() == 2 + nursery, "{children:?}");
        Ok(())
    })?;
    rig.shim.kill(rig.id(), "storm", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "storm")?.status, 137);
    rig.end()
}

/// #2823, #2826, gVisor #14549: nobody reads, the FIFO is full, the process blocks.
#[test]
fn issue_2823_an_unread_output_delays_no_kill_and_no_delete() -> Result<()> {
    let rig = Rig::on(Lab::new()?, &Spec::new([payload::PATH, "print", "10000000"]))?;
    let path = rig.lab.dir().join("fifo/unread");
    fifo::make(&path)?;
    // The client that has opened it and does not read.
    let flags = OFlag::O_NONBLOCK.bits();
    let _client = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
    let io = rig.lab.fifos("init")?;
    let stdout = path.to_string_lossy().into_owned();
    let stdio = Stdio { stdout, ..io.stdio().clone() };
    let init = Proc(rig.shim.create(&rig.bundle, &stdio)?);
    rig.shim.start(rig.id(), "")?;
    wait::until("the process waits in write(2)", || {
        let call = fs::read_to_string(init.path("wchan"))?;
        ensure!(call.contains("pipe_write"), "{call:?}");
        Ok(())
    })?;
    let begun = Instant::now();
    rig.shim.state(rig.id(), "")?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    assert!(begun.elapsed() < DRAIN, "it waited for the output: {:?}", begun.elapsed());
    // This does, but not for ever: every call has its limit.
    rig.shim.delete(rig.id(), "")?;
    rig.close()
}

/// #13052: a shim that is told to end in the middle of a Start.
#[test]
fn issue_13052_a_start_may_race_with_the_end_of_the_shim() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    rig.add("e", ["true"])?;
    let gate = rig.script().hold_before("exec")?;
    thread::scope(|scope| {
        let start = scope.spawn(|| rig.shim.start(rig.id(), "e"));
        rig.script().wait_call("exec")?;
        rig.shim.proc().signal(Signal::SIGTERM)?;
        wait_gone(rig.shim.proc())?;
        let ended = start.join().unwrap();
        ensure!(matches!(ended, Err(RpcError::Closed | RpcError::Status { .. })), "{ended:?}");
        Ok(())
    })?;
    gate.open()?;
    assert!(!rig.bundle.log().text().contains("panic"), "{}", rig.bundle.log().text());
    assert!(!rig.shim.socket().exists());
    rig.lab.delete(&rig.bundle)?;
    rig.lab.finish()
}

/// #3895: the terminals of a group went with the container that was deleted first.
#[test]
fn issue_3895_a_terminal_outlives_the_first_container_of_its_pod() -> Result<()> {
    let lab = Lab::new()?;
    let shell = ["sh", "-c", "while read line; do echo got $line; done"];
    let spec = Spec::new(shell).terminal().pod(&lab.pod("pod")?);
    let bundles = [lab.bundle("first", &spec)?, lab.bundle("second", &spec)?];
    let [mut first, mut second] = [lab.terminal("first")?, lab.terminal("second")?];
    let shim = lab.start(&bundles[0])?;
    lab.start(&bundles[1])?;
    for (bundle, io) in bundles.iter().zip([&mut first, &mut second]) {
        shim.create(bundle, io.stdio())?;
        shim.start(bundle.id(), "")?;
        io.write(b"one\n")?;
        io.stdout.wait_text("got one\r\n")?;
    }
    let remove = |id: &str| -> Result<()> {
        shim.kill(id, "", 9, false)?;
        shim.wait(id, "")?;
        shim.delete(id, "")?;
        Ok(())
    };
    remove(bundles[0].id())?;
    first.stdout.finish()?;
    second.write(b"two\n")?;
    second.stdout.wait_text("got two\r\n")?;
    // And those that come later.
    let mut third = lab.terminal("third")?;
    let cat = Process::new(["cat"]);
    shim.exec(bundles[1].id(), "e", &cat, third.stdio())?;
    shim.start(bundles[1].id(), "e")?;
    third.write(b"three\n")?;
    third.stdout.wait_text("three\r\n")?;
    remove(bundles[1].id())?;
    shim.shutdown()?;
    lab.finish()
}

/// #2970, #3366: a Kill during the Start of its exec reaches that exec, or nobody.
#[test]
fn issue_2970_a_kill_that_races_with_a_start_hits_nobody_else() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    for round in 0..20 {
        let id = format!("e{round}");
        rig.add(&id, ["sleep", "1000"])?;
        let other = rig.shim.reconnect()?;
        thread::scope(|scope| {
            let start = scope.spawn(|| rig.shim.start(rig.id(), &id));
            // As soon as there is something to kill.
            wait::until("the exec is killed", || match other.kill(rig.id(), &id, 9, false) {
                Err(error) if error.code() == Some(Code::FAILED_PRECONDITION) => {
                    ensure!(error.to_string().contains("process not created"), "{error}");
                    Err(error.into())
                }
                result => Ok(result?),
            })?;
            start.join().unwrap()?;
            ensure!(rig.shim.wait(rig.id(), &id)?.status == 137);
            Ok(())
        })?;
        rig.shim.delete(rig.id(), &id)?;
    }
    assert_eq!(rig.shim.state(rig.id(), "")?.exit_status, 0, "the init lives");
    rig.end()
}

/// What needs room in the bundle fails while there is none, and leaves nothing; the rest goes on.
#[test]
fn a_full_disk_fails_an_exec_and_nothing_else() -> Result<()> {
    let lab = Lab::new()?;
    let tasks = lab.dir().join("tasks");
    fs::create_dir(&tasks)?;
    let mount = Cmd::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    mount.arg(&tasks).output()?.assert_ok();
    // The shim's own way needs no room.
    lab.configure("exec = \"runtime\"")?;
    let rig = Rig::on(lab, &Spec::new([payload::PATH, "pause"]))?;
    rig.run()?;
    fill(&tasks)?;
    rig.add("e", ["true"])?;
    let refused = rig.shim.start(rig.id(), "e").err().context("it started")?.to_string();
    // The Go shim knows only what the runtime has logged: there was no room for that either.
    let reason = if rig.lab.shim().is_go() { "exit status" } else { "no space left on device" };
    ensure!(refused.contains(reason), "{refused}");
    assert_eq!(rig.shim.state(rig.id(), "")?.exit_status, 0);
    rig.shim.delete(rig.id(), "e")?;
    fs::remove_file(tasks.join("fill"))?;
    rig.exec("f", ["sh", "-c", "exit 3"])?;
    assert_eq!(rig.shim.wait(rig.id(), "f")?.status, 3);
    fill(&tasks)?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 137);
    rig.shim.delete(rig.id(), "")?;
    rig.shim.shutdown()?;
    wait_gone(rig.shim.proc())?;
    Cmd::new("umount").arg("--lazy").arg(&tasks).output()?.assert_ok();
    rig.lab.finish()
}

/// Leaves no room in a directory's file system.
fn fill(dir: &Path) -> Result<()> {
    let mut file = File::create(dir.join("fill"))?;
    let error = loop {
        if let Err(error) = file.write_all(&[0; 1024]) {
            break error;
        }
    };
    ensure!(error.kind() == ErrorKind::StorageFull, "{error}");
    Ok(())
}
