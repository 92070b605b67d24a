// SPDX-License-Identifier: Apache-2.0
//! Limits, their changes, what happens beyond them, and counters.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wedge_cri_tests::v1::{
    LinuxContainerResources, ListContainerStatsRequest, UpdateContainerResourcesRequest,
};
use wedge_cri_tests::{Container, Node};
use wedge_integration::wait;

const MIB: i64 = 1 << 20;

#[test]
fn limits_are_set_and_changed() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("limits")?;
    let container = pod.run_with(&node, "main", &["sleep", "1000"], |config| {
        config.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 * MIB,
            cpuset_cpus: "0".to_owned(),
            oom_score_adj: 500,
            ..Default::default()
        });
    })?;
    assert_eq!(limit(&container)?, 64 * MIB);
    assert_eq!(container.exec(&["cat", "/proc/1/oom_score_adj"])?, "500\n");
    assert_eq!(allowed(&container)?, "0");
    ensure!(quota(&container)?.starts_with("50000"), "{}", quota(&container)?);
    let request = UpdateContainerResourcesRequest {
        container_id: container.id().to_owned(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: 96 * MIB,
            cpu_period: 100_000,
            cpu_quota: 75_000,
            cpuset_cpus: "0-1".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    node.client().call(async |mut cri| cri.update_container_resources(request).await)?;
    assert_eq!(limit(&container)?, 96 * MIB);
    ensure!(quota(&container)?.starts_with("75000"), "{}", quota(&container)?);
    // An exec may use what the container may by now.
    assert_eq!(allowed(&container)?, "0-1");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn an_out_of_memory_kill_is_the_reason_of_an_exit() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("oom")?;
    let limited = |config: &mut wedge_cri_tests::v1::ContainerConfig| {
        config.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 32 * MIB,
            oom_score_adj: 1000,
            ..Default::default()
        });
    };
    let container = pod.run_with(&node, "main", &["wedge-payload", "alloc", "100"], limited)?;
    wait::until("the reason is known", || {
        let status = container.wait()?;
        ensure!((status.exit_code, &*status.reason) == (137, "OOMKilled"), "{status:?}");
        Ok(())
    })?;
    // A neighbour that is within its limit is not told to have been.
    let beside = pod.run_with(&node, "beside", &["sh", "-c", "exit 137"], limited)?;
    let status = beside.wait()?;
    assert_eq!((status.exit_code, &*status.reason), (137, "Error"));
    pod.end(&node)?;
    node.finish()
}

#[test]
fn counters_grow_with_what_a_container_does() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("stats")?;
    let script = "head -c 20000000 /dev/zero > /tmp/file; while true; do :; done";
    let container = pod.run(&node, "busy", &["sh", "-c", script])?;
    let idle = pod.run(&node, "idle", &["sleep", "1000"])?;
    let usage = |container: &Container<'_>| {
        let cpu = container.stats()?.cpu.context("no cpu")?;
        anyhow::Ok(cpu.usage_core_nano_seconds.context("no usage")?.value)
    };
    // The OCI runtime has worked in its cgroup.
    let before = usage(&idle)?;
    wait::until("the counters have grown", || {
        let stats = container.stats()?;
        let memory = stats.memory.context("no memory")?.working_set_bytes.context("no set")?;
        let layer = stats.writable_layer.context("no layer")?.used_bytes.context("no bytes")?;
        let used = usage(&container)?;
        ensure!(used > 300_000_000, "{used} ns");
        ensure!(memory.value > 50_000, "{} bytes of memory", memory.value);
        ensure!(layer.value >= 20_000_000, "{} bytes of a layer", layer.value);
        Ok(())
    })?;
    let list = node.client().call(async |mut cri| {
        cri.list_container_stats(ListContainerStatsRequest::default()).await
    })?;
    assert_eq!(list.stats.len(), 2);
    let used = Duration::from_nanos(usage(&idle)?.saturating_sub(before));
    ensure!(used < wait::scaled(Duration::from_millis(300)), "the idle one has used {used:?}");
    pod.end(&node)?;
    node.finish()
}

/// The memory limit, as the container sees it, in either version of cgroups.
fn limit(container: &Container<'_>) -> Result<i64> {
    let text = container.shell(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max",
    )?;
    Ok(text.trim().parse()?)
}

fn quota(container: &Container<'_>) -> Result<String> {
    container
        .shell("cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max")
}

fn allowed(container: &Container<'_>) -> Result<String> {
    let status = container.exec(&["cat", "/proc/self/status"])?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(line.context("no list of CPUs")?.trim().to_owned())
}
