// SPDX-License-Identifier: Apache-2.0
//! Reads the files of a configuration. What they say decides what runs as root, so nobody but root
//! may have written them.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A configuration is a page or two. Above this it is something else.
const LIMIT: u64 = 64 << 10;

/// The text of a file that has to be there.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let file = open(path).map_err(|source| unreadable(path, source))?;
    text_of(file, path)
}

/// The text of a file, or nothing when there is none.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(path, source)),
        Ok(file) => text_of(file, path).map(Some),
    }
}

/// The texts of the drop-ins in a directory, in the order of their names.
pub(super) fn read_all(dir: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let failed = |source| unreadable(dir, source);
    let found = match fs::metadata(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    // Who can write to it chooses which of root's files count.
    check(dir, &found)?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    paths.into_iter().map(|path| read(&path).map(|text| (path, text))).collect()
}

/// Does not wait for the writer of a FIFO.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// The file that was opened is the file that is checked and read, wherever its name leads.
fn text_of(file: File, path: &Path) -> Result<String, Error> {
    let failed = |source| unreadable(path, source);
    let refused = |why| Error::ConfigRefused { path: path.to_owned(), why };
    let found = file.metadata().map_err(failed)?;
    check(path, &found)?;
    if !found.is_file() {
        return Err(refused("is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|len| len > LIMIT) {
        return Err(refused("is longer than 64 KiB"));
    }
    String::from_utf8(text).map_err(|_| refused("is not UTF-8 text"))
}

fn check(path: &Path, found: &Metadata) -> Result<(), Error> {
    let refused = |why| Err(Error::ConfigRefused { path: path.to_owned(), why });
    match (found.uid(), found.mode() & 0o022) {
        (0, 0) => Ok(()),
        (0, _) => refused("is writable by others than root"),
        _ => refused("is not owned by root"),
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::File { action: "read the configuration", path: path.to_owned(), source }
}
