// SPDX-License-Identifier: Apache-2.0
//! A private containerd for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::scratch::Scratch;
use crate::{Ctr, CtrEvents, Daemon, Launch, Output, ShimUnderTest, rootfs};

/// The runtime name tests use unless they say otherwise: flags of `ctr run` that become runc
/// options work with this one only. The daemon finds the shim under test by it.
const RUNTIME: &str = "io.containerd.runc.v2";

/// A containerd, a namespace and a root file system for one test. End with [`Env::finish`].
#[derive(Debug)]
pub struct Env {
    // Dropped in this order: the daemon first, then what it left.
    daemon: Daemon,
    ctr: Ctr,
    shim: ShimUnderTest,
    runtime: String,
    scratch: Arc<Scratch>,
}

/// Options of an [`Env`].
#[derive(Debug, Default)]
pub struct EnvBuilder {
    debug: bool,
    shim: Option<ShimUnderTest>,
    runtime: Option<String>,
    variables: Vec<(String, String)>,
}

impl EnvBuilder {
    /// Logs at level debug, in the daemon and in its shims. So does `WEDGE_TEST_DEBUG=1`.
    #[must_use]
    pub fn debug(mut self) -> EnvBuilder {
        self.debug = true;
        self
    }

    /// Takes another shim than the one the test run is about.
    #[must_use]
    pub fn shim(mut self, shim: ShimUnderTest) -> EnvBuilder {
        self.shim = Some(shim);
        self
    }

    /// Sets the runtime of all containers, e.g. `io.containerd.wedge.v2`.
    #[must_use]
    pub fn runtime(mut self, name: &str) -> EnvBuilder {
        self.runtime = Some(name.to_owned());
        self
    }

    /// Sets an environment variable of the daemon, which shims inherit.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> EnvBuilder {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the directory and starts containerd.
    ///
    /// # Errors
    /// A binary is missing or containerd does not start.
    pub fn start(self) -> Result<Env> {
        let shim = self.shim.map_or_else(ShimUnderTest::from_env, Ok)?;
        let scratch = Arc::new(Scratch::new()?);
        rootfs::make(&scratch.dir().join("rootfs"))?;
        let debug = self.debug || std::env::var_os("WEDGE_TEST_DEBUG").is_some();
        let mut daemon = Daemon::prepare(&scratch, &shim, debug, self.variables)?;
        daemon.start()?;
        let runtime = self.runtime.unwrap_or_else(|| RUNTIME.to_owned());
        Ok(Env { daemon, ctr: Ctr::new(&scratch), shim, runtime, scratch })
    }
}

impl Env {
    /// An environment with the defaults.
    ///
    /// # Errors
    /// Those of [`EnvBuilder::start`].
    pub fn new() -> Result<Env> {
        Env::builder().start()
    }

    /// Chooses options first.
    pub fn builder() -> EnvBuilder {
        EnvBuilder::default()
    }

    /// The test's directory.
    pub fn dir(&self) -> &Path {
        self.scratch.dir()
    }

    /// The test's containerd namespace.
    pub fn namespace(&self) -> &str {
        self.scratch.namespace()
    }

    /// Writes the configuration (docs/configuration.md) for shims started from now on.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn configure(&self, text: &str) -> Result<()> {
        self.scratch.configure(text)
    }

    /// The root file system of its containers.
    pub fn rootfs(&self) -> PathBuf {
        self.dir().join("rootfs")
    }

    /// The runtime name of its containers.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The shim under test.
    pub fn shim(&self) -> &ShimUnderTest {
        &self.shim
    }

    /// `ctr` for this daemon and namespace.
    pub fn ctr(&self) -> &Ctr {
        &self.ctr
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The daemon, to stop and start it.
    pub fn daemon_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// A container to be, with an id made from `name`.
    ///
    /// # Errors
    /// No random bytes.
    pub fn container(&self, name: &str) -> Result<Launch<'_>> {
        Ok(Launch::new(self, self.scratch.id(name)?))
    }

    /// Runs `args` in a new container to the end: `ctr run --rm`.
    ///
    /// # Errors
    /// `ctr` cannot be run or takes too long.
    pub fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.container("run")?.run(args)
    }

    /// Follows the daemon's events from now on.
    ///
    /// # Errors
    /// `ctr events` does not report.
    pub fn events(&self) -> Result<CtrEvents> {
        CtrEvents::follow(&self.ctr)
    }

    /// The id of a new pod, for [`Launch::pod`].
    ///
    /// # Errors
    /// No random bytes.
    pub fn pod(&self, name: &str) -> Result<String> {
        self.scratch.id(name)
    }

    /// Remembers an id the caller made up, for the check of sockets.
    pub fn note(&self, id: &str) {
        self.scratch.note(id);
    }

    /// The test's corner of the machine, to be [discarded](Scratch::discard) from elsewhere.
    pub fn scratch(&self) -> &Arc<Scratch> {
        &self.scratch
    }

    /// Ends the test: stops containerd and checks that nothing is left of it.
    ///
    /// # Errors
    /// containerd does not stop, or something is left; the message lists it.
    pub fn finish(mut self) -> Result<()> {
        if self.daemon.proc().is_ok() {
            self.daemon.stop()?;
        }
        self.scratch.finish()
    }
}

impl Drop for Env {
    #[expect(clippy::print_stderr, reason = "what a failed test has to say")]
    fn drop(&mut self) {
        if self.scratch.is_finished() {
            return;
        }
        let tasks = match self.daemon.proc() {
            Ok(_) => self.ctr.cmd(["task", "ls"]).limit(Duration::from_secs(3)).output(),
            Err(down) => Err(down),
        };
        let tasks = tasks.map_or_else(|error| error.to_string(), |out| out.text());
        let log = self.daemon.log_tail(80);
        let report = self.scratch.report();
        eprintln!("=== unfinished test, {:?}\n{report}--- tasks\n{tasks}", self.shim);
        eprintln!("--- containerd.log\n{log}\n===");
    }
}
