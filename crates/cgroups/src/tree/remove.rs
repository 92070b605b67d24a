// SPDX-License-Identifier: Apache-2.0
//! Removing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::{TURN, Tree, below};
use crate::error::{Error, is_gone};

/// Before the second try; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// About a second in all, as long as runc waits: a process that was killed may take a while.
const TRIES: u32 = 11;

impl Tree {
    /// Removes it with what is below. Nothing is removed but empty cgroups.
    ///
    /// # Errors
    /// [`Error::Io`] of one that stays, usually `EBUSY`: somebody is in it.
    pub async fn remove(&self) -> Result<(), Error> {
        let mut pause = FIRST_PAUSE;
        let mut left: Vec<&PathBuf> = self.all().iter().collect();
        for last in (0..TRIES).rev() {
            let mut failed = None;
            let mut stay = Vec::new();
            for path in left {
                if let Err(err) = remove(path).await {
                    stay.push(path);
                    failed = Some(err);
                }
            }
            left = stay;
            match failed {
                None => return Ok(()),
                Some(err) if last == 0 => return Err(err),
                Some(_) => sleep(pause).await,
            }
            pause *= 2;
        }
        Ok(())
    }
}

async fn remove(top: &Path) -> Result<(), Error> {
    // Few containers make cgroups of their own.
    if rmdir(top).is_ok() {
        return Ok(());
    }
    for (count, dir) in below(top).await?.iter().enumerate().rev() {
        rmdir(dir)?;
        if count.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn rmdir(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir(dir) {
        Err(err) if is_gone(&err) => Ok(()),
        removed => removed.map_err(Error::io("remove", dir)),
    }
}
