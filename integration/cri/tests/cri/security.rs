// SPDX-License-Identifier: Apache-2.0
//! What a pod's security context asks for is so for the container's process, and for each exec.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use wedge_cri_tests::v1::security_profile::ProfileType;
use wedge_cri_tests::v1::{Capability, Int64Value, LinuxContainerSecurityContext, SecurityProfile};
use wedge_cri_tests::{Container, Node, Pod};

/// What of /proc/self/status a security context decides.
const FIELDS: [&str; 9] =
    ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"];

/// What containerd gives to a container that asks for nothing.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

const NET_ADMIN: u64 = 1 << 12;
const CHOWN: u64 = 1;

#[test]
fn users_groups_and_capabilities_are_those_asked_for() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("privileges")?;
    let plain = run(&node, &pod, "plain", |_| ())?;
    assert_eq!(both(&plain)?["CapEff"], DEFAULT_CAPABILITIES);
    assert_eq!(both(&plain)?["Uid"], "0\t0\t0\t0");
    let user = run(&node, &pod, "user", |security| {
        security.run_as_user = Some(Int64Value { value: 1000 });
        security.run_as_group = Some(Int64Value { value: 2000 });
        security.supplemental_groups = vec![3000, 4000];
        security.no_new_privs = true;
    })?;
    let status = both(&user)?;
    assert_eq!(status["Uid"], "1000\t1000\t1000\t1000");
    assert_eq!(status["Gid"], "2000\t2000\t2000\t2000");
    let groups: Vec<&str> = status["Groups"].split_whitespace().collect();
    ensure!(groups.contains(&"3000") && groups.contains(&"4000"), "{groups:?}");
    assert_eq!((&*status["NoNewPrivs"], &*status["CapEff"]), ("1", "0000000000000000"));
    let named = run(&node, &pod, "named", |security| security.run_as_username = "user".to_owned())?;
    assert_eq!(named.exec(&["id", "-u"])?, "1000\n");
    let capable = run(&node, &pod, "capable", |security| {
        security.capabilities = Some(Capability {
            add_capabilities: vec!["NET_ADMIN".to_owned()],
            drop_capabilities: vec!["CHOWN".to_owned()],
            ..Default::default()
        });
    })?;
    let effective = u64::from_str_radix(&both(&capable)?["CapEff"], 16)?;
    ensure!(effective & NET_ADMIN != 0 && effective & CHOWN == 0, "{effective:x}");
    capable.exec(&["ip", "link", "add", "dummy0", "type", "bridge"])?;
    let none = run(&node, &pod, "none", |security| {
        security.capabilities =
            Some(Capability { drop_capabilities: vec!["ALL".to_owned()], ..Default::default() });
    })?;
    assert_eq!(both(&none)?["CapBnd"], "0000000000000000");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn seccomp_and_the_root_are_as_asked_for() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("confined")?;
    let profile = |kind: ProfileType| {
        Some(SecurityProfile { profile_type: kind.into(), ..Default::default() })
    };
    let open = run(&node, &pod, "open", |s| s.seccomp = profile(ProfileType::Unconfined))?;
    assert_eq!(both(&open)?["Seccomp"], "0");
    let confined = run(&node, &pod, "confined", |s| {
        s.seccomp = profile(ProfileType::RuntimeDefault);
        s.readonly_rootfs = true;
    })?;
    assert_eq!(both(&confined)?["Seccomp"], "2");
    // containerd's default profile refuses namespaces to who cannot administrate.
    let refused = confined.try_exec(&["unshare", "-U", "true"], 10)?;
    ensure!(refused.code != 0 && refused.stderr.contains("not permitted"), "{refused:?}");
    assert_eq!(open.try_exec(&["unshare", "-U", "true"], 10)?.code, 0);
    let refused = confined.try_exec(&["touch", "/new"], 10)?;
    ensure!(refused.stderr.contains("Read-only file system"), "{refused:?}");
    let masked = run(&node, &pod, "masked", |security| {
        security.masked_paths = vec!["/proc/meminfo".to_owned()];
        security.readonly_paths = vec!["/proc/sys".to_owned()];
    })?;
    assert_eq!(masked.exec(&["cat", "/proc/meminfo"])?, "");
    let refused = masked.try_exec(&["sh", "-c", "echo 1 > /proc/sys/kernel/shmmax"], 10)?;
    ensure!(refused.stderr.contains("Read-only file system"), "{refused:?}");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn a_privileged_container_has_all_of_the_nodes() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod_with("privileged", |_, security| security.privileged = true)?;
    let container = run(&node, &pod, "main", |security| security.privileged = true)?;
    let status = both(&container)?;
    let own = node.daemon().proc()?.status("CapBnd")?;
    assert_eq!(status["CapEff"], own, "what the daemon has itself");
    assert_eq!(status["Seccomp"], "0");
    container.shell("mkdir /mnt && mount -t tmpfs none /mnt && umount /mnt")?;
    ensure!(container.exec(&["ls", "/dev"])?.contains("kmsg"), "no devices of the host");
    container.shell("echo 1 > /proc/sys/net/ipv4/ip_forward")?;
    pod.end(&node)?;
    node.finish()
}

fn run<'a>(
    node: &'a Node,
    pod: &Pod,
    name: &str,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> Result<Container<'a>> {
    let script = "cat /proc/self/status; echo END; exec sleep 1000";
    pod.run_with(node, name, &["sh", "-c", script], |config| {
        change(config.linux.get_or_insert_default().security_context.get_or_insert_default());
    })
}

/// The status of the container's process, which must be that of an exec, too.
fn both(container: &Container<'_>) -> Result<BTreeMap<String, String>> {
    container.wait_log("END\n")?;
    let of_init = fields(&container.log("stdout")?)?;
    assert_eq!(fields(&container.exec(&["cat", "/proc/self/status"])?)?, of_init);
    Ok(of_init)
}

fn fields(status: &str) -> Result<BTreeMap<String, String>> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        anyhow::Ok((name.to_owned(), line.context("no such field")?.trim().to_owned()))
    };
    FIELDS.into_iter().map(field).collect()
}
