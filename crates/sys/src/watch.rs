// SPDX-License-Identifier: Apache-2.0
//! The readiness of descriptors: told by tokio, or asked for.

use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is registered with the runtime, for as long as this lives.
///
/// There is no `DerefMut`: tokio must find the same descriptor when this is dropped, and who could
/// put another in its place would have it take that one from the runtime.
#[derive(Debug)]
pub struct Polled<T: sealed::Owner>(AsyncFd<T>);

/// Registers `file`, which should be non-blocking, with the current runtime: for `interest` only,
/// so that nobody is woken for more, epoll(7).
///
/// # Errors
/// Of epoll_ctl(2): `ENOSPC` (`max_user_watches`), `EPERM` for what cannot be polled.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn watch<T: sealed::Owner>(file: T, interest: Interest) -> io::Result<Polled<T>> {
    // SAFETY: an `Owner` has one descriptor, open for as long as it lives, and no method by a shared
    // reference changes which. It is moved into the AsyncFd, which never leaves `Polled` and is
    // only lent shared.
    let registered = unsafe { AsyncFd::register_with_interest(file, interest) };
    Ok(Polled(registered?))
}

impl<T: sealed::Owner> Deref for Polled<T> {
    type Target = AsyncFd<T>;

    fn deref(&self) -> &AsyncFd<T> {
        &self.0
    }
}

/// Which of `events` are there now, and which errors, poll(2). It does not wait.
///
/// # Errors
/// `ENOMEM`. Not `EINTR`: a signal that comes meanwhile interrupts even a poll without a timeout
/// (`do_poll`, fs/select.c), when nothing is ready, and then it asks again.
pub fn poll_now(fd: impl AsFd, events: PollFlags) -> io::Result<PollFlags> {
    let mut entries = [PollFd::new(fd.as_fd(), events)];
    loop {
        match poll(&mut entries, PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => {
                let [entry] = entries;
                return Ok(entry.revents().unwrap_or(PollFlags::empty()));
            }
        }
    }
}

mod sealed {
    /// Types of std that own one descriptor, and no other ever.
    pub trait Owner: std::os::fd::AsRawFd {}

    impl Owner for std::fs::File {}
    impl Owner for std::os::fd::OwnedFd {}
    impl Owner for std::os::unix::net::UnixStream {}
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sys::pthread::{pthread_kill, pthread_self};
    use nix::sys::signal::Signal;

    use super::*;

    /// A shim gets a SIGCHLD for each process that ends, on the thread that copies output.
    #[test]
    fn signals_do_not_interrupt_a_look() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let caught: std::sync::Arc<AtomicBool> = std::sync::Arc::default();
        signal_hook::flag::register(libc::SIGUSR1, std::sync::Arc::clone(&caught)).unwrap();
        let (looking, done) = (pthread_self(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    pthread_kill(looking, Signal::SIGUSR1).unwrap();
                }
            });
            while !caught.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            // Of so many, dozens used to be interrupted.
            let looks = (0..100_000).map(|_| poll_now(&ours, PollFlags::POLLIN));
            let failed =
                looks.filter(|look| !matches!(look, Ok(found) if found.is_empty())).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(failed, 0);
        });
    }

    #[tokio::test(flavor = "current_thread")]
    async fn readiness_is_told() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = watch(ours, Interest::READABLE).unwrap();
        theirs.write_all(b"a").unwrap();
        let mut byte = [0];
        let read = ours.async_io(Interest::READABLE, |mut socket| socket.read(&mut byte)).await;
        assert_eq!((read.unwrap(), byte), (1, *b"a"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_cannot_be_polled_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let refused = watch(file, Interest::READABLE).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }
}
