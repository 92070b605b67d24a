// SPDX-License-Identifier: Apache-2.0
//! `kubectl exec`, `attach` and `port-forward`.

use anyhow::{Context, Result, ensure};
use wedge_cri_tests::v1::PortForwardRequest;
use wedge_cri_tests::{Node, Stream};
use wedge_integration::wait;

#[test]
fn an_exec_has_its_streams() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("streams")?;
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    let script = "read line; echo got $line; echo oops >&2; exit 9";
    let mut stream = container.exec_stream(&["sh", "-c", script], true, false)?;
    stream.write("a line\n")?;
    let end = stream.end()?;
    assert_eq!((&*end.stdout, &*end.stderr, end.code), ("got a line\n", "oops\n", Some(9)));
    let quiet = container.exec_stream(&["true"], false, false)?.end()?;
    assert_eq!((&*quiet.stdout, quiet.code), ("", Some(0)));
    pod.end(&node)?;
    node.finish()
}

#[test]
fn an_exec_has_a_terminal_that_changes_its_size() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("terminal")?;
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    let mut stream = container.exec_stream(&["sh"], true, true)?;
    stream.resize(133, 44)?;
    // What is typed is echoed, so it must not hold what is waited for.
    stream.write("tty; until stty size | grep -q '44 133'; do sleep 0.1; done; echo si''zed\r")?;
    stream.wait_stdout("sized\r\n")?;
    stream.write("sleep 1001\r")?;
    wait::until("the command runs", || container.shell("ps | grep -q 'sleep 100[1]'").map(drop))?;
    stream.write("\x03")?;
    wait::until("it is interrupted", || {
        container.shell("! ps | grep -q 'sleep 100[1]'").map(drop)
    })?;
    stream.write("echo the code was $?\r")?;
    stream.wait_stdout("the code was 130")?;
    stream.write("exit 3\r")?;
    let end = stream.end()?;
    assert_eq!(end.code, Some(3), "{end:?}");
    ensure!(end.stdout.contains("/dev/pts/"), "{end:?}");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn attaching_is_to_the_streams_of_the_init() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("attached")?;
    let script = "while read line; do echo got $line; test $line = quit && exit 6; done";
    for (name, tty) in [("pipes", false), ("terminal", true)] {
        let container = pod.run_with(&node, name, &["sh", "-c", script], |config| {
            (config.stdin, config.tty) = (true, tty);
        })?;
        let mut stream = container.attach(tty)?;
        stream.write("one\n")?;
        stream.wait_stdout("got one")?;
        drop(stream);
        // Who comes later is attached to what goes on.
        let mut again = container.attach(tty)?;
        again.write("two\n")?;
        again.wait_stdout("got two")?;
        again.write("quit\n")?;
        again.end()?;
        assert_eq!(container.wait()?.exit_code, 6);
        ensure!(container.log("stdout")?.contains("got one"), "{}", container.log("stdout")?);
    }
    pod.end(&node)?;
    node.finish()
}

/// The streaming server connects, in the pod's network: nothing of it is the shim's, but that the
/// network is there.
#[test]
fn a_port_is_forwarded() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("forwarded")?;
    let server = pod.run(&node, "server", &["nc", "-ll", "-p", "8080", "-e", "cat"])?;
    server.shell("until netstat -ltn | grep -q :8080; do sleep 0.05; done")?;
    let request = PortForwardRequest { pod_sandbox_id: pod.id().to_owned(), port: vec![8080] };
    let answer = node.client().call(async |mut cri| cri.port_forward(request).await)?;
    let mut stream = Stream::forward(node.netns(), &answer.url, 8080)?;
    stream.send(0, b"there and back\n")?;
    let mut echoed = Vec::new();
    while !echoed.ends_with(b"\n") {
        let (channel, bytes) = stream.next_frame()?.context("the end")?;
        assert_eq!(channel, 0, "{}", String::from_utf8_lossy(&bytes));
        echoed.extend(bytes);
    }
    assert_eq!(echoed, b"there and back\n");
    drop(stream);
    pod.end(&node)?;
    node.finish()
}
