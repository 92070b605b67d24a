// SPDX-License-Identifier: Apache-2.0
//! ResizePty, CloseIO, and the terminals of execs.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use serde_json::json;
use wedge_integration::protos::api::{CloseIORequest, Empty, Status};
use wedge_integration::{Lab, Process, Rig, ShimUnderTest, Spec, TASK_V2, wait};

use crate::seen;

#[test]
fn a_terminal_has_the_size_it_was_given() -> Result<()> {
    let spec = Spec::new(["sh", "-c", "while read line; do stty size; done"]).terminal();
    let rig = Rig::on(Lab::new()?, &spec)?;
    let mut io = rig.lab.terminal("init")?;
    rig.shim.create(&rig.bundle, io.stdio())?;
    rig.shim.resize_pty(rig.id(), "", 100, 40)?;
    rig.shim.start(rig.id(), "")?;
    io.write(b"\n")?;
    io.stdout.wait_text("40 100\r\n")?;
    // Of a number the low 16 bits count.
    rig.shim.resize_pty(rig.id(), "", 0x1_0000 + 90, 30)?;
    io.write(b"\n")?;
    io.stdout.wait_text("30 90\r\n")?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    io.stdout.finish()?;
    rig.shim.resize_pty(rig.id(), "", 80, 24)?;
    rig.end()
}

#[test]
fn what_has_no_terminal_is_resized_in_vain() -> Result<()> {
    let rig = Rig::fake()?;
    let io = rig.lab.fifos("init")?;
    rig.shim.create(&rig.bundle, io.stdio())?;
    rig.shim.resize_pty(rig.id(), "", 80, 24)?;
    rig.shim.start(rig.id(), "")?;
    rig.shim.resize_pty(rig.id(), "", 80, 24)?;
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    rig.shim.resize_pty(rig.id(), "", 80, 24)?;
    rig.end()
}

#[test]
fn close_io_ends_the_input_once_the_client_has_gone() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    let mut io = rig.lab.fifos("exec")?;
    rig.shim.exec(rig.id(), "cat", &Process::new(["cat"]), io.stdio())?;
    rig.shim.start(rig.id(), "cat")?;
    io.write(b"one\n")?;
    io.stdout.wait_text("one\n")?;
    // A client that goes away does not end the input, and the next one goes on.
    io.close_stdin();
    io.write(b"two\n")?;
    io.stdout.wait_text("two\n")?;
    assert_eq!(seen(&rig.shim.state(rig.id(), "cat")?).0, Status::RUNNING);
    rig.shim.close_io(rig.id(), "cat")?;
    rig.shim.close_io(rig.id(), "cat")?;
    io.close_stdin();
    assert_eq!(rig.shim.wait(rig.id(), "cat")?.status, 0);
    assert_eq!(io.stdout.finish()?, b"one\ntwo\n");
    rig.shim.close_io(rig.id(), "cat")?;
    rig.end()
}

/// CloseIO gives up the shim's own end: a client that still writes is not cut off. Which stream is
/// meant does not matter, there is only one to close.
#[test]
fn close_io_does_not_cut_off_a_client_that_still_writes() -> Result<()> {
    let rig = Rig::on(Lab::new()?, &Spec::new(["cat"]))?;
    let mut io = rig.lab.fifos("init")?;
    rig.shim.create(&rig.bundle, io.stdio())?;
    rig.shim.start(rig.id(), "")?;
    io.write(b"one\n")?;
    let request = CloseIORequest { id: rig.id().to_owned(), ..CloseIORequest::default() };
    rig.shim.client().call::<_, Empty>(TASK_V2, "CloseIO", &request)?;
    io.write(b"two\n")?;
    io.stdout.wait_text("one\ntwo\n")?;
    assert_eq!(seen(&rig.shim.state(rig.id(), "")?).0, Status::RUNNING);
    io.close_stdin();
    assert_eq!(rig.shim.wait(rig.id(), "")?.status, 0);
    rig.retire()
}

/// The end of its input hangs a terminal up, after all that was typed has arrived.
#[test]
fn close_io_hangs_a_terminal_up() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    let mut io = rig.lab.terminal("exec")?;
    // The signal goes to the leader of the session; who reads sees the end, maybe before that.
    let reader = Process::new(["sh", "-c", "cat; sleep 1000"]);
    rig.shim.exec(rig.id(), "cat", &reader, io.stdio())?;
    rig.shim.start(rig.id(), "cat")?;
    io.write(b"typed\n")?;
    // Once by the terminal's echo, once by cat.
    io.stdout.wait_text("typed\r\ntyped\r\n")?;
    rig.shim.close_io(rig.id(), "cat")?;
    io.close_stdin();
    assert_eq!(rig.shim.wait(rig.id(), "cat")?.status, 129);
    rig.end()
}

/// `IoUid` and `IoGid`: the process may open its streams again (containerd #10906). The FIFOs stay
/// the client's.
#[test]
fn streams_belong_to_whom_the_options_say() -> Result<()> {
    let mut lab = Lab::new()?;
    (lab.options_mut().io_uid, lab.options_mut().io_gid) = (1000, 1001);
    let script = "stat -L -c %u:%g /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; \
                  echo out >/dev/stdout; echo err >/dev/stderr; read line </dev/stdin; echo $line";
    let user = || json!({ "uid": 1000, "gid": 1001 });
    let spec = Spec::new(["sh", "-c", script]).set("/process/user", user());
    let exec = Process::new(["sh", "-c", script]).set("user", user());
    let rig = Rig::on(lab, &spec)?;
    let mut init = rig.lab.fifos("init")?;
    rig.shim.create(&rig.bundle, init.stdio())?;
    rig.shim.start(rig.id(), "")?;
    let mut second = rig.lab.fifos("exec")?;
    rig.shim.exec(rig.id(), "e", &exec, second.stdio())?;
    rig.shim.start(rig.id(), "e")?;
    for (exec_id, io) in [("e", &mut second), ("", &mut init)] {
        io.write(b"in\n")?;
        assert_eq!(rig.shim.wait(rig.id(), exec_id)?.status, 0);
        io.stdout.wait_text(&("1000:1001\n".repeat(3) + "out\nin\n"))?;
        io.stderr.wait_text("err\n")?;
        for path in [&io.stdio().stdin, &io.stdio().stdout, &io.stdio().stderr] {
            let owner = fs::metadata(path)?;
            assert_eq!((owner.uid(), owner.gid()), (0, 0), "{path}");
        }
    }
    rig.retire()
}

/// The client may be at the end of its input before the process runs.
#[test]
fn close_io_may_come_before_start() -> Result<()> {
    if ShimUnderTest::skips_go("it forgets a CloseIO that comes before Start")? {
        return Ok(());
    }
    let rig = Rig::runc()?;
    rig.run()?;
    let io = rig.lab.fifos("exec")?;
    rig.shim.exec(rig.id(), "cat", &Process::new(["cat"]), io.stdio())?;
    rig.shim.close_io(rig.id(), "cat")?;
    rig.shim.start(rig.id(), "cat")?;
    assert_eq!(rig.shim.wait(rig.id(), "cat")?.status, 0);
    rig.end()
}

#[test]
fn close_io_without_input_is_no_error() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    rig.add("e1", ["true"])?;
    rig.shim.close_io(rig.id(), "")?;
    rig.shim.close_io(rig.id(), "e1")?;
    rig.end()
}

/// containerd #11160, #11205: terminals were left behind, and there are not many.
#[test]
fn terminals_of_many_execs_are_their_own_and_go_with_them() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    rig.story_until("start")?;
    // What the first exec of a container makes, and its others use.
    rig.exec("first", ["true"])?;
    rig.shim.wait(rig.id(), "first")?;
    rig.shim.delete(rig.id(), "first")?;
    let (before, terminals) = (rig.shim.proc().fds()?, terminals()?);
    for round in 0..5 {
        let ids = ["a", "b", "c", "d"].map(|name| format!("{name}{round}"));
        let mut all = Vec::new();
        for id in &ids {
            let io = rig.lab.terminal(id)?;
            let program = ["sh", "-c", "read line; tty; echo got $line"];
            rig.shim.exec(rig.id(), id, &Process::new(program), io.stdio())?;
            rig.shim.start(rig.id(), id)?;
            all.push((id, io));
        }
        let mut seen = Vec::new();
        for (id, mut io) in all {
            io.write(format!("{id}\n").as_bytes())?;
            io.stdout.wait_text(&format!("got {id}\r\n"))?;
            assert_eq!(rig.shim.wait(rig.id(), id)?.status, 0);
            rig.shim.delete(rig.id(), id)?;
            let text = String::from_utf8(io.stdout.finish()?)?;
            seen.extend(text.lines().find(|line| line.starts_with("/dev/pts/")).map(str::to_owned));
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), ids.len(), "{seen:?}");
    }
    wait::until("no terminal is left", || {
        let now = rig.shim.proc().fds()?;
        let is_less = now.len() <= before.len() || rig.lab.shim().is_go();
        ensure!(is_less, "{before}now\n{now}");
        // Other tests have terminals too: fewer than these twenty.
        ensure!(self::terminals()? < terminals + 20);
        Ok(())
    })?;
    rig.end()
}

fn terminals() -> Result<usize> {
    Ok(fs::read_to_string("/proc/sys/kernel/pty/nr")?.trim().parse()?)
}
