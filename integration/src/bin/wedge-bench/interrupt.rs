// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C ends and removes everything, wherever the benchmark is just then.

use std::path::PathBuf;
use std::process::exit;
use std::task::Poll;
use std::thread;

use anyhow::Result;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use wedge_integration::Scratch;

/// Leaves Ctrl-C to a child, which has something to clean up. Blocking the signal would not do: the
/// child would inherit that.
pub(crate) fn leave_to_child() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // The handler stays.
    runtime.block_on(async { signal(SignalKind::interrupt()).map(drop) })?;
    Ok(())
}

/// Takes over SIGINT, SIGTERM and SIGHUP; `dir` is removed too.
#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "main may be in the middle of anything"
)]
#[expect(clippy::print_stderr, reason = "a program's last words")]
pub(crate) fn watch(dir: PathBuf) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()
    })?;
    thread::spawn(move || {
        runtime.block_on(std::future::poll_fn(|context| {
            let came = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        }));
        Scratch::discard_all();
        std::fs::remove_dir_all(dir).ok();
        eprintln!("\nbench: interrupted; everything it made was removed");
        exit(130);
    });
    Ok(())
}
