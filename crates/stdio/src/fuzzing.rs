// SPDX-License-Identifier: Apache-2.0
//! A parser that is private, for the fuzz target in `fuzz/` and for nobody else.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Error;
use crate::uri::Target;

/// The path and the arguments in the address of an output; `None` when it is that of a FIFO.
///
/// # Errors
/// When it is no address, or its scheme is unknown.
pub fn address(text: &str) -> Result<Option<(PathBuf, Vec<OsString>)>, Error> {
    Ok(match Target::parse(text)? {
        Target::Fifo => None,
        Target::File(path) => Some((path, Vec::new())),
        Target::Logger(binary) => Some((binary.path, binary.args)),
    })
}
