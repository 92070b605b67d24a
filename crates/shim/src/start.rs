// SPDX-License-Identifier: Apache-2.0
//! The `start` action: one shim per task, or per pod; print its address.
//!
//! containerd reads standard output and standard error of this process as one answer, to the end:
//! a stray byte spoils it, and a child that kept either of them open would hang the daemon.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use wedge_oci::{Bundle, Options, Spec};

use crate::args::{Flags, Program};
use crate::bootstrap::{Daemon, read_stdin};
use crate::config::Config;
use crate::error::Error;
use crate::socket::{self, Bound, Socket, SocketFile};
use crate::{confine, memory, options, serve};

/// Annotations whose value names the group a task belongs to; the first that is present counts.
const GROUP_ANNOTATIONS: [&str; 2] =
    ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// Makes sure a shim serves the task of the bundle in the current directory, and prints its
/// address. The shim of a group is started by the first of its tasks.
///
/// # Errors
/// When no shim can be started; nothing is left behind then.
pub fn start(program: &Program, flags: &Flags) -> Result<(), Error> {
    confine::ignore_termination()?;
    confine::become_subreaper()?;
    let input = read_stdin()?;
    let config = Config::load()?;
    let daemon = Daemon::of(&input, flags)?;
    let options = options::decode(daemon.options()).map_err(|source| Error::Options {
        action: "failed to fetch runc options",
        source: Box::new(source),
    })?;
    let bundle = current_bundle()?;
    let group = group_of(&bundle, &flags.id)?;
    if let Some(dir) = daemon.socket_dir() {
        link_socket_dir(&bundle, dir)?;
    }
    let containerd = daemon.grpc_address().unwrap_or(&flags.address);
    let address = socket::address(daemon.socket_dir(), containerd, &flags.namespace, &group);
    let announce = || {
        if daemon.reads_address_file() {
            write_address(&bundle, &address)?;
        }
        print(&daemon.reply(&address, config.reply)?)
    };
    let command = server(program, flags, &daemon, &config)?;
    match socket::take(socket::path_of(&address))? {
        Bound::Live => announce(),
        Bound::Fresh(socket) => {
            let started = Started::spawn(command, socket)?;
            confine(&options, started.child.id())?;
            announce()?;
            started.keep();
            Ok(())
        }
    }
}

/// Tells the server and a later `delete` where the sockets are: the symbolic link `s`.
fn link_socket_dir(bundle: &Bundle, dir: &Path) -> Result<(), Error> {
    let link = bundle.socket_dir();
    let removed = match fs::remove_file(&link) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        Ok(()) | Err(_) => Ok(()),
    };
    let made = removed.and_then(|()| std::os::unix::fs::symlink(dir, &link));
    made.map_err(|source| Error::SocketDir { source })
}

/// The bundle containerd starts every action in.
pub(crate) fn current_bundle() -> Result<Bundle, Error> {
    let dir = env::current_dir()
        .map_err(|source| Error::System { action: "get the current directory", source })?;
    Ok(Bundle::new(dir))
}

/// The name tasks of one shim have in common: a pod's, or the task's own id.
///
/// # Errors
/// When `config.json` cannot be read.
pub(crate) fn group_of(bundle: &Bundle, id: &str) -> Result<String, Error> {
    let mut spec = Spec::read(bundle)
        .map_err(|source| Error::Oci { action: "read the annotations of the task", source })?;
    let named = GROUP_ANNOTATIONS.iter().find_map(|name| spec.annotations.remove(*name));
    Ok(named.unwrap_or_else(|| id.to_owned()))
}

/// A shim that was started. Dropped, it is undone.
struct Started {
    child: Child,
    socket: Option<SocketFile>,
}

impl Started {
    fn spawn(command: Command, socket: Socket) -> Result<Started, Error> {
        let (listener, file) = socket.into_parts();
        match spawn(command, listener.into()) {
            Ok(child) => Ok(Started { child, socket: Some(file) }),
            Err(err) => {
                remove(&file);
                Err(err)
            }
        }
    }

    fn keep(mut self) {
        self.socket = None;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(file) = &self.socket {
            remove(file);
            // It cannot be gone: nobody but this process could have reaped it. The zombie is
            // left to whoever adopts it, for this process ends now.
            self.child.kill().unwrap_or_default();
        }
    }
}

/// The error that led here is the one to report; a socket without listener is replaced by the
/// next start anyway.
fn remove(file: &SocketFile) {
    file.remove().unwrap_or_default();
}

/// This very binary under the same name, as the server.
fn server(
    program: &Program,
    flags: &Flags,
    daemon: &Daemon,
    config: &Config,
) -> Result<Command, Error> {
    let binary = env::current_exe()
        .map_err(|source| Error::System { action: "find the shim's own binary", source })?;
    let mut command = Command::new(binary);
    command
        .arg0(program.argv0())
        .args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &flags.address])
        .args(["-settings", &config.changes().join("\n")])
        .args((flags.debug || daemon.debug()).then_some("-debug"))
        .args(
            flags.debug_socket.iter().flat_map(|path| ["-debug-socket".as_ref(), path.as_os_str()]),
        )
        .envs(daemon.ttrpc_address().map(|address| ("TTRPC_ADDRESS", address)))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    memory::keep_little(&mut command);
    // PATH and the like, and from older daemons TTRPC_ADDRESS, come with the environment.
    wedge_sys::prepare_server(&mut command, serve::HANDLED.into_iter().collect());
    Ok(command)
}

/// Starts the server, listening on descriptor 3.
fn spawn(mut command: Command, listener: OwnedFd) -> Result<Child, Error> {
    let system = |action| move |source| Error::System { action, source };
    wedge_sys::pass_fd(&mut command, listener, serve::LISTENER)
        .map_err(system("pass the socket to the shim"))?;
    if env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        wedge_sys::create_core_sched_group().map_err(system("enable sched core support"))?;
    }
    #[expect(clippy::disallowed_methods, reason = "this process ends before its child does")]
    command.spawn().map_err(system("start the shim process"))
}

fn confine(options: &Options, pid: u32) -> Result<(), Error> {
    if !options.shim_cgroup.is_empty() {
        confine::join_cgroup(&options.shim_cgroup, pid)?;
    }
    confine::adjust_oom_score(pid)
}

/// containerd up to 1.7 finds the shim again by this file, after a restart.
fn write_address(bundle: &Bundle, address: &str) -> Result<(), Error> {
    let path = bundle.address();
    let temporary = bundle.dir().join(".address");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { action: "write", path, source }
    };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(address.as_bytes()))
        .map_err(failed(&temporary))?;
    fs::rename(&temporary, &path).map_err(failed(&path))
}

/// Writes the answer, all of it, to standard output.
pub(crate) fn print(answer: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout();
    stdout
        .write_all(answer)
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::System { action: "write the answer", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle_with(config: &str) -> (tempfile::TempDir, Bundle) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        let bundle = Bundle::new(dir.path());
        (dir, bundle)
    }

    #[test]
    fn the_group_is_the_first_annotation_or_the_id() {
        let table = [
            ("{}", "id"),
            (r#"{"annotations": {"other": "x"}}"#, "id"),
            (r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}"#, "pod"),
            (
                r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod",
                    "io.containerd.runc.v2.group": "group"}}"#,
                "group",
            ),
        ];
        for (config, group) in table {
            let (_dir, bundle) = bundle_with(config);
            assert_eq!(group_of(&bundle, "id").unwrap(), group, "{config}");
        }
    }

    #[test]
    fn a_bundle_without_a_readable_spec_fails() {
        let (_dir, bundle) = bundle_with("{");
        assert!(group_of(&bundle, "id").is_err());
        assert!(group_of(&Bundle::new("/nonexistent"), "id").is_err());
    }

    #[test]
    fn the_address_file_is_replaced_and_nothing_else_is_left() {
        let (dir, bundle) = bundle_with("{}");
        for address in ["unix:///run/containerd/s/1", "unix:///2"] {
            write_address(&bundle, address).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("address")).unwrap(), address);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
