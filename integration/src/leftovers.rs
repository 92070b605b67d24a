// SPDX-License-Identifier: Apache-2.0
//! What a test may leave behind on the machine, found by its token, and its removal.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::proc::Proc;
use crate::wait;

/// Where runc keeps its state when containerd's shims drive it, for all daemons of a machine.
const RUNC_STATE: &str = "/run/containerd/runc";
/// Where shims put their sockets, whatever the daemon's configuration says.
const SHIM_SOCKETS: &str = "/run/containerd/s";
/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// How the things of one test are named.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) token: String,
    pub(crate) dir: PathBuf,
    /// What shims' sockets are named after: `namespace/id`, the id a pod's or a container's.
    pub(crate) groupings: Vec<String>,
}

/// Everything that is left, a line each. Empty parent directories named after the namespace do
/// not count: runc makes them and never removes them.
pub(crate) fn find(names: &Names) -> Vec<String> {
    let mut left = Vec::new();
    for process in processes(&names.token) {
        left.push(format!("process {} {:?}", process.0, process.args().unwrap_or_default()));
    }
    left.extend(mounts(names).into_iter().map(|mount| format!("mount {mount}")));
    left.extend(listed("cgroup", cgroups(names).iter().flat_map(|dir| subdirs(dir))));
    left.extend(listed("runc state", subdirs(&runc_state(names))));
    left.extend(listed("socket", sockets(names).into_iter().filter(|path| path.exists())));
    left
}

fn listed(what: &str, paths: impl IntoIterator<Item = PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| format!("{what} {}", path.display())).collect()
}

/// A test's directory on a disk, if it has made one.
pub(crate) fn on_disk(token: &str) -> PathBuf {
    Path::new("/var/tmp").join(token)
}

/// Removes everything, by force; used after failures, and for the empty parents after successes.
pub(crate) fn purge(names: &Names) {
    wait::until("all processes are gone", || {
        let alive = processes(&names.token);
        for process in &alive {
            if let Ok(pid) = i32::try_from(process.0) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
        anyhow::ensure!(alive.is_empty(), "{alive:?}");
        Ok(())
    })
    .ok();
    for mount in mounts(names).iter().rev() {
        crate::Cmd::new("umount").args(["-l", mount]).output().ok();
    }
    for dir in cgroups(names) {
        remove_cgroup(&dir);
    }
    fs::remove_dir_all(runc_state(names)).ok();
    fs::remove_dir_all(on_disk(&names.token)).ok();
    for socket in sockets(names) {
        fs::remove_file(socket).ok();
    }
}

/// Living processes of the test: ours say so in their environment, a container's are in a cgroup
/// named after the namespace, a shim has the namespace as an argument.
pub(crate) fn processes(token: &str) -> Vec<Proc> {
    let own = Proc(std::process::id());
    let ours = |p: &Proc| {
        let in_cgroup = || p.cgroups().is_ok_and(|text| text.contains(token));
        let in_args = || p.args().is_ok_and(|args| args.iter().any(|arg| arg == token));
        let in_environ = || p.environ().is_ok_and(|all| all.iter().any(|v| v.contains(token)));
        *p != own && (in_cgroup() || in_args() || in_environ()) && p.is_alive()
    };
    Proc::all().into_iter().filter(ours).collect()
}

/// Mount points with the token, in the order they were mounted (mountinfo is in tree order).
fn mounts(names: &Names) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.contains(&names.token)).map(str::to_owned).collect()
}

/// `/<namespace>` in each hierarchy, and the slice of that name.
fn cgroups(names: &Names) -> Vec<PathBuf> {
    let mut hierarchies = subdirs(Path::new(CGROUPS));
    hierarchies.push(PathBuf::from(CGROUPS));
    let own = [names.token.clone(), format!("{}.slice", names.token)];
    let dirs = hierarchies.iter().flat_map(|dir| own.iter().map(|name| dir.join(name)));
    dirs.filter(|dir| dir.is_dir()).collect()
}

fn remove_cgroup(dir: &Path) {
    subdirs(dir).iter().for_each(|sub| remove_cgroup(sub));
    fs::remove_dir(dir).ok();
}

fn runc_state(names: &Names) -> PathBuf {
    Path::new(RUNC_STATE).join(&names.token)
}

fn sockets(names: &Names) -> Vec<PathBuf> {
    let address = names.dir.join("c.sock");
    names.groupings.iter().map(|grouping| shim_socket(&address, grouping)).collect()
}

/// The socket of the shim for `grouping` (`namespace/id`, the id a pod's or a container's): the
/// SHA-256 of the joined path, containerd's `SocketAddress` in runtime/v2/shim/util_unix.go.
pub(crate) fn shim_socket(address: &Path, grouping: &str) -> PathBuf {
    let path = address.join(grouping);
    let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(SHIM_SOCKETS).join(name)
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
