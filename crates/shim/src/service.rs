// SPDX-License-Identifier: Apache-2.0
//! containerd's task API: decode, one call into the domain, encode.
//!
//! A request that fails is logged here and nowhere else.

use std::future::Future;
use std::sync::Arc;

use containerd_shim_protos::api;
use log::Level;
use protobuf::Message;
use ttrpc::proto::{Code, Status};
use wedge_task::Sandbox;

use crate::server::{Answer, Call, Dispatch};
use crate::{convert, options, status};

/// The same seventeen methods under both names: v3 is v2 renamed for containerd 2.0.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Answers the task API for one sandbox.
pub(crate) struct TaskService {
    sandbox: Arc<Sandbox>,
}

impl TaskService {
    pub(crate) fn new(sandbox: Arc<Sandbox>) -> TaskService {
        TaskService { sandbox }
    }

    /// Decodes `payload`, calls `method` and encodes its reply.
    fn answer<Q, R, F>(
        &self,
        payload: Vec<u8>,
        name: &'static str,
        method: impl FnOnce(Arc<Sandbox>, Q) -> F + Send + 'static,
    ) -> Answer
    where
        Q: Target,
        R: Message,
        F: Future<Output = Result<R, Status>> + Send,
    {
        let sandbox = Arc::clone(&self.sandbox);
        Box::pin(async move {
            let (mut id, mut exec_id) = (String::new(), String::new());
            let outcome = async {
                let request = Q::parse_from_bytes(&payload).map_err(|err| malformed(&err))?;
                drop(payload);
                request.id().clone_into(&mut id);
                request.exec_id().clone_into(&mut exec_id);
                let reply = method(sandbox, request).await?;
                reply.write_to_bytes().map_err(|err| unencodable(&err))
            }
            .await;
            if let Err(status) = &outcome {
                log_failure(name, &id, &exec_id, status);
            }
            outcome
        })
    }
}

impl Dispatch for TaskService {
    fn dispatch(&self, service: &str, method: &str, payload: Vec<u8>) -> Result<Call, Status> {
        if !SERVICES.contains(&service) {
            return Err(status::unknown_service(service));
        }
        let call = match method {
            "State" => Call::Query(self.answer(payload, "State", state)),
            "Pids" => Call::Query(self.answer(payload, "Pids", pids)),
            "Wait" => Call::Wait(self.answer(payload, "Wait", wait)),
            "Stats" => Call::Query(self.answer(payload, "Stats", stats)),
            "Connect" => Call::Query(self.answer(payload, "Connect", connect)),
            "Create" => Call::Change(self.answer(payload, "Create", create)),
            "Start" => Call::Change(self.answer(payload, "Start", start)),
            "Delete" => Call::Change(self.answer(payload, "Delete", delete)),
            "Exec" => Call::Change(self.answer(payload, "Exec", exec)),
            "Kill" => Call::Change(self.answer(payload, "Kill", kill)),
            "Pause" => Call::Change(self.answer(payload, "Pause", pause)),
            "Resume" => Call::Change(self.answer(payload, "Resume", resume)),
            "CloseIO" => Call::Change(self.answer(payload, "CloseIO", close_io)),
            "ResizePty" => Call::Change(self.answer(payload, "ResizePty", resize_pty)),
            "Update" => Call::Change(self.answer(payload, "Update", update)),
            "Checkpoint" => Call::Change(self.answer(payload, "Checkpoint", checkpoint)),
            "Shutdown" => Call::Change(self.answer(payload, "Shutdown", shutdown)),
            _ => return Err(status::unknown_method(method)),
        };
        Ok(call)
    }
}

type Reply<T> = Result<T, Status>;
type Nothing = api::Empty;

async fn create(s: Arc<Sandbox>, r: api::CreateTaskRequest) -> Reply<api::CreateTaskResponse> {
    let options = options::decode(r.options.as_ref());
    let options = options.map_err(|err| status::invalid(err.chain()))?;
    let pid = s.create(convert::create_request(r, options)).await.map_err(status::of)?;
    Ok(api::CreateTaskResponse { pid, ..Default::default() })
}

async fn start(s: Arc<Sandbox>, r: api::StartRequest) -> Reply<api::StartResponse> {
    let pid = s.start(&r.id, &r.exec_id).await.map_err(status::of)?;
    Ok(api::StartResponse { pid, ..Default::default() })
}

async fn delete(s: Arc<Sandbox>, r: api::DeleteRequest) -> Reply<api::DeleteResponse> {
    let deleted = s.delete(&r.id, &r.exec_id).await.map_err(status::of)?;
    Ok(convert::delete_response(&deleted))
}

async fn exec(s: Arc<Sandbox>, mut r: api::ExecProcessRequest) -> Reply<Nothing> {
    let spec = r.spec.take().ok_or_else(|| status::invalid("exec request without a spec"))?;
    s.exec(convert::exec_request(r, spec)).map_err(status::of)?;
    Ok(Nothing::new())
}

async fn kill(s: Arc<Sandbox>, r: api::KillRequest) -> Reply<Nothing> {
    s.kill(&r.id, &r.exec_id, r.signal, r.all).await.map_err(status::of)?;
    Ok(Nothing::new())
}

async fn state(s: Arc<Sandbox>, r: api::StateRequest) -> Reply<api::StateResponse> {
    let state = s.state(&r.id, &r.exec_id).map_err(status::of)?;
    Ok(convert::state_response(state))
}

async fn wait(s: Arc<Sandbox>, r: api::WaitRequest) -> Reply<api::WaitResponse> {
    let exit = s.wait(&r.id, &r.exec_id).await.map_err(status::of)?;
    Ok(convert::wait_response(exit))
}

async fn pids(s: Arc<Sandbox>, r: api::PidsRequest) -> Reply<api::PidsResponse> {
    let pids = s.pids(&r.id).await.map_err(status::of)?;
    convert::pids_response(pids).map_err(|err| unencodable(&err))
}

async fn pause(s: Arc<Sandbox>, r: api::PauseRequest) -> Reply<Nothing> {
    s.pause(&r.id).await.map_err(status::of)?;
    Ok(Nothing::new())
}

async fn resume(s: Arc<Sandbox>, r: api::ResumeRequest) -> Reply<Nothing> {
    s.resume(&r.id).await.map_err(status::of)?;
    Ok(Nothing::new())
}

/// The `stdin` flag is ignored, as in Go.
async fn close_io(s: Arc<Sandbox>, r: api::CloseIORequest) -> Reply<Nothing> {
    s.close_io(&r.id, &r.exec_id).map_err(status::of)?;
    Ok(Nothing::new())
}

async fn resize_pty(s: Arc<Sandbox>, r: api::ResizePtyRequest) -> Reply<Nothing> {
    s.resize_pty(&r.id, &r.exec_id, r.width, r.height).map_err(status::of)?;
    Ok(Nothing::new())
}

/// The type URL is not looked at, and annotations are ignored, as in Go.
async fn update(s: Arc<Sandbox>, r: api::UpdateTaskRequest) -> Reply<Nothing> {
    let resources = r.resources.into_option();
    let resources = resources.ok_or_else(|| status::invalid("update request without resources"))?;
    s.update(&r.id, &resources.value).await.map_err(status::of)?;
    Ok(Nothing::new())
}

async fn stats(s: Arc<Sandbox>, r: api::StatsRequest) -> Reply<api::StatsResponse> {
    let stats = s.stats(&r.id).map_err(status::of)?;
    convert::stats_response(stats).map_err(|err| unencodable(&err))
}

async fn checkpoint(s: Arc<Sandbox>, r: api::CheckpointTaskRequest) -> Reply<Nothing> {
    let checkpoint = options::decode_checkpoint(r.path, r.options.as_ref());
    let checkpoint = checkpoint.map_err(|err| status::invalid(err.chain()))?;
    s.checkpoint(&r.id, &checkpoint).await.map_err(status::of)?;
    Ok(Nothing::new())
}

/// Never fails: an unknown id has pid 0.
async fn connect(s: Arc<Sandbox>, r: api::ConnectRequest) -> Reply<api::ConnectResponse> {
    let (shim_pid, task_pid) = (std::process::id(), s.connect(&r.id));
    Ok(api::ConnectResponse { shim_pid, task_pid, ..Default::default() })
}

/// Never fails: with containers left it is remembered, and `now` is ignored, as in Go.
async fn shutdown(s: Arc<Sandbox>, _: api::ShutdownRequest) -> Reply<Nothing> {
    s.shutdown();
    Ok(Nothing::new())
}

/// What a request is about, for the log.
trait Target: Message {
    fn id(&self) -> &str;
    fn exec_id(&self) -> &str {
        ""
    }
}

macro_rules! targets {
    (tasks: $($task:ident)*; processes: $($process:ident)*) => {
        $(impl Target for api::$task {
            fn id(&self) -> &str { &self.id }
        })*
        $(impl Target for api::$process {
            fn id(&self) -> &str { &self.id }
            fn exec_id(&self) -> &str { &self.exec_id }
        })*
    };
}

targets! {
    tasks: CreateTaskRequest PidsRequest PauseRequest ResumeRequest UpdateTaskRequest StatsRequest
        CheckpointTaskRequest ConnectRequest ShutdownRequest;
    processes: StartRequest DeleteRequest ExecProcessRequest KillRequest StateRequest WaitRequest
        CloseIORequest ResizePtyRequest
}

fn malformed(err: &protobuf::Error) -> Status {
    status::invalid(format!("ttrpc: error unmarshalling payload: {err}"))
}

fn unencodable(err: &protobuf::Error) -> Status {
    status::new(Code::INTERNAL, format!("ttrpc: error marshaling payload: {err}"))
}

/// What clients provoke every day is quiet; what they could not have known is not.
fn log_failure(method: &str, id: &str, exec_id: &str, status: &Status) {
    const USUAL: [Code; 2] = [Code::NOT_FOUND, Code::UNIMPLEMENTED];
    const CLIENT: [Code; 3] =
        [Code::INVALID_ARGUMENT, Code::ALREADY_EXISTS, Code::FAILED_PRECONDITION];
    let code = status.code.enum_value_or(Code::UNKNOWN);
    let level = match code {
        code if USUAL.contains(&code) => Level::Debug,
        code if CLIENT.contains(&code) => Level::Info,
        _ => Level::Error,
    };
    log::log!(
        level, method = method, id = id, exec_id = exec_id, code:? = code, err = status.message;
        "request failed"
    );
}

#[cfg(test)]
mod tests;
