// SPDX-License-Identifier: Apache-2.0
//! Starts the processes of `create` and `exec`.

use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::Value;
use wedge_integration::fake_runtime::{Step, VARIABLE};
use wedge_integration::helper;

use crate::args::Invocation;
use crate::state::Identity;

/// The OCI process of this call: exec's from its file, create's from the bundle. `None` for other
/// commands.
fn process(bundle: &Path, invocation: &Invocation) -> Result<Option<Value>> {
    let (path, pointer) = match invocation.command.as_str() {
        "create" => (bundle.join("config.json"), "/process"),
        "exec" => (invocation.path("process").context("no --process")?, ""),
        _ => return Ok(None),
    };
    let json = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let value: Value = serde_json::from_slice(&json)?;
    Ok(value.pointer(pointer).cloned())
}

/// The step in the process's environment.
pub(crate) fn own_step(bundle: &Path, invocation: &Invocation) -> Result<Option<String>> {
    let process = process(bundle, invocation)?.unwrap_or_default();
    let found = strings(&process, "env")
        .into_iter()
        .find_map(|variable| Some(variable.strip_prefix(VARIABLE)?.strip_prefix('=')?.to_owned()));
    Ok(found)
}

/// Starts the process, behind the payload commands in `prefix`, and writes the pid file.
pub(crate) fn launch(
    bundle: &Path,
    invocation: &Invocation,
    step: &Step,
    prefix: &[&str],
) -> Result<Identity> {
    let process = process(bundle, invocation)?.context("no process")?;
    let mut argv: Vec<String> = prefix.iter().map(|&word| word.to_owned()).collect();
    argv.extend(strings(&process, "args"));
    let console = console(invocation, step)?;
    if let Some(console) = &console {
        argv.splice(0..0, ["wedge-payload".into(), "session".into(), console.path.clone()]);
    }
    let identity = start(bundle, &argv, &process, step, console.as_ref())?;
    if let (false, Some(path)) = (step.no_pid_file, invocation.path("pid-file")) {
        write_pid(&path, identity.pid)?;
    }
    if step.wait_for_exit {
        identity.wait_exit()?;
    }
    Ok(identity)
}

/// Spawns `argv` as a child, or as an orphan. Its parent never waits for it: when this program
/// ends, the shim inherits it, dead or alive.
fn start(
    bundle: &Path,
    argv: &[String],
    process: &Value,
    step: &Step,
    console: Option<&Console>,
) -> Result<Identity> {
    let pid_file = bundle.join(format!(".orphan-{}", std::process::id()));
    let mut argv = argv.to_vec();
    if step.orphan {
        let file = pid_file.to_string_lossy().into_owned();
        argv.splice(0..0, ["wedge-payload".into(), "orphan".into(), file]);
    }
    let mut command = program(&argv)?;
    for variable in strings(process, "env") {
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
    }
    if let Some(console) = console {
        command.stdin(console.slave.try_clone()?).stdout(console.slave.try_clone()?);
        command.stderr(Stdio::from(console.slave.try_clone()?));
    }
    let missing = || format!("exec: {:?}: executable file not found in $PATH", argv.first());
    let mut child = command.spawn().with_context(missing)?;
    if !step.orphan {
        return Ok(Identity::of(child.id()));
    }
    ensure!(child.wait()?.success(), "the orphan's parent failed");
    let pid = fs::read_to_string(&pid_file)?.parse()?;
    fs::remove_file(&pid_file)?;
    Ok(Identity::of(pid))
}

fn program(argv: &[String]) -> Result<Command> {
    let (program, args) = argv.split_first().context("no arguments")?;
    let own = Path::new(program).file_name().is_some_and(|name| name == "wedge-payload");
    let program = if own { helper("wedge-payload")? } else { PathBuf::from(program) };
    let mut command = Command::new(program);
    command.args(args);
    Ok(command)
}

/// Renamed into place, as runc does.
fn write_pid(path: &Path, pid: u32) -> Result<()> {
    let name = path.file_name().context("no name")?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    fs::write(&temporary, pid.to_string())?;
    Ok(fs::rename(temporary, path)?)
}

/// The slave of a terminal whose master was sent to the shim.
struct Console {
    slave: OwnedFd,
    path: String,
}

fn console(invocation: &Invocation, step: &Step) -> Result<Option<Console>> {
    let Some(socket) = invocation.path("console-socket") else { return Ok(None) };
    let pty = nix::pty::openpty(None, None)?;
    // Clones are close-on-exec, the originals are not.
    let (master, slave) = (pty.master.try_clone()?, pty.slave.try_clone()?);
    let path = nix::unistd::ttyname(&slave)?.to_string_lossy().into_owned();
    if step.no_console {
        return Ok(Some(Console { slave, path }));
    }
    let stream = UnixStream::connect(&socket).context("connecting the console socket")?;
    let (data, fds) = ([IoSlice::new(b"/dev/ptmx")], [master.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &data, &rights, MsgFlags::empty(), None)?;
    Ok(Some(Console { slave, path }))
}

fn strings(object: &Value, key: &str) -> Vec<String> {
    let list = object.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}
