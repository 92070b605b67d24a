// SPDX-License-Identifier: Apache-2.0
//! A bundle as the daemon prepares it (containerd's runtime/v2/bundle.go).

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{Capture, Spec, fifo};

/// A directory with `config.json`, `rootfs/`, a link `work` to a directory elsewhere, and the FIFO
/// `log`, which is held open for reading and writing like the daemon does.
#[derive(Debug)]
pub struct Bundle {
    id: String,
    dir: PathBuf,
    log: Capture,
    /// Both ends of the log FIFO. The reader ends with it and the shim's, so that a test may make
    /// a thousand bundles.
    _held: File,
}

impl Bundle {
    pub(crate) fn make(dir: PathBuf, id: &str, spec: &Spec) -> Result<Bundle> {
        let parent = dir.parent().context("a bundle has a parent")?;
        fs::create_dir_all(parent)?;
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        fs::DirBuilder::new().mode(0o711).create(dir.join("rootfs"))?;
        let work = parent.join(format!("work-{id}"));
        fs::create_dir(&work)?;
        symlink(work, dir.join("work"))?;
        fs::write(dir.join("config.json"), spec.to_json())?;
        let log = dir.join("log");
        fifo::make(&log)?;
        let held = OpenOptions::new().read(true).write(true).open(&log)?;
        let log = Capture::of(File::open(log)?);
        Ok(Bundle { id: id.to_owned(), dir, log, _held: held })
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The text of a file in it; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// Replaces `config.json`.
    ///
    /// # Errors
    /// The write fails.
    pub fn write_config(&self, spec: &Spec) -> Result<()> {
        Ok(fs::write(self.dir.join("config.json"), spec.to_json())?)
    }

    /// What the shim has logged.
    pub fn log(&self) -> &Capture {
        &self.log
    }
}
