// SPDX-License-Identifier: Apache-2.0
//! Parsers that are private, for the fuzz targets in `fuzz/` and for nobody else.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::rootfs::mountinfo;
use crate::rootfs::options::MountOptions;

/// What of the options of a mount its file system is told.
///
/// # Errors
/// For options that are none of ours.
pub fn mount_data(options: &[String]) -> Result<Vec<String>> {
    Ok(MountOptions::parse(options)?.data)
}

/// The mount points at and below `root` in the text of a mountinfo file, deepest first.
pub fn mounts_below(list: &[u8], root: &Path) -> Vec<PathBuf> {
    mountinfo::below(list, root).into_iter().map(|point| point.path).collect()
}
