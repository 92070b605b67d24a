// SPDX-License-Identifier: Apache-2.0
//! ExecSync, which probes are made of.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tonic::Code;
use wedge_cri_tests::Node;
use wedge_integration::proc::Proc;
use wedge_integration::{in_parallel, wait};

#[test]
fn an_exec_has_a_code_and_two_streams() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("execs")?;
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    let ran = container.try_exec(&["sh", "-c", "echo out; echo err >&2; exit 42"], 0)?;
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (42, "out\n", "err\n"));
    let killed = container.try_exec(&["sh", "-c", "kill -9 $$"], 0)?;
    assert_eq!(killed.code, 137);
    let large = container.exec(&["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"])?;
    assert_eq!(large.len(), 3_000_000);
    ensure!(large.bytes().all(|byte| byte == b'x'), "other output");
    let error = container.try_exec(&["/bin/absent"], 0).expect_err("there is no such program");
    ensure!(error.message().contains("no such file or directory"), "{error}");
    container.stop(0)?;
    let error = container.try_exec(&["true"], 0).expect_err("it has stopped");
    ensure!(error.message().contains("container is in CONTAINER_EXITED state"), "{error}");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn an_exec_that_takes_too_long_is_killed() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("slow")?;
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    let begun = Instant::now();
    let error = container.try_exec(&["sleep", "1001"], 1).expect_err("the time is up");
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    ensure!(begun.elapsed() >= Duration::from_secs(1), "too early");
    wait::until("what took too long is gone", || {
        let all = container.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")?;
        ensure!(!all.contains("sleep 1001"), "{all}");
        Ok(())
    })?;
    pod.end(&node)?;
    node.finish()
}

/// Liveness and readiness, of two containers, each a second: most of what a shim ever does.
#[test]
#[expect(clippy::disallowed_methods, reason = "a kubelet probes now and then")]
fn probes_leave_nothing_behind() -> Result<()> {
    let long = std::env::var_os("WEDGE_LONG").is_some();
    let (rounds, period) = if long { (60, 1000) } else { (10, 200) };
    let node = Node::start()?;
    let pod = node.pod("probed")?;
    let names = ["one", "two"];
    for name in names {
        pod.run(&node, name, &["sh", "-c", "touch /tmp/ready; exec sleep 1000"])?;
    }
    let shim = Proc::shim("k8s.io", pod.id())?;
    let containers: Vec<String> =
        node.ctr().tasks()?.into_iter().map(|task| task.id).filter(|id| id != pod.id()).collect();
    let probe = |command: &[&str]| -> Result<()> {
        for id in &containers {
            let ran = wedge_cri_tests::Container::known(&node, id).try_exec(command, 10)?;
            let expected = i32::from(command != ["cat", "/tmp/ready"]);
            ensure!(ran.code == expected, "{command:?}: {ran:?}");
        }
        Ok(())
    };
    wait::until("both are ready", || probe(&["cat", "/tmp/ready"]))?;
    let before = shim.holdings()?;
    for _ in 0..rounds {
        let next = Instant::now() + Duration::from_millis(period);
        probe(&["cat", "/tmp/ready"])?;
        probe(&["cat", "/tmp/not-ready"])?;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    // The Go shim's runtime starts threads and opens descriptors when it likes.
    if !node.shim().is_go() {
        wait::until("the shim holds what it held", || {
            let mut after = shim.holdings()?;
            // One that has nothing to do ends after a while.
            after.threads = after.threads.max(before.threads);
            ensure!(after == before, "before: {before:?}, after: {after:?}");
            Ok(())
        })?;
    }
    pod.end(&node)?;
    node.finish()
}

#[test]
fn many_execs_at_a_time_are_answered_each() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("parallel")?;
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    in_parallel(5, 20, |number| {
        let client = node.connect()?;
        let request = wedge_cri_tests::v1::ExecSyncRequest {
            container_id: container.id().to_owned(),
            cmd: ["sh", "-c", &format!("echo {number}; exit {number}")].map(str::to_owned).into(),
            timeout: 30,
        };
        let answer = client.call(async |mut cri| cri.exec_sync(request).await)?;
        assert_eq!(answer.stdout, format!("{number}\n").into_bytes());
        assert_eq!(answer.exit_code, i32::try_from(number)?);
        Ok(())
    })?;
    pod.end(&node)?;
    node.finish()
}
