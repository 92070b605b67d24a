// SPDX-License-Identifier: Apache-2.0
//! One call of the runtime's command line, from finding the binary to what it said when it failed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wedge_reaper::{CommandError, Limits, Output, Reaper};
use wedge_sys::go_text;

use crate::error::{Logged, Said};
use crate::runtime_log::{cut, last_error, last_error_in};

/// Variables of the shim's own service manager. Left to the runtime, they would make it pass
/// descriptors on to the container or wait for its readiness.
const NOT_INHERITED: [&str; 4] = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// The standard streams of a container's process, which it inherits from the runtime. A missing
/// one is /dev/null. Our copies are closed once the runtime has started.
#[derive(Debug, Default)]
pub struct ChildIo {
    /// Its standard input.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
}

/// Where the runtime's own streams go.
#[derive(Debug)]
pub(crate) enum Streams {
    /// To us: nothing else will use them.
    Captured,
    /// They are the container's.
    Container(ChildIo),
}

/// What a missing log means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingLog {
    /// The client is told, as by Go: the log is the first thing a runtime's create opens.
    Reported,
    /// The runtime had nothing to say.
    Silent,
}

/// One command, ready to run.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The runtime as the client names it.
    pub(crate) binary: &'a str,
    /// `--root`.
    pub(crate) root: &'a Path,
    /// `--log`.
    pub(crate) log: &'a Path,
    /// See there.
    pub(crate) missing_log: MissingLog,
    /// `--systemd-cgroup`.
    pub(crate) systemd_cgroup: bool,
    /// The subcommand and its arguments.
    pub(crate) args: Vec<OsString>,
    /// What it reads when its streams are captured; nothing: /dev/null.
    pub(crate) input: Option<&'a [u8]>,
    /// Bounds of its time and its captured output.
    pub(crate) limits: Limits,
}

impl Call<'_> {
    /// Runs it to its end and returns what it printed, if that was captured.
    pub(crate) async fn run(self, reaper: &Reaper, streams: Streams) -> Result<Vec<u8>, Said> {
        let output = match self.output(reaper, streams).await {
            Ok(output) if output.status.success() => return Ok(output.output),
            Ok(output) => output,
            Err((ended, cut_short)) => {
                return Err(Said { cut_short, ..self.said(ended, &[]) });
            }
        };
        let ended = format!("{} did not terminate successfully: {}", self.binary, output.status);
        // 128 + signal; no runtime exits with such a code by itself.
        let cut_short = (129..=192).contains(&output.status.code());
        Err(Said { cut_short, ..self.said(ended, &output.output) })
    }

    /// What it left, or why it did not run to its end and whether for want of time.
    async fn output(&self, reaper: &Reaper, streams: Streams) -> Result<Output, (String, bool)> {
        let mut command = self.command().map_err(|text| (text, false))?;
        let output = match streams {
            Streams::Captured => reaper.capture(command, self.input, self.limits).await,
            Streams::Container(io) => {
                command.stdin(stream(io.stdin));
                command.stdout(stream(io.stdout));
                command.stderr(stream(io.stderr));
                reaper.complete(command, self.limits).await
            }
        };
        output.map_err(|err| (command_text(&err), matches!(err, CommandError::Timeout { .. })))
    }

    fn command(&self) -> Result<Command, String> {
        let mut command = program(self.binary)?;
        command.arg("--root").arg(self.root);
        command.arg("--log").arg(self.log).args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command.args(&self.args);
        Ok(command)
    }

    /// Puts together what is known of a failure. A runtime that failed before it opened its log
    /// may have printed the JSON lines.
    fn said(&self, ended: String, output: &[u8]) -> Said {
        let printed = cut(String::from_utf8_lossy(output).trim()).to_owned();
        let logged = match (last_error_in(self.log), last_error(output)) {
            (Ok(Some(message)), _) | (Ok(None) | Err(_), Some(message)) => Logged::Message(message),
            (Ok(None), None) => Logged::Nothing,
            (Err(err), None) if self.is_silent(&err) => Logged::Nothing,
            (Err(err), None) => {
                Logged::Unreadable(format!("open {}: {}", self.log.display(), go_text(&err)))
            }
        };
        Said { ended, printed, logged, cut_short: false }
    }

    fn is_silent(&self, err: &io::Error) -> bool {
        self.missing_log == MissingLog::Silent && err.kind() == io::ErrorKind::NotFound
    }
}

fn stream(fd: Option<OwnedFd>) -> Stdio {
    fd.map_or_else(Stdio::null, Stdio::from)
}

/// The command `name`, looked for in our `PATH`; a failure is in Go's words.
pub(crate) fn program(name: &str) -> Result<Command, String> {
    let mut command = Command::new(look_up(name, env::var_os("PATH").as_deref())?);
    command.arg0(name);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    Ok(command)
}

/// The error of a command that did not run to its end, in Go's words where Go has any.
pub(crate) fn command_text(err: &CommandError) -> String {
    match err {
        CommandError::Spawn { program, source } => {
            format!("fork/exec {program}: {}", go_text(source))
        }
        CommandError::Pipe { source, .. } => format!("{err}: {}", go_text(source)),
        CommandError::Timeout { .. } => err.to_string(),
    }
}

/// Finds `name` as Go's `exec.LookPath` does: one with a slash is a path, any other is looked for
/// in the absolute directories of `path`.
fn look_up(name: &str, path: Option<&OsStr>) -> Result<PathBuf, String> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    find_in_path(name, path.unwrap_or_default())
        .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))
}

/// The first program called `name` in the absolute directories of `path`.
pub fn find_in_path(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_looked_up_as_go_does() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("runc", 0o755), ("data", 0o644)] {
            let file = dir.path().join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        }
        fs::create_dir(dir.path().join("sub")).unwrap();
        let path =
            env::join_paths([Path::new("."), Path::new("/nonexistent"), dir.path()]).unwrap();
        assert_eq!(look_up("runc", Some(&path)), Ok(dir.path().join("runc")));
        assert_eq!(look_up("/x/runc", None), Ok(PathBuf::from("/x/runc")));
        for name in ["data", "sub", "missing", ""] {
            let text = format!("exec: \"{name}\": executable file not found in $PATH");
            assert_eq!(look_up(name, Some(&path)), Err(text));
        }
        assert!(look_up("runc", None).is_err());
    }

    #[test]
    fn the_shims_own_service_manager_stays_hidden() {
        let call = Call {
            binary: "/x/runc",
            root: Path::new("/r"),
            log: Path::new("/l"),
            missing_log: MissingLog::Silent,
            systemd_cgroup: false,
            args: vec!["start".into()],
            input: None,
            limits: Limits::default(),
        };
        let command = call.command().unwrap();
        let removed: Vec<_> = command.get_envs().collect();
        for name in NOT_INHERITED {
            assert!(removed.contains(&(OsStr::new(name), None)), "{name}");
        }
        assert_eq!(removed.len(), NOT_INHERITED.len());
        assert_eq!(command.get_current_dir(), None);
    }
}
