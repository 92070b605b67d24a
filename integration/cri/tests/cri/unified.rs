// SPDX-License-Identifier: Apache-2.0
//! What only cgroup v2, systemd, AppArmor or huge pages can show: these tests run in the VM, those
//! called `systemd_…` in one with systemd as PID 1.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{major, minor};
use serde_json::Value;
use wedge_cri_tests::v1::security_profile::ProfileType;
use wedge_cri_tests::v1::{
    ContainerConfig, Device, HugepageLimit, LinuxContainerResources, Mount, SecurityProfile,
    UpdateContainerResourcesRequest,
};
use wedge_cri_tests::{Container, Driver, Node, Pod};
use wedge_integration::apparmor::Profile;
use wedge_integration::{Cmd, wait};

const MIB: i64 = 1 << 20;

/// How many huge pages there are, of two MiB each.
const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// A device that a container does not have: the disk of the VM.
const DISK: &str = "/dev/vda";

fn assert_vm() {
    let vm = std::env::var_os("WEDGE_TEST_VM").is_some();
    assert!(vm && Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "make test-vm runs it");
}

fn limited(bytes: i64) -> Option<LinuxContainerResources> {
    Some(LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() })
}

/// systemd undoes a limit that it does not know of.
#[test]
fn systemd_knows_the_limits_of_a_scope() -> Result<()> {
    assert_vm();
    let node = Node::start()?;
    assert_eq!(node.driver(), Driver::Systemd);
    let pod = node.pod("known")?;
    let container = pod.run_with(&node, "main", &["sleep", "1000"], |config| {
        config.linux.get_or_insert_default().resources = limited(64 * MIB);
    })?;
    let scope = format!("cri-containerd-{}.scope", container.id());
    let slice = Path::new(&pod.cgroup(&node)).file_name().context("no slice")?.to_owned();
    let slice = slice.to_string_lossy().into_owned();
    let all = |limit: i64| format!("{slice}\n{limit}\nactive\n");
    assert_eq!(shown(&scope)?, all(64 * MIB));
    let request = UpdateContainerResourcesRequest {
        container_id: container.id().to_owned(),
        linux: limited(96 * MIB),
        ..Default::default()
    };
    node.client().call(async |mut cri| cri.update_container_resources(request).await)?;
    assert_eq!(shown(&scope)?, all(96 * MIB));
    Cmd::new("systemctl").arg("daemon-reload").output()?.assert_ok();
    assert_eq!(container.exec(&["cat", "/sys/fs/cgroup/memory.max"])?, format!("{}\n", 96 * MIB));
    container.remove()?;
    ensure!(shown(&scope)?.ends_with("inactive\n"), "the unit of what is gone: {}", shown(&scope)?);
    pod.end(&node)?;
    node.finish()
}

/// What systemd has of a container's scope.
fn shown(scope: &str) -> Result<String> {
    let show = ["show", "--value", "-p", "Slice,MemoryMax,ActiveState", scope];
    let out = Cmd::new("systemctl").args(show).output()?;
    out.assert_ok();
    let mut lines: Vec<String> = out.text().lines().map(str::to_owned).collect();
    lines.retain(|line| !line.is_empty());
    Ok(lines.join("\n") + "\n")
}

/// A container without a limit, in a pod that has one.
#[test]
fn a_pod_beyond_its_limit_is_the_reason_of_an_exit() -> Result<()> {
    assert_vm();
    let node = Node::start()?;
    let pod = node.pod("oom")?;
    let beside = pod.run(&node, "beside", &["sleep", "1000"])?;
    limit_pod(&node, &pod, 48 * MIB)?;
    let greedy = pod.run_with(&node, "greedy", &["wedge-payload", "alloc", "200"], |config| {
        let resources = LinuxContainerResources { oom_score_adj: 1000, ..Default::default() };
        config.linux.get_or_insert_default().resources = Some(resources);
    })?;
    wait::until("the reason is known", || {
        let status = greedy.wait()?;
        ensure!((status.exit_code, &*status.reason) == (137, "OOMKilled"), "{status:?}");
        Ok(())
    })?;
    assert_eq!(beside.exec(&["echo", "hello"])?, "hello\n");
    beside.stop(0)?;
    let status = beside.status()?;
    assert_eq!((status.exit_code, &*status.reason), (137, "Error"), "nothing of it was killed");
    pod.end(&node)?;
    node.finish()
}

/// As a kubelet sets it: on the cgroup of the pod.
fn limit_pod(node: &Node, pod: &Pod, bytes: i64) -> Result<()> {
    let cgroup = pod.cgroup(node);
    if node.driver() == Driver::Systemd {
        let slice = Path::new(&cgroup).file_name().context("no slice")?;
        let limit = format!("MemoryMax={bytes}");
        let set = Cmd::new("systemctl").args(["set-property", "--runtime"]).arg(slice).arg(limit);
        set.output()?.assert_ok();
    } else {
        fs::write(directory(&cgroup).join("memory.max"), bytes.to_string())?;
    }
    let limit = fs::read_to_string(directory(&cgroup).join("memory.max"))?;
    assert_eq!(limit, format!("{bytes}\n"));
    Ok(())
}

fn directory(cgroup: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'))
}

#[test]
fn huge_pages_are_limited_and_counted() -> Result<()> {
    assert_vm();
    fs::write(HUGE_PAGES, "8")?;
    assert_eq!(fs::read_to_string(HUGE_PAGES)?, "8\n");
    let node = Node::start()?;
    let volume = node.dir().join("huge");
    fs::create_dir(&volume)?;
    let mount = Cmd::new("mount").args(["-t", "hugetlbfs", "-o", "pagesize=2M", "none"]);
    mount.arg(&volume).output()?.assert_ok();
    let pod = node.pod("huge")?;
    let container = pod.run_with(&node, "main", &["sleep", "1000"], |config| {
        huge_pages(config, &volume);
    })?;
    let file = |name: &str| container.exec(&["cat", &format!("/sys/fs/cgroup/hugetlb.2MB.{name}")]);
    assert_eq!((file("max")?, file("current")?), (format!("{}\n", 4 * MIB), "0\n".to_owned()));
    container.exec(&["fallocate", "-l", &(4 * MIB).to_string(), "/huge/within"])?;
    assert_eq!(file("current")?, format!("{}\n", 4 * MIB));
    let refused = container.try_exec(&["fallocate", "-l", "2097152", "/huge/beyond"], 10)?;
    ensure!(refused.code != 0, "more than its limit: {refused:?}");
    let counters = counted(&node, &container)?;
    let (current, max) = (counters.get("current"), counters.get("max"));
    let expected = Some(4 * MIB);
    assert_eq!(
        (current.and_then(Value::as_i64), max.and_then(Value::as_i64)),
        (expected, expected)
    );
    pod.end(&node)?;
    Cmd::new("umount").arg(&volume).output()?.assert_ok();
    fs::write(HUGE_PAGES, "0")?;
    node.finish()
}

/// What a kubelet makes of `hugepages-2Mi: 4Mi` and a volume of medium HugePages.
fn huge_pages(config: &mut ContainerConfig, volume: &Path) {
    let limit = HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 };
    let resources = LinuxContainerResources {
        hugepage_limits: vec![limit],
        ..LinuxContainerResources::default()
    };
    config.linux.get_or_insert_default().resources = Some(resources);
    config.mounts.push(Mount {
        container_path: "/huge".to_owned(),
        host_path: volume.to_string_lossy().into_owned(),
        ..Default::default()
    });
}

/// What the shim tells of huge pages of two MiB.
fn counted(node: &Node, container: &Container<'_>) -> Result<Value> {
    let metrics = ["tasks", "metrics", "--format", "json", container.id()];
    let out = node.ctr().cmd(metrics).output()?;
    out.assert_ok();
    let all: Value = serde_json::from_str(&out.text())?;
    let sizes = all.get("hugetlb").and_then(Value::as_array).with_context(|| all.to_string())?;
    let is_two = |size: &&Value| size.get("pagesize").is_some_and(|text| text == "2MB");
    sizes.iter().find(is_two).cloned().with_context(|| all.to_string())
}

/// What a kubelet sets beside limits: all of a container dies with one of it, and memory is throttled
/// and protected before that.
#[test]
fn a_group_is_killed_as_a_kubelet_wants_it() -> Result<()> {
    assert_vm();
    let node = Node::start()?;
    let pod = node.pod("group")?;
    let hog = "sleep 1001 & mkfifo /tmp/go && echo READY && read go < /tmp/go
        wedge-payload alloc 200; sleep 1002";
    let container = pod.run_with(&node, "main", &["sh", "-c", hog], |config| {
        let mut resources = limited(64 * MIB).unwrap_or_default();
        let high = (60 * MIB).to_string();
        for (file, value) in
            [("memory.oom.group", "1"), ("memory.min", "4096"), ("memory.high", &high)]
        {
            resources.unified.insert(file.to_owned(), value.to_owned());
        }
        config.linux.get_or_insert_default().resources = Some(resources);
    })?;
    let files = "cd /sys/fs/cgroup && cat memory.oom.group memory.min memory.high";
    assert_eq!(container.shell(files)?, format!("1\n4096\n{}\n", 60 * MIB));
    // Below that at which it is throttled, which would take a while.
    let request = UpdateContainerResourcesRequest {
        container_id: container.id().to_owned(),
        linux: limited(32 * MIB),
        ..Default::default()
    };
    node.client().call(async |mut cri| cri.update_container_resources(request).await)?;
    assert_eq!(container.exec(&["cat", "/sys/fs/cgroup/memory.max"])?, format!("{}\n", 32 * MIB));
    container.wait_log("READY\n")?;
    container.shell("echo go > /tmp/go")?;
    wait::until("the reason is known", || {
        let status = container.wait()?;
        ensure!((status.exit_code, &*status.reason) == (137, "OOMKilled"), "{status:?}");
        Ok(())
    })?;
    pod.end(&node)?;
    node.finish()
}

/// What Docker in a pod, or systemd, does: the container's processes are in cgroups below its own,
/// which then can have none itself.
#[test]
fn a_container_divides_its_cgroup() -> Result<()> {
    assert_vm();
    let node = Node::start()?;
    let pod = node.pod("divided")?;
    let script = "mkdir /cg && mount -t cgroup2 none /cg && cd /cg && mkdir init work && echo $$ > init/cgroup.procs &&
        echo +memory +pids > cgroup.subtree_control && mkfifo /tmp/go &&
        echo DIVIDED && read go < /tmp/go
        (sh -c 'echo $$ > work/cgroup.procs; exec wedge-payload alloc 200'); echo ENDED $?
        exec sleep 1000";
    let container = pod.run_with(&node, "main", &["sh", "-c", script], |config| {
        let linux = config.linux.get_or_insert_default();
        linux.resources = limited(64 * MIB);
        // To mount them: at /sys/fs/cgroup they are read-only, or those of the host.
        let security = linux.security_context.get_or_insert_default();
        security.capabilities.get_or_insert_default().add_capabilities.push("SYS_ADMIN".to_owned());
        ask(config, ProfileType::Unconfined, "");
    })?;
    container.wait_log("DIVIDED\n")?;
    // As `runc exec` does: an exec goes where the init is.
    assert_eq!(container.exec(&["cat", "/proc/self/cgroup"])?, "0::/init\n");
    container.shell("echo go > /tmp/go")?;
    container.wait_log("ENDED 137\n")?;
    let memory = container.stats()?.memory.context("no memory")?;
    ensure!(memory.working_set_bytes.context("no set")?.value > 0, "no memory is counted");
    container.stop(0)?;
    container.remove()?;
    ensure!(!directory(&pod.cgroup_of(&node, container.id())).exists(), "the cgroup is left");
    pod.end(&node)?;
    node.finish()
}

/// On cgroup v2 a program of the kernel's decides, which an exec must not escape.
#[test]
fn devices_are_those_that_a_pod_was_given() -> Result<()> {
    assert_vm();
    let node = Node::start()?;
    let pod = node.pod("devices")?;
    let disk = fs::metadata(DISK)?.st_rdev();
    let plain = pod.run(&node, "plain", &["sleep", "1000"])?;
    let given = pod.run_with(&node, "given", &["sleep", "1000"], |config| {
        config.devices.push(Device {
            container_path: "/dev/given".to_owned(),
            host_path: DISK.to_owned(),
            permissions: "r".to_owned(),
        });
    })?;
    let read = "head -c 512 /dev/given | wc -c | grep -x 512";
    let tried = |container: &Container<'_>, script: &str| -> Result<()> {
        let ran = container.try_exec(&["sh", "-c", script], 10)?;
        ensure!(ran.stderr.contains("Operation not permitted"), "{script}: {ran:?}");
        Ok(())
    };
    if node.driver() == Driver::Systemd {
        // Which lets systemd set its own program anew.
        Cmd::new("systemctl").arg("daemon-reload").output()?.assert_ok();
    }
    given.shell(read)?;
    tried(&given, ": > /dev/given")?;
    tried(&plain, &format!("mknod /dev/given b {} {} && {read}", major(disk), minor(disk)))?;
    plain.shell("echo a > /dev/null && head -c 1 /dev/urandom > /dev/null")?;
    pod.end(&node)?;
    node.finish()
}

/// What a container gets that asks for `RuntimeDefault`, and what a kubelet is told by hand.
#[test]
fn apparmor_confines_inits_and_execs() -> Result<()> {
    assert_vm();
    let node = Node::start()?;
    let profile = Profile::load(node.token())?;
    let pod = node.pod("confined")?;
    for (name, kind, label) in [
        (
            "default",
            ProfileType::RuntimeDefault,
            "cri-containerd.apparmor.d (enforce)\n".to_owned(),
        ),
        ("custom", ProfileType::Localhost, profile.label()),
        ("none", ProfileType::Unconfined, "unconfined\n".to_owned()),
    ] {
        let script = "cat /proc/self/attr/current; echo END; exec sleep 1000";
        let container = pod.run_with(&node, name, &["sh", "-c", script], |config| {
            ask(config, kind, profile.name());
        })?;
        container.wait_log("END\n")?;
        assert_eq!(container.log("stdout")?, format!("{label}END\n"), "{name}");
        assert_eq!(container.exec(&["cat", "/proc/self/attr/current"])?, label, "{name}");
        let ran = container.try_exec(&["sh", "-c", "echo a > /dev/shm/denied"], 10)?;
        assert_eq!(ran.code != 0, kind == ProfileType::Localhost, "{name}: {ran:?}");
    }
    let mut config = pod.container_config("absent", &["sleep", "1000"]);
    ask(&mut config, ProfileType::Localhost, "wedge-not-loaded");
    let refused = Container::create(&node, &pod, config).expect_err("no such profile");
    ensure!(refused.message().contains("wedge-not-loaded"), "{refused}");
    pod.end(&node)?;
    profile.unload()?;
    node.finish()
}

fn ask(config: &mut ContainerConfig, kind: ProfileType, profile: &str) {
    let localhost_ref = match kind {
        ProfileType::Localhost => profile.to_owned(),
        ProfileType::RuntimeDefault | ProfileType::Unconfined => String::new(),
    };
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().apparmor =
        Some(SecurityProfile { profile_type: kind.into(), localhost_ref });
}
