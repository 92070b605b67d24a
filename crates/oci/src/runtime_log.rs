// SPDX-License-Identifier: Apache-2.0
//! The runtime's log: JSON lines of level, msg and time, of which the last error counts.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::{Map, Value};

/// Only the end of a log is read: a runtime with debug on writes much, and the error comes last.
const TAIL: u64 = 64 << 10;

/// Longer messages are cut: they go over ttrpc, and into the logs of every client.
const MESSAGE: usize = 16 << 10;

/// The last message of level error in the log at `path`; `None` when it has none.
///
/// # Errors
/// Of opening and reading the file.
pub(crate) fn last_error_in(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let skip = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(skip))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    Ok(last_error(&tail))
}

/// The last message of level error among JSON lines. Lines that are no JSON objects are skipped:
/// the first may be cut, and hooks write what they like.
pub(crate) fn last_error(lines: &[u8]) -> Option<String> {
    lines.split(|&byte| byte == b'\n').rev().find_map(error_of)
}

fn error_of(line: &[u8]) -> Option<String> {
    let object: Map<String, Value> = serde_json::from_slice(line).ok()?;
    // Go matches keys without regard to case.
    let field = |name: &str| {
        let found = object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str())
    };
    let message = field("msg").unwrap_or_default().trim();
    (field("level") == Some("error") && !message.is_empty()).then(|| cut(message).to_owned())
}

/// At most [`MESSAGE`] bytes of `text`, whole characters.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
