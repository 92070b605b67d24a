// SPDX-License-Identifier: Apache-2.0
//! The shim alone on the bench: the test plays containerd.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::shim::oci::Options;
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::leftovers::shim_socket;
use crate::scratch::{CONFIG_VARIABLE, Scratch, TOKEN_VARIABLE};
use crate::{
    Bundle, Cmd, EventServer, FakeRuntime, Fifos, Footprint, Output, ShimProcess, ShimUnderTest,
    Spec, helper, rootfs,
};

/// Type URL of runc's options, without a prefix as all of containerd's.
const OPTIONS: &str = "containerd.runc.v1.Options";

/// A directory, a namespace, an event server and a root file system for one test of a shim
/// without containerd. End with [`Lab::finish`].
#[derive(Debug)]
pub struct Lab {
    events: EventServer,
    shim: ShimUnderTest,
    options: Options,
    variables: Vec<(String, String)>,
    cgroup: Option<PathBuf>,
    scratch: Scratch,
}

impl Lab {
    /// A bench with the runtime `runc` from PATH.
    ///
    /// # Errors
    /// A binary is missing or a file operation fails.
    pub fn new() -> Result<Lab> {
        let shim = ShimUnderTest::from_env()?;
        let scratch = Scratch::new()?;
        rootfs::make(&scratch.dir().join("rootfs"))?;
        Lab::with(shim, scratch)
    }

    /// A bench with the scriptable runtime instead of runc: no container is made, its processes
    /// run on the host. See [`FakeRuntime`].
    ///
    /// # Errors
    /// Those of [`Lab::new`].
    pub fn with_fake_runtime() -> Result<Lab> {
        let mut lab = Lab::with(ShimUnderTest::from_env()?, Scratch::new()?)?;
        let binary = helper("wedge-fake-runtime")?;
        lab.options.binary_name = binary.to_string_lossy().into_owned();
        lab.options.root = lab.dir().join("runtime").to_string_lossy().into_owned();
        Ok(lab)
    }

    /// A bench for a given shim, with the runtime `runc`. It runs a copy of the binary, so that it
    /// shares no page with the shims of other tests: for measuring memory.
    ///
    /// # Errors
    /// Those of [`Lab::new`].
    pub fn with_copy_of(shim: &ShimUnderTest) -> Result<Lab> {
        let scratch = Scratch::new()?;
        rootfs::make(&scratch.dir().join("rootfs"))?;
        // Pages of a tmpfs count as dirty.
        let shim = shim.copy_to(&scratch.on_disk()?.join("shim"))?;
        Lab::with(shim, scratch)
    }

    /// A bench for a given shim, with the runtime `runc`.
    ///
    /// # Errors
    /// Those of [`Lab::new`].
    pub fn with_shim(shim: ShimUnderTest) -> Result<Lab> {
        let scratch = Scratch::new()?;
        rootfs::make(&scratch.dir().join("rootfs"))?;
        Lab::with(shim, scratch)
    }

    fn with(shim: ShimUnderTest, scratch: Scratch) -> Result<Lab> {
        shim.link_into(&scratch.dir().join("bin"))?;
        fs::create_dir(scratch.dir().join("fifo"))?;
        let events = EventServer::start(&scratch.dir().join("c.sock.ttrpc"))?;
        let (options, variables) = (Options::default(), Vec::new());
        Ok(Lab { events, shim, options, variables, cgroup: None, scratch })
    }

    /// The test's directory.
    pub fn dir(&self) -> &Path {
        self.scratch.dir()
    }

    /// The test's containerd namespace.
    pub fn namespace(&self) -> &str {
        self.scratch.namespace()
    }

    /// The shim under test.
    pub fn shim(&self) -> &ShimUnderTest {
        &self.shim
    }

    /// The event server; its [`log`](EventServer::log) has the events.
    pub fn events(&self) -> &EventServer {
        &self.events
    }

    /// The event server, to stop and restart it.
    pub fn events_mut(&mut self) -> &mut EventServer {
        &mut self.events
    }

    /// The runtime options sent with `start` and Create.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Writes the configuration (docs/configuration.md) for shims started from now on.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn configure(&self, text: &str) -> Result<()> {
        self.scratch.configure(text)
    }

    /// Sets an environment variable of the shims started from now on, which runtimes inherit.
    pub fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts shims in this cgroup from now on, so that what they and their children use is known.
    pub fn confine(&mut self, cgroup: Option<&Path>) {
        self.cgroup = cgroup.map(|dir| dir.join("cgroup.procs"));
    }

    /// The runtime options as sent.
    ///
    /// # Errors
    /// They cannot be encoded.
    pub fn options(&self) -> Result<Any> {
        let value = self.options.write_to_bytes()?;
        Ok(Any { type_url: OPTIONS.to_owned(), value, ..Any::default() })
    }

    /// Makes a bundle for a new id made from `name`; root and cgroup are set here. With the option
    /// `systemd_cgroup` it is a scope in a slice named after the namespace.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn bundle(&self, name: &str, spec: &Spec) -> Result<Bundle> {
        let id = self.scratch.id(name)?;
        let spec = spec.clone().root(&self.dir().join("rootfs"));
        let spec = spec.cgroup(&match self.options.systemd_cgroup {
            true => format!("{}.slice:wedge:{id}", self.namespace()),
            false => format!("/{}/{id}", self.namespace()),
        });
        let dir = self.dir().join("tasks").join(self.namespace()).join(&id);
        Bundle::make(dir, &id, &spec)
    }

    /// The id of a new pod, for [`Spec::pod`].
    ///
    /// # Errors
    /// No random bytes.
    pub fn pod(&self, name: &str) -> Result<String> {
        self.scratch.id(name)
    }

    /// Makes FIFOs for a process; `name` is unique in this test.
    ///
    /// # Errors
    /// mkfifo(3) fails.
    pub fn fifos(&self, name: &str) -> Result<Fifos> {
        Fifos::new(&self.dir().join("fifo"), name)
    }

    /// Makes FIFOs for a process on a terminal.
    ///
    /// # Errors
    /// mkfifo(3) fails.
    pub fn terminal(&self, name: &str) -> Result<Fifos> {
        Fifos::terminal(&self.dir().join("fifo"), name)
    }

    /// Controls the fake runtime of a bundle.
    pub fn fake(&self, bundle: &Bundle) -> FakeRuntime {
        FakeRuntime::of(bundle.dir())
    }

    /// The shim's command line for an action as containerd 1.6 calls it: flags, environment,
    /// working directory, process group. Nothing on standard input.
    pub fn invoke(&self, bundle: &Bundle, flags: &[&str], action: &str) -> Cmd {
        let binary = self.dir().join("bin/containerd-shim-runc-v2");
        let command = match &self.cgroup {
            // The shell enters the cgroup and becomes the shim there.
            Some(procs) => {
                let script = "echo 0 >\"$0\" && exec \"$@\"";
                Cmd::new("sh").args(["-c", script]).arg(procs).arg(binary)
            }
            None => Cmd::new(binary),
        };
        let variables = self.variables.iter();
        let command = variables.fold(command, |command, (name, value)| command.env(name, value));
        command
            .args(["-namespace", self.namespace(), "-address"])
            .arg(self.scratch.address())
            .args(["-publish-binary", "/usr/bin/containerd", "-id", bundle.id()])
            .args(flags)
            .arg(action)
            .env("TTRPC_ADDRESS", self.events.path())
            .env("GOMAXPROCS", "2")
            .env(TOKEN_VARIABLE, self.namespace())
            .env(CONFIG_VARIABLE, self.scratch.config())
            .dir(bundle.dir())
            .new_group()
    }

    /// Runs `start` for the bundle and connects to the shim it names.
    ///
    /// # Errors
    /// `start` fails or prints anything but an address, or nobody listens there.
    pub fn start(&self, bundle: &Bundle) -> Result<ShimProcess> {
        let stdin = self.options()?.write_to_bytes()?;
        let out = self.invoke(bundle, &[], "start").stdin(stdin).output()?;
        self.attach(&out)
    }

    /// Runs `start` for the bundle, for [`Lab::attach`]; takes no longer than it does.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start_measured(&self, bundle: &Bundle) -> Result<Output> {
        let stdin = self.options()?.write_to_bytes()?;
        self.invoke(bundle, &[], "start").stdin(stdin).measure()
    }

    /// As [`Lab::start`], for a shim that tells its state ([`Lab::state`]).
    ///
    /// # Errors
    /// Those of [`Lab::start`].
    pub fn start_telling(&self, bundle: &Bundle) -> Result<ShimProcess> {
        let socket = self.debug_socket(bundle);
        let start = self.invoke(bundle, &["-debug-socket", &socket.to_string_lossy()], "start");
        self.attach(&start.stdin(self.options()?.write_to_bytes()?).output()?)
    }

    /// What the shim that [`Lab::start_telling`] started for `bundle` says of itself and of its
    /// containers, as on SIGUSR1.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn state(&self, bundle: &Bundle) -> Result<String> {
        let mut stream = UnixStream::connect(self.debug_socket(bundle))?;
        stream.write_all(b"GET /debug/pprof/goroutine HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, state) = answer.split_once("\r\n\r\n").with_context(|| answer.clone())?;
        Ok(state.to_owned())
    }

    /// Where a shim that was told so serves its state ([`Lab::state`]).
    pub fn debug_socket(&self, bundle: &Bundle) -> PathBuf {
        self.dir().join(format!("debug-{}", bundle.id()))
    }

    /// Connects to the shim whose address a `start` printed.
    ///
    /// # Errors
    /// `start` failed or printed anything but an address, or nobody listens there.
    pub fn attach(&self, start: &Output) -> Result<ShimProcess> {
        ensure!(start.code == 0 && start.stderr.is_empty(), "{start}");
        let text = start.text();
        let path = text.trim().strip_prefix("unix://").with_context(|| format!("{start}"))?;
        ShimProcess::connect(Path::new(path), self.options()?)
    }

    /// Runs the action `delete` for the bundle, as the daemon does after a shim died.
    ///
    /// # Errors
    /// It fails, or prints anything but a DeleteResponse.
    pub fn delete(&self, bundle: &Bundle) -> Result<(DeleteResponse, Output)> {
        let dir = bundle.dir().to_string_lossy().into_owned();
        let out = self.invoke(bundle, &["-bundle", &dir], "delete").output()?;
        ensure!(out.code == 0, "{out}");
        Ok((DeleteResponse::parse_from_bytes(&out.stdout)?, out))
    }

    /// The socket a shim has to use for a container or pod id.
    pub fn socket(&self, grouping: &str) -> PathBuf {
        let grouping = format!("{}/{grouping}", self.namespace());
        shim_socket(&self.scratch.address(), &grouping)
    }

    /// What a shim holds and what is on the machine for a bundle of its. See [`Footprint`].
    ///
    /// # Errors
    /// The shim is gone.
    pub fn footprint(&self, shim: &ShimProcess, bundle: &Bundle) -> Result<Footprint> {
        let root = Path::new(&self.options.root).join(self.namespace());
        Footprint::take(shim.proc(), &self.scratch.names(), &root, bundle.dir())
    }

    /// Gives the test up: ends and removes everything, by force and without a word.
    pub fn discard(&self) {
        self.scratch.discard();
    }

    /// Ends the test: checks that nothing is left, shims included.
    ///
    /// # Errors
    /// Something is left; the message lists it.
    pub fn finish(self) -> Result<()> {
        // The event server still answers: a shim that ends delivers what it has first.
        self.scratch.finish()
    }
}

impl Drop for Lab {
    #[expect(clippy::print_stderr, reason = "what a failed test has to say")]
    fn drop(&mut self) {
        if self.scratch.is_finished() {
            return;
        }
        let story: Vec<String> = self
            .events
            .log()
            .all()
            .iter()
            .map(|event| format!("{} {}", event.container_id, event.brief()))
            .collect();
        let report = self.scratch.report();
        eprintln!("=== unfinished test, {:?}\n{report}", self.shim);
        eprintln!("--- events\n{}\n===", story.join("\n"));
    }
}
