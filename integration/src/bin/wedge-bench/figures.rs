// SPDX-License-Identifier: Apache-2.0
//! What is made of many measurements.

use std::fmt;
use std::time::Duration;

/// Measurements of one thing.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The value that `percent` of all are not above.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }
}

/// Least, median and 99th percentile, in milliseconds.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        write!(f, "{:8.3} {:8.3} {:8.3}", at(1), at(50), at(99))
    }
}
