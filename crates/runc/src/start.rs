// SPDX-License-Identifier: Apache-2.0
//! `start`: lets the init go on.
//!
//! runc's init waits in an open(2) of `exec.fifo` for writing; a reader lets it go on, and it writes a
//! byte and closes. Whoever opens the FIFO for reading has started the container, so everything is
//! checked before. A FIFO that nobody has opened for writing yet reads as at its end, but is never
//! ready; so it is read when it is ready, or when the init is gone, and then always: an init that
//! wrote and died at once was started.
//!
//! crun's init has the FIFO open for reading, and goes on when it has read a byte.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::unix::pipe::Receiver;
use wedge_sys::{PidFd, watch};

use crate::container::{Container, Status};
use crate::dialect::Dialect;
use crate::directory::Directory;
use crate::error::{Error, Failure, Unsupported};

/// How long an init that closed the FIFO without a word may take to end. Else somebody else has
/// read the byte.
const DYING: Duration = Duration::from_secs(1);

/// What was found when the FIFO was looked at.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// The init has said that it goes on.
    Started,
    /// Its end: the init has closed it, or never opened it.
    Empty,
    /// The init has it open and has not written yet.
    Pending,
}

impl Container {
    /// Starts the created container, whose init is `init`, unless that was reaped. It is given
    /// `limit` to answer; runc would wait for ever, and crun does not at all.
    ///
    /// # Errors
    /// As the runtime's `start`; a container that was not started can be started still.
    pub async fn start(&self, init: Option<&PidFd>, limit: Duration) -> Result<(), Failure> {
        if let Some(reason) = self.not_started {
            return Err(Unsupported::new(reason).into());
        }
        let directory = self.open()?;
        if self.dialect == Dialect::Crun {
            return self.start_as_crun(&directory, init);
        }
        let refused = |text: &str| Failure::from(Error::Start(text.to_owned()));
        let init = match (self.status(&directory, init), init) {
            (Status::Created, Some(init)) => init,
            (Status::Created | Status::Stopped, _) => {
                return Err(refused("cannot start a container that has stopped"));
            }
            (Status::Running, _) => {
                return Err(refused("cannot start an already running container"));
            }
            (Status::Paused, _) => {
                return Err(refused("cannot start a container in the paused state"));
            }
        };
        let fifo = directory.open_fifo().map_err(|err| refused(&err.to_string()))?;
        match tokio::time::timeout(limit, answer(fifo, init)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) if init.has_ended() => {
                return Err(refused("container process is already dead"));
            }
            // Somebody else's start has read the byte.
            Ok(Ok(false)) => return Err(refused("cannot start an already running container")),
            Ok(Err(err)) => return Err(refused(&err.to_string())),
            Err(_) => return Err(refused(&format!("its init did not answer within {limit:?}"))),
        }
        if let Err(err) = directory.remove_fifo() {
            // It runs; only runc takes it for created still.
            log::warn!(id = self.id.as_str(); "failed to remove the container's exec.fifo: {err}");
        }
        Ok(())
    }
}

impl Container {
    /// In crun's order: from when the FIFO is gone the container counts as running.
    fn start_as_crun(&self, directory: &Directory, init: Option<&PidFd>) -> Result<(), Failure> {
        match self.status(directory, init) {
            Status::Created => {}
            status @ (Status::Running | Status::Paused | Status::Stopped) => {
                return Err(Unsupported::new(format!("it is {status:?}")).into());
            }
        }
        // Somebody who reads it is the init: nobody else can.
        let fifo = directory.open_fifo_to_write();
        let fifo = fifo.map_err(|err| Unsupported::new(format!("exec.fifo: {err}")))?;
        let left = directory.remove_fifo();
        left.map_err(|err| Unsupported::new(format!("exec.fifo: {err}")))?;
        let written = nix::unistd::write(&fifo, &[0]);
        written.map_err(|err| Error::Start(format!("write exec.fifo: {}", err.desc())))?;
        Ok(())
    }
}

/// Waits for the init's byte. `false` when there will be none.
async fn answer(fifo: OwnedFd, init: &PidFd) -> io::Result<bool> {
    let fifo = Receiver::from_owned_fd(fifo)?;
    let ended = watch(init.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
    loop {
        let ready = tokio::select! {
            ready = fifo.readable() => ready.map(|()| true)?,
            ended = ended.readable() => ended.map(|_| false)?,
        };
        let mut byte = [0];
        let read = match ready {
            true => fifo.try_read(&mut byte),
            // What tokio knows of the FIFO may be older than the init's end.
            false => nix::unistd::read(fifo.as_fd(), &mut byte).map_err(io::Error::from),
        };
        match (look(read)?, ready) {
            (Look::Started, _) => return Ok(true),
            (Look::Pending, true) => {}
            (Look::Empty, true) => {
                // One that is being killed closes its files before it has ended.
                let _elapsed = tokio::time::timeout(DYING, ended.readable()).await;
                return Ok(false);
            }
            (Look::Empty | Look::Pending, false) => return Ok(false),
        }
    }
}

fn look(read: io::Result<usize>) -> io::Result<Look> {
    match read {
        Ok(0) => Ok(Look::Empty),
        Ok(_) => Ok(Look::Started),
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(Look::Pending),
        Err(err) => Err(err),
    }
}
