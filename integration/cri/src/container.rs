// SPDX-License-Identifier: Apache-2.0
//! A container of a pod.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tonic::Status;
use wedge_integration::wait;

use crate::v1::{
    AttachRequest, ContainerConfig, ContainerMetadata, ContainerState, ContainerStats,
    ContainerStatsRequest, ContainerStatus, ContainerStatusRequest, CreateContainerRequest,
    ExecRequest, ExecSyncRequest, ImageSpec, LinuxContainerConfig, LinuxContainerSecurityContext,
    NamespaceOption, RemoveContainerRequest, StartContainerRequest, StopContainerRequest,
};
use crate::{Node, Pod, Stream};

/// A container, created or more.
#[derive(Debug)]
pub struct Container<'a> {
    node: &'a Node,
    id: String,
    log: PathBuf,
}

/// What an ExecSync returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl<'a> Container<'a> {
    pub(crate) fn config(
        name: &str,
        command: &[&str],
        image: ImageSpec,
        namespaces: Option<NamespaceOption>,
    ) -> ContainerConfig {
        let security =
            LinuxContainerSecurityContext { namespace_options: namespaces, ..Default::default() };
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(image),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Creates one.
    ///
    /// # Errors
    /// CreateContainer fails.
    pub fn create(
        node: &'a Node,
        pod: &Pod,
        config: ContainerConfig,
    ) -> Result<Container<'a>, Status> {
        let log = PathBuf::from(&pod.config().log_directory).join(&config.log_path);
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id().to_owned(),
            config: Some(config),
            sandbox_config: Some(pod.config().clone()),
        };
        let answer = node.client().call(async |mut cri| cri.create_container(request).await)?;
        Ok(Container { node, id: answer.container_id, log })
    }

    /// Its id, which containerd has given it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// One that is known by its id, after the node has been restarted.
    pub fn known(node: &'a Node, id: &str) -> Container<'a> {
        Container { node, id: id.to_owned(), log: PathBuf::new() }
    }

    /// Starts it.
    ///
    /// # Errors
    /// StartContainer fails.
    pub fn start(&self) -> Result<(), Status> {
        let request = StartContainerRequest { container_id: self.id.clone() };
        self.node.client().call(async |mut cri| cri.start_container(request).await).map(drop)
    }

    /// What CRI says about it.
    ///
    /// # Errors
    /// The call fails.
    pub fn status(&self) -> Result<ContainerStatus> {
        let request = ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        let answer =
            self.node.client().call(async |mut cri| cri.container_status(request).await)?;
        answer.status.context("no status")
    }

    /// The pid of its init, in the host's namespace.
    ///
    /// # Errors
    /// It has no task.
    pub fn pid(&self) -> Result<u32> {
        let tasks = self.node.ctr().tasks()?;
        Ok(tasks.into_iter().find(|task| task.id == self.id).context("no task")?.pid)
    }

    /// Waits until it has exited, and returns its status.
    ///
    /// # Errors
    /// It does not.
    pub fn wait(&self) -> Result<ContainerStatus> {
        wait::until("the container has exited", || {
            let status = self.status()?;
            ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
            Ok(status)
        })
    }

    /// Runs a command in it: what probes do.
    ///
    /// # Errors
    /// The call fails; that the command does is no failure of it.
    pub fn try_exec(&self, command: &[&str], timeout: i64) -> Result<Ran, Status> {
        let request = ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout,
        };
        let answer = self.node.client().call(async |mut cri| cri.exec_sync(request).await)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&answer.stdout), text(&answer.stderr));
        Ok(Ran { code: answer.exit_code, stdout, stderr })
    }

    /// Runs a command in it that must succeed, and returns its standard output.
    ///
    /// # Errors
    /// The call fails, or the command does.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        let ran = self.try_exec(command, 0)?;
        ensure!(ran.code == 0, "{command:?}: {ran:?}");
        Ok(ran.stdout)
    }

    /// Runs a shell script in it that must succeed, and returns its standard output.
    ///
    /// # Errors
    /// Those of [`Container::exec`].
    pub fn shell(&self, script: &str) -> Result<String> {
        self.exec(&["sh", "-c", script])
    }

    /// Starts a command with streams. `tty` makes the streams one terminal.
    ///
    /// # Errors
    /// The call fails or the streaming server refuses.
    pub fn exec_stream(&self, command: &[&str], stdin: bool, tty: bool) -> Result<Stream> {
        let request = ExecRequest {
            container_id: self.id.clone(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            tty,
            stdin,
            stdout: true,
            stderr: !tty,
        };
        let answer = self.node.client().call(async |mut cri| cri.exec(request).await)?;
        Stream::open(self.node.netns(), &answer.url)
    }

    /// Attaches to the streams of its init.
    ///
    /// # Errors
    /// The call fails or the streaming server refuses.
    pub fn attach(&self, tty: bool) -> Result<Stream> {
        let request = AttachRequest {
            container_id: self.id.clone(),
            stdin: true,
            tty,
            stdout: true,
            stderr: !tty,
        };
        let answer = self.node.client().call(async |mut cri| cri.attach(request).await)?;
        Stream::open(self.node.netns(), &answer.url)
    }

    /// The file that a kubelet shows as its log.
    pub fn log_file(&self) -> &std::path::Path {
        &self.log
    }

    /// The text in its log that has gone to `stream` (`stdout`, `stderr`).
    ///
    /// # Errors
    /// There is no log, or a line of it is not as it should be.
    pub fn log(&self, stream: &str) -> Result<String> {
        let mut text = String::new();
        for line in fs::read_to_string(&self.log).context("reading a log")?.lines() {
            let mut fields = line.splitn(4, ' ');
            let (time, from) = (fields.next(), fields.next());
            let (tag, content) = (fields.next(), fields.next());
            let (Some(time), Some(from), Some(tag), Some(content)) = (time, from, tag, content)
            else {
                anyhow::bail!("a line of the log: {line:?}")
            };
            ensure!(time.contains('T') && matches!(tag, "F" | "P"), "a line of the log: {line:?}");
            if from == stream {
                text.push_str(content);
                text.push_str(if tag == "F" { "\n" } else { "" });
            }
        }
        Ok(text)
    }

    /// Waits until its log of standard output contains `text`.
    ///
    /// # Errors
    /// It does not.
    pub fn wait_log(&self, text: &str) -> Result<()> {
        wait::until(&format!("the log has {text:?}"), || {
            let log = self.log("stdout")?;
            ensure!(log.contains(text), "{log:?}");
            Ok(())
        })
    }

    /// Its counters.
    ///
    /// # Errors
    /// The call fails.
    pub fn stats(&self) -> Result<ContainerStats> {
        let request = ContainerStatsRequest { container_id: self.id.clone() };
        let answer = self.node.client().call(async |mut cri| cri.container_stats(request).await)?;
        answer.stats.context("no stats")
    }

    /// Asks it to end, and kills it after `grace` seconds.
    ///
    /// # Errors
    /// The call fails.
    pub fn stop(&self, grace: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: self.id.clone(), timeout: grace };
        self.node.client().call(async |mut cri| cri.stop_container(request).await).map(drop)
    }

    /// Removes it; it is killed if it runs.
    ///
    /// # Errors
    /// The call fails.
    pub fn remove(&self) -> Result<(), Status> {
        let request = RemoveContainerRequest { container_id: self.id.clone() };
        self.node.client().call(async |mut cri| cri.remove_container(request).await).map(drop)
    }
}
