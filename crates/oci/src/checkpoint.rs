// SPDX-License-Identifier: Apache-2.0
//! Checkpoint and restore by CRIU, through the runtime (runc-checkpoint(8), runc-restore(8)).

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::call::{ChildIo, Streams};
use crate::console::ConsoleSocket;
use crate::error::{Error, Result, on_path};
use crate::runtime::{Runtime, console_args, streams};

/// What a checkpoint is to contain. The names are those of `containerd.runc.v1.CheckpointOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The directory for the images.
    pub image_path: PathBuf,
    /// CRIU's working directory; empty: one in the bundle, removed afterwards.
    pub work_path: PathBuf,
    /// The images of an earlier checkpoint, relative to `image_path`; empty: none.
    pub parent_path: PathBuf,
    /// End the container when it is saved.
    pub exit: bool,
    /// Save established TCP connections.
    pub open_tcp: bool,
    /// Save Unix sockets whose other end is outside.
    pub external_unix_sockets: bool,
    /// Save a shell job.
    pub terminal: bool,
    /// Save file locks.
    pub file_locks: bool,
    /// Namespaces to restore empty.
    pub empty_namespaces: Vec<String>,
}

impl Checkpoint {
    fn args(&self, work: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["checkpoint".into()];
        args.extend(["--image-path".into(), self.image_path.clone().into()]);
        args.extend(["--work-path".into(), work.into()]);
        if !self.parent_path.as_os_str().is_empty() {
            args.extend(["--parent-path".into(), self.parent_path.clone().into()]);
        }
        let switches = [
            (self.open_tcp, "--tcp-established"),
            (self.external_unix_sockets, "--ext-unix-sk"),
            (self.terminal, "--shell-job"),
            (self.file_locks, "--file-locks"),
        ];
        args.extend(switches.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.into()));
        for namespace in &self.empty_namespaces {
            args.extend(["--empty-ns".into(), namespace.into()]);
        }
        args.extend((!self.exit).then(|| "--leave-running".into()));
        args
    }
}

impl Runtime {
    /// Saves the container's processes as images.
    ///
    /// # Errors
    /// The first line of the runtime's own words and where CRIU's log was copied to.
    pub async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        let own = checkpoint.work_path.as_os_str().is_empty();
        let work = match own {
            true => self.bundle().criu_work(),
            false => checkpoint.work_path.clone(),
        };
        if own {
            // What CRIU leaves in it tells of the memory of processes.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&work);
            made.map_err(on_path("mkdir", &work))?;
        }
        let result = self.save(checkpoint, &work).await;
        if own && let Err(err) = fs::remove_dir_all(&work) {
            log::warn!("failed to remove CRIU's working directory {}: {err}", work.display());
        }
        result
    }

    async fn save(&self, checkpoint: &Checkpoint, work: &Path) -> Result<()> {
        let mut args = checkpoint.args(work);
        args.push(self.id().into());
        let said = match self.run(args, self.limits(), Streams::Captured).await {
            Ok(_) => return Ok(()),
            Err(said) => said,
        };
        let log = self.bundle().criu_log();
        if let Err(err) = fs::copy(work.join("dump.log"), &log)
            && err.kind() != io::ErrorKind::NotFound
        {
            log::warn!("failed to keep CRIU's log as {}: {err}", log.display());
        }
        let raw = said.raw();
        let message = raw.lines().next().unwrap_or_default().to_owned();
        Err(Error::Checkpoint { message, log })
    }

    /// Makes the container anew from the images in `image_path`, and runs it; its init gets `io`,
    /// or a terminal sent over `console`. Its pid is then in [`Runtime::init_pid`].
    ///
    /// # Errors
    /// "OCI runtime restore failed: …".
    pub async fn restore(
        &self,
        image_path: &Path,
        io: ChildIo,
        console: Option<&ConsoleSocket>,
    ) -> Result<()> {
        let pid_file = self.bundle().init_pid();
        self.bundle().remove_pid(&pid_file)?;
        let mut args: Vec<OsString> = vec!["restore".into()];
        args.extend(["--image-path".into(), image_path.into()]);
        args.extend(["--work-path".into(), self.criu_work_path().into()]);
        args.extend(["--detach".into(), "--pid-file".into(), pid_file.into()]);
        args.extend(console_args(console));
        args.extend(self.no_pivot_root().then(|| "--no-pivot".into()));
        // The restored init must become our child, not the runtime's.
        args.push("--no-subreaper".into());
        args.extend(["--bundle".into(), self.bundle().dir().into(), self.id().into()]);
        let result = self.run(args, self.limits(), streams(io, console)).await;
        result.map(drop).map_err(|said| said.failed("OCI runtime restore failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_argument() {
        let checkpoint = Checkpoint {
            image_path: "/images".into(),
            parent_path: "../parent".into(),
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".to_owned()],
            ..Checkpoint::default()
        };
        let expected = [
            "checkpoint",
            "--image-path",
            "/images",
            "--work-path",
            "/w",
            "--parent-path",
            "../parent",
            "--tcp-established",
            "--ext-unix-sk",
            "--shell-job",
            "--file-locks",
            "--empty-ns",
            "network",
            "--leave-running",
        ];
        assert_eq!(checkpoint.args(Path::new("/w")), expected);
        let plain = Checkpoint { exit: true, image_path: "/i".into(), ..Checkpoint::default() };
        let expected = ["checkpoint", "--image-path", "/i", "--work-path", "/w"];
        assert_eq!(plain.args(Path::new("/w")), expected);
    }
}
