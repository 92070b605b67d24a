// SPDX-License-Identifier: Apache-2.0
//! Two containers of one specification: the execs of one are the shim's own, those of the other
//! the OCI runtime's.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use protobuf::Message;
use wedge_integration::proc::Proc;
use wedge_integration::rpc::{Code, RpcError};
use wedge_integration::{Bundle, Cmd, Fifos, Lab, Process, ShimProcess, Spec, Stdio, payload};

/// A container, its shim, and how its execs are made.
#[derive(Debug)]
pub(crate) struct Side {
    /// The value of `exec` in the configuration.
    pub(crate) exec: &'static str,
    pub(crate) shim: ShimProcess,
    pub(crate) bundle: Bundle,
    pub(crate) init: Proc,
    /// Counts execs, for their ids.
    execs: Cell<usize>,
}

/// What became of an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Start was refused.
    Refused(String),
    /// It ran.
    Ended { status: u32, stdout: String, stderr: String },
}

impl Side {
    /// Starts a shim for a container of `spec` and runs the container.
    pub(crate) fn start(lab: &Lab, exec: &'static str, spec: &Spec) -> Result<Side> {
        let side = Side::create(lab, exec, spec)?;
        side.shim.start(side.bundle.id(), "")?;
        Ok(side)
    }

    /// Starts a shim for a container of `spec` and creates the container.
    pub(crate) fn create(lab: &Lab, exec: &'static str, spec: &Spec) -> Result<Side> {
        lab.configure(&format!("exec = \"{exec}\"\n"))?;
        let bundle = lab.bundle("c", spec)?;
        let socket = lab.dir().join(format!("debug-{}", bundle.id()));
        let socket = socket.to_str().context("a path that is no text")?;
        let start = lab.invoke(&bundle, &["-debug-socket", socket], "start");
        let out = start.stdin(lab.options()?.write_to_bytes()?).output()?;
        let shim = lab.attach(&out)?;
        let init = Proc(shim.create(&bundle, &Stdio::null())?);
        Ok(Side { exec, shim, bundle, init, execs: Cell::new(0) })
    }

    pub(crate) fn id(&self) -> &str {
        self.bundle.id()
    }

    /// Runs an exec to its end and deletes it.
    pub(crate) fn run(&self, lab: &Lab, process: &Process) -> Result<Outcome> {
        let id = self.next();
        let fifos = match has_terminal(process) {
            true => lab.terminal(&format!("{}-{id}", self.id()))?,
            false => lab.fifos(&format!("{}-{id}", self.id()))?,
        };
        self.run_with(&id, &fifos, process)
    }

    fn run_with(&self, id: &str, fifos: &Fifos, process: &Process) -> Result<Outcome> {
        self.shim.exec(self.id(), id, process, fifos.stdio())?;
        let started = self.shim.start(self.id(), id);
        let outcome = match started {
            Ok(_) => {
                let status = self.shim.wait(self.id(), id)?.status;
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                let stdout = text(fifos.stdout.finish()?);
                let stderr = match fifos.stdio().terminal {
                    true => String::new(),
                    false => text(fifos.stderr.finish()?),
                };
                Outcome::Ended { status, stdout, stderr }
            }
            Err(RpcError::Status { code: Code::UNKNOWN, message }) => Outcome::Refused(message),
            Err(other) => return Err(other.into()),
        };
        self.shim.delete(self.id(), id)?;
        Ok(outcome)
    }

    /// An exec id that was not used yet.
    pub(crate) fn next(&self) -> String {
        self.execs.set(self.execs.get() + 1);
        format!("e{}", self.execs.get())
    }

    /// The shim's state, as it says on its debug socket.
    pub(crate) fn dump(&self, lab: &Lab) -> Result<String> {
        let socket = lab.dir().join(format!("debug-{}", self.id()));
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(b"GET /debug/pprof/goroutine HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Ends container and shim.
    pub(crate) fn end(self) -> Result<()> {
        // Fails when it has stopped already.
        self.shim.kill(self.id(), "", 9, true).ok();
        self.shim.wait(self.id(), "")?;
        self.shim.delete(self.id(), "")?;
        Ok(self.shim.shutdown()?)
    }
}

/// Whether the OCI runtime is that of Debian 12, which does less than a native exec.
pub(crate) fn runc_is_1_1() -> Result<bool> {
    Ok(Cmd::new("runc").arg("--version").output()?.text().starts_with("runc version 1.1."))
}

fn has_terminal(process: &Process) -> bool {
    process.to_json().contains("\"terminal\":true")
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) native: Side,
    pub(crate) runtime: Side,
    pub(crate) lab: Lab,
}

impl Pair {
    /// Two containers of `spec` on a new bench.
    pub(crate) fn new(spec: &Spec) -> Result<Pair> {
        Pair::on(Lab::new()?, spec)
    }

    /// Two containers of `spec`.
    pub(crate) fn on(lab: Lab, spec: &Spec) -> Result<Pair> {
        let native = Side::start(&lab, "native", spec)?;
        let runtime = Side::start(&lab, "runtime", spec)?;
        Ok(Pair { native, runtime, lab })
    }

    /// The specification of a container that only waits.
    pub(crate) fn spec() -> Spec {
        Spec::new([payload::PATH, "pause"])
    }

    pub(crate) fn sides(&self) -> [&Side; 2] {
        [&self.native, &self.runtime]
    }

    /// Ends all; nothing may be left.
    pub(crate) fn end(self) -> Result<()> {
        self.native.end()?;
        self.runtime.end()?;
        self.lab.finish()
    }
}
