// SPDX-License-Identifier: Apache-2.0
//! cgroups.bats, create.bats, delete.bats, pause.bats: containers that do not just run.

use anyhow::{Result, ensure};
use serde_json::json;
use wedge_integration::proc::{self, Proc};
use wedge_integration::protos::api::Status;
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Lab, Process, Stdio, payload, wait};

use super::{sh, skipped};
use crate::pair::{Outcome, Pair, Side};

/// Its paths, natively and by the OCI runtime.
const PATHS: [&str; 2] = ["native", "runtime"];

/// A container that waits to be started has all its namespaces.
#[test]
fn an_exec_in_a_created_container() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    for exec in PATHS {
        let side = Side::create(&lab, exec, &Pair::spec())?;
        let outcome = side.run(&lab, &sh("echo $$; readlink /proc/1/exe; hostname"))?;
        let Outcome::Ended { status: 0, stdout, .. } = &outcome else {
            anyhow::bail!("{exec}: {outcome:?}");
        };
        ensure!(!stdout.starts_with("1\n") && stdout.lines().count() >= 2, "{exec}: {stdout}");
        let state = side.shim.state(side.id(), "")?;
        assert_eq!(state.status.enum_value_or_default(), Status::CREATED, "{exec}");
        side.shim.start(side.id(), "")?;
        side.end()?;
    }
    lab.finish()
}

/// The exec was registered before: only Start can refuse it.
#[test]
fn no_exec_starts_in_a_paused_container() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec())?;
    for side in pair.sides() {
        let exec = side.next();
        side.shim.exec(side.id(), &exec, &sh("exit 3"), &Stdio::null())?;
        side.shim.pause(side.id())?;
        let text = "OCI runtime exec failed: exec failed: cannot exec in a paused container \
                    (use --ignore-paused to override)";
        let start = side.shim.start(side.id(), &exec);
        match side.exec {
            "native" => assert_refused(start, Code::UNKNOWN, text),
            // 1.1 has two texts for it.
            _ => ensure!(start.is_err_and(|err| err.to_string().contains("paused container"))),
        }
        side.shim.resume(side.id())?;
        side.shim.start(side.id(), &exec)?;
        assert_eq!(side.shim.wait(side.id(), &exec)?.status, 3, "{}", side.exec);
        side.shim.delete(side.id(), &exec)?;
    }
    pair.end()
}

/// In a pid namespace that is not their own, execs outlive their init. No other may begin when it
/// has ended, which one that was killed has not at once.
#[test]
fn no_exec_starts_beside_what_an_init_has_left() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec().host_pid())?;
    for side in pair.sides() {
        let [left, late] = [side.next(), side.next()];
        let sleep = Process::new(["sleep", "1000"]);
        side.shim.exec(side.id(), &left, &sleep, &Stdio::null())?;
        let pid = side.shim.start(side.id(), &left)?;
        side.shim.exec(side.id(), &late, &sh("exit 3"), &Stdio::null())?;
        side.shim.kill(side.id(), "", 9, false)?;
        side.shim.wait(side.id(), &left)?;
        proc::wait_gone(Proc(pid))?;
        proc::wait_gone(side.init)?;
        let start = side.shim.start(side.id(), &late);
        ensure!(start.is_err(), "{}: {start:?}", side.exec);
    }
    pair.end()
}

/// The helper is two processes for a moment. runc 1.1 joins the cgroup when it has forked, so that
/// one is enough for it on cgroup v1; for later versions on v2 it takes three.
#[test]
fn an_exec_takes_room_for_two_processes() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let text = "OCI runtime exec failed: exec failed: unable to start container process: error \
                executing setns process: failed to start a process in the container: resource \
                temporarily unavailable";
    let (stdout, stderr) = (String::new(), String::new());
    let ran = Outcome::Ended { status: 0, stdout, stderr };
    for (limit, outcome) in [(2, Outcome::Refused(text.to_owned())), (3, ran)] {
        let side = Side::start(&lab, "native", &Pair::spec())?;
        wait::until("the init is its program, one thread", || {
            let args = side.init.args()?;
            ensure!(args == [payload::PATH, "pause"], "{args:?}");
            Ok(())
        })?;
        side.shim.update(side.id(), &json!({ "pids": { "limit": limit } }).to_string())?;
        assert_eq!(side.run(&lab, &Process::new(["true"]))?, outcome, "{limit}");
        side.end()?;
    }
    lab.finish()
}

/// `/dev/pts` is the container's, not the host's.
#[test]
fn an_exec_without_dev_pts_has_no_terminal() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    // Devices do not work where /run is mounted nodev: they need a /dev of their own.
    let mounts = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] },
    ]);
    let pair = Pair::new(&Pair::spec().set("/mounts", mounts))?;
    let text = "OCI runtime exec failed: exec failed: unable to start container process: \
                open /dev/pts/ptmx: no such file or directory";
    for side in pair.sides() {
        let denied = side.run(&pair.lab, &sh("true").set("terminal", true))?;
        // runc before 1.3.3 opens /dev/ptmx (CVE-2025-52565).
        let text = if side.exec == "native" { text } else { &text.replace("/dev/pts/", "/dev/") };
        let either = Outcome::Refused(text.to_owned());
        assert_eq!(denied, either, "{}", side.exec);
        let ran = side.run(&pair.lab, &sh("echo out; echo err >&2; exit 4"))?;
        let (stdout, stderr) = ("out\n".to_owned(), "err\n".to_owned());
        assert_eq!(ran, Outcome::Ended { status: 4, stdout, stderr }, "{}", side.exec);
    }
    pair.end()
}
