// SPDX-License-Identifier: Apache-2.0
//! Pods: their life, what their containers share, and what they have of the host's.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wedge_cri_tests::v1::{ContainerState, NamespaceMode, PodSandboxState};
use wedge_cri_tests::{Container, Node, Pod};
use wedge_integration::proc::Proc;
use wedge_integration::wait;

/// The namespaces a process is in.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

#[test]
fn a_pod_lives_and_dies() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("web")?;
    let status = pod.status(&node)?;
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!(status.runtime_handler, node.handler());
    let shim = Proc::shim("k8s.io", pod.id())?;
    assert_eq!(fs::read_link(shim.path("exe"))?, fs::canonicalize(node.shim().path())?);
    let command = ["sh", "-c", "echo out; echo err >&2; exec sleep 1000"];
    let container = pod.run(&node, "main", &command)?;
    assert_eq!(container.status()?.state(), ContainerState::ContainerRunning);
    for (stream, text) in [("stdout", "out\n"), ("stderr", "err\n")] {
        wait::until(&format!("it has logged {text:?}"), || {
            let log = container.log(stream)?;
            ensure!(log == text, "{stream}: {log:?}");
            Ok(())
        })?;
    }
    let ran = container.try_exec(&["sh", "-c", "echo $FROM; hostname; exit 5"], 10)?;
    assert_eq!((ran.code, ran.stdout.as_str()), (5, "image\nweb\n"));
    assert_eq!(Proc::shim("k8s.io", pod.id())?, shim, "the pod has one shim");
    let state = node.dir().join("runc/k8s.io").join(container.id());
    ensure!(state.is_dir(), "runc's state is not where the handler's options say");
    container.stop(0)?;
    container.remove()?;
    pod.stop(&node)?;
    assert_eq!(pod.status(&node)?.state(), PodSandboxState::SandboxNotready);
    pod.remove(&node)?;
    node.finish()
}

#[test]
fn containers_share_what_is_the_pods() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("shared")?;
    let one = pod.run(&node, "one", &["sleep", "1000"])?;
    let two = pod.run(&node, "two", &["sleep", "1000"])?;
    let differ: Vec<&str> = NAMESPACES
        .into_iter()
        .filter(|name| namespace(&one, name).ok() != namespace(&two, name).ok())
        .collect();
    assert_eq!(differ, own_namespaces());
    one.shell("echo hello > /dev/shm/note")?;
    assert_eq!(two.exec(&["cat", "/dev/shm/note"])?, "hello\n");
    // Not of the pod's process namespace: each init is the first.
    assert_eq!(one.exec(&["cat", "/proc/1/comm"])?, "sleep\n");
    pod.end(&node)?;
    node.finish()
}

/// What two containers of a pod do not share; cgroup namespaces come with cgroup v2.
fn own_namespaces() -> &'static [&'static str] {
    let unified = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if unified { &["cgroup", "mnt", "pid"] } else { &["mnt", "pid"] }
}

#[test]
fn processes_are_shared_when_a_pod_says_so() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod_with("procs", |_, security| {
        security.namespace_options.get_or_insert_default().pid = NamespaceMode::Pod.into();
    })?;
    let victim = pod.run(&node, "victim", &["sleep", "1001"])?;
    let other = pod.run(&node, "other", &["sleep", "1002"])?;
    assert_eq!(other.exec(&["cat", "/proc/1/cmdline"])?, "/pause\0pause\0");
    other.shell(
        "kill -9 $(pidof sleep | tr ' ' '\\n' | while read p; do \
                 grep -q 1001 /proc/$p/cmdline && echo $p; done)",
    )?;
    assert_eq!(victim.wait()?.exit_code, 137);
    // What an init leaves in the pod's namespace is killed when it stops, and nothing else is.
    let leaving = pod.run(&node, "leaving", &["sh", "-c", "sleep 1003 & exit 4"])?;
    assert_eq!(leaving.wait()?.exit_code, 4);
    leaving.remove()?;
    wait::until("what an init left is gone", || {
        let all = other.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")?;
        ensure!(all.contains("sleep 1002") && !all.contains("sleep 1003"), "{all}");
        Ok(())
    })?;
    pod.end(&node)?;
    node.finish()
}

#[test]
fn a_debugging_container_joins_the_processes_of_another() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("debug")?;
    let app = pod.run(&node, "app", &["sleep", "1001"])?;
    let bystander = pod.run(&node, "bystander", &["sleep", "1002"])?;
    let debugger = pod.run_with(&node, "debugger", &["sleep", "1003"], |config| {
        let security =
            config.linux.get_or_insert_default().security_context.get_or_insert_default();
        let namespaces = security.namespace_options.get_or_insert_default();
        namespaces.set_pid(NamespaceMode::Target);
        namespaces.target_id = app.id().to_owned();
    })?;
    assert_eq!(namespace(&debugger, "pid")?, namespace(&app, "pid")?);
    assert_ne!(namespace(&debugger, "pid")?, namespace(&bystander, "pid")?);
    assert_eq!(debugger.exec(&["cat", "/proc/1/cmdline"])?, "sleep\x001001\0");
    debugger.stop(0)?;
    assert_eq!(app.status()?.state(), ContainerState::ContainerRunning);
    pod.end(&node)?;
    node.finish()
}

#[test]
fn a_pod_has_what_it_wants_of_the_hosts() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod_with("host", |config, security| {
        config.hostname.clear();
        let namespaces = security.namespace_options.get_or_insert_default();
        namespaces.set_network(NamespaceMode::Node);
        namespaces.set_pid(NamespaceMode::Node);
        namespaces.set_ipc(NamespaceMode::Node);
    })?;
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    let host = node.daemon().proc()?;
    for name in ["net", "pid", "ipc", "uts"] {
        let of_host = fs::read_link(host.path("ns").join(name))?;
        assert_eq!(namespace(&container, name)?, of_host.to_string_lossy(), "{name}");
    }
    let pid = container.pid()?;
    assert_eq!(container.exec(&["cat", &format!("/proc/{pid}/cmdline")])?, "sleep\x001000\0");
    // The others of the host are not killed with it.
    pod.end(&node)?;
    ensure!(host.is_alive(), "the daemon is gone");
    node.finish()
}

#[test]
fn sysctls_are_set_in_the_pod() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod_with("sysctls", |config, _| {
        let sysctls = &mut config.linux.get_or_insert_default().sysctls;
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
        sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    })?;
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(container.exec(&["cat", file])?, "80\n");
    assert_eq!(container.exec(&["cat", "/proc/sys/kernel/shm_rmid_forced"])?, "1\n");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn a_container_is_restarted_in_its_pod() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("restarts")?;
    let sidecar = pod.run(&node, "sidecar", &["sleep", "1000"])?;
    let shim = Proc::shim("k8s.io", pod.id())?;
    let mut before: Option<Container<'_>> = None;
    for attempt in 0..4 {
        let container =
            pod.run_with(&node, "main", &["sh", "-c", "echo up; exit 3"], |config| {
                config.metadata.get_or_insert_default().attempt = attempt;
                config.log_path = format!("main-{attempt}.log");
            })?;
        let status = container.wait()?;
        assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
        container.wait_log("up\n")?;
        // A kubelet keeps the last one, for its log.
        if let Some(old) = before.replace(container) {
            old.remove()?;
        }
    }
    assert_eq!(sidecar.status()?.state(), ContainerState::ContainerRunning);
    assert_eq!(Proc::shim("k8s.io", pod.id())?, shim);
    pod.end(&node)?;
    node.finish()
}

#[test]
fn a_pod_whose_pause_has_died_is_seen_and_removed() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("dead")?;
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    let pause = pid_of(&node, &pod)?;
    Proc(pause).signal(Signal::SIGKILL)?;
    wait::until("the pod is not ready", || {
        let state = pod.status(&node)?.state();
        ensure!(state == PodSandboxState::SandboxNotready, "{state:?}");
        Ok(())
    })?;
    // It is the kubelet that stops what is left, then makes a new pod.
    assert_eq!(container.exec(&["echo", "still here"])?, "still here\n");
    pod.end(&node)?;
    let again = node.pod_with("dead", |config, _| {
        config.metadata.get_or_insert_default().attempt = 1;
    })?;
    again.run(&node, "main", &["true"])?.wait()?;
    again.end(&node)?;
    node.finish()
}

fn namespace(container: &Container<'_>, name: &str) -> Result<String> {
    Ok(container.exec(&["readlink", &format!("/proc/self/ns/{name}")])?.trim_end().to_owned())
}

fn pid_of(node: &Node, pod: &Pod) -> Result<u32> {
    let tasks = node.ctr().tasks()?;
    Ok(tasks.into_iter().find(|task| task.id == pod.id()).context("the pod has no task")?.pid)
}
