// SPDX-License-Identifier: Apache-2.0
//! The `delete` action: what containerd calls when a shim died, or never came to life.
//!
//! Each step stands alone and the next is tried whatever came of it; containerd gives all of them
//! five seconds (`io.containerd.timeout.shim.cleanup`) and logs what is on standard error.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::DeleteResponse;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};
use tokio::time::{Instant, timeout_at};
use wedge_oci::{Bundle, Options, Runtime, unmount_last_resort};
use wedge_reaper::{ExitStatus, Reaper};
use wedge_runc::Dialect;

use crate::args::{Flags, Program};
use crate::error::Error;
use crate::logger::Logger;
use crate::start::{current_bundle, group_of, print};
use crate::{confine, serve, socket};

/// When we answer, done or not: containerd kills us at five seconds and keeps the bundle.
const BUDGET: Duration = Duration::from_millis(4500);

/// How much of that we wait for the OCI runtime, so that the mounts get their turn.
const RUNTIME_BUDGET: Duration = Duration::from_millis(3500);

/// What is kept of it for taking busy mounts off the tree.
const DETACH_BUDGET: Duration = Duration::from_millis(500);

/// Removes what the task left: its container, its mounts, its socket. Prints a `DeleteResponse`.
///
/// # Errors
/// When the bundle's files are broken, so that it is unknown what is to be deleted.
pub fn delete(program: &Program, flags: &Flags) -> Result<(), Error> {
    confine::ignore_termination()?;
    confine::become_subreaper()?;
    Logger::to_stderr(program.runtime(), &flags.namespace).install(flags.debug);
    let (bundle, options) = bundle_of(flags)?;
    let runtime = serve::runtime()?;
    let pid = runtime.block_on(async {
        let reaper = Reaper::new();
        tokio::select! {
            pid = clean_up(&reaper, &bundle, flags, &options) => Ok(pid),
            ended = reaper.clone().run() => {
                let source = ended.err().unwrap_or_else(|| io::ErrorKind::Other.into());
                Err(Error::System { action: "wait for children", source })
            }
        }
    })?;
    // What hangs in the pool must not hold up the answer.
    runtime.shutdown_background();
    print(&response(pid)?)
}

/// The bundle to clean up is a sibling of the current directory, named by the id, and its files
/// may have been written by containerd's own shim.
fn bundle_of(flags: &Flags) -> Result<(Bundle, Options), Error> {
    let current = current_bundle()?;
    let parent = current.dir().parent().unwrap_or(current.dir());
    let bundle = Bundle::new(parent.join(&flags.id));
    let oci = |action| move |source| Error::Oci { action, source };
    let runtime = bundle.read_runtime().map_err(oci("read the runtime of the task"))?;
    let options = bundle.read_options().map_err(oci("read the options of the task"))?;
    let mut options = options.unwrap_or_default();
    options.binary_name = runtime.unwrap_or_default();
    Ok((bundle, options))
}

/// Returns the pid the task's init had, or 0.
async fn clean_up(reaper: &Reaper, bundle: &Bundle, flags: &Flags, options: &Options) -> u32 {
    let begun = Instant::now();
    // It waits up to 10 seconds for an init to die, and only then removes the container's cgroups
    // and its own state: killed by our end it would leave both, and nobody tries again.
    let runtime =
        Runtime::new(reaper.clone(), bundle.clone(), &flags.namespace, &flags.id, options)
            .surviving();
    match timeout_at(begun + RUNTIME_BUDGET, forget(&runtime, &flags.id)).await {
        Ok(Ok(())) => {}
        Ok(Err(err)) => log::warn!(id = flags.id; "failed to remove runc container: {err}"),
        Err(_) => {
            log::warn!(id = flags.id; "failed to remove runc container in time, the runtime goes on");
        }
    }
    let rootfs = bundle.rootfs();
    let patience = BUDGET.saturating_sub(begun.elapsed() + DETACH_BUDGET);
    let unmounted = unmount_last_resort(reaper, &rootfs, patience);
    if timeout_at(begun + BUDGET, unmounted).await.is_err() {
        log::warn!(id = flags.id; "failed to cleanup rootfs mount: it takes too long");
    }
    if timeout_at(begun + BUDGET, remove_sockets(bundle, flags)).await.is_err() {
        log::debug!(id = flags.id; "kept a socket: somebody has the lock for too long");
    }
    init_pid(bundle, flags)
}

/// containerd calls this action for each shim that has ended, also when Delete has removed all; then
/// there is nothing for the runtime to do. runc and crun have a directory of each of their
/// containers; a wrapper may keep more.
async fn forget(runtime: &Runtime, id: &str) -> wedge_oci::Result<()> {
    let known = runtime.root().join(id).symlink_metadata();
    let gone = known.is_err_and(|err| err.kind() == io::ErrorKind::NotFound);
    if gone && Dialect::of_binary(runtime.binary()).is_some() {
        return Ok(());
    }
    runtime.delete(true).await
}

fn init_pid(bundle: &Bundle, flags: &Flags) -> u32 {
    let file = bundle.init_pid();
    if !file.exists() {
        return 0; // It was never created.
    }
    bundle.read_pid(&file).unwrap_or_else(|err| {
        log::warn!(id = flags.id; "failed to read init pid file: {err}");
        0
    })
}

/// The shim is gone, and so should be its sockets, if really nobody listens there (containerd
/// #5173, #10192). Best effort: the next start of the same task would replace them.
async fn remove_sockets(bundle: &Bundle, flags: &Flags) {
    for path in sockets(bundle, flags) {
        if let Err(err) = socket::remove_stale(&path).await {
            log::debug!(id = flags.id; "kept a socket: {}", err.chain());
        }
    }
}

fn sockets(bundle: &Bundle, flags: &Flags) -> Vec<PathBuf> {
    let group = group_of(bundle, &flags.id).unwrap_or_else(|_| flags.id.clone());
    let dir = std::fs::read_link(bundle.socket_dir()).ok();
    let dir = dir.as_deref();
    let computed = [
        socket::address(dir, &flags.address, &flags.namespace, &group),
        socket::debug_address(dir, &flags.address, &flags.namespace, &group),
    ];
    let written = std::fs::read_to_string(bundle.address()).ok();
    let addresses = written.into_iter().chain(computed);
    addresses.map(|address| socket::path_of(address.trim()).to_owned()).collect()
}

/// The real exit status died with the shim; containerd reports a kill.
fn response(pid: u32) -> Result<Vec<u8>, Error> {
    let response = DeleteResponse {
        pid,
        exit_status: ExitStatus::KILLED.code(),
        exited_at: MessageField::some(Timestamp::from(SystemTime::now())),
        ..DeleteResponse::default()
    };
    response.write_to_bytes().map_err(|source| Error::Encode { what: "DeleteResponse", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_says_killed_now() {
        let bytes = response(7).unwrap();
        let back = DeleteResponse::parse_from_bytes(&bytes).unwrap();
        assert_eq!((back.pid, back.exit_status), (7, 137));
        assert!(back.exited_at.seconds > 1_700_000_000);
    }

    #[test]
    fn the_sockets_are_the_written_and_the_computed_ones() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(dir.path());
        let flags = Flags {
            namespace: "default".to_owned(),
            id: "test".to_owned(),
            address: "/run/containerd/containerd.sock".to_owned(),
            ..Flags::default()
        };
        assert_eq!(sockets(&bundle, &flags).len(), 2);
        std::fs::write(bundle.address(), "unix:///run/s/x\n").unwrap();
        let found = sockets(&bundle, &flags);
        assert_eq!(found[0], PathBuf::from("/run/s/x"));
        assert!(
            found[1].ends_with("cfa94b04d543b3f64f78eff8125c7a7cd0903173f673d87367be72ff09fc92c2")
        );
    }
}
