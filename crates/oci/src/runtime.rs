// SPDX-License-Identifier: Apache-2.0
//! The commands of an OCI runtime, for one container.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wedge_reaper::{Limits, Reaper};

use crate::bundle::{Bundle, write_private};
use crate::call::{Call, ChildIo, MissingLog, Streams};
use crate::console::ConsoleSocket;
use crate::error::{Error, Result, Said};
use crate::options::Options;
use crate::process::check_resources;
use crate::temporary::{TemporaryFile, remove};

/// Where runtimes keep their state when the client does not say.
const ROOT: &str = "/run/containerd/runc";

/// Room for the pids of a container of some hundred thousand processes.
const PIDS_OUTPUT: usize = 4 << 20;

/// Numbers the files of calls, in all containers of this process.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// An OCI runtime binary, from the point of view of one container.
///
/// Every call but create logs to a file of its own, removed afterwards: in a shared log calls
/// would report each other's errors, and it would grow with every failing probe (containerd #8972).
/// Futures of this type must be driven by the thread that drives the reaper, since the runtime
/// gets a parent-death signal; one that is dropped leaves the command running.
#[derive(Debug, Clone)]
pub struct Runtime {
    reaper: Reaper,
    bundle: Bundle,
    id: String,
    binary: String,
    root: PathBuf,
    systemd_cgroup: bool,
    no_pivot_root: bool,
    no_new_keyring: bool,
    criu_work_path: PathBuf,
    limits: Limits,
}

impl Runtime {
    /// The runtime for container `id` of containerd's `namespace`. Nothing is run or checked.
    pub fn new(
        reaper: Reaper,
        bundle: Bundle,
        namespace: &str,
        id: &str,
        options: &Options,
    ) -> Runtime {
        Runtime {
            reaper,
            bundle,
            id: id.to_owned(),
            binary: options.binary().to_owned(),
            root: Path::new(or(&options.root, ROOT)).join(namespace),
            systemd_cgroup: options.systemd_cgroup,
            no_pivot_root: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            criu_work_path: PathBuf::from(&options.criu_work_path),
            limits: Limits::default(),
        }
    }

    /// Sets how long one command may take before it is killed.
    #[must_use]
    pub fn with_limit(mut self, time: Duration) -> Runtime {
        self.limits.time = time;
        self
    }

    /// Lets commands go on when this process ends.
    #[must_use]
    pub fn surviving(mut self) -> Runtime {
        self.limits.survives = true;
        self
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn no_pivot_root(&self) -> bool {
        self.no_pivot_root
    }

    /// Where CRIU works when a container is restored: the option, or the bundle's `work`.
    pub(crate) fn criu_work_path(&self) -> PathBuf {
        match self.criu_work_path.as_os_str().is_empty() {
            true => self.bundle.work(),
            false => self.criu_work_path.clone(),
        }
    }

    /// The runtime's name or path.
    pub fn binary(&self) -> &str {
        &self.binary
    }

    /// The directory of the runtime's state for this namespace.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the container; its init gets `io`, or a terminal sent over `console`.
    ///
    /// # Errors
    /// "OCI runtime create failed: …"; the runtime may have left something to delete.
    pub async fn create(&self, io: ChildIo, console: Option<&ConsoleSocket>) -> Result<()> {
        let pid_file = self.bundle.init_pid();
        self.bundle.remove_pid(&pid_file)?;
        let mut args: Vec<OsString> = vec!["create".into()];
        args.extend(["--bundle".into(), self.bundle.dir().into()]);
        args.extend(["--pid-file".into(), pid_file.into()]);
        args.extend(console_args(console));
        args.extend(self.no_pivot_root.then(|| "--no-pivot".into()));
        args.extend(self.no_new_keyring.then(|| "--no-new-keyring".into()));
        args.push(self.id.clone().into());
        let log = self.bundle.log_json();
        // Kept for tools, but what an earlier try logged is not this one's error.
        remove(&log, fs::remove_file);
        let call = Call { missing_log: MissingLog::Reported, ..self.call(&log, args) };
        let result = call.run(&self.reaper, streams(io, console)).await;
        result.map(drop).map_err(|said| said.failed("OCI runtime create failed"))
    }

    /// Starts the created container.
    ///
    /// # Errors
    /// "OCI runtime start failed: …".
    pub async fn start(&self) -> Result<()> {
        self.operate("OCI runtime start failed", ["start"]).await
    }

    /// Runs the OCI process spec `process_json` in the container, with `io` or a terminal sent
    /// over `console`. Returns once it runs; its pid is then in [`Runtime::exec_pid`].
    ///
    /// # Errors
    /// "OCI runtime exec failed: …".
    pub async fn exec(
        &self,
        exec_id: &str,
        process_json: &[u8],
        io: ChildIo,
        console: Option<&ConsoleSocket>,
    ) -> Result<()> {
        let pid_file = self.bundle.exec_pid(exec_id);
        self.bundle.remove_pid(&pid_file)?;
        let process = TemporaryFile::new(self.bundle.call_process(next_call()));
        write_private(process.path(), process_json)?;
        let mut args: Vec<OsString> = vec!["exec".into()];
        args.extend(["--process".into(), process.path().into()]);
        args.extend(console_args(console));
        args.extend(["--detach".into(), "--pid-file".into(), pid_file.into()]);
        args.push(self.id.clone().into());
        let result = self.run(args, self.limits, streams(io, console)).await;
        result.map(drop).map_err(|said| said.failed("OCI runtime exec failed"))
    }

    /// Sends `signal` to the container's init, or with `all` to every process of the container.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::NoSuchContainer`], or "unknown error after kill: …".
    pub async fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let mut args: Vec<OsString> = vec!["kill".into()];
        args.extend(all.then(|| "--all".into()));
        args.extend([self.id.clone().into(), signal.to_string().into()]);
        let result = self.run(args, self.limits, Streams::Captured).await;
        result.map(drop).map_err(|said| Error::after_kill(&said, &self.id))
    }

    /// Deletes the container, with `force` a running one too. One that the runtime does not know
    /// (after a checkpoint, for instance) counts as deleted.
    ///
    /// # Errors
    /// "failed to delete task: …".
    pub async fn delete(&self, force: bool) -> Result<()> {
        let mut args: Vec<OsString> = vec!["delete".into()];
        args.extend(force.then(|| "--force".into()));
        args.push(self.id.clone().into());
        match self.run(args, self.limits, Streams::Captured).await {
            Err(said) if !said.is_no_such_container(&self.id) => {
                Err(said.failed("failed to delete task"))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Freezes the container's processes.
    ///
    /// # Errors
    /// "OCI runtime pause failed: …".
    pub async fn pause(&self) -> Result<()> {
        self.operate("OCI runtime pause failed", ["pause"]).await
    }

    /// Thaws the container's processes.
    ///
    /// # Errors
    /// "OCI runtime resume failed: …".
    pub async fn resume(&self) -> Result<()> {
        self.operate("OCI runtime resume failed", ["resume"]).await
    }

    /// Changes the container's limits to `resources`, JSON of an OCI `LinuxResources`; what it does
    /// not name stays.
    ///
    /// # Errors
    /// [`Error::Resources`] when it is not a JSON object, [`Error::Update`] with the runtime's own
    /// words.
    pub async fn update(&self, resources: &[u8]) -> Result<()> {
        check_resources(resources)?;
        let args = vec!["update".into(), "--resources=-".into(), self.id.clone().into()];
        let log = TemporaryFile::new(self.bundle.call_log(next_call()));
        let call = Call { input: Some(resources), ..self.call(log.path(), args) };
        let result = call.run(&self.reaper, Streams::Captured).await;
        result.map(drop).map_err(|said| Error::Update { message: said.raw() })
    }

    /// The pids of the container's processes, in the host's pid namespace; none when its cgroup
    /// is gone.
    ///
    /// # Errors
    /// [`Error::Pids`] with the runtime's own words.
    pub async fn pids(&self) -> Result<Vec<u32>> {
        let mut args: Vec<OsString> = vec!["ps".into()];
        args.extend(["--format".into(), "json".into(), self.id.clone().into()]);
        let limits = Limits { output: PIDS_OUTPUT, ..self.limits };
        let output = self.run(args, limits, Streams::Captured).await;
        let output = output.map_err(|said| Error::Pids { message: said.raw() })?;
        parse_pids(&output).map_err(|err| Error::Pids { message: err.to_string() })
    }

    /// Runs a subcommand that takes nothing but the id.
    async fn operate<const N: usize>(
        &self,
        operation: &'static str,
        words: [&str; N],
    ) -> Result<()> {
        let words = words.into_iter().map(OsString::from);
        let args = words.chain([self.id.clone().into()]).collect();
        let result = self.run(args, self.limits, Streams::Captured).await;
        result.map(drop).map_err(|said| said.failed(operation))
    }

    /// Runs a subcommand with a log of its own.
    pub(crate) async fn run(
        &self,
        args: Vec<OsString>,
        limits: Limits,
        streams: Streams,
    ) -> std::result::Result<Vec<u8>, Said> {
        let log = TemporaryFile::new(self.bundle.call_log(next_call()));
        let call = Call { limits, ..self.call(log.path(), args) };
        call.run(&self.reaper, streams).await
    }

    fn call<'a>(&'a self, log: &'a Path, args: Vec<OsString>) -> Call<'a> {
        Call {
            binary: &self.binary,
            root: &self.root,
            log,
            missing_log: MissingLog::Silent,
            systemd_cgroup: self.systemd_cgroup,
            args,
            input: None,
            limits: self.limits,
        }
    }
}

fn next_call() -> u64 {
    CALLS.fetch_add(1, Ordering::Relaxed)
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

pub(crate) fn console_args(console: Option<&ConsoleSocket>) -> impl Iterator<Item = OsString> {
    let words = console.map(|socket| ["--console-socket".into(), socket.path().into()]);
    words.into_iter().flatten()
}

/// With a terminal the runtime's own streams are free for its messages. Otherwise the container
/// inherits them, even when they are all /dev/null: a pipe of ours would break under it.
pub(crate) fn streams(io: ChildIo, console: Option<&ConsoleSocket>) -> Streams {
    if console.is_some() { Streams::Captured } else { Streams::Container(io) }
}

/// Reads a JSON list of pids, or null; text that the runtime wrote to standard error before it is
/// skipped.
fn parse_pids(output: &[u8]) -> serde_json::Result<Vec<u32>> {
    let whole = serde_json::from_slice::<Option<Vec<u32>>>(output);
    let list = whole.or_else(|err| {
        let starts = output.iter().enumerate().filter(|&(_, &byte)| byte == b'[' || byte == b'n');
        let tails = starts.filter_map(|(start, _)| output.get(start..));
        let mut lists = tails.filter_map(|tail| serde_json::from_slice(tail).ok());
        lists.next().ok_or(err)
    })?;
    Ok(list.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_of_every_runtime_are_read() {
        let table: [(&str, Option<&[u32]>); 7] = [
            ("[1,2]", Some(&[1, 2])),
            ("[\n  1,\n  2\n]\n", Some(&[1, 2])),
            ("null\n", Some(&[])),
            ("time=now level=warning msg=[x]\n[7]\n", Some(&[7])),
            ("warning: nothing found\nnull\n", Some(&[])),
            ("", None),
            ("no list", None),
        ];
        for (text, pids) in table {
            assert_eq!(parse_pids(text.as_bytes()).ok().as_deref(), pids, "{text:?}");
        }
    }

    /// They run in tasks of their own.
    #[test]
    fn futures_can_be_spawned() {
        fn sendable<T: Send>(_: T) {}
        let (bundle, options) = (Bundle::new("/b"), Options::default());
        let runtime = Runtime::new(Reaper::new(), bundle, "ns", "c", &options);
        sendable(runtime.create(ChildIo::default(), None));
        sendable(runtime.exec("e", b"", ChildIo::default(), None));
        sendable(runtime.pids());
        sendable(runtime.update(b""));
        let (reaper, nowhere) = (Reaper::new(), Path::new(""));
        sendable(crate::mount_rootfs(&reaper, &[], nowhere));
        sendable(crate::unmount_recursive(&reaper, nowhere));
        sendable(crate::unmount_last_resort(&reaper, nowhere, Duration::ZERO));
        let _receive = |socket: ConsoleSocket| sendable(socket.receive());
    }

    #[test]
    fn empty_options_mean_runc_in_containerds_root() {
        let make = |options| Runtime::new(Reaper::new(), Bundle::new("/b"), "ns", "c", &options);
        let runtime = make(Options::default());
        assert_eq!(
            (runtime.binary(), runtime.root()),
            ("runc", Path::new("/run/containerd/runc/ns"))
        );
        let options =
            Options { root: "/r".to_owned(), binary_name: "crun".to_owned(), ..Options::default() };
        let runtime = make(options);
        assert_eq!((runtime.binary(), runtime.root()), ("crun", Path::new("/r/ns")));
    }
}
