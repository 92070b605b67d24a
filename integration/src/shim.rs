// SPDX-License-Identifier: Apache-2.0
//! A shim driven directly: the Task API (containerd's api/runtime/task/v2/shim.proto), typed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim::oci::CheckpointOptions;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};

use crate::proc::Proc;
use crate::rpc::{Client, RpcError};
use crate::{Bundle, Process, Stdio, rpc};

/// The Task service of daemons before 2.0.
pub const TASK_V2: &str = "containerd.task.v2.Task";
/// The same service under its newer name.
pub const TASK_V3: &str = "containerd.task.v3.Task";
/// Type URL of an OCI process in an exec request.
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// Type URL of runc's options of a checkpoint.
const CHECKPOINT: &str = "containerd.runc.v1.CheckpointOptions";

/// How a process ended, from Wait or Delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exited {
    /// Exit code, or 128 + signal.
    pub status: u32,
    /// Seconds and nanoseconds since 1970; Go's zero time is (-62135596800, 0).
    pub at: Option<(i64, i32)>,
    /// From Delete; 0 from Wait.
    pub pid: u32,
}

/// A connection to a serving shim. Calls may be made from several threads at a time
/// (`std::thread::scope`). An exec id of `""` means the container's init. Every call fails with
/// [`RpcError`].
#[derive(Debug)]
pub struct ShimProcess {
    client: Client,
    path: PathBuf,
    options: Any,
    service: &'static str,
    proc: Proc,
}

impl ShimProcess {
    /// Connects to a socket and asks for the shim's pid.
    ///
    /// # Errors
    /// Nobody listens, or Connect fails.
    pub fn connect(path: &Path, options: Any) -> Result<ShimProcess> {
        let client = Client::connect(path).with_context(|| format!("connecting {path:?}"))?;
        let (path, service) = (path.to_path_buf(), TASK_V2);
        let mut shim = ShimProcess { client, path, options, service, proc: Proc(0) };
        shim.proc = Proc(shim.connect_task("")?.shim_pid);
        Ok(shim)
    }

    /// Another connection to the same shim.
    ///
    /// # Errors
    /// Those of [`ShimProcess::connect`].
    pub fn reconnect(&self) -> Result<ShimProcess> {
        ShimProcess::connect(&self.path, self.options.clone())
    }

    /// Uses another name of the service from now on ([`TASK_V3`]).
    #[must_use]
    pub fn speaking(mut self, service: &'static str) -> ShimProcess {
        self.service = service;
        self
    }

    /// The shim's process.
    pub fn proc(&self) -> Proc {
        self.proc
    }

    /// The shim's socket.
    pub fn socket(&self) -> &Path {
        &self.path
    }

    /// The connection, for raw calls: any service, method and payload.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn call<A: Message, R: Message>(&self, method: &str, request: &A) -> Result<R, RpcError> {
        self.client.call(self.service, method, request)
    }

    /// The Create request for a bundle, to be changed and sent with [`ShimProcess::create_with`].
    pub fn create_request(&self, bundle: &Bundle, stdio: &Stdio) -> CreateTaskRequest {
        CreateTaskRequest {
            id: bundle.id().to_owned(),
            bundle: bundle.dir().to_string_lossy().into_owned(),
            terminal: stdio.terminal,
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            options: MessageField::some(self.options.clone()),
            ..CreateTaskRequest::default()
        }
    }

    /// Creates the container of a bundle; returns the pid of its init.
    ///
    /// # Errors
    /// The call fails.
    pub fn create(&self, bundle: &Bundle, stdio: &Stdio) -> Result<u32, RpcError> {
        self.create_with(&self.create_request(bundle, stdio))
    }

    /// Create with any request.
    ///
    /// # Errors
    /// The call fails.
    pub fn create_with(&self, request: &CreateTaskRequest) -> Result<u32, RpcError> {
        Ok(self.call::<_, CreateTaskResponse>("Create", request)?.pid)
    }

    /// Starts the init or a registered exec; returns its pid.
    ///
    /// # Errors
    /// The call fails.
    pub fn start(&self, id: &str, exec_id: &str) -> Result<u32, RpcError> {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        let request = StartRequest { id, exec_id, ..StartRequest::default() };
        Ok(self.call::<_, StartResponse>("Start", &request)?.pid)
    }

    /// Registers an exec.
    ///
    /// # Errors
    /// The call fails.
    pub fn exec(
        &self,
        id: &str,
        exec_id: &str,
        process: &Process,
        stdio: &Stdio,
    ) -> Result<(), RpcError> {
        let value = process.to_json().into_bytes();
        let spec = Any { type_url: PROCESS.to_owned(), value, ..Any::default() };
        self.exec_with(&ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            terminal: stdio.terminal,
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            spec: MessageField::some(spec),
            ..ExecProcessRequest::default()
        })
    }

    /// Exec with any request.
    ///
    /// # Errors
    /// The call fails.
    pub fn exec_with(&self, request: &ExecProcessRequest) -> Result<(), RpcError> {
        self.call::<_, Empty>("Exec", request).map(drop)
    }

    /// Sends a signal to one process, or to all of the container.
    ///
    /// # Errors
    /// The call fails.
    pub fn kill(&self, id: &str, exec_id: &str, signal: u32, all: bool) -> Result<(), RpcError> {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        let request = KillRequest { id, exec_id, signal, all, ..KillRequest::default() };
        self.call::<_, Empty>("Kill", &request).map(drop)
    }

    /// Deletes the container or an exec.
    ///
    /// # Errors
    /// The call fails.
    pub fn delete(&self, id: &str, exec_id: &str) -> Result<Exited, RpcError> {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        let request = DeleteRequest { id, exec_id, ..DeleteRequest::default() };
        let answer: DeleteResponse = self.call("Delete", &request)?;
        Ok(Exited { status: answer.exit_status, at: time(&answer.exited_at), pid: answer.pid })
    }

    /// Waits for the end of a process.
    ///
    /// # Errors
    /// The call fails, or takes longer than [`rpc::LIMIT`].
    pub fn wait(&self, id: &str, exec_id: &str) -> Result<Exited, RpcError> {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        let request = WaitRequest { id, exec_id, ..WaitRequest::default() };
        let answer: WaitResponse = self.call("Wait", &request)?;
        Ok(Exited { status: answer.exit_status, at: time(&answer.exited_at), pid: 0 })
    }

    /// The state of a process.
    ///
    /// # Errors
    /// The call fails.
    pub fn state(&self, id: &str, exec_id: &str) -> Result<StateResponse, RpcError> {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        self.call("State", &StateRequest { id, exec_id, ..StateRequest::default() })
    }

    /// The processes of a container.
    ///
    /// # Errors
    /// The call fails.
    pub fn pids(&self, id: &str) -> Result<PidsResponse, RpcError> {
        self.call("Pids", &PidsRequest { id: id.to_owned(), ..PidsRequest::default() })
    }

    /// Closes the shim's end of a standard input.
    ///
    /// # Errors
    /// The call fails.
    pub fn close_io(&self, id: &str, exec_id: &str) -> Result<(), RpcError> {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        let request = CloseIORequest { id, exec_id, stdin: true, ..CloseIORequest::default() };
        self.call::<_, Empty>("CloseIO", &request).map(drop)
    }

    /// Resizes a terminal.
    ///
    /// # Errors
    /// The call fails.
    pub fn resize_pty(
        &self,
        id: &str,
        exec_id: &str,
        width: u32,
        height: u32,
    ) -> Result<(), RpcError> {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        let request = ResizePtyRequest { id, exec_id, width, height, ..Default::default() };
        self.call::<_, Empty>("ResizePty", &request).map(drop)
    }

    /// Freezes a container.
    ///
    /// # Errors
    /// The call fails.
    pub fn pause(&self, id: &str) -> Result<(), RpcError> {
        let request = PauseRequest { id: id.to_owned(), ..PauseRequest::default() };
        self.call::<_, Empty>("Pause", &request).map(drop)
    }

    /// Thaws a container.
    ///
    /// # Errors
    /// The call fails.
    pub fn resume(&self, id: &str) -> Result<(), RpcError> {
        let request = ResumeRequest { id: id.to_owned(), ..ResumeRequest::default() };
        self.call::<_, Empty>("Resume", &request).map(drop)
    }

    /// Changes a container's resources, given as JSON of OCI `LinuxResources`.
    ///
    /// # Errors
    /// The call fails.
    pub fn update(&self, id: &str, resources: &str) -> Result<(), RpcError> {
        let value = resources.as_bytes().to_vec();
        let resources = MessageField::some(Any { value, ..Any::default() });
        let request = UpdateTaskRequest { id: id.to_owned(), resources, ..Default::default() };
        self.call::<_, Empty>("Update", &request).map(drop)
    }

    /// Saves a container's processes in the directory `images`.
    ///
    /// # Errors
    /// The call fails.
    pub fn checkpoint(
        &self,
        id: &str,
        images: &Path,
        options: &CheckpointOptions,
    ) -> Result<(), RpcError> {
        let value = options.write_to_bytes().map_err(std::io::Error::other)?;
        let options = Any { type_url: CHECKPOINT.to_owned(), value, ..Any::default() };
        let request = CheckpointTaskRequest {
            id: id.to_owned(),
            path: images.to_string_lossy().into_owned(),
            options: MessageField::some(options),
            ..CheckpointTaskRequest::default()
        };
        self.call::<_, Empty>("Checkpoint", &request).map(drop)
    }

    /// A container's metrics.
    ///
    /// # Errors
    /// The call fails.
    pub fn stats(&self, id: &str) -> Result<StatsResponse, RpcError> {
        self.call("Stats", &StatsRequest { id: id.to_owned(), ..StatsRequest::default() })
    }

    /// The pids of shim and init.
    ///
    /// # Errors
    /// The call fails.
    pub fn connect_task(&self, id: &str) -> Result<ConnectResponse, RpcError> {
        self.call("Connect", &ConnectRequest { id: id.to_owned(), ..ConnectRequest::default() })
    }

    /// Asks the shim to end; like the daemon, takes a closed connection for success.
    ///
    /// # Errors
    /// The call fails otherwise.
    pub fn shutdown(&self) -> Result<(), RpcError> {
        match self.call::<_, Empty>("Shutdown", &ShutdownRequest::default()) {
            Ok(_) | Err(RpcError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Calls any service and method with any bytes, within [`rpc::LIMIT`].
    ///
    /// # Errors
    /// The call fails.
    pub fn raw(&self, service: &str, method: &str, payload: &[u8]) -> Result<Vec<u8>, RpcError> {
        self.raw_within(rpc::LIMIT, service, method, payload)
    }

    /// [`ShimProcess::raw`] with another limit, which the shim is told too.
    ///
    /// # Errors
    /// The call fails.
    pub fn raw_within(
        &self,
        limit: Duration,
        service: &str,
        method: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, RpcError> {
        self.client.raw(service, method, payload.to_vec(), limit)
    }
}

fn time(field: &MessageField<Timestamp>) -> Option<(i64, i32)> {
    field.as_ref().map(|time| (time.seconds, time.nanos))
}
