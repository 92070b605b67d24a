// SPDX-License-Identifier: Apache-2.0
//! Freezing and thawing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::{Kind, Tree};
use crate::error::{Error, is_gone};
use crate::keyed;

/// After so many tries v1 is thawed for a moment, which ends a storm of forks (runc #2774); after
/// twice as many the next time, and so on. Whoever gets no processor meanwhile does not freeze.
const FIRST_TRIES: u32 = 50;

/// How often it is asked in all, in five rounds.
const TRIES: u32 = 31 * FIRST_TRIES;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// How long a v2 cgroup may take: a process in uninterruptible sleep does not freeze.
const LIMIT: Duration = Duration::from_secs(10);

impl Tree {
    /// Whether it is frozen, or about to be. That an ancestor is does not count, and neither does
    /// one that is gone.
    pub fn is_frozen(&self) -> bool {
        let says = |dir: &Path, file: &str, value: &str| {
            fs::read_to_string(dir.join(file)).is_ok_and(|text| text.trim() == value)
        };
        match &self.0 {
            Kind::V2(path) => says(path, "cgroup.freeze", "1"),
            Kind::V1 { freezer, .. } => says(freezer, "freezer.self_freezing", "1"),
        }
    }

    /// Freezes it, and waits until that is so.
    ///
    /// # Errors
    /// [`Error::NotFrozen`] when it takes too long: it is thawed then; [`Error::Io`].
    pub async fn freeze(&self) -> Result<(), Error> {
        let frozen = match &self.0 {
            Kind::V2(path) => freeze_v2(path).await,
            Kind::V1 { freezer, .. } => freeze_v1(freezer).await,
        };
        if frozen.is_err() {
            // What is half frozen hangs, and nobody knows.
            self.thaw().unwrap_or_else(|err| log::warn!("{err}: {:?}", self.0));
        }
        frozen
    }

    /// Thaws it; one that is gone is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn thaw(&self) -> Result<(), Error> {
        let (path, value) = match &self.0 {
            Kind::V2(path) => (path.join("cgroup.freeze"), "0"),
            Kind::V1 { freezer, .. } => (freezer.join("freezer.state"), "THAWED"),
        };
        match write(&path, value) {
            Err(Error::Io { source, .. }) if is_gone(&source) => Ok(()),
            written => written,
        }
    }
}

async fn freeze_v2(dir: &Path) -> Result<(), Error> {
    write(&dir.join("cgroup.freeze"), "1")?;
    let events = dir.join("cgroup.events");
    let frozen = async {
        loop {
            let text = fs::read_to_string(&events).map_err(Error::io("read", &events))?;
            if keyed::value(&text, "frozen") == Some(1) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, frozen).await;
    waited.unwrap_or(Err(Error::NotFrozen))
}

async fn freeze_v1(dir: &Path) -> Result<(), Error> {
    let path = dir.join("freezer.state");
    let mut thaw = FIRST_TRIES;
    for count in 1..=TRIES {
        // FREEZING: the kernel looks at those that are not frozen yet only when it is told again.
        write(&path, "FROZEN")?;
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        if text.trim() == "FROZEN" {
            return Ok(());
        }
        if count == thaw {
            write(&path, "THAWED")?;
            thaw = 2 * thaw + FIRST_TRIES;
        }
        sleep(PAUSE).await;
    }
    Err(Error::NotFrozen)
}

/// Writes to a file of a cgroup; there is none to make.
pub(super) fn write(path: &Path, value: &str) -> Result<(), Error> {
    let written = OpenOptions::new().write(true).open(path);
    let written =
        written.and_then(|mut file| -> io::Result<()> { file.write_all(value.as_bytes()) });
    written.map_err(Error::io("write", path))
}
