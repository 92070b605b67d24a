// SPDX-License-Identifier: Apache-2.0
//! What a shim keeps while it does nothing, as most shims do most of the time
//! (docs/adr/0016-idle-memory.md).

use std::convert::Infallible;
use std::env;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How long nothing is asked for before that is a rest. Giving back and taking again costs some
/// hundred microseconds.
const QUIET: Duration = Duration::from_secs(1);

/// glibc keeps up to seven freed pieces of each size for the thread that freed them, of which
/// malloc_trim(3) knows nothing: a third of the heap. It reads this before main, so only who starts
/// a shim can say it.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// Has the allocator of the shim that is about to be started keep less, unless the operator has set it.
pub(crate) fn keep_little(shim: &mut Command) {
    if env::var_os(TUNABLES.0).is_none() {
        shim.env(TUNABLES.0, TUNABLES.1);
    }
}

/// Takes the variable of [`keep_little`] out of the environment again, which the runtime inherits. To
/// be called before there is a second thread.
pub(crate) fn keep_to_ourselves() {
    if env::var_os(TUNABLES.0).is_some_and(|value| value == TUNABLES.1) {
        wedge_sys::forget_variable(TUNABLES.0);
    }
}

/// Gives back to the kernel what is free.
pub(crate) fn release() {
    if let Err(err) = wedge_sys::release_memory() {
        log::debug!("failed to release memory: {err}");
    }
}

/// Whether a change was asked for.
#[derive(Debug, Default)]
pub(crate) struct Rest(Notify);

impl Rest {
    /// A change is asked for.
    pub(crate) fn disturb(&self) {
        self.0.notify_one();
    }

    /// Calls `release` once in each rest. A shim that rests has no timer for it.
    pub(crate) async fn watch(&self, release: impl Fn()) -> Infallible {
        loop {
            self.0.notified().await;
            loop {
                sleep(QUIET).await;
                // Takes what is stored, without waiting for more.
                if !pin!(self.0.notified()).enable() {
                    break;
                }
            }
            release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_is_released_once_when_all_is_quiet() {
        let (rest, released) = (Rest::default(), Cell::new(0));
        let watch = rest.watch(|| released.set(released.get() + 1));
        let asked = async {
            sleep(QUIET * 10).await;
            assert_eq!(released.get(), 0, "nothing was asked for");
            for _ in 0..20 {
                rest.disturb();
                rest.disturb();
                sleep(QUIET / 3).await;
                assert_eq!(released.get(), 0);
            }
            sleep(QUIET * 2).await;
            assert_eq!(released.get(), 1);
            sleep(QUIET * 10).await;
            assert_eq!(released.get(), 1);
            rest.disturb();
            sleep(QUIET * 3).await;
            assert_eq!(released.get(), 2);
        };
        tokio::select! {
            never = watch => match never {},
            () = asked => {}
        }
    }
}
