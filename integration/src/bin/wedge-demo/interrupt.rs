// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C ends and removes everything, wherever the demo is just then.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::thread::{self, JoinHandle};

use anyhow::{Result, bail};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use wedge_integration::Scratch;

/// What the user is told.
pub(crate) const INTERRUPTED: &str = "\ndemo: interrupted; everything it made was removed";

/// Waits for the user to have enough.
#[derive(Debug)]
pub(crate) struct Interrupt {
    state: Arc<State>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    hit: AtomicBool,
    scratch: OnceLock<Weak<Scratch>>,
}

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    /// sigaction(2) fails.
    pub(crate) fn watch() -> Result<Interrupt> {
        let state = Arc::new(State::default());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()
        })?;
        let waiter = Arc::clone(&state);
        Ok(Interrupt { state, thread: thread::spawn(move || waiter.wait(&runtime, signals)) })
    }

    /// Says what to remove from now on.
    ///
    /// # Errors
    /// It came already, and the caller has to.
    pub(crate) fn covers(&self, scratch: &Arc<Scratch>) -> Result<()> {
        self.state.scratch.set(Arc::downgrade(scratch)).ok();
        if self.is_hit() {
            scratch.discard();
            bail!("interrupted");
        }
        Ok(())
    }

    /// Whether it came.
    pub(crate) fn is_hit(&self) -> bool {
        self.state.hit.load(Ordering::SeqCst)
    }

    /// After it came: returns only if the caller has removed everything itself.
    pub(crate) fn ended(self) {
        self.thread.join().ok();
    }
}

impl State {
    #[expect(clippy::disallowed_methods, reason = "main may wait for what is gone")]
    #[expect(clippy::print_stderr, reason = "a program's last words")]
    fn wait(&self, runtime: &Runtime, mut signals: Vec<Signal>) {
        runtime.block_on(std::future::poll_fn(|context| {
            let came = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        }));
        self.hit.store(true, Ordering::SeqCst);
        // Without one, main still starts containerd, and removes it as soon as it can.
        let Some(scratch) = self.scratch.get() else { return };
        if let Some(scratch) = scratch.upgrade() {
            scratch.discard();
        }
        eprintln!("{INTERRUPTED}");
        exit(130);
    }
}
