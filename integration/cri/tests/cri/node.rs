// SPDX-License-Identifier: Apache-2.0
//! The life of a node: daemons that are restarted or replaced, and power failures, under pods.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use wedge_cri_tests::v1::{
    ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandboxState,
    RemovePodSandboxRequest, StopPodSandboxRequest,
};
use wedge_cri_tests::{Container, Node, Pod};
use wedge_integration::proc::Proc;
use wedge_integration::{ShimUnderTest, in_parallel, wait};

/// Pods that run: 30 with `WEDGE_LONG`.
fn some_pods() -> usize {
    if std::env::var_os("WEDGE_LONG").is_some() { 30 } else { 4 }
}

/// Pids of all tasks: what must not change under running pods.
fn pids(node: &Node) -> Result<BTreeMap<String, u32>> {
    Ok(node.ctr().tasks()?.into_iter().map(|task| (task.id, task.pid)).collect())
}

#[test]
fn pods_run_on_while_containerd_is_away() -> Result<()> {
    let mut node = Node::start()?;
    let mut pods: Vec<(Pod, String)> = Vec::new();
    for number in 0..some_pods() {
        let pod = node.pod(&format!("pod-{number}"))?;
        let script = "while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 7";
        let container = pod.run(&node, "main", &["sh", "-c", script])?;
        pods.push((pod.clone(), container.id().to_owned()));
    }
    let (before, shims) = (pids(&node)?, shims(&node));
    node.restart()?;
    assert_eq!(pids(&node)?, before);
    for (pod, id) in &pods {
        assert_eq!(pod.status(&node)?.state(), PodSandboxState::SandboxReady);
        assert_eq!(Container::known(&node, id).exec(&["echo", "hello"])?, "hello\n");
    }
    // Half of them end while nobody is there to see it.
    let ending = pods.len() / 2;
    node.crash(|node| {
        for (_, id) in pods.iter().take(ending) {
            let pid = before.get(id).context("no pid")?;
            std::fs::write(Proc(*pid).path("root/tmp/end"), "")?;
            wait::until("it has ended", || {
                ensure!(!Proc(*pid).is_alive(), "{pid} lives");
                Ok(())
            })?;
        }
        assert_eq!(self::shims(node), shims, "a shim ended while containerd was away");
        Ok(())
    })?;
    for (number, (pod, id)) in pods.iter().enumerate() {
        let container = Container::known(&node, id);
        if number < ending {
            assert_eq!(container.wait()?.exit_code, 7);
        } else {
            assert_eq!(container.status()?.state(), ContainerState::ContainerRunning);
            assert_eq!(container.exec(&["echo", "again"])?, "again\n");
        }
        pod.end(&node)?;
    }
    node.finish()
}

/// The node's power fails: nothing runs any more, but bundles, mounts, sockets and runc's state are
/// as they were. containerd cleans up after each, and new pods run.
#[test]
fn what_a_power_failure_leaves_is_cleaned_up() -> Result<()> {
    if ShimUnderTest::skips_go("its `delete` leaves the socket, containerd #10192")? {
        return Ok(());
    }
    let mut node = Node::start()?;
    let mut ids = Vec::new();
    for number in 0..3 {
        let pod = node.pod(&format!("pod-{number}"))?;
        ids.push(pod.run(&node, "main", &["sleep", "1000"])?.id().to_owned());
    }
    node.crash(|node| node.kill_processes())?;
    let list = node
        .client()
        .call(async |mut cri| cri.list_containers(ListContainersRequest::default()).await)?;
    assert_eq!(list.containers.len(), ids.len());
    for id in &ids {
        let status = Container::known(&node, id).wait()?;
        ensure!(status.exit_code != 0, "{status:?}");
    }
    assert_eq!(node.ctr().tasks()?, [], "tasks of what is dead");
    let fresh = node.pod("fresh")?;
    assert_eq!(fresh.run(&node, "main", &["sh", "-c", "exit 2"])?.wait()?.exit_code, 2);
    end_all(&node)?;
    node.finish()
}

/// A pod goes on with the shim that runs: a container that is added after the binary was replaced
/// joins it, whichever of the two it is. Pods made afterwards have the new one.
fn replaced(from: &ShimUnderTest, to: &ShimUnderTest) -> Result<()> {
    let mut node = Node::start()?;
    node.upgrade_runc(from)?;
    let old = node.run_pod(node.pod_config("old")?, "runc")?;
    let first = old.run(&node, "first", &["sleep", "1000"])?.id().to_owned();
    let before = pids(&node)?;
    node.upgrade_runc(to)?;
    // A package's scripts may restart containerd as well.
    node.restart()?;
    let second = old.run(&node, "second", &["sleep", "1000"])?;
    assert_eq!(shim_of(&old)?, *from.path(), "the pod's shim is another");
    for id in [first.as_str(), second.id()] {
        assert_eq!(Container::known(&node, id).exec(&["echo", "hello"])?, "hello\n");
    }
    let new = node.run_pod(node.pod_config("new")?, "runc")?;
    assert_eq!(shim_of(&new)?, *to.path());
    assert_eq!(new.run(&node, "main", &["sh", "-c", "exit 2"])?.wait()?.exit_code, 2);
    let after = pids(&node)?;
    for (id, pid) in &before {
        assert_eq!(after.get(id), Some(pid), "a container was restarted");
    }
    if !to.is_go() {
        dies(&node, &old, &[&first, second.id()])?;
    }
    end_all(&node)?;
    node.finish()
}

/// The new binary cleans up what the old one leaves when it dies. (Go's leaves the socket: #10192.)
/// containerd tells CRI of the exits while it still runs `delete` for each.
fn dies(node: &Node, pod: &Pod, containers: &[&str]) -> Result<()> {
    Proc::shim("k8s.io", pod.id())?.signal(nix::sys::signal::Signal::SIGKILL)?;
    for id in containers {
        Container::known(node, id).wait()?;
    }
    wait::until("containerd has cleaned up after the shim", || {
        for id in containers.iter().chain([&pod.id()]) {
            for place in ["state/io.containerd.runtime.v2.task/k8s.io", "runc/k8s.io"] {
                let path = node.dir().join(place).join(id);
                ensure!(!path.exists(), "{}", path.display());
            }
        }
        Ok(())
    })
}

#[test]
fn the_shim_is_upgraded_under_running_pods() -> Result<()> {
    replaced(&ShimUnderTest::go()?, &ShimUnderTest::from_env()?)
}

#[test]
fn the_shim_is_downgraded_under_running_pods() -> Result<()> {
    replaced(&ShimUnderTest::from_env()?, &ShimUnderTest::go()?)
}

/// Pods of two containers, started, probed and stopped, all over again: 100 of them five times with
/// `WEDGE_LONG`.
#[test]
fn pods_come_and_go() -> Result<()> {
    let long = std::env::var_os("WEDGE_LONG").is_some();
    let (rounds, pods) = if long { (5, 100) } else { (2, 5) };
    let node = Node::start()?;
    for round in 0..rounds {
        let begun = std::time::Instant::now();
        let made = in_parallel(4, pods, |number| {
            let pod = node.pod(&format!("pod-{round}-{number}"))?;
            for name in ["one", "two"] {
                let container = pod.run(&node, name, &["sleep", "1000"])?;
                assert_eq!(container.exec(&["echo", "ready"])?, "ready\n");
            }
            Ok(pod)
        })?;
        // With what each keeps for its execs.
        let processes = shims(&node).into_iter().flat_map(Proc::forkers);
        let memory = processes.filter_map(|process| process.memory().ok());
        let memory: u64 = memory.map(|memory| memory.pss).sum();
        in_parallel(4, pods, |number| made.get(number).context("no pod")?.end(&node))?;
        println!("{pods} pods: {:?}, {memory} KiB of shims", begun.elapsed());
        wait::until("the shims of pods that are gone are gone", || {
            ensure!(shims(&node).is_empty(), "{:?}", shims(&node));
            Ok(())
        })?;
    }
    node.finish()
}

/// All shims of the node.
fn shims(node: &Node) -> Vec<Proc> {
    let address = node.dir().join("c.sock").to_string_lossy().into_owned();
    let of_node = |proc: &Proc| {
        let args = proc.args().unwrap_or_default();
        args.iter().any(|arg| arg == "-id") && args.contains(&address)
    };
    let mut all: Vec<Proc> = Proc::all().into_iter().filter(of_node).collect();
    all.sort_by_key(|proc| proc.0);
    all
}

fn shim_of(pod: &Pod) -> Result<std::path::PathBuf> {
    Ok(std::fs::read_link(Proc::shim("k8s.io", pod.id())?.path("exe"))?)
}

/// Stops and removes every pod there is, as a kubelet does with those it does not know.
fn end_all(node: &Node) -> Result<()> {
    let request = ListPodSandboxRequest::default();
    let list = node.client().call(async |mut cri| cri.list_pod_sandbox(request).await)?;
    for pod in list.items {
        let stop = StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        node.client().call(async |mut cri| cri.stop_pod_sandbox(stop).await)?;
        let remove = RemovePodSandboxRequest { pod_sandbox_id: pod.id };
        node.client().call(async |mut cri| cri.remove_pod_sandbox(remove).await)?;
    }
    Ok(())
}
