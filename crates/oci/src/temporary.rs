// SPDX-License-Identifier: Apache-2.0
//! Files that live as long as one call of the runtime.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file that is removed when this is dropped, if it exists then.
#[derive(Debug)]
pub(crate) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Takes charge of `path`, and removes what an earlier process may have left there.
    pub(crate) fn new(path: PathBuf) -> TemporaryFile {
        remove(&path, fs::remove_file);
        TemporaryFile(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        remove(&self.0, fs::remove_file);
    }
}

/// Removes what is at `path`, if anything is; nobody can do more about a failure than log it.
pub(crate) fn remove<'a>(path: &'a Path, how: impl FnOnce(&'a Path) -> io::Result<()>) {
    match how(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            log::warn!("failed to remove {}: {err}", path.display());
        }
        Ok(()) | Err(_) => {}
    }
}
