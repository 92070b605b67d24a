// SPDX-License-Identifier: Apache-2.0
//! Containers: how they end, and are ended.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wedge_cri_tests::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ListContainersRequest, Mount,
};
use wedge_cri_tests::{Container, Node};
use wedge_integration::wait;

#[test]
fn exits_have_codes_and_reasons() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("exits")?;
    for (name, script, code, reason) in [
        ("fine", "true", 0, "Completed"),
        ("code", "exit 7", 7, "Error"),
        ("signal", "kill -USR1 $$; sleep 1000", 0, ""),
        ("killed", "sleep 1000 & kill -9 $! && wait $!", 137, "Error"),
    ] {
        let container = pod.run(&node, name, &["sh", "-c", script])?;
        if reason.is_empty() {
            // An init takes no signal from within that it has no handler for.
            assert_eq!(container.status()?.state(), ContainerState::ContainerRunning);
            continue;
        }
        let status = container.wait()?;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{name}");
        ensure!(status.started_at >= status.created_at, "{status:?}");
        // Not that it was started before: containerd takes that time when its start has returned.
        ensure!(status.finished_at >= status.created_at, "{status:?}");
    }
    let exited = ContainerStateValue { state: ContainerState::ContainerExited.into() };
    let filter = ContainerFilter { state: Some(exited), ..Default::default() };
    let request = ListContainersRequest { filter: Some(filter) };
    let list = node.client().call(async |mut cri| cri.list_containers(request).await)?;
    assert_eq!(list.containers.len(), 3);
    pod.end(&node)?;
    node.finish()
}

#[test]
fn a_start_that_fails_says_why() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("failing")?;
    for (name, command, text) in [
        ("absent", ["/bin/absent"], "exec: \"/bin/absent\": stat /bin/absent: no such file"),
        ("directory", ["/etc"], "permission denied"),
    ] {
        let container = Container::create(&node, &pod, pod.container_config(name, &command))?;
        let error = container.start().expect_err("the start fails");
        ensure!(error.message().contains(text), "{error}");
        let status = container.status()?;
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        ensure!(status.message.contains(text), "{}", status.message);
        container.remove()?;
    }
    let tasks = node.ctr().tasks()?;
    assert_eq!(tasks.len(), 1, "only the pod's own: {tasks:?}");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn stops_wait_for_a_grace_period() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("grace")?;
    let obeys = "trap 'echo asked; exit 3' TERM; echo ready; while true; do sleep 0.1; done";
    let container = pod.run(&node, "obeys", &["sh", "-c", obeys])?;
    container.wait_log("ready")?;
    let (begun, grace) = (Instant::now(), 30);
    container.stop(grace)?;
    ensure!(begun.elapsed() < Duration::from_secs(20), "it waited for all of the grace period");
    assert_eq!(container.status()?.exit_code, 3);
    container.wait_log("asked\n")?;

    let refuses = "trap 'echo asked' TERM; echo ready; while true; do sleep 0.1; done";
    let container = pod.run(&node, "refuses", &["sh", "-c", refuses])?;
    container.wait_log("ready")?;
    let begun = Instant::now();
    container.stop(3)?;
    ensure!(begun.elapsed() >= Duration::from_secs(3), "it was killed before its time");
    let status = container.status()?;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    container.wait_log("asked\n")?;
    // Once more is no mistake: a kubelet retries.
    container.stop(1)?;
    container.remove()?;
    container.remove()?;
    pod.end(&node)?;
    node.finish()
}

#[test]
fn a_running_container_is_removed_with_all_that_it_started() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("removed")?;
    let script = "for i in 1 2 3 4 5; do sleep 1000 & done; echo up; wait";
    let container = pod.run(&node, "main", &["sh", "-c", script])?;
    container.wait_log("up")?;
    let cgroup = pod.cgroup_of(&node, container.id());
    let members = || {
        let all = wedge_integration::proc::Proc::all().into_iter();
        all.filter(|proc| proc.cgroups().is_ok_and(|text| text.contains(&cgroup))).count()
    };
    assert_eq!(members(), 6);
    container.remove()?;
    wait::until("its processes are gone", || {
        ensure!(members() == 0, "{}", members());
        Ok(())
    })?;
    let error = container.try_exec(&["true"], 1).expect_err("it is gone");
    assert_eq!(error.code(), tonic::Code::NotFound, "{error}");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn mounts_and_variables_are_the_containers() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("mounts")?;
    let volume = node.dir().join("volume");
    std::fs::create_dir(&volume)?;
    std::fs::write(volume.join("file"), "from the host\n")?;
    let mount = |path: &str, readonly| Mount {
        container_path: path.to_owned(),
        host_path: volume.to_string_lossy().into_owned(),
        readonly,
        ..Default::default()
    };
    let container = pod.run_with(&node, "main", &["sleep", "1000"], |config| {
        config.mounts = vec![mount("/rw", false), mount("/ro", true)];
        config.working_dir = "/rw".to_owned();
        let (key, value) = ("GREETING".to_owned(), "hello world".to_owned());
        config.envs.push(wedge_cri_tests::v1::KeyValue { key, value });
    })?;
    // An exec has what the container's process has.
    assert_eq!(
        container.shell("pwd; cat file; echo $GREETING")?,
        "/rw\nfrom the host\nhello world\n"
    );
    container.shell("echo written > /rw/new")?;
    assert_eq!(std::fs::read_to_string(volume.join("new"))?, "written\n");
    let refused = container.try_exec(&["touch", "/ro/new"], 10)?;
    ensure!(refused.code == 1 && refused.stderr.contains("Read-only file system"), "{refused:?}");
    pod.end(&node)?;
    ensure!(volume.join("file").exists(), "the volume was removed with the pod");
    node.finish()
}
