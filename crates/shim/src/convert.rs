// SPDX-License-Identifier: Apache-2.0
//! Between containerd's messages and the domain's types, both ways.

mod stats;

pub(crate) use stats::stats_response;

use std::path::Path;
use std::time::SystemTime;

use containerd_shim::event::Event as Topic;
use containerd_shim_protos::api;
use containerd_shim_protos::events::task as events;
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::types::mount::Mount;
use containerd_shim_protos::types::task as types;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};
use wedge_reaper::Exit;
use wedge_task::{CreateRequest, Deleted, Event, ExecRequest, ProcessState, Status};

/// Seconds of `0001-01-01T00:00:00Z`, Go's zero time. Go sends it, not an absent field, for
/// "never"; clients ask `AsTime().IsZero()`.
const GO_ZERO_SECONDS: i64 = -62_135_596_800;

pub(crate) fn create_request(
    request: api::CreateTaskRequest,
    options: wedge_oci::Options,
) -> CreateRequest {
    CreateRequest {
        id: request.id,
        bundle: request.bundle.into(),
        rootfs: request.rootfs.into_iter().map(mount_from).collect(),
        stdio: wedge_stdio::Request {
            terminal: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        },
        checkpoint: request.checkpoint,
        options,
    }
}

/// `spec` holds the OCI process as JSON. Its type URL is not looked at, as in Go.
pub(crate) fn exec_request(request: api::ExecProcessRequest, spec: Any) -> ExecRequest {
    ExecRequest {
        id: request.id,
        exec_id: request.exec_id,
        stdio: wedge_stdio::Request {
            terminal: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        },
        process: spec.value,
    }
}

pub(crate) fn delete_response(deleted: &Deleted) -> api::DeleteResponse {
    let (exit_status, exited_at) = exit_fields(deleted.exit);
    api::DeleteResponse { pid: deleted.pid, exit_status, exited_at, ..Default::default() }
}

pub(crate) fn wait_response(exit: Option<Exit>) -> api::WaitResponse {
    let (exit_status, exited_at) = exit_fields(exit);
    api::WaitResponse { exit_status, exited_at, ..Default::default() }
}

/// `exec_id` stays unset, as in Go: `id` is the exec's id for an exec.
pub(crate) fn state_response(state: ProcessState) -> api::StateResponse {
    let (exit_status, exited_at) = exit_fields(state.exit);
    api::StateResponse {
        id: state.id,
        bundle: text(&state.bundle),
        pid: state.pid,
        status: status(state.status).into(),
        stdin: state.stdio.stdin,
        stdout: state.stdio.stdout,
        stderr: state.stdio.stderr,
        terminal: state.stdio.terminal,
        exit_status,
        exited_at,
        ..Default::default()
    }
}

/// A pid of an exec carries its exec id; init and strangers carry nothing.
pub(crate) fn pids_response(
    pids: Vec<(u32, Option<String>)>,
) -> Result<api::PidsResponse, protobuf::Error> {
    let mut response = api::PidsResponse::new();
    for (pid, exec_id) in pids {
        let mut process = types::ProcessInfo { pid, ..Default::default() };
        if let Some(exec_id) = exec_id {
            let details = ProcessDetails { exec_id, ..Default::default() };
            process.info = Some(pack("containerd.runc.v1", &details)?).into();
        }
        response.processes.push(process);
    }
    Ok(response)
}

/// The topic an event is published under, and its message.
pub(crate) fn event(event: Event) -> Result<(String, Any), protobuf::Error> {
    match event {
        Event::Create { container_id, bundle, rootfs, stdio, checkpoint, pid } => {
            topical(&created(container_id, &bundle, rootfs, stdio, checkpoint, pid))
        }
        Event::Start { container_id, pid } => topical(&started(container_id, pid)),
        Event::ExecAdded { container_id, exec_id } => topical(&exec_added(container_id, exec_id)),
        Event::ExecStarted { container_id, exec_id, pid } => {
            topical(&exec_started(container_id, exec_id, pid))
        }
        Event::Exit { container_id, id, exit } => topical(&exited(container_id, id, exit)),
        Event::Delete { container_id, pid, exit } => topical(&deleted(container_id, pid, exit)),
        Event::Oom { container_id } => topical(&oom(container_id)),
        Event::Paused { container_id } => topical(&paused(container_id)),
        Event::Resumed { container_id } => topical(&resumed(container_id)),
    }
}

pub(crate) fn timestamp(at: SystemTime) -> MessageField<Timestamp> {
    MessageField::some(Timestamp::from(at))
}

fn created(
    container_id: String,
    bundle: &Path,
    rootfs: Vec<wedge_oci::Mount>,
    stdio: wedge_stdio::Request,
    checkpoint: String,
    pid: u32,
) -> events::TaskCreate {
    let io = events::TaskIO {
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        terminal: stdio.terminal,
        ..Default::default()
    };
    events::TaskCreate {
        container_id,
        bundle: text(bundle),
        rootfs: rootfs.into_iter().map(mount_to).collect(),
        io: MessageField::some(io),
        checkpoint,
        pid,
        ..Default::default()
    }
}

fn started(container_id: String, pid: u32) -> events::TaskStart {
    events::TaskStart { container_id, pid, ..Default::default() }
}

fn exec_added(container_id: String, exec_id: String) -> events::TaskExecAdded {
    events::TaskExecAdded { container_id, exec_id, ..Default::default() }
}

fn exec_started(container_id: String, exec_id: String, pid: u32) -> events::TaskExecStarted {
    events::TaskExecStarted { container_id, exec_id, pid, ..Default::default() }
}

fn exited(container_id: String, id: String, exit: Exit) -> events::TaskExit {
    let pid = exit.pid;
    let (exit_status, exited_at) = exit_fields(Some(exit));
    events::TaskExit { container_id, id, pid, exit_status, exited_at, ..Default::default() }
}

/// `id` stays unset, as in Go: only the deletion of a whole task is told.
fn deleted(container_id: String, pid: u32, exit: Option<Exit>) -> events::TaskDelete {
    let (exit_status, exited_at) = exit_fields(exit);
    events::TaskDelete { container_id, pid, exit_status, exited_at, ..Default::default() }
}

fn oom(container_id: String) -> events::TaskOOM {
    events::TaskOOM { container_id, ..Default::default() }
}

fn paused(container_id: String) -> events::TaskPaused {
    events::TaskPaused { container_id, ..Default::default() }
}

fn resumed(container_id: String) -> events::TaskResumed {
    events::TaskResumed { container_id, ..Default::default() }
}

/// Status and time of an exit; of none, 0 and Go's zero time.
fn exit_fields(exit: Option<Exit>) -> (u32, MessageField<Timestamp>) {
    match exit {
        Some(exit) => (exit.status.code(), timestamp(exit.at)),
        None => {
            let zero = Timestamp { seconds: GO_ZERO_SECONDS, ..Default::default() };
            (0, MessageField::some(zero))
        }
    }
}

fn status(status: Status) -> types::Status {
    match status {
        Status::Created => types::Status::CREATED,
        Status::Running => types::Status::RUNNING,
        Status::Stopped => types::Status::STOPPED,
        Status::Paused => types::Status::PAUSED,
        Status::Pausing => types::Status::PAUSING,
    }
}

fn mount_from(mount: Mount) -> wedge_oci::Mount {
    wedge_oci::Mount {
        fs_type: mount.type_,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    }
}

fn mount_to(mount: wedge_oci::Mount) -> Mount {
    Mount {
        type_: mount.fs_type,
        source: mount.source,
        target: mount.target,
        options: mount.options,
        ..Default::default()
    }
}

fn topical<E: Topic + Message>(event: &E) -> Result<(String, Any), protobuf::Error> {
    Ok((event.topic(), pack("containerd.events", event)?))
}

/// Packs with the bare type name as URL, as containerd's typeurl does: `type.googleapis.com/…`
/// would not be recognised. The package is given because asking the descriptor for it would load
/// the reflection tables.
fn pack<M: Message>(package: &str, message: &M) -> Result<Any, protobuf::Error> {
    let type_url = format!("{package}.{}", M::NAME);
    Ok(Any { type_url, value: message.write_to_bytes()?, ..Default::default() })
}

/// Paths came from protobuf strings, so nothing is lost.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
