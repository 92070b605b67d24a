// SPDX-License-Identifier: Apache-2.0
//! The small commands on a container that was created: start, kill, pause, resume, delete, and who
//! is in it. The shim's own way where that is known to do what runc or crun does, else the OCI runtime's.

use std::sync::OnceLock;

use wedge_runc::{Container, Dialect, Failure, Place, Unsupported};

use crate::error::Result;
use crate::settings::CommandPath;
use crate::task::Task;

/// What can be asked of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Start,
    Kill { signal: i32, all: bool },
    Pause,
    Resume,
    Delete,
}

/// How they are carried out, decided when the container was made.
#[derive(Debug)]
enum Way {
    /// By us.
    Native(Box<Container>),
    /// By the OCI runtime, for this reason.
    Unsupported(Unsupported),
    /// By the OCI runtime, as the operator wants it.
    Runtime,
}

/// One container's share.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    way: OnceLock<Way>,
    /// Why commands are the OCI runtime's, once one was.
    reason: OnceLock<String>,
}

impl Commands {
    /// Why a command on this container went to the OCI runtime.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// A command goes to the OCI runtime. The reason is logged once in the life of the container.
    fn fall_back(&self, id: &str, reason: &Unsupported) {
        if self.reason.set(reason.to_string()).is_ok() {
            log::info!(id = id; "commands on this container are the OCI runtime's: {reason}");
        }
    }
}

/// The OCI runtime is none that we know.
pub(crate) fn unknown(binary: &str) -> Unsupported {
    Unsupported::new(format!("the OCI runtime is {binary}, not runc or crun"))
}

impl Task {
    /// Decides how commands are carried out on the container that the OCI runtime has made, whose
    /// init is `pid`.
    pub(crate) fn find_commands(&self, pid: u32) {
        let binary = self.runtime.binary();
        let way = match self.settings.commands {
            CommandPath::Runtime => Way::Runtime,
            CommandPath::Auto => {
                let (root, id) = (self.runtime.root(), self.id.as_str());
                // A wrapper may do more in any of them, and another runtime's start is other.
                let known = Dialect::of_binary(binary).ok_or_else(|| unknown(binary));
                let place = known.map(|dialect| Place { root, id, init: pid, dialect });
                match place.and_then(Container::load) {
                    Ok(container) => Way::Native(Box::new(container)),
                    Err(reason) => Way::Unsupported(reason),
                }
            }
        };
        // Once in the life of a container, by Create or the Start that restores it.
        let set = self.commands.way.set(way);
        debug_assert!(set.is_ok(), "{set:?}");
    }

    /// Carries out a command. Takes no turn.
    pub(crate) async fn command(&self, command: Command) -> Result<()> {
        match self.own_way(async |container| self.natively(container, command).await).await? {
            Some(()) => Ok(()),
            None => Ok(self.by_runtime(command).await?),
        }
    }

    /// Every process of the container.
    pub(crate) async fn every_pid(&self) -> Result<Vec<u32>> {
        match self.own_way(Container::pids).await? {
            Some(pids) => Ok(pids),
            None => Ok(self.runtime.pids().await?),
        }
    }

    /// Acts without the OCI runtime; `None` leaves it to that.
    async fn own_way<T>(
        &self,
        act: impl AsyncFnOnce(&Container) -> Result<T, Failure>,
    ) -> Result<Option<T>> {
        let reason = match self.commands.way.get() {
            Some(Way::Native(container)) => match act(container).await {
                Ok(done) => return Ok(Some(done)),
                Err(Failure::Failed(err)) => return Err(err.into()),
                Err(Failure::Unsupported(reason)) => reason,
            },
            Some(Way::Unsupported(reason)) => reason.clone(),
            // Not made yet, but by a checkpoint.
            Some(Way::Runtime) | None => return Ok(None),
        };
        self.commands.fall_back(&self.id, &reason);
        Ok(None)
    }

    async fn natively(&self, container: &Container, command: Command) -> Result<(), Failure> {
        let init = self.init.pidfd();
        let init = init.as_deref();
        match command {
            Command::Start => container.start(init, self.settings.runtime_command).await,
            Command::Kill { signal, all } => container.kill(init, signal, all).await,
            Command::Pause => container.pause(init).await,
            Command::Resume => container.resume().await,
            Command::Delete => container.delete().await,
        }
    }

    async fn by_runtime(&self, command: Command) -> Result<(), wedge_oci::Error> {
        match command {
            Command::Start => self.runtime.start().await,
            Command::Kill { signal, all } => self.runtime.kill(signal, all).await,
            Command::Pause => self.runtime.pause().await,
            Command::Resume => self.runtime.resume().await,
            Command::Delete => self.runtime.delete(false).await,
        }
    }
}
