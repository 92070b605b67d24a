// SPDX-License-Identifier: Apache-2.0
//! Receiving a descriptor over a Unix socket.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg};

/// Receives one message with exactly one descriptor (`SCM_RIGHTS` of unix(7)), close-on-exec from
/// the start so that a child spawned meanwhile cannot inherit it. Descriptors beyond the first
/// are closed.
///
/// # Errors
/// `EAGAIN` on a non-blocking socket without a message, `UnexpectedEof` when the peer closed, and
/// `InvalidData` when the message has no descriptor.
pub fn receive_fd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut data = [0_u8; 4096];
    let received = receive(socket, &mut data)?;
    if received.fd.is_none() && received.length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    received
        .fd
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "message without a descriptor"))
}

/// A message of a Unix socket.
#[derive(Debug)]
pub struct Received {
    /// Its length, 0 when the peer closed.
    pub length: usize,
    /// The descriptor that came with it.
    pub fd: Option<OwnedFd>,
    /// The pid of who sent it, by the kernel's word, in our pid namespace: on a socket with
    /// `SO_PASSCRED` (unix(7)).
    pub sender: Option<u32>,
}

/// Receives one message and the descriptor that comes with it, if any. Descriptors beyond the first
/// are closed.
///
/// # Errors
/// `EAGAIN` on a non-blocking socket without a message, `ECONNRESET`.
pub fn receive(socket: impl AsFd, data: &mut [u8]) -> io::Result<Received> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4], UnixCredentials);
    let mut parts = [IoSliceMut::new(data)];
    let message = recvmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    let mut sender = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel has just installed this descriptor for us, and this loop is
                // the only place that sees its number.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        } else if let ControlMessageOwned::ScmCredentials(who) = control {
            // 0: a process that has no pid here.
            sender = u32::try_from(who.pid()).ok().filter(|pid| *pid != 0);
        }
    }
    Ok(Received { length: message.bytes, fd: fds.into_iter().next(), sender })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::{IoSlice, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_sent_descriptor_arrives_close_on_exec() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let fds = [file.as_raw_fd()];
        let name = [IoSlice::new(b"/dev/pts/0")];
        sendmsg::<()>(
            theirs.as_raw_fd(),
            &name,
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        let received = receive_fd(&ours).unwrap();
        let flags = nix::fcntl::fcntl(&received, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }

    #[test]
    fn the_kernel_says_who_sent_a_message() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut data = [0; 8];
        theirs.write_all(b"x").unwrap();
        assert_eq!(receive(&ours, &mut data).unwrap().sender, None);
        nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::PassCred, &true).unwrap();
        theirs.write_all(b"x").unwrap();
        let received = receive(&ours, &mut data).unwrap();
        assert_eq!((received.length, received.sender), (1, Some(std::process::id())));
    }

    #[test]
    fn a_message_without_descriptor_and_a_closed_peer_are_errors() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        assert_eq!(receive_fd(&ours).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(theirs);
        assert_eq!(receive_fd(&ours).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
