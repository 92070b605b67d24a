// SPDX-License-Identifier: Apache-2.0
//! Which OCI runtime has made a container.

use std::fmt;
use std::path::Path;

/// An OCI runtime whose state of a container is known here. crun speaks the same command line as
/// runc, but keeps another state, is started the other way round and refuses in other words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `state.json`, and an init that waits for a reader of `exec.fifo`.
    Runc,
    /// `status`, a copy of `config.json`, and an init that waits for a writer.
    Crun,
}

impl Dialect {
    /// Both.
    pub(crate) const ALL: [Dialect; 2] = [Dialect::Runc, Dialect::Crun];

    /// By the name of the runtime's file: a wrapper, which has another one, may do more.
    pub fn of_binary(binary: &str) -> Option<Dialect> {
        let name = Path::new(binary).file_name()?;
        Dialect::ALL.into_iter().find(|dialect| name == dialect.name())
    }

    /// The runtime's name.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Runc => "runc",
            Dialect::Crun => "crun",
        }
    }

    /// The file by which the runtime knows that there is a container.
    pub(crate) fn state(self) -> &'static str {
        match self {
            Dialect::Runc => "state.json",
            Dialect::Crun => "status",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_the_file_counts() {
        for (binary, dialect) in [
            ("runc", Some(Dialect::Runc)),
            ("/usr/bin/crun", Some(Dialect::Crun)),
            ("/crun/wrapper", None),
            ("crun-wasm", None),
            ("", None),
        ] {
            assert_eq!(Dialect::of_binary(binary), dialect, "{binary}");
        }
    }
}
