// SPDX-License-Identifier: Apache-2.0
//! The operator's configuration: `/etc/wedge/config.toml` and the drop-ins beside it, for what the
//! runtime options cannot say. docs/configuration.md has the keys.
//!
//! `start` reads it, before it makes anything, and hands the result to the shim it starts, as an
//! argument: a shim keeps the settings it was started with, and never fails for a file that was
//! changed after `start` had approved it. `delete` and `-info` need none of it and do not look.

mod file;
mod parse;

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wedge_task::Settings;

use crate::args::Flags;
use crate::error::Error;

/// Where the configuration is. Its drop-ins are in [`DROP_INS`] beside it.
const PATH: &str = "/etc/wedge/config.toml";

/// The directory of drop-ins, in that of the configuration.
const DROP_INS: &str = "conf.d";

/// Names another file. containerd hands its own environment to the shim, so only who starts
/// containerd can set it.
const VARIABLE: &str = "WEDGE_CONFIG";

/// How `start` answers containerd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reply {
    /// As every containerd since 1.6 understands it.
    #[default]
    Auto,
    /// The plain address, also to containerd 2.3 and later.
    Address,
    /// JSON, to a containerd that did not speak protobuf first: 2.0 to 2.2.
    Json,
}

impl Reply {
    /// Each of them.
    pub(crate) const ALL: [Reply; 3] = [Reply::Auto, Reply::Address, Reply::Json];
}

/// The name in a configuration.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reply::Auto => "auto",
            Reply::Address => "address",
            Reply::Json => "json",
        })
    }
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// What the tasks have to know.
    pub(crate) task: Settings,
    /// How `start` answers.
    pub(crate) reply: Reply,
    /// How long events that are queued at shutdown may take to reach containerd.
    pub(crate) event_drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            task: Settings::default(),
            reply: Reply::default(),
            event_drain: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Reads the configuration of this machine. Without files it is the default.
    ///
    /// # Errors
    /// When a file is not root's alone, cannot be read, or has a line that is wrong.
    pub(crate) fn load() -> Result<Config, Error> {
        match env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from) {
            Some(path) if !path.is_absolute() => Err(Error::ConfigPath { path }),
            Some(path) => {
                let main = file::read(&path)?;
                Config::of(Some((path.clone(), main)), &path)
            }
            None => {
                let path = Path::new(PATH);
                let main = file::read_if_there(path)?;
                Config::of(main.map(|text| (path.to_owned(), text)), path)
            }
        }
    }

    /// The settings of a server: those that `start` handed over. Without (a server that was started
    /// by hand), those of this machine.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub(crate) fn of_server(flags: &Flags) -> Result<Config, Error> {
        match &flags.settings {
            None => Config::load(),
            Some(text) => Config::merge([(PathBuf::from("-settings"), text.clone())]),
        }
    }

    fn of(main: Option<(PathBuf, String)>, path: &Path) -> Result<Config, Error> {
        let drop_ins = file::read_all(&path.with_file_name(DROP_INS))?;
        Config::merge(main.into_iter().chain(drop_ins))
    }

    /// The defaults, then each text in turn: the last to set a key wins.
    fn merge(texts: impl IntoIterator<Item = (PathBuf, String)>) -> Result<Config, Error> {
        let mut config = Config::default();
        for (path, text) in texts {
            parse::apply(&mut config, &text).map_err(|wrong| Error::Config {
                path,
                line: text.bytes().take(wrong.at).filter(|byte| *byte == b'\n').count() + 1,
                problem: wrong.problem,
            })?;
        }
        Ok(config)
    }

    /// Each setting that is not the default, a line of TOML.
    pub(crate) fn changes(&self) -> Vec<String> {
        let defaults = parse::lines(&Config::default());
        let lines = parse::lines(self).into_iter().zip(defaults);
        lines.filter(|(line, default)| line != default).map(|(line, _)| line).collect()
    }
}

#[cfg(test)]
mod tests;
