// SPDX-License-Identifier: Apache-2.0
//! The process's side: an anonymous pipe, pipe(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::error::Error;
use crate::request::Owner;

/// A pipe between the shim and the process. Both ends are close-on-exec.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// The shim's end, non-blocking.
    pub(crate) ours: File,
    /// The process's end, blocking. Owned by the user the process runs as, so that it can open
    /// `/dev/stdout` again (containerd #10906). `None` once it was handed out.
    pub(crate) theirs: Option<OwnedFd>,
}

impl Pipe {
    /// A pipe the process reads.
    pub(crate) fn input(owner: Owner) -> Result<Pipe, Error> {
        let (reader, writer) =
            io::pipe().map_err(|source| Error::Pipe { stream: "stdin", source })?;
        Pipe::new("stdin", writer.into(), reader.into(), owner)
    }

    /// A pipe the process writes.
    pub(crate) fn output(stream: &'static str, owner: Owner) -> Result<Pipe, Error> {
        let (reader, writer) = io::pipe().map_err(|source| Error::Pipe { stream, source })?;
        Pipe::new(stream, reader.into(), writer.into(), owner)
    }

    fn new(
        stream: &'static str,
        ours: OwnedFd,
        theirs: OwnedFd,
        owner: Owner,
    ) -> Result<Pipe, Error> {
        give(stream, &theirs, owner)?;
        set_nonblocking(&ours).map_err(|source| Error::Pipe { stream, source })?;
        Ok(Pipe { ours: ours.into(), theirs: Some(theirs) })
    }
}

/// Gives a pipe to the user the process runs as.
pub(crate) fn give(stream: &'static str, pipe: impl AsFd, owner: Owner) -> Result<(), Error> {
    fchown(pipe, Some(owner.uid), Some(owner.gid)).map_err(|source| Error::Chown { stream, source })
}

/// Makes the open file description of `fd` non-blocking.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
