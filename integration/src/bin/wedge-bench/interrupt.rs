// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C ends and removes everything, wherever the benchmark is just then.

use std::path::PathBuf;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::{self, JoinHandle};

use anyhow::Result;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use wedge_integration::Scratch;

/// Waits for the user to have enough.
#[derive(Debug)]
pub(crate) struct Interrupt {
    hit: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Leaves Ctrl-C to a child, which has something to clean up. Blocking the signal would not do: the
/// child would inherit that.
pub(crate) fn leave_to_child() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // The handler stays.
    runtime.block_on(async { signal(SignalKind::interrupt()).map(drop) })?;
    Ok(())
}

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP; `dir` is removed too.
    #[expect(clippy::disallowed_methods, reason = "main may be in anything")]
    #[expect(clippy::print_stderr, reason = "a program's last words")]
    pub(crate) fn watch(dir: PathBuf) -> Result<Interrupt> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut signals = runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()
        })?;
        let hit = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&hit);
        let thread = thread::spawn(move || {
            runtime.block_on(std::future::poll_fn(|context| {
                let came = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
                if came { Poll::Ready(()) } else { Poll::Pending }
            }));
            told.store(true, Ordering::SeqCst);
            Scratch::discard_all();
            std::fs::remove_dir_all(dir).ok();
            eprintln!("\nbench: interrupted; everything it made was removed");
            exit(130);
        });
        Ok(Interrupt { hit, thread })
    }

    /// Hands a result on, unless what failed did so because it was removed: then it is the other
    /// thread that ends the program.
    pub(crate) fn unless_hit<T>(self, result: Result<T>) -> Result<T> {
        if result.is_err() && self.hit.load(Ordering::SeqCst) {
            self.thread.join().ok();
        }
        result
    }
}
