// SPDX-License-Identifier: Apache-2.0
//! What the tests of packages, manifests and documents have in common.
#![forbid(unsafe_code)]

mod blocks;
mod manifest;
pub mod published;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use blocks::{Block, blocks, documents};
pub use manifest::{check, documents_in, render};

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The package in `target/dist` whose name has this ending.
///
/// # Errors
/// There is none, or there are several.
pub fn package(ending: &str) -> Result<PathBuf> {
    let dir = root().join("target/dist");
    let entries =
        fs::read_dir(&dir).with_context(|| format!("{}: make packages", dir.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found: Vec<PathBuf> =
        paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    match found.as_slice() {
        [path] => Ok(fs::canonicalize(path)?),
        [] => bail!("no *{ending} in {}: make packages", dir.display()),
        _ => bail!("several: {found:?}"),
    }
}

/// All files and links below `dir`, by their paths in it, in order.
///
/// # Errors
/// A directory cannot be read.
pub fn files(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    collect(dir, Path::new(""), &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(dir: &Path, at: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir.join(at))? {
        let entry = entry?;
        let path = at.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(dir, &path, found)?;
        } else {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}
