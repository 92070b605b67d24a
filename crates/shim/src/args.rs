// SPDX-License-Identifier: Apache-2.0
//! The command line as containerd writes it, parsed as Go's `flag` package would.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// What the usage text says, in the order Go prints flags.
const USAGE: &str = "  -address string
    \tgrpc address back to main containerd
  -bundle string
    \tpath to the bundle if not workdir
  -debug
    \tenable debug output in logs
  -debug-socket string
    \tdebug socket path to serve
  -id string
    \tid of the task
  -info
    \tget the option protobuf from stdin, print the shim info protobuf to stdout, and exit
  -namespace string
    \tnamespace that owns the shim
  -publish-binary string
    \tpath to publish binary (used for publishing events) (default \"containerd\")
  -socket string
    \tsocket path to serve
  -v\tshow the shim version and exit
  -version
    \tshow the shim version and exit
";

/// The name this binary was called by. Installed or linked as `containerd-shim-runc-v2` it is
/// containerd's own runc shim to everybody who asks.
#[derive(Debug, Clone)]
pub struct Program {
    argv0: OsString,
}

impl Program {
    /// Makes it of the first word of the command line.
    pub fn new(argv0: Option<OsString>) -> Program {
        Program { argv0: argv0.unwrap_or_else(|| OsString::from("containerd-shim-wedge-v2")) }
    }

    /// The word as it was given.
    pub fn argv0(&self) -> &OsString {
        &self.argv0
    }

    /// The runtime name in errors, logs and the answer to `-info`.
    pub fn runtime(&self) -> &'static str {
        match self.basename().as_str() {
            "containerd-shim-runc-v2" => "io.containerd.runc.v2",
            _ => "io.containerd.wedge.v2",
        }
    }

    /// What `-h` and a wrong flag print.
    pub fn usage(&self) -> String {
        format!("Usage of {}:\n{USAGE}", self.argv0.to_string_lossy())
    }

    /// What `-v` prints.
    pub fn version(&self) -> String {
        format!("{}:\n  Version:  {VERSION}\n  Revision: {REVISION}\n\n", self.basename())
    }

    fn basename(&self) -> String {
        let name = Path::new(&self.argv0).file_name().unwrap_or(&self.argv0);
        name.to_string_lossy().into_owned()
    }
}

/// The version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The source revision, given by the build.
pub(crate) const REVISION: &str = match option_env!("WEDGE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The flags that matter. `-publish-binary` and `-bundle` are accepted and ignored, as by
/// containerd's runc shim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// containerd namespace, never empty.
    pub namespace: String,
    /// Task id; in a pod that of its first container.
    pub id: String,
    /// containerd's gRPC socket, part of the shim socket's name.
    pub address: String,
    /// Serve on this path instead of inherited descriptor 3.
    pub socket: Option<PathBuf>,
    /// Serve the shim's state on this path.
    pub debug_socket: Option<PathBuf>,
    /// The settings `start` has read, for the shim it starts. The one flag that is not Go's, and
    /// in no usage: nobody else needs it.
    pub settings: Option<String>,
    /// Log at debug level.
    pub debug: bool,
}

/// What the shim was called to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// `start`: make sure a shim serves this task and print its address.
    Start(Flags),
    /// `delete`: clean up after a dead shim.
    Delete(Flags),
    /// No action word: be the shim.
    Serve(Flags),
    /// `-info`: print what this runtime can do.
    Info,
    /// Compile a seccomp profile, for a shim that started this process.
    CompileSeccomp,
    /// `-v`: print the version.
    Version,
    /// `-h`: print the usage.
    Help,
}

/// Parses the words after the program name.
///
/// # Errors
/// [`Error::Usage`] for a wrong flag (exit status 2), [`Error::NoNamespace`] when an action comes
/// without a namespace.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, Error> {
    let mut words = Words { rest: args.into_iter().collect::<Vec<_>>().into_iter() };
    let mut raw = Raw::default();
    while let Some((name, value)) = words.next_flag()? {
        match raw.slot(&name) {
            Some(Slot::Bool(slot)) => *slot = boolean(&name, value.as_deref())?,
            Some(Slot::Text(slot)) => *slot = words.value(&name, value)?,
            None if name == "h" || name == "help" => return Ok(Invocation::Help),
            None => return Err(usage(format!("flag provided but not defined: -{name}"))),
        }
    }
    raw.into_invocation(words.rest.as_slice().first())
}

#[derive(Default)]
struct Raw {
    flags: Flags,
    socket: String,
    debug_socket: String,
    ignored: String,
    info: bool,
    version: bool,
}

enum Slot<'a> {
    Bool(&'a mut bool),
    Text(&'a mut String),
}

impl Raw {
    fn slot(&mut self, name: &str) -> Option<Slot<'_>> {
        Some(match name {
            "namespace" => Slot::Text(&mut self.flags.namespace),
            "id" => Slot::Text(&mut self.flags.id),
            "address" => Slot::Text(&mut self.flags.address),
            "socket" => Slot::Text(&mut self.socket),
            "debug-socket" => Slot::Text(&mut self.debug_socket),
            "settings" => Slot::Text(self.flags.settings.get_or_insert_default()),
            "publish-binary" | "bundle" => Slot::Text(&mut self.ignored),
            "debug" => Slot::Bool(&mut self.flags.debug),
            "info" => Slot::Bool(&mut self.info),
            "v" | "version" => Slot::Bool(&mut self.version),
            _ => return None,
        })
    }

    fn into_invocation(self, action: Option<&OsString>) -> Result<Invocation, Error> {
        let path = |text: String| (!text.is_empty()).then(|| PathBuf::from(text));
        let flags = Flags {
            socket: path(self.socket),
            debug_socket: path(self.debug_socket),
            ..self.flags
        };
        if self.version {
            return Ok(Invocation::Version);
        }
        if self.info {
            return Ok(Invocation::Info);
        }
        if action.is_some_and(|word| word == wedge_task::SECCOMP_COMMAND) {
            return Ok(Invocation::CompileSeccomp);
        }
        if flags.namespace.is_empty() {
            return Err(Error::NoNamespace);
        }
        Ok(match action.and_then(|word| word.to_str()) {
            Some("start") => Invocation::Start(flags),
            Some("delete") => Invocation::Delete(flags),
            _ => Invocation::Serve(flags),
        })
    }
}

struct Words {
    rest: std::vec::IntoIter<OsString>,
}

impl Words {
    /// The next flag and the value after its `=`. `None` before the first word that is no flag.
    fn next_flag(&mut self) -> Result<Option<(String, Option<String>)>, Error> {
        let Some(word) = self.rest.as_slice().first() else {
            return Ok(None);
        };
        let word = text(word)?;
        if word.len() < 2 || !word.starts_with('-') {
            return Ok(None);
        }
        self.rest.next();
        if word == "--" {
            return Ok(None);
        }
        let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or_default();
        if flag.is_empty() || flag.starts_with(['-', '=']) {
            return Err(usage(format!("bad flag syntax: {word}")));
        }
        Ok(Some(match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (flag.to_owned(), None),
        }))
    }

    fn value(&mut self, name: &str, given: Option<String>) -> Result<String, Error> {
        if let Some(value) = given {
            return Ok(value);
        }
        let missing = || usage(format!("flag needs an argument: -{name}"));
        text(&self.rest.next().ok_or_else(missing)?)
    }
}

fn boolean(name: &str, value: Option<&str>) -> Result<bool, Error> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => {
            Err(usage(format!("invalid boolean value {value:?} for -{name}: parse error")))
        }
    }
}

fn text(word: &OsString) -> Result<String, Error> {
    let text = word.to_str().ok_or_else(|| usage(format!("argument is not UTF-8: {word:?}")))?;
    Ok(text.to_owned())
}

fn usage(message: String) -> Error {
    Error::Usage { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    const COMMON: &str = "-namespace k8s.io -address /run/containerd/containerd.sock \
                          -publish-binary /usr/bin/containerd -id abc";

    fn common() -> Flags {
        Flags {
            namespace: "k8s.io".to_owned(),
            id: "abc".to_owned(),
            address: "/run/containerd/containerd.sock".to_owned(),
            ..Flags::default()
        }
    }

    #[test]
    fn the_command_lines_of_containerd_are_understood() {
        let debug = Flags { debug: true, ..common() };
        let socket = Flags { socket: Some("/a=b".into()), ..common() };
        let sockets = Flags { debug_socket: Some("/d".into()), ..socket };
        let settings = Flags { settings: Some("a=b".to_owned()), ..common() };
        let default = Flags { settings: Some(String::new()), ..common() };
        let table = [
            ("start", Invocation::Start(common())),
            ("-debug start", Invocation::Start(debug.clone())),
            ("-debug=T -- start -v", Invocation::Start(debug)),
            ("-bundle /b delete", Invocation::Delete(common())),
            ("--debug=0", Invocation::Serve(common())),
            ("- start", Invocation::Serve(common())),
            ("other -bogus", Invocation::Serve(common())),
            ("-socket=/a=b -debug-socket /d", Invocation::Serve(sockets)),
            ("-settings a=b", Invocation::Serve(settings)),
            ("-settings=", Invocation::Serve(default)),
            ("-v -info", Invocation::Version),
            ("-version=true", Invocation::Version),
            ("-info start", Invocation::Info),
            ("-h -bogus", Invocation::Help),
            ("-v --help", Invocation::Help),
        ];
        for (rest, expected) in table {
            assert_eq!(parsed(&format!("{COMMON} {rest}")).unwrap(), expected, "{rest}");
        }
        assert_eq!(parsed("-v").unwrap(), Invocation::Version);
        assert_eq!(parsed("-info").unwrap(), Invocation::Info);
    }

    /// The texts are those of Go 1.19, seen from containerd's own shim.
    #[test]
    fn wrong_command_lines_get_the_text_of_go() {
        let table = [
            ("-bogus", "flag provided but not defined: -bogus"),
            ("-v -bogus", "flag provided but not defined: -bogus"),
            ("-id", "flag needs an argument: -id"),
            ("-debug=maybe", "invalid boolean value \"maybe\" for -debug: parse error"),
            ("---x", "bad flag syntax: ---x"),
            ("-=x", "bad flag syntax: -=x"),
        ];
        for (line, text) in table {
            match parsed(line) {
                Err(Error::Usage { message }) => assert_eq!(message, text, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        for line in ["", "start", "-id abc delete", "-namespace= start"] {
            assert!(matches!(parsed(line), Err(Error::NoNamespace)), "{line}");
        }
    }

    #[test]
    fn the_runtime_name_follows_the_program_name() {
        let table = [
            ("/usr/bin/containerd-shim-runc-v2", "io.containerd.runc.v2"),
            ("containerd-shim-runc-v2", "io.containerd.runc.v2"),
            ("containerd-shim-wedge-v2", "io.containerd.wedge.v2"),
            ("/opt/shim", "io.containerd.wedge.v2"),
        ];
        for (argv0, name) in table {
            assert_eq!(Program::new(Some(argv0.into())).runtime(), name);
        }
        let version = Program::new(Some("/usr/bin/containerd-shim-runc-v2".into())).version();
        let expected = "containerd-shim-runc-v2:\n  Version:  ";
        assert!(version.starts_with(expected), "{version}");
        assert!(version.ends_with("\n\n"), "{version}");
    }
}
