// SPDX-License-Identifier: Apache-2.0
//! Receiving a descriptor over a Unix socket.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

/// Receives one message with exactly one descriptor (`SCM_RIGHTS` of unix(7)), close-on-exec from
/// the start so that a child spawned meanwhile cannot inherit it. Descriptors beyond the first
/// are closed.
///
/// # Errors
/// `EAGAIN` on a non-blocking socket without a message, `UnexpectedEof` when the peer closed, and
/// `InvalidData` when the message has no descriptor.
pub fn receive_fd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut data = [0_u8; 4096];
    let (length, received) = receive(socket, &mut data)?;
    if received.is_none() && length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    received
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "message without a descriptor"))
}

/// Receives one message and the descriptor that comes with it, if any; the length of the message,
/// 0 when the peer closed. Descriptors beyond the first are closed.
///
/// # Errors
/// `EAGAIN` on a non-blocking socket without a message, `ECONNRESET`.
pub fn receive(socket: impl AsFd, data: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let mut parts = [IoSliceMut::new(data)];
    let message = recvmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel has just installed this descriptor for us, and this loop is
                // the only place that sees its number.
                received.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((message.bytes, received.into_iter().next()))
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
    fn a_message_without_descriptor_and_a_closed_peer_are_errors() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        assert_eq!(receive_fd(&ours).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(theirs);
        assert_eq!(receive_fd(&ours).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
