// SPDX-License-Identifier: Apache-2.0
//! A [`Lab`] with one bundle and the shim started for it: what most tests of the shim alone need.

use std::fmt::Debug;

use anyhow::{Result, ensure};

use crate::footprint::Footprint;
use crate::rpc::{Code, RpcError, assert_refused};
use crate::{Bundle, Capture, FakeRuntime, Lab, Process, ShimProcess, Spec, Stdio, payload, wait};

/// One bundle and its shim. No container exists until [`Rig::create`]. End with [`Rig::end`].
#[derive(Debug)]
pub struct Rig {
    /// The shim, connected.
    pub shim: ShimProcess,
    /// The bundle of the container.
    pub bundle: Bundle,
    /// The bench.
    pub lab: Lab,
}

/// What an exec was and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its pid.
    pub pid: u32,
    /// Exit code, or 128 + signal.
    pub status: u32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Rig {
    /// Starts a shim for a container of `spec` on a bench.
    ///
    /// # Errors
    /// The bundle cannot be made or the shim does not start.
    pub fn on(lab: Lab, spec: &Spec) -> Result<Rig> {
        let bundle = lab.bundle("c", spec)?;
        Ok(Rig { shim: lab.start(&bundle)?, bundle, lab })
    }

    /// As [`Rig::on`], with a shim that tells its state ([`Lab::state`]).
    ///
    /// # Errors
    /// Those of [`Rig::on`].
    pub fn telling(lab: Lab, spec: &Spec) -> Result<Rig> {
        let bundle = lab.bundle("c", spec)?;
        Ok(Rig { shim: lab.start_telling(&bundle)?, bundle, lab })
    }

    /// With the fake runtime, and an init that sleeps until it is killed.
    ///
    /// # Errors
    /// Those of [`Rig::on`].
    pub fn fake() -> Result<Rig> {
        Rig::on(Lab::with_fake_runtime()?, &Spec::new([payload::PATH, "pause"]))
    }

    /// With runc, and an init that sleeps until it is killed.
    ///
    /// # Errors
    /// Those of [`Rig::on`].
    pub fn runc() -> Result<Rig> {
        Rig::on(Lab::new()?, &Spec::new([payload::PATH, "pause"]))
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        self.bundle.id()
    }

    /// The fake runtime of the bundle.
    pub fn script(&self) -> FakeRuntime {
        self.lab.fake(&self.bundle)
    }

    /// Creates the container with /dev/null for streams; returns the pid of its init.
    ///
    /// # Errors
    /// The call fails.
    pub fn create(&self) -> Result<u32, RpcError> {
        self.shim.create(&self.bundle, &Stdio::null())
    }

    /// Creates the container and starts it; returns the pid of its init.
    ///
    /// # Errors
    /// A call fails.
    pub fn run(&self) -> Result<u32, RpcError> {
        self.create()?;
        self.shim.start(self.id(), "")
    }

    /// Registers an exec of `args` with /dev/null for streams.
    ///
    /// # Errors
    /// The call fails.
    pub fn add<S: AsRef<str>>(
        &self,
        exec_id: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<(), RpcError> {
        self.shim.exec(self.id(), exec_id, &Process::new(args), &Stdio::null())
    }

    /// Registers an exec and starts it; returns its pid.
    ///
    /// # Errors
    /// A call fails.
    pub fn exec<S: AsRef<str>>(
        &self,
        exec_id: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<u32, RpcError> {
        self.add(exec_id, args)?;
        self.shim.start(self.id(), exec_id)
    }

    /// Runs an exec of `process` to its end and deletes it. The inner error is Start's.
    ///
    /// # Errors
    /// Another call fails.
    pub fn run_exec(&self, exec_id: &str, process: &Process) -> Result<Result<Ran, RpcError>> {
        let fifos = self.lab.fifos(&format!("{}-{exec_id}", self.id()))?;
        self.shim.exec(self.id(), exec_id, process, fifos.stdio())?;
        let ran = match self.shim.start(self.id(), exec_id) {
            Ok(pid) => {
                let status = self.shim.wait(self.id(), exec_id)?.status;
                let text = |stream: &Capture| {
                    anyhow::Ok(String::from_utf8_lossy(&stream.finish()?).into_owned())
                };
                let (stdout, stderr) = (text(&fifos.stdout)?, text(&fifos.stderr)?);
                Ok(Ran { pid, status, stdout, stderr })
            }
            Err(refused) => Err(refused),
        };
        self.shim.delete(self.id(), exec_id)?;
        Ok(ran)
    }

    /// The events of the container once the one that begins with `last` has come.
    ///
    /// # Errors
    /// It does not come.
    pub fn story_until(&self, last: &str) -> Result<Vec<String>> {
        self.lab.events().log().story_until(self.id(), last)
    }

    /// What the shim holds and has made, once that has come to rest: who was started a moment ago
    /// may still be on its way to its program, and who has ended on its way out.
    ///
    /// # Errors
    /// It does not, or the shim is gone.
    pub fn footprint(&self) -> Result<Footprint> {
        wait::until("the footprint is at rest", || {
            for child in self.shim.proc().children() {
                let ended = !child.is_alive();
                ensure!(!ended || self.lab.shim().is_go(), "{child:?} is not reaped");
                ensure!(ended || !child.args()?.is_empty(), "{child:?} is about to be a program");
            }
            let (first, second) = (self.look()?, self.look()?);
            ensure!(first == second, "{first}\n{second}");
            Ok(second)
        })
    }

    fn look(&self) -> Result<Footprint> {
        self.lab.footprint(&self.shim, &self.bundle)
    }

    /// Waits until nothing is there that was not `before`, and nothing is missing.
    ///
    /// # Errors
    /// Something differs; the message lists it.
    pub fn unchanged_since(&self, before: &Footprint) -> Result<()> {
        wait::until("the footprint is as before", || {
            let change = self.look()?.since(before, self.lab.shim().is_go());
            ensure!(change.is_empty(), "{}", change.join("\n"));
            Ok(())
        })
    }

    /// Makes a call that has to be refused with `code` and `text`, and to leave nothing behind.
    ///
    /// # Errors
    /// The shim is gone or something is left.
    #[track_caller]
    pub fn refuses<T: Debug>(
        &self,
        code: Code,
        text: &str,
        call: impl FnOnce(&ShimProcess) -> Result<T, RpcError>,
    ) -> Result<()> {
        let before = self.footprint()?;
        assert_refused(call(&self.shim), code, text);
        self.unchanged_since(&before)
    }

    /// Ends the test. Whatever became of the container, it can be run if it is not there, killed,
    /// waited for and deleted; then the shim shuts down and nothing is left.
    ///
    /// # Errors
    /// Any of that fails.
    pub fn end(self) -> Result<()> {
        match self.shim.state(self.id(), "") {
            Err(error) if error.code() == Some(Code::NOT_FOUND) => {
                self.run()?;
                self.shim.kill(self.id(), "", 9, true)?;
            }
            Err(error) => return Err(error.into()),
            // Fails when it has stopped already.
            Ok(_) => drop(self.shim.kill(self.id(), "", 9, true)),
        }
        self.shim.wait(self.id(), "")?;
        self.retire()
    }

    /// Ends the test of a container that has stopped, or was never started.
    ///
    /// # Errors
    /// Delete or Shutdown fails, or something is left.
    pub fn retire(self) -> Result<()> {
        self.shim.delete(self.id(), "")?;
        self.close()
    }

    /// Ends the test of a container that was deleted.
    ///
    /// # Errors
    /// Shutdown fails, or something is left.
    pub fn close(self) -> Result<()> {
        self.shim.shutdown()?;
        self.lab.finish()
    }
}
