// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C ends and removes everything, wherever the benchmark is just then.

use std::process::exit;
use std::task::Poll;
use std::thread;

use anyhow::Result;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use wedge_integration::Scratch;

/// Takes over SIGINT, SIGTERM and SIGHUP.
#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "main may be in the middle of anything"
)]
#[expect(clippy::print_stderr, reason = "a program's last words")]
pub(crate) fn watch() -> Result<()> {
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
        eprintln!("\nbench: interrupted; everything it made was removed");
        exit(130);
    });
    Ok(())
}
