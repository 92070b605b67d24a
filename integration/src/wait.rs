// SPDX-License-Identifier: Apache-2.0
//! Level-triggered waiting: look at a fact until it holds or the time is up.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long [`until`] waits: far more than anything here takes, also on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(15);

/// Waits at most [`LIMIT`] until `look` returns a value. See [`until_for`].
///
/// # Errors
/// The time is up; the message names `what` and the last thing seen.
pub fn until<T>(what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
    until_for(LIMIT, what, look)
}

/// Calls `look` until it returns a value; an error of `look` says what was seen instead.
///
/// # Errors
/// `limit` is over; the message names `what` and the last error of `look`.
pub fn until_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= deadline => {
                return Err(anyhow!("waited {limit:?} until {what}; last seen: {seen:#}"));
            }
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
