// SPDX-License-Identifier: Apache-2.0
//! ttrpc frames: a header of ten bytes (length, stream id, type, flags; big endian), a payload.

mod stream;

use std::io;

use protobuf::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use ttrpc::proto::{MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MessageHeader};

pub(crate) use self::stream::{ReadHalf, WriteHalf, split};

/// What a connection keeps for reading between requests.
const IDLE_BUFFER: usize = 1024;

/// One frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: MessageHeader,
    /// `None`: it was longer than [`MESSAGE_LENGTH_MAX`] and has been discarded.
    pub(crate) payload: Option<Vec<u8>>,
}

/// Cuts a byte stream into frames. Memory grows with the bytes that came, whatever a header
/// promises.
#[derive(Debug)]
pub(crate) struct Frames<R> {
    from: R,
    buffer: Vec<u8>,
    /// The header of the frame being discarded, and how many bytes of it are still to come.
    discarding: Option<(MessageHeader, usize)>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(crate) fn new(from: R) -> Frames<R> {
        Frames { from, buffer: Vec::with_capacity(IDLE_BUFFER), discarding: None }
    }

    /// The next frame, or `None` at the end of the stream, wherever that is. Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take() {
                return Ok(Some(frame));
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes a whole frame out of the buffer.
    fn take(&mut self) -> Option<Frame> {
        if let Some((header, left)) = self.discarding.take() {
            return self.discard(header, left);
        }
        let header = MessageHeader::from(self.buffer.get(..MESSAGE_HEADER_LENGTH)?);
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if length > MESSAGE_LENGTH_MAX {
            self.consume(MESSAGE_HEADER_LENGTH);
            return self.discard(header, length);
        }
        let end = MESSAGE_HEADER_LENGTH + length;
        let payload = self.buffer.get(MESSAGE_HEADER_LENGTH..end)?.to_vec();
        self.consume(end);
        Some(Frame { header, payload: Some(payload) })
    }

    fn discard(&mut self, header: MessageHeader, left: usize) -> Option<Frame> {
        let here = left.min(self.buffer.len());
        self.consume(here);
        if here < left {
            self.discarding = Some((header, left - here));
            return None;
        }
        Some(Frame { header, payload: None })
    }

    fn consume(&mut self, count: usize) {
        self.buffer.drain(..count);
        if self.buffer.len() < IDLE_BUFFER {
            self.buffer.shrink_to(IDLE_BUFFER);
        }
    }
}

/// Writes `message`, which must not be longer than [`MESSAGE_LENGTH_MAX`], in one piece, behind the
/// header that `header` makes for its length.
pub(crate) async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
    header: impl FnOnce(u32) -> MessageHeader,
) -> io::Result<()> {
    let length = u32::try_from(message.compute_size()).map_err(io::Error::other)?;
    let mut frame = Vec::from(header(length));
    message.write_to_vec(&mut frame).map_err(io::Error::other)?;
    to.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use ttrpc::proto::MESSAGE_TYPE_REQUEST;

    use super::*;

    fn frame(stream_id: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        let mut bytes = Vec::from(MessageHeader::new_request(stream_id, length));
        bytes.extend_from_slice(payload);
        bytes
    }

    #[tokio::test]
    async fn frames_are_cut_wherever_the_bytes_are_split() {
        let stream = [frame(1, b"one"), frame(3, b""), frame(5, b"three")].concat();
        for chunk in 1..stream.len() {
            let (mut to, from) = duplex(1024);
            let mut frames = Frames::new(from);
            let write = async {
                for piece in stream.chunks(chunk) {
                    to.write_all(piece).await.unwrap();
                }
                drop(to);
            };
            let read = async {
                let mut seen = Vec::new();
                while let Some(frame) = frames.next().await.unwrap() {
                    assert_eq!(frame.header.type_, MESSAGE_TYPE_REQUEST);
                    seen.push((frame.header.stream_id, frame.payload.unwrap()));
                }
                seen
            };
            let ((), seen) = tokio::join!(write, read);
            let want = [(1, b"one".to_vec()), (3, Vec::new()), (5, b"three".to_vec())];
            assert_eq!(seen, want, "in chunks of {chunk}");
        }
    }

    #[tokio::test]
    async fn a_long_frame_is_discarded_and_the_next_one_read() {
        let long = vec![7; MESSAGE_LENGTH_MAX + 1];
        let stream = [frame(1, &long), frame(3, b"next")].concat();
        let mut frames = Frames::new(stream.as_slice());
        assert_eq!(frames.next().await.unwrap().unwrap().payload, None);
        assert!(frames.buffer.capacity() < 64 * 1024, "it was not kept");
        let next = frames.next().await.unwrap().unwrap();
        assert_eq!(next.payload.unwrap(), b"next");
    }

    #[tokio::test]
    async fn memory_follows_what_came_and_is_given_back() {
        let whole = frame(1, &vec![7; MESSAGE_LENGTH_MAX]);
        let (head, tail) = whole.split_at(20);
        let (mut to, from) = duplex(whole.len());
        let mut frames = Frames::new(from);
        to.write_all(head).await.unwrap();
        tokio::select! {
            biased;
            _ = frames.next() => panic!("the frame is not complete"),
            () = std::future::ready(()) => {}
        }
        assert!(frames.buffer.capacity() <= IDLE_BUFFER);
        to.write_all(tail).await.unwrap();
        let payload = frames.next().await.unwrap().unwrap().payload.unwrap();
        assert_eq!(payload.len(), MESSAGE_LENGTH_MAX);
        assert!(frames.buffer.capacity() <= IDLE_BUFFER);
    }
}
