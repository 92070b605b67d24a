// SPDX-License-Identifier: Apache-2.0
//! The halves of a connected socket, which is polled for reading only.
//!
//! tokio's own socket is polled for writing too: with that, a message that the peer takes out of it
//! wakes us for nothing, and waking is what the peer's read(2) then takes its time for.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use wedge_sys::{Polled, watch};

/// What comes from the peer.
#[derive(Debug)]
pub(crate) struct ReadHalf(Arc<Polled<net::UnixStream>>);

/// What goes to the peer.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    socket: Arc<Polled<net::UnixStream>>,
    /// While the socket is full: polled for writing.
    full: Option<Polled<net::UnixStream>>,
}

/// Takes a socket from tokio and halves it. It is closed with the second half.
pub(crate) fn split(stream: UnixStream) -> io::Result<(ReadHalf, WriteHalf)> {
    let socket = Arc::new(watch(stream.into_std()?, Interest::READABLE)?);
    Ok((ReadHalf(Arc::clone(&socket)), WriteHalf { socket, full: None }))
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            let Ok(read) = ready.try_io(|socket| socket.get_ref().read(space)) else { continue };
            let (read, asked) = (read?, space.len());
            if 0 < read && read < asked {
                // That was all: what comes later is an event of its own.
                ready.clear_ready();
            }
            buffer.advance(read);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.get_ref().write(bytes) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                written => {
                    self.full = None;
                    return Poll::Ready(written);
                }
            }
            if self.full.is_none() {
                let again = self.socket.get_ref().try_clone()?;
                self.full = Some(watch(again, Interest::WRITABLE)?);
            }
            if let Some(full) = &self.full {
                ready!(full.poll_write_ready(context))?.clear_ready();
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn more_than_a_socket_holds_goes_through_both_ways() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut from, mut to) = split(ours).unwrap();
        let (mut back, mut forth) = theirs.into_split();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let echo = async {
            tokio::io::copy(&mut back, &mut forth).await.unwrap();
            drop(forth);
        };
        let write = async {
            to.write_all(&sent).await.unwrap();
            assert!(to.full.is_none());
            to.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let read = async { from.read_to_end(&mut received).await.unwrap() };
        tokio::join!(echo, write, read);
        assert!(received == sent);
    }

    /// What epoll is asked to tell of `socket`, by the kernel's word.
    fn polled_for(socket: &net::UnixStream) -> u32 {
        let fd = format!("tfd:{:>9} events:", socket.as_raw_fd());
        let infos = fs::read_dir("/proc/self/fdinfo").unwrap();
        let infos = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
        let lines = infos.flat_map(|info| info.lines().map(str::to_owned).collect::<Vec<_>>());
        let mut masks = lines.filter_map(|line| {
            let mask = line.strip_prefix(&fd)?.split_whitespace().next()?.to_owned();
            u32::from_str_radix(&mask, 16).ok()
        });
        masks.next().unwrap()
    }

    #[tokio::test]
    async fn only_the_peers_words_and_its_end_wake_us() {
        const IN_OUT: u32 = 1 | 4;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut from, mut to) = split(ours).unwrap();
        assert_eq!(polled_for(from.0.get_ref()) & IN_OUT, 1);
        theirs.write_all(b"word").await.unwrap();
        let mut bytes = [0; 8];
        assert_eq!(from.read(&mut bytes).await.unwrap(), 4);
        drop(theirs);
        assert_eq!(from.read(&mut bytes).await.unwrap(), 0);
        let broken = to.write(b"word").await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
    }
}
