// SPDX-License-Identifier: Apache-2.0
//! TOML to settings and back, strictly: a key that is not known is an error, for a typing error in
//! a limit or a permission must not pass for the default.

use std::fmt::Display;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Config, Reply};
use wedge_task::{CommandPath, ExecPath};

/// The sections there are.
const SECTIONS: [&str; 3] = ["bootstrap", "logger", "timeouts"];

/// Units of a duration, in milliseconds, the greatest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The longest duration: a day, in milliseconds.
const LONGEST: u64 = 24 * 3_600_000;

/// What is wrong with a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where, in bytes from its beginning.
    pub(super) at: usize,
    /// The key and the problem.
    pub(super) problem: String,
}

/// Changes the settings that `text` names.
pub(super) fn apply(config: &mut Config, text: &str) -> Result<(), Wrong> {
    let table = DeTable::parse(text).map_err(|err| {
        let at = err.span().map_or(0, |span| span.start);
        Wrong { at, problem: err.message().replace('\n', " ") }
    })?;
    set_all(config, "", table.get_ref())
}

fn set_all(config: &mut Config, section: &str, table: &DeTable<'_>) -> Result<(), Wrong> {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        // A dot in it was quoted, and makes no path.
        let name = if name.contains('.') { format!("{name:?}") } else { name.to_owned() };
        let path = if section.is_empty() { name } else { format!("{section}.{name}") };
        let setting = Setting { path: &path, at: key.span().start, value };
        if SECTIONS.contains(&path.as_str()) {
            set_all(config, &path, setting.table()?)?;
        } else {
            set(config, &setting)?;
        }
    }
    Ok(())
}

fn set(config: &mut Config, setting: &Setting<'_>) -> Result<(), Wrong> {
    let policy = &mut config.task.loggers.policy;
    match setting.path {
        "exec" => config.task.exec = setting.choice(ExecPath::ALL)?,
        "commands" => config.task.commands = setting.choice(CommandPath::ALL)?,
        "bootstrap.reply" => config.reply = setting.choice(Reply::ALL)?,
        "logger.allow_unsafe_paths" => policy.allow_unsafe_paths = setting.boolean()?,
        "logger.allowed_owners" => policy.allowed_owners = setting.users()?,
        "logger.allowed_directories" => policy.allowed_directories = setting.paths()?,
        "logger.programs" => policy.programs = setting.paths()?,
        "timeouts.runtime_command" => config.task.runtime_command = setting.duration()?,
        "timeouts.output_drain" => config.task.output_drain = setting.duration()?,
        "timeouts.logger_ready" => config.task.loggers.ready = setting.duration()?,
        "timeouts.event_drain" => config.event_drain = setting.duration()?,
        _ => return Err(setting.wrong(setting.at, "unknown key")),
    }
    Ok(())
}

/// Every setting in the order of the documentation, each a line of TOML.
pub(super) fn lines(config: &Config) -> Vec<String> {
    let Config { task, reply, event_drain } = config;
    let policy = &task.loggers.policy;
    let paths = |paths: &[PathBuf]| list(paths.iter().map(|path| quoted(&path.to_string_lossy())));
    vec![
        format!("exec = {}", quoted(&task.exec.to_string())),
        format!("commands = {}", quoted(&task.commands.to_string())),
        format!("bootstrap.reply = {}", quoted(&reply.to_string())),
        format!("logger.allow_unsafe_paths = {}", policy.allow_unsafe_paths),
        format!("logger.allowed_owners = {}", list(policy.allowed_owners.iter())),
        format!("logger.allowed_directories = {}", paths(&policy.allowed_directories)),
        format!("logger.programs = {}", paths(&policy.programs)),
        format!("timeouts.runtime_command = {}", time(task.runtime_command)),
        format!("timeouts.output_drain = {}", time(task.output_drain)),
        format!("timeouts.logger_ready = {}", time(task.loggers.ready)),
        format!("timeouts.event_drain = {}", time(*event_drain)),
    ]
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    format!("[{}]", items.map(|item| item.to_string()).collect::<Vec<_>>().join(", "))
}

/// A string of JSON is a basic string of TOML, but for the delete character.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn time(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(LONGEST);
    let fitting = UNITS.iter().find(|(_, unit)| millis % unit == 0);
    let (name, unit) = fitting.unwrap_or(&("ms", 1));
    format!("\"{}{name}\"", millis / unit)
}

/// A key and its value.
struct Setting<'a> {
    path: &'a str,
    at: usize,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Setting<'a> {
    fn table(&self) -> Result<&'a DeTable<'a>, Wrong> {
        self.value.get_ref().as_table().ok_or_else(|| self.expected("a table"))
    }

    fn boolean(&self) -> Result<bool, Wrong> {
        self.value.get_ref().as_bool().ok_or_else(|| self.expected("a boolean"))
    }

    fn choice<T: Display, const N: usize>(&self, choices: [T; N]) -> Result<T, Wrong> {
        let names = choices.iter().map(|choice| quoted(&choice.to_string())).collect::<Vec<_>>();
        let given = self.value.get_ref().as_str();
        let found = choices.into_iter().find(|choice| Some(choice.to_string().as_str()) == given);
        found.ok_or_else(|| self.expected(&format!("one of {}", names.join(", "))))
    }

    fn duration(&self) -> Result<Duration, Wrong> {
        let given = self.value.get_ref().as_str().and_then(duration);
        given.ok_or_else(|| self.expected("a duration from \"1ms\" to \"24h\", such as \"10s\""))
    }

    fn users(&self) -> Result<Vec<u32>, Wrong> {
        self.items("an array of user ids", |item| {
            let number = item.as_integer()?;
            u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|uid| *uid < u32::MAX)
        })
    }

    fn paths(&self) -> Result<Vec<PathBuf>, Wrong> {
        self.items("an array of absolute paths without \"..\"", |item| {
            let path = Path::new(item.as_str()?);
            let up = path.components().any(|part| part == Component::ParentDir);
            (path.is_absolute() && !up).then(|| path.to_owned())
        })
    }

    fn items<T>(
        &self,
        expected: &str,
        item: impl Fn(&DeValue<'a>) -> Option<T>,
    ) -> Result<Vec<T>, Wrong> {
        let array: &DeArray<'_> =
            self.value.get_ref().as_array().ok_or_else(|| self.expected(expected))?;
        let one = |given: &Spanned<DeValue<'a>>| {
            let at = given.span().start;
            item(given.get_ref()).ok_or_else(|| self.wrong(at, &format!("expected {expected}")))
        };
        array.iter().map(one).collect()
    }

    fn expected(&self, what: &str) -> Wrong {
        self.wrong(self.value.span().start, &format!("expected {what}"))
    }

    fn wrong(&self, at: usize, problem: &str) -> Wrong {
        Wrong { at, problem: format!("{}: {problem}", self.path) }
    }
}

/// A whole number and its unit, within the bounds.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, name) = text.split_at(digits);
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name)?;
    let millis = number.parse::<u64>().ok()?.checked_mul(*unit)?;
    (1..=LONGEST).contains(&millis).then(|| Duration::from_millis(millis))
}
