// SPDX-License-Identifier: Apache-2.0
//! One container: its init, its execs, and what may be asked of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use wedge_cgroups::Cgroup;
use wedge_oci::{Bundle, Checkpoint, Runtime, Spec};
use wedge_reaper::Reaper;
use wedge_stdio::{Owner, Request};

use crate::commands::{Command, Commands};
use crate::create::CreateRequest;
use crate::error::{Error, Result};
use crate::event::{Event, EventSink};
use crate::exit_gate::ExitGate;
use crate::lifecycle::{Kind, Op, Status};
use crate::native::{Native, Node};
use crate::oom::OomWatch;
use crate::process::{Process, ProcessState};
use crate::remains::Namespaces;
use crate::settings::Settings;
use crate::start::Restore;
use crate::{id, lock};

/// How long Pause waits for kills under way: as long as they may need to freeze the container. Who
/// kills all the time, or hangs, must not keep it from being paused.
const KILLS: Duration = Duration::from_secs(10);

/// What Exec asks for.
#[derive(Debug)]
pub struct ExecRequest {
    /// The container.
    pub id: String,
    /// The new exec's id, unique in the container.
    pub exec_id: String,
    /// Its streams.
    pub stdio: Request,
    /// The OCI runtime specification's `process` object, as JSON.
    pub process: Vec<u8>,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) bundle: Bundle,
    pub(crate) runtime: Runtime,
    pub(crate) reaper: Reaper,
    pub(crate) events: EventSink,
    pub(crate) settings: Arc<Settings>,
    pub(crate) init: Arc<Process>,
    /// Who owns the container's ends of its pipes.
    pub(crate) owner: Owner,
    /// Whether we mounted the root filesystem, and so have to unmount it.
    pub(crate) rootfs_mounted: bool,
    /// Processes outlive the init, since the kernel does not end their pid namespace with it.
    pub(crate) shared_pid_namespace: bool,
    pub(crate) exit_gate: Mutex<ExitGate>,
    pub(crate) oom: Mutex<OomWatch>,
    /// Commands without the OCI runtime.
    pub(crate) commands: Commands,
    /// How many kills are not answered yet: Delete waits for them, and Pause for a while.
    pub(crate) kills: watch::Sender<usize>,
    /// Execs without the OCI runtime.
    pub(crate) native: Native,
    /// The checkpoint that Start is to restore.
    pub(crate) restore: Mutex<Option<Restore>>,
    /// Where its limits and counters are, from when it was made.
    pub(crate) cgroup: Mutex<Option<Cgroup>>,
    /// Those of its init, to tell who is left in them.
    pub(crate) namespaces: Mutex<Option<Namespaces>>,
    execs: Mutex<HashMap<String, Arc<Process>>>,
}

/// What all tasks of a shim have in common.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// containerd's.
    pub(crate) namespace: String,
    pub(crate) reaper: Reaper,
    pub(crate) events: EventSink,
    pub(crate) settings: Arc<Settings>,
    pub(crate) node: Arc<Node>,
}

impl Task {
    /// A task whose container is still to be made.
    pub(crate) fn new(request: &CreateRequest, bundle: Bundle, shared: Shared) -> Task {
        let Shared { namespace, reaper, events, settings, node } = shared;
        let CreateRequest { id, options, .. } = request;
        let runtime = Runtime::new(reaper.clone(), bundle.clone(), &namespace, id, options);
        Task {
            id: id.clone(),
            namespace,
            runtime: runtime.with_limit(settings.runtime_command),
            // A spec that cannot be read fails in the OCI runtime, with the text clients know.
            shared_pid_namespace: Spec::read(&bundle).map_or(true, |s| s.shared_pid_namespace),
            bundle,
            reaper,
            events,
            settings,
            init: Arc::new(Process::init(id, request.stdio.clone())),
            owner: Owner { uid: options.io_uid, gid: options.io_gid },
            rootfs_mounted: !request.rootfs.is_empty(),
            exit_gate: Mutex::default(),
            oom: Mutex::default(),
            commands: Commands::default(),
            kills: watch::Sender::new(0),
            native: Native::new(node),
            restore: Mutex::default(),
            cgroup: Mutex::default(),
            namespaces: Mutex::default(),
            execs: Mutex::default(),
        }
    }

    /// The init for an empty `exec_id`, else that exec.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        let found = lock(&self.execs).get(exec_id).cloned();
        found.ok_or_else(|| Error::NoProcess { exec_id: exec_id.to_owned() })
    }

    /// Registers an exec. No process exists yet.
    pub(crate) fn add_exec(&self, request: ExecRequest) -> Result<()> {
        id::validate(&request.exec_id)?;
        self.init.lifecycle().check(Op::Exec)?;
        let spec = wedge_oci::exec_process(&request.process, request.stdio.terminal)?;
        {
            let mut execs = lock(&self.execs);
            if execs.contains_key(&request.exec_id) {
                return Err(Error::Exists { id: request.exec_id });
            }
            let process = Process::exec(&request.exec_id, request.stdio, spec);
            execs.insert(request.exec_id.clone(), Arc::new(process));
        }
        let container_id = self.id.clone();
        self.events.send(Event::ExecAdded { container_id, exec_id: request.exec_id });
        Ok(())
    }

    pub(crate) fn remove_exec(&self, exec_id: &str) {
        lock(&self.execs).remove(exec_id);
    }

    /// Takes every exec, for a task that is going away.
    pub(crate) fn take_execs(&self) -> Vec<Arc<Process>> {
        lock(&self.execs).drain().map(|(_, process)| process).collect()
    }

    pub(crate) fn exec_count(&self) -> usize {
        lock(&self.execs).len()
    }

    /// Signals a process. Takes no turn: it works while a start or delete hangs.
    pub(crate) async fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<()> {
        let number = i32::try_from(signal).ok().filter(|number| (0..=64).contains(number));
        let Some(signal) = number else {
            return Err(Error::InvalidArgument(format!("invalid signal {signal}")));
        };
        let process = self.process(exec_id)?;
        process.lifecycle().check(Op::Kill)?;
        let _unanswered = Unanswered::of(&self.kills);
        match process.kind {
            Kind::Init => self.command(Command::Kill { signal, all }).await,
            Kind::Exec => process.signal(signal),
        }
    }

    /// What a client sees of a process. Takes no turn and starts nothing.
    pub(crate) fn state(&self, exec_id: &str) -> Result<ProcessState> {
        let process = self.process(exec_id)?;
        let (mut status, exit) = {
            let lifecycle = process.lifecycle();
            (lifecycle.status(), lifecycle.exit())
        };
        let init = self.init.lifecycle().status();
        // The freezer stops the whole container.
        if matches!(init, Status::Paused | Status::Pausing) {
            status = init;
        }
        Ok(ProcessState {
            id: process.id.clone(),
            bundle: self.bundle.dir().to_path_buf(),
            pid: process.pid(),
            status,
            stdio: process.stdio.clone(),
            exit,
        })
    }

    /// Every process of the container, and which exec each belongs to, if it is one's first.
    pub(crate) async fn pids(&self) -> Result<Vec<(u32, Option<String>)>> {
        let pids = self.every_pid().await?;
        let execs: HashMap<u32, String> =
            lock(&self.execs).values().map(|process| (process.pid(), process.id.clone())).collect();
        Ok(pids.into_iter().map(|pid| (pid, execs.get(&pid).cloned())).collect())
    }

    /// Freezes the container.
    pub(crate) async fn pause(&self) -> Result<()> {
        let container_id = self.id.clone();
        self.set_freezer(Op::Pause, Command::Pause, Event::Paused { container_id }).await
    }

    /// Thaws the container.
    pub(crate) async fn resume(&self) -> Result<()> {
        let container_id = self.id.clone();
        self.set_freezer(Op::Resume, Command::Resume, Event::Resumed { container_id }).await
    }

    /// Saves the container's processes. The init may end by it, and be deleted once this is answered.
    pub(crate) async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        let _turn = self.init.turn.lock().await;
        self.init.lifecycle().check(Op::Checkpoint)?;
        Ok(self.runtime.checkpoint(checkpoint).await?)
    }

    async fn set_freezer(&self, op: Op, command: Command, done: Event) -> Result<()> {
        let _turn = self.init.turn.lock().await;
        if op == Op::Pause {
            // A signal for all freezes the container and thaws it again. One that comes later finds it
            // frozen, and leaves it so; an OCI runtime's may still thaw it.
            tokio::time::timeout(KILLS, self.kills_are_answered()).await.unwrap_or_default();
        }
        self.init.lifecycle().begin(op)?;
        let result = self.command(command).await;
        let ended = self.settle_freezer(result.is_ok(), done);
        let left_frozen = match (&result, op) {
            // Who saw the exit found a container that was not frozen yet.
            (Ok(()), Op::Pause) | (Err(_), Op::Resume) => ended,
            // Killed, it may have done it all the same; and one that fails may have done a part.
            (Err(Error::Oci(err)), _) => ended || err.is_cut_short(),
            (_, _) => false,
        };
        if left_frozen {
            self.thaw().await;
        }
        result
    }

    /// Returns whether init has ended meanwhile: then nothing is announced.
    fn settle_freezer(&self, succeeded: bool, done: Event) -> bool {
        let mut lifecycle = self.init.lifecycle();
        let held = if succeeded { lifecycle.commit() } else { lifecycle.abort() };
        // An exit is held only while a process is created or started.
        debug_assert_eq!(held, None);
        let ended = lifecycle.ended();
        if succeeded && !ended {
            // Under the lock, so that no exit is announced first.
            self.events.send(done);
        }
        ended
    }
}

/// A kill that is not answered yet.
struct Unanswered<'a>(&'a watch::Sender<usize>);

impl Unanswered<'_> {
    fn of(kills: &watch::Sender<usize>) -> Unanswered<'_> {
        kills.send_modify(|count| *count += 1);
        Unanswered(kills)
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
