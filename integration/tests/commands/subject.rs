// SPDX-License-Identifier: Apache-2.0
//! The OCI runtime that a test is about.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wedge_integration::rpc::{Code, RpcError};
use wedge_integration::{Cmd, Lab, Output, Rig, Spec, wait};

use crate::counter::Counter;

#[path = "../../../crates/runc/tests/ground/mod.rs"]
mod ground;

/// What makes the loader load a library first, ld.so(8).
const PRELOAD: &str = "LD_PRELOAD";

/// All of it to the runtime.
pub(crate) const BY_THE_RUNTIME: &str = "commands = \"runtime\"\nexec = \"runtime\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Runc,
    Crun,
}

/// What runc says on a busy machine, when it has not got to freeze a container.
pub(crate) const NOT_FROZEN: &str = "unable to freeze";

/// Freezes it by the shim, which may have the runtime do it.
pub(crate) fn pause(rig: &Rig) -> Result<()> {
    let answer = wait::until("it is paused", || {
        let answer = rig.shim.pause(rig.id());
        let again = answer.as_ref().is_err_and(|err| err.to_string().contains(NOT_FROZEN));
        ensure!(!again, "{answer:?}");
        Ok(answer)
    })?;
    Ok(answer?)
}

impl Subject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::Runc => "runc",
            Subject::Crun => "crun",
        }
    }

    /// A container with a counter, called `name`, for the runtime.
    pub(crate) fn counted(self, name: &str, spec: &Spec, config: &str) -> Result<(Rig, Counter)> {
        let (lab, counter) = self.bench(name)?;
        lab.configure(config)?;
        Ok((Rig::telling(lab, spec)?, counter))
    }

    /// The same without a container.
    pub(crate) fn bench(self, name: &str) -> Result<(Lab, Counter)> {
        if self == Subject::Crun {
            ground::enter();
        }
        let mut lab = Lab::new()?;
        let counter = Counter::of(lab.dir(), name, &self.command(lab.dir()))?;
        lab.options_mut().binary_name = counter.path();
        Ok((lab, counter))
    }

    /// How a shell calls the runtime.
    fn command(self, dir: &Path) -> String {
        let preload = self.preload(dir).map(|library| format!("env {PRELOAD}={library} "));
        let path = match self {
            Subject::Runc => "/usr/sbin/runc",
            Subject::Crun => "/usr/bin/crun",
        };
        format!("{}{path}", preload.unwrap_or_default())
    }

    fn preload(self, dir: &Path) -> Option<String> {
        let library = (self == Subject::Crun).then(|| ground::preload(dir)).flatten()?;
        Some(library.to_string_lossy().into_owned())
    }

    /// A command of the runtime, on the container of a rig.
    pub(crate) fn call(self, rig: &Rig, command: &[&str], args: &[&str]) -> Result<Output> {
        let root = format!("/run/containerd/runc/{}", rig.lab.namespace());
        let mut program = Cmd::new(self.name());
        if let Some(library) = self.preload(rig.lab.dir()) {
            program = program.env(PRELOAD, library);
        }
        program.args(["--root", &root]).args(command).arg(rig.id()).args(args).output()
    }

    /// The same for a command that succeeds.
    pub(crate) fn does(self, rig: &Rig, command: &[&str]) -> Result<()> {
        self.call(rig, command, &[])?.assert_ok();
        Ok(())
    }

    /// Freezes it by the runtime.
    pub(crate) fn pause(self, rig: &Rig) -> Result<()> {
        wait::until("it is paused", || {
            let out = self.call(rig, &["pause"], &[])?;
            ensure!(!out.error_text().contains(NOT_FROZEN), "{out}");
            out.assert_ok();
            Ok(())
        })
    }

    /// Deletes a running container behind the shim's back, and notes what can no more be done.
    pub(crate) fn deletes(self, rig: Rig, mut refusals: Refusals) -> Result<Refusals> {
        self.does(&rig, &["delete", "--force"])?;
        rig.shim.wait(rig.id(), "")?;
        refusals.note(&rig, rig.shim.kill(rig.id(), "", 9, false))?;
        refusals.note(&rig, rig.shim.kill(rig.id(), "", 9, true))?;
        refusals.note(&rig, rig.shim.pids(rig.id()).map(drop))?;
        rig.retire()?;
        Ok(refusals)
    }

    /// What the runtime takes the container for.
    pub(crate) fn status(self, rig: &Rig) -> Result<String> {
        let state = self.call(rig, &["state"], &[])?;
        let state: Value = serde_json::from_str(&state.assert_ok().text())?;
        Ok(state.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
    }
}

/// What clients were told that cannot be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals(pub(crate) Vec<(Option<Code>, String)>);

impl Refusals {
    /// Notes the refusal, without what is the test's own.
    ///
    /// # Errors
    /// When it was not refused.
    pub(crate) fn note(&mut self, rig: &Rig, answer: Result<(), RpcError>) -> Result<()> {
        let err = answer.err().with_context(|| format!("not refused, after {self:?}"))?;
        let text = err.to_string().replace(rig.id(), "ID").replace(rig.lab.namespace(), "NS");
        // The name of the runtime is a path in a directory of the test's own.
        let text = text.split_once(" did not terminate").map_or(&*text, |(_, rest)| rest);
        self.0.push((err.code(), text.to_owned()));
        Ok(())
    }
}
