// SPDX-License-Identifier: Apache-2.0
//! Messages with descriptors on unix(7) sockets.

use crate::call::number;
use crate::kernel::{IoVec, MOST_FDS, MsgHdr, Rights, errno, nr};
use crate::sys::{Errno, Result, syscall};

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
/// Bytes of a `struct cmsghdr` before its data.
const CONTROL_HEADER: usize = 16;

/// The type of a socket, SO_TYPE of socket(7).
pub(crate) fn kind_of(fd: i32) -> Result<i32> {
    const SO_TYPE: usize = 3;
    let mut kind = 0_i32;
    let mut length = 4_u32;
    let (into, size) = ((&raw mut kind).addr(), (&raw mut length).addr());
    // SAFETY: the kernel writes at most `length` bytes to `kind`, and `length` itself.
    unsafe { syscall(nr::GETSOCKOPT, [number(fd), number(SOL_SOCKET), SO_TYPE, into, size]) }?;
    Ok(kind)
}

/// Sends `packet` and a copy of `passed`.
pub(crate) fn send(socket: i32, packet: &[u8], passed: i32) -> Result<()> {
    let mut rights = Rights {
        length: CONTROL_HEADER + 4,
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        fds: [0; MOST_FDS],
    };
    rights.fds[0] = passed;
    let part = IoVec { base: packet.as_ptr().addr(), length: packet.len() };
    // One descriptor and what is left of its eight bytes.
    let message = header(&part, (&raw const rights).addr(), CONTROL_HEADER + 8);
    // SAFETY: the message points to live values of the lengths it gives; the kernel only reads.
    unsafe { syscall(nr::SENDMSG, [number(socket), (&raw const message).addr(), 0]) }.map(drop)
}

/// What came with a message.
pub(crate) struct Received {
    /// The length of the message, 0 when the peer has closed.
    pub(crate) length: usize,
    fds: [i32; MOST_FDS],
    count: usize,
}

impl Received {
    /// The descriptors, close-on-exec. There are no more than those: the kernel drops what has no
    /// room.
    pub(crate) fn fds(&self) -> &[i32] {
        self.fds.get(..self.count).unwrap_or_default()
    }
}

/// Receives a packet.
pub(crate) fn receive(socket: i32, packet: &mut [u8]) -> Result<Received> {
    const CMSG_CLOEXEC: usize = 0x4000_0000;
    let mut rights = Rights { length: 0, level: 0, kind: 0, fds: [-1; MOST_FDS] };
    let part = IoVec { base: packet.as_mut_ptr().addr(), length: packet.len() };
    let mut message = header(&part, (&raw mut rights).addr(), size_of::<Rights>());
    let length = loop {
        let at = (&raw mut message).addr();
        // SAFETY: the kernel writes at most `len` bytes into the borrowed packet, one control
        // message of at most the size of `rights` into that, and into `message` what it did.
        match unsafe { syscall(nr::RECVMSG, [number(socket), at, CMSG_CLOEXEC]) } {
            Err(Errno(errno::EINTR)) => {}
            result => break result?,
        }
    };
    let passed = message.control_length >= CONTROL_HEADER && rights.kind == SCM_RIGHTS;
    let bytes = if passed { rights.length.saturating_sub(CONTROL_HEADER) } else { 0 };
    Ok(Received { length, fds: rights.fds, count: (bytes / 4).min(MOST_FDS) })
}

fn header(part: &IoVec, control: usize, control_length: usize) -> MsgHdr {
    MsgHdr {
        name: 0,
        name_length: 0,
        iov: (&raw const *part).addr(),
        iov_count: 1,
        control,
        control_length,
        flags: 0,
    }
}
