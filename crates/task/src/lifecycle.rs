// SPDX-License-Identifier: Apache-2.0
//! What may be done to a process, and what its state is: pure, no locks, no I/O.
//!
//! ```text
//! Creating ─▶ Created ─▶ Starting ─▶ Running ⇄ Pausing/Resuming/Paused
//!                 │                     │            │
//!                 └────── exit seen ────┴────────────┘──▶ Stopped ─▶ Deleting ─▶ Deleted
//! ```
//! An operation *begins* (or is [`Denied`]), and then *commits* or *aborts*. An exit seen while the
//! process is being created or started is held, and handed out by commit or abort: so nobody can
//! publish it before the start event. The texts are those of containerd's
//! cmd/containerd-shim-runc-v2/process/{init,exec}_state.go.

use std::fmt;

use wedge_reaper::Exit;

/// Which kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The container's first process.
    Init,
    /// A process that joined the container.
    Exec,
}

/// An operation on a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the Task service's methods")]
pub enum Op {
    Start,
    Delete,
    Pause,
    Resume,
    Update,
    Checkpoint,
    Exec,
    Kill,
    Resize,
}

/// Why an operation was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No such process any more.
    NotFound(String),
    /// The process is not in a state for it, class FailedPrecondition.
    Precondition(String),
    /// The process is not in a state for it; containerd gives these no class.
    State(String),
}

/// The state a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after containerd's task.Status")]
pub enum Status {
    Created,
    Running,
    Stopped,
    Paused,
    Pausing,
}

/// What to do with an exit that was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Publish it.
    Now,
    /// Do nothing: it will come back from commit or abort.
    Held,
    /// Do nothing: an exit of this process was seen before.
    Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Creating { early: Option<Exit> },
    Created,
    Starting { early: Option<Exit> },
    Running,
    Pausing,
    Paused,
    Resuming,
    Stopped(Exit),
    Deleting { exit: Option<Exit> },
    Deleted { exit: Option<Exit> },
}

/// The states of containerd's own machines, of which ours are refinements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Created,
    Running,
    Paused,
    Stopped,
    Deleted,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Stopped => "stopped",
            Phase::Deleted => "deleted",
        })
    }
}

/// The life of one process.
#[derive(Debug)]
pub struct Lifecycle {
    kind: Kind,
    state: State,
    /// Start makes the init from a checkpoint; until then there is no process.
    checkpointed: bool,
    /// An exit was observed and handed out, and [`Lifecycle::stopped`] is still to come: init's
    /// exit may wait for running execs meanwhile.
    seen: bool,
}

impl Lifecycle {
    /// An init whose creation is under way; commit makes it created.
    pub fn creating() -> Lifecycle {
        Lifecycle::new(Kind::Init, State::Creating { early: None })
    }

    /// An exec that was registered.
    pub fn added() -> Lifecycle {
        Lifecycle::new(Kind::Exec, State::Created)
    }

    fn new(kind: Kind, state: State) -> Lifecycle {
        Lifecycle { kind, state, checkpointed: false, seen: false }
    }

    /// The init will be made from a checkpoint, by Start.
    pub fn checkpointed(&mut self) {
        self.checkpointed = true;
    }

    /// Begins Start, Delete, Pause or Resume; commit or abort must follow.
    ///
    /// # Errors
    /// [`Denied`] when the state does not allow it; nothing has changed then.
    pub fn begin(&mut self, op: Op) -> Result<(), Denied> {
        self.check(op)?;
        self.state = match (op, self.state) {
            (Op::Start, State::Created) => State::Starting { early: None },
            (Op::Pause, State::Running) => State::Pausing,
            (Op::Resume, State::Paused) => State::Resuming,
            (Op::Delete, State::Created) => State::Deleting { exit: None },
            (Op::Delete, State::Stopped(exit)) => State::Deleting { exit: Some(exit) },
            // Nothing to begin: the other operations do not change the state.
            (_, state) => state,
        };
        Ok(())
    }

    /// The operation succeeded. Returns an exit that was held meanwhile: publish it now.
    #[must_use = "a held exit must be published"]
    pub fn commit(&mut self) -> Option<Exit> {
        let (next, early) = match self.state {
            State::Creating { early } => (State::Created, early),
            State::Starting { early } => (State::Running, early),
            State::Pausing if !self.seen => (State::Paused, None),
            State::Pausing | State::Resuming => (State::Running, None),
            State::Deleting { exit } => (State::Deleted { exit }, None),
            state @ (State::Created
            | State::Running
            | State::Paused
            | State::Stopped(_)
            | State::Deleted { .. }) => (state, None),
        };
        self.state = next;
        self.seen |= early.is_some();
        early
    }

    /// The operation failed: the state is as before. Returns an exit that was held meanwhile.
    #[must_use = "a held exit must be published"]
    pub fn abort(&mut self) -> Option<Exit> {
        let (next, early) = match self.state {
            State::Creating { early } | State::Starting { early } => (State::Created, early),
            State::Resuming if !self.seen => (State::Paused, None),
            State::Pausing | State::Resuming => (State::Running, None),
            State::Deleting { exit: Some(exit) } => (State::Stopped(exit), None),
            State::Deleting { exit: None } => (State::Created, None),
            state @ (State::Created
            | State::Running
            | State::Paused
            | State::Stopped(_)
            | State::Deleted { .. }) => (state, None),
        };
        self.state = next;
        self.seen |= early.is_some();
        early
    }

    /// The process was reaped.
    pub fn exited(&mut self, exit: Exit) -> Seen {
        match &mut self.state {
            State::Creating { early } | State::Starting { early } => {
                *early = Some(exit);
                Seen::Held
            }
            State::Stopped(_) | State::Deleted { .. } | State::Deleting { exit: Some(_) } => {
                Seen::Known
            }
            State::Created
            | State::Running
            | State::Pausing
            | State::Paused
            | State::Resuming
            | State::Deleting { exit: None } => {
                if std::mem::replace(&mut self.seen, true) {
                    Seen::Known
                } else {
                    Seen::Now
                }
            }
        }
    }

    /// The exit is published: the process is stopped from now on. Returns whether it was not
    /// before, so that the exit is announced once.
    pub fn stopped(&mut self, exit: Exit) -> bool {
        match self.state {
            State::Stopped(_) | State::Deleted { .. } | State::Deleting { exit: Some(_) } => false,
            State::Deleting { exit: None } => {
                self.state = State::Deleting { exit: Some(exit) };
                true
            }
            State::Creating { .. }
            | State::Created
            | State::Starting { .. }
            | State::Running
            | State::Pausing
            | State::Paused
            | State::Resuming => {
                self.state = State::Stopped(exit);
                true
            }
        }
    }

    /// Whether `op` is allowed now.
    ///
    /// # Errors
    /// [`Denied`] with containerd's text.
    pub fn check(&self, op: Op) -> Result<(), Denied> {
        match self.kind {
            Kind::Init => self.check_init(op),
            Kind::Exec => self.check_exec(op),
        }
    }

    fn check_init(&self, op: Op) -> Result<(), Denied> {
        let phase = self.phase();
        let state = |text: String| Err(Denied::State(text));
        match (op, phase) {
            (Op::Exec, Phase::Created) if self.checkpointed => {
                state("cannot exec in a created state".to_owned())
            }
            (Op::Resize, _)
            | (Op::Kill, Phase::Created | Phase::Running | Phase::Paused | Phase::Stopped)
            | (Op::Start, Phase::Created)
            | (Op::Delete, Phase::Created | Phase::Stopped)
            | (Op::Pause | Op::Checkpoint | Op::Exec, Phase::Running)
            | (Op::Checkpoint | Op::Resume, Phase::Paused)
            | (Op::Exec, Phase::Created)
            | (Op::Update, Phase::Created | Phase::Running | Phase::Paused) => Ok(()),
            (Op::Delete | Op::Kill, Phase::Deleted) => {
                Err(Denied::NotFound(format!("cannot {} a deleted process", verb(op))))
            }
            (Op::Pause | Op::Resume, Phase::Created) => {
                state(format!("cannot {} task in created state", verb(op)))
            }
            (Op::Checkpoint, Phase::Created) => {
                state("cannot checkpoint a task in created state".to_owned())
            }
            (Op::Pause, Phase::Paused) => state("cannot pause a paused container".to_owned()),
            (Op::Pause | Op::Resume | Op::Update | Op::Checkpoint, Phase::Stopped) => {
                state(format!("cannot {} a stopped container", verb(op)))
            }
            (Op::Exec, _) => state(format!("cannot exec in a {phase} state")),
            (_, _) => state(format!("cannot {} a {phase} process", verb(op))),
        }
    }

    fn check_exec(&self, op: Op) -> Result<(), Denied> {
        let phase = self.phase();
        let starting = matches!(self.state, State::Starting { .. });
        match (op, phase) {
            (Op::Kill, Phase::Created) => {
                Err(Denied::Precondition("process not created".to_owned()))
            }
            (Op::Kill, _) if starting => {
                Err(Denied::Precondition("process not created".to_owned()))
            }
            (Op::Kill, Phase::Stopped) => {
                Err(Denied::NotFound("process already finished".to_owned()))
            }
            (Op::Kill | Op::Delete, Phase::Deleted) => {
                Err(Denied::NotFound(format!("cannot {} a deleted process", verb(op))))
            }
            (Op::Resize, Phase::Stopped) => {
                Err(Denied::State("cannot resize a stopped container".to_owned()))
            }
            (Op::Kill | Op::Resize, Phase::Running)
            | (Op::Resize, Phase::Created)
            | (Op::Start, Phase::Created)
            | (Op::Delete, Phase::Created | Phase::Stopped) => Ok(()),
            (_, _) => Err(Denied::State(format!("cannot {} a {phase} process", verb(op)))),
        }
    }

    /// Whether it is paused, and no Pause or Resume is under way. An exit that is seen then leaves a
    /// frozen container; one that was seen earlier leaves it to the operation, see [`Self::ended`].
    pub fn paused(&self) -> bool {
        self.state == State::Paused
    }

    /// Whether an exit was handed out, published or not. A Pause or Resume after which this is so,
    /// and the container frozen, has to thaw it.
    pub fn ended(&self) -> bool {
        self.seen
    }

    /// The state as containerd's state machines name it.
    fn phase(&self) -> Phase {
        match self.state {
            State::Creating { .. } | State::Created | State::Deleting { exit: None } => {
                Phase::Created
            }
            State::Starting { .. } | State::Running | State::Pausing => Phase::Running,
            State::Paused | State::Resuming => Phase::Paused,
            State::Stopped(_) | State::Deleting { exit: Some(_) } => Phase::Stopped,
            State::Deleted { .. } => Phase::Deleted,
        }
    }

    /// The state a client sees. Until a start has succeeded the process is created.
    pub fn status(&self) -> Status {
        match self.state {
            State::Creating { .. }
            | State::Created
            | State::Starting { .. }
            | State::Deleting { exit: None } => Status::Created,
            State::Running => Status::Running,
            State::Pausing => Status::Pausing,
            State::Paused | State::Resuming => Status::Paused,
            State::Stopped(_) | State::Deleting { exit: Some(_) } | State::Deleted { .. } => {
                Status::Stopped
            }
        }
    }

    /// How the process ended, once that is published.
    pub fn exit(&self) -> Option<Exit> {
        match self.state {
            State::Stopped(exit) => Some(exit),
            State::Deleting { exit } | State::Deleted { exit } => exit,
            State::Creating { .. }
            | State::Created
            | State::Starting { .. }
            | State::Running
            | State::Pausing
            | State::Paused
            | State::Resuming => None,
        }
    }
}

fn verb(op: Op) -> &'static str {
    match op {
        Op::Start => "start",
        Op::Delete => "delete",
        Op::Pause => "pause",
        Op::Resume => "resume",
        Op::Update => "update",
        Op::Checkpoint => "checkpoint",
        Op::Exec => "exec",
        Op::Kill => "kill",
        Op::Resize => "resize",
    }
}

#[cfg(test)]
mod tests;
