// SPDX-License-Identifier: Apache-2.0
//! The network of pods: a bridge, by the plugins of Debian.

use anyhow::{Result, ensure};
use wedge_cri_tests::Node;
use wedge_integration::wait;

#[test]
fn pods_reach_each_other_and_containers_of_a_pod_by_loopback() -> Result<()> {
    let node = Node::start()?;
    let (server, client) = (node.pod("server")?, node.pod("client")?);
    let listening =
        server.run(&node, "listens", &["nc", "-ll", "-p", "8080", "-e", "echo", "hello"])?;
    let beside = server.run(&node, "beside", &["sleep", "1000"])?;
    let far = client.run(&node, "far", &["sleep", "1000"])?;
    let (address, other) = (server.ip(&node)?, client.ip(&node)?);
    ensure!(address.starts_with("10.88.") && address != other, "{address}, {other}");
    for (container, to) in [(&beside, "127.0.0.1"), (&far, address.as_str())] {
        let script = format!("nc -w 5 {to} 8080 </dev/null");
        wait::until("the server answers", || {
            let ran = container.try_exec(&["sh", "-c", &script], 10)?;
            ensure!(ran.stdout == "hello\n", "{ran:?}");
            Ok(())
        })?;
    }
    let none = far.try_exec(&["sh", "-c", "nc -w 1 127.0.0.1 8080 </dev/null"], 10)?;
    ensure!(none.code != 0, "it reached another pod's loopback: {none:?}");
    // The network outlives its containers, and ends with the pod.
    listening.remove()?;
    assert_eq!(server.ip(&node)?, address);
    server.stop(&node)?;
    server.end(&node)?;
    client.end(&node)?;
    node.finish()
}
