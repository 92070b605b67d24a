// SPDX-License-Identifier: Apache-2.0
//! Signals to this process, as something to wait for.
//!
//! Not tokio's, which keeps a watch channel for every signal there is: 23 KiB of an idle shim. The
//! handlers are those of `signal-hook`: each raises a flag, then writes to a socket that is polled.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};
use tokio::io::Interest;
use wedge_sys::{Polled, watch};

/// Signals that have come, from now on. Several of one kind may be one: the kernel does so too.
#[derive(Debug)]
pub struct Signals {
    wake: Polled<UnixStream>,
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    number: i32,
    raised: Arc<AtomicBool>,
    handlers: [SigId; 2],
}

impl Signals {
    /// Handles the signals of these `numbers`.
    ///
    /// # Errors
    /// There is no socket to be had, or a signal that cannot be handled.
    pub fn new(numbers: impl IntoIterator<Item = i32>) -> io::Result<Signals> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut signals = Signals { wake: watch(wake, Interest::READABLE)?, watched: Vec::new() };
        for number in numbers {
            let raised = Arc::new(AtomicBool::new(false));
            // In this order: whoever is woken finds the flag.
            let flag = signal_hook::flag::register(number, Arc::clone(&raised))?;
            let handlers = [flag, pipe::register(number, write.try_clone()?)?];
            signals.watched.push(Watched { number, raised, handlers });
        }
        Ok(signals)
    }

    /// The next one. Cancel safe.
    pub async fn recv(&mut self) -> i32 {
        loop {
            let come = self.watched.iter().find(|it| it.raised.swap(false, Ordering::SeqCst));
            if let Some(come) = come {
                return come.number;
            }
            // Fails only when the runtime is being torn down.
            let Ok(mut ready) = self.wake.readable().await else {
                return std::future::pending().await;
            };
            let mut bytes = [0; 64];
            match ready.try_io(|wake| wake.get_ref().read(&mut bytes)) {
                Ok(Ok(read)) if read == bytes.len() => {}
                // That was all: what comes later is an event of its own.
                _ => ready.clear_ready(),
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.watched.iter().flat_map(|watched| watched.handlers) {
            unregister(handler);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn signals_come_once_each_and_none_is_lost() {
        let mut signals = Signals::new([libc::SIGUSR1, libc::SIGUSR2]).unwrap();
        for _ in 0..200 {
            signal_hook::low_level::raise(libc::SIGUSR2).unwrap();
            signal_hook::low_level::raise(libc::SIGUSR1).unwrap();
            signal_hook::low_level::raise(libc::SIGUSR1).unwrap();
            assert_eq!(signals.recv().await, libc::SIGUSR1);
            assert_eq!(signals.recv().await, libc::SIGUSR2);
        }
        // Each has also written a byte, which none may find.
        let more = tokio::time::timeout(Duration::from_millis(10), signals.recv()).await;
        assert!(more.is_err());
        signal_hook::low_level::raise(libc::SIGUSR2).unwrap();
        assert_eq!(signals.recv().await, libc::SIGUSR2);
    }
}
