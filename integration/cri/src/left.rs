// SPDX-License-Identifier: Apache-2.0
//! What pods may leave that the harness of `wedge-integration` does not know of.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::Node;
use crate::v1::{ListContainersRequest, ListPodSandboxRequest};

/// Where the network plugins' library remembers what it has set up, for all of a machine.
const CNI_RESULTS: &str = "/var/lib/cni/results";

/// Everything of pods that is left on a node that runs, a line each.
pub(crate) fn find(node: &Node) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let pods = node
        .client()
        .call(async |mut cri| cri.list_pod_sandbox(ListPodSandboxRequest::default()).await)?;
    left.extend(pods.items.iter().map(|pod| format!("pod {}", pod.id)));
    let containers = node
        .client()
        .call(async |mut cri| cri.list_containers(ListContainersRequest::default()).await)?;
    left.extend(
        containers.containers.iter().map(|container| format!("container {}", container.id)),
    );
    let state = node.dir().join("state");
    for (what, dir) in [
        ("bundle", state.join("io.containerd.runtime.v2.task/k8s.io")),
        ("files of pod", state.join("io.containerd.grpc.v1.cri/sandboxes")),
        ("files of container", state.join("io.containerd.grpc.v1.cri/containers")),
        ("network namespace", state.join("io.containerd.grpc.v1.cri/netns")),
        ("runc state", node.dir().join("runc/k8s.io")),
    ] {
        left.extend(listed(&dir).into_iter().map(|name| format!("{what} {name}")));
    }
    let results = listed(Path::new(CNI_RESULTS)).into_iter();
    left.extend(results.filter(|name| name.contains(node.token())).map(|n| format!("result {n}")));
    // Addresses that are not given back run out.
    let leases = listed(&node.dir().join("ipam").join(node.token())).into_iter();
    left.extend(leases.filter(|name| name.parse::<std::net::IpAddr>().is_ok()));
    left.extend(links(node)?);
    left.extend(node.driver().left(node.token()));
    Ok(left)
}

/// Waits for nothing: everything is gone when RemovePodSandbox has answered.
pub(crate) fn check(node: &Node) -> Result<()> {
    let left = find(node)?;
    ensure!(left.is_empty(), "pods left:\n{}", left.join("\n"));
    Ok(())
}

fn links(node: &Node) -> Result<Vec<String>> {
    let out = node.netns().cmd("ip").args(["-brief", "link"]).output()?;
    out.assert_ok();
    let text = out.text();
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    let left = names.filter(|name| !matches!(*name, "lo" | "wedge0") && !is_default_tunnel(name));
    Ok(left.map(|name| format!("link {name}")).collect())
}

/// Devices of modules such as `tunl0@NONE`, which every namespace has that is made later.
fn is_default_tunnel(name: &str) -> bool {
    name.ends_with("@NONE")
}

fn listed(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
