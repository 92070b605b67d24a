// SPDX-License-Identifier: Apache-2.0
//! Logs: the output of containers, as containerd writes it down for a kubelet.

use std::fs;

use anyhow::{Result, ensure};
use wedge_cri_tests::Node;
use wedge_cri_tests::v1::ReopenContainerLogRequest;
use wedge_integration::wait;

#[test]
fn every_line_is_logged_with_its_stream() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("logs")?;
    let script = "for i in $(seq 1 2000); do echo out $i; echo err $i >&2; done; printf last";
    let container = pod.run(&node, "main", &["sh", "-c", script])?;
    assert_eq!(container.wait()?.exit_code, 0);
    let lines = |word: &str| (1..=2000).map(|i| format!("{word} {i}\n")).collect::<String>();
    wait::until("all is logged", || {
        let (stdout, stderr) = (container.log("stdout")?, container.log("stderr")?);
        // A line without an end gets none.
        ensure!(
            stdout == lines("out") + "last" || stdout == lines("out") + "last\n",
            "{}",
            stdout.len()
        );
        ensure!(stderr == lines("err"), "{}", stderr.len());
        Ok(())
    })?;
    pod.end(&node)?;
    node.finish()
}

#[test]
fn a_long_line_is_logged_in_parts() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("long")?;
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo";
    let container = pod.run(&node, "main", &["sh", "-c", script])?;
    container.wait()?;
    wait::until("all is logged", || {
        let text = container.log("stdout")?;
        ensure!(text.len() == 100_001 && text.ends_with("x\n"), "{}", text.len());
        Ok(())
    })?;
    let log = fs::read_to_string(container.log_file())?;
    ensure!(log.lines().filter(|line| line.contains(" stdout P ")).count() >= 6, "no parts");
    pod.end(&node)?;
    node.finish()
}

/// What a kubelet does when a log has become too large.
#[test]
fn a_log_is_rotated_while_it_is_written() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("rotated")?;
    let script = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.01; done";
    let container = pod.run(&node, "main", &["sh", "-c", script])?;
    container.wait_log("line 10\n")?;
    let (log, old) = (container.log_file(), container.log_file().with_extension("old"));
    fs::rename(log, &old)?;
    let request = ReopenContainerLogRequest { container_id: container.id().to_owned() };
    node.client().call(async |mut cri| cri.reopen_container_log(request).await)?;
    wait::until("the new log is written to", || {
        ensure!(fs::read_to_string(log)?.lines().count() > 10, "it is short");
        Ok(())
    })?;
    container.stop(0)?;
    let all = fs::read_to_string(&old)? + &fs::read_to_string(log)?;
    let numbers = all.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    for (index, number) in numbers.enumerate() {
        assert_eq!(number, index + 1, "a line is lost, or comes twice");
    }
    pod.end(&node)?;
    node.finish()
}
