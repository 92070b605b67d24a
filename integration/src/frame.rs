// SPDX-License-Identifier: Apache-2.0
//! ttrpc frames: a header of ten bytes (length, stream, type, flags; big-endian) and a protobuf.
//! Done by hand so that tests decide what is sent, in which order, and when a side falls silent.

use std::io::{self, Read, Write};

/// A request from client to server.
pub(crate) const REQUEST: u8 = 1;
/// The one response to it.
pub(crate) const RESPONSE: u8 = 2;

/// Longer frames are taken for garbage.
const MAX: u32 = 64 << 20;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Writes the frame in one call.
    pub(crate) fn write_to(&self, mut stream: impl Write) -> io::Result<()> {
        let len = u32::try_from(self.payload.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(10 + self.payload.len());
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&[self.kind, 0]);
        bytes.extend_from_slice(&self.payload);
        stream.write_all(&bytes)
    }

    /// Reads the next frame.
    pub(crate) fn read_from(mut stream: impl Read) -> io::Result<Frame> {
        let mut header = [0; 10];
        stream.read_exact(&mut header)?;
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = header;
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        let id = u32::from_be_bytes([s0, s1, s2, s3]);
        if len > MAX {
            return Err(io::Error::other(format!("a frame of {len} bytes")));
        }
        let mut payload = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        stream.read_exact(&mut payload)?;
        Ok(Frame { stream: id, kind, payload })
    }
}
