// SPDX-License-Identifier: Apache-2.0
//! A pod's sandbox, as a kubelet asks for it.

use std::fs;

use anyhow::{Context, Result};
use tonic::Status;

use crate::v1::{
    ContainerConfig, DnsConfig, ImageSpec, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PodSandboxStatus,
    PodSandboxStatusRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StopPodSandboxRequest,
};
use crate::{Container, Node, node};

/// A pod that runs, or has.
#[derive(Debug, Clone)]
pub struct Pod {
    id: String,
    config: PodSandboxConfig,
}

impl Node {
    /// What a kubelet asks for when a pod asks for nothing: namespaces of its own, but a process
    /// namespace for each container.
    ///
    /// # Errors
    /// The directory of its logs cannot be made.
    pub fn pod_config(&self, name: &str) -> Result<PodSandboxConfig> {
        let logs = self.logs().join(name);
        fs::create_dir_all(&logs)?;
        let namespaces = NamespaceOption {
            pid: crate::v1::NamespaceMode::Container.into(),
            ..Default::default()
        };
        let security = LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces),
            ..Default::default()
        };
        let uid = format!("{}-{name}", self.token());
        let linux = LinuxPodSandboxConfig {
            cgroup_parent: self.driver().parent(self.token(), &uid),
            security_context: Some(security),
            ..Default::default()
        };
        let metadata = PodSandboxMetadata {
            name: name.to_owned(),
            uid,
            namespace: "default".to_owned(),
            attempt: 0,
        };
        Ok(PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.to_owned(),
            log_directory: logs.to_string_lossy().into_owned(),
            dns_config: Some(DnsConfig::default()),
            linux: Some(linux),
            ..Default::default()
        })
    }

    /// Runs a pod that asks for nothing.
    ///
    /// # Errors
    /// RunPodSandbox fails.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        self.pod_with(name, |_, _| ())
    }

    /// Runs a pod, after `change` of its configuration and of its security context.
    ///
    /// # Errors
    /// RunPodSandbox fails.
    pub fn pod_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut PodSandboxConfig, &mut LinuxSandboxSecurityContext),
    ) -> Result<Pod> {
        let mut config = self.pod_config(name)?;
        let linux = config.linux.get_or_insert_default();
        let mut security = linux.security_context.take().unwrap_or_default();
        change(&mut config, &mut security);
        config.linux.get_or_insert_default().security_context = Some(security);
        Ok(self.run_pod(config, self.handler())?)
    }

    /// Runs a pod with a handler.
    ///
    /// # Errors
    /// RunPodSandbox fails.
    pub fn run_pod(&self, config: PodSandboxConfig, handler: &str) -> Result<Pod, Status> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let answer = self.client().call(async |mut cri| cri.run_pod_sandbox(request).await)?;
        self.note(&answer.pod_sandbox_id);
        Ok(Pod { id: answer.pod_sandbox_id, config })
    }
}

impl Pod {
    /// Its id, which containerd has given it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it was made of.
    pub fn config(&self) -> &PodSandboxConfig {
        &self.config
    }

    /// What CRI says about it.
    ///
    /// # Errors
    /// The call fails.
    pub fn status(&self, node: &Node) -> Result<PodSandboxStatus> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        let answer = node.client().call(async |mut cri| cri.pod_sandbox_status(request).await)?;
        answer.status.context("no status")
    }

    /// Its address.
    ///
    /// # Errors
    /// It has none.
    pub fn ip(&self, node: &Node) -> Result<String> {
        Ok(self.status(node)?.network.context("no network")?.ip)
    }

    /// The path of its cgroup, which has those of its containers.
    pub fn cgroup(&self, node: &Node) -> String {
        node.driver().pod_path(self.cgroup_parent())
    }

    /// The path of a container's cgroup, as in /proc/PID/cgroup.
    pub fn cgroup_of(&self, node: &Node, container: &str) -> String {
        node.driver().container_path(self.cgroup_parent(), container)
    }

    fn cgroup_parent(&self) -> &str {
        self.config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent)
    }

    /// A configuration of a container of it, that runs `command` as root.
    pub fn container_config(&self, name: &str, command: &[&str]) -> ContainerConfig {
        let image = ImageSpec { image: node::IMAGE.to_owned(), ..Default::default() };
        let namespaces = self
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref()?.namespace_options.clone());
        Container::config(name, command, image, namespaces)
    }

    /// Creates and starts a container that runs `command`.
    ///
    /// # Errors
    /// A call fails.
    pub fn run<'a>(&self, node: &'a Node, name: &str, command: &[&str]) -> Result<Container<'a>> {
        self.run_with(node, name, command, |_| ())
    }

    /// Creates and starts a container, after `change` of its configuration.
    ///
    /// # Errors
    /// A call fails.
    pub fn run_with<'a>(
        &self,
        node: &'a Node,
        name: &str,
        command: &[&str],
        change: impl FnOnce(&mut ContainerConfig),
    ) -> Result<Container<'a>> {
        let mut config = self.container_config(name, command);
        change(&mut config);
        let container = Container::create(node, self, config)?;
        container.start()?;
        Ok(container)
    }

    /// Stops it: its containers are killed, its network is gone.
    ///
    /// # Errors
    /// The call fails.
    pub fn stop(&self, node: &Node) -> Result<()> {
        let request = StopPodSandboxRequest { pod_sandbox_id: self.id.clone() };
        node.client().call(async |mut cri| cri.stop_pod_sandbox(request).await)?;
        Ok(())
    }

    /// Removes it and its containers.
    ///
    /// # Errors
    /// The call fails.
    pub fn remove(&self, node: &Node) -> Result<()> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() };
        node.client().call(async |mut cri| cri.remove_pod_sandbox(request).await)?;
        Ok(())
    }

    /// Stops and removes it.
    ///
    /// # Errors
    /// A call fails.
    pub fn end(&self, node: &Node) -> Result<()> {
        self.stop(node)?;
        self.remove(node)
    }
}
