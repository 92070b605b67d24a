// SPDX-License-Identifier: Apache-2.0
//! `-info`: tells containerd what this runtime can do. The kubelet learns from it whether pods of
//! this runtime may have user namespaces and recursive read-only mounts.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::oci;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::{Message, MessageField};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use wedge_oci::Options;
use wedge_reaper::Reaper;

use crate::args::{Program, REVISION, VERSION};
use crate::bootstrap::read_stdin;
use crate::error::Error;
use crate::start::print;
use crate::{options, serve};

/// The type of `features`, with a JSON value (runtime-spec features.md).
const FEATURES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// How long the OCI runtime may take to tell its features, and how much it may say.
const FEATURES_TIME: Duration = Duration::from_secs(5);
const FEATURES_LIMIT: u64 = 1 << 20;

/// Prints a `RuntimeInfo` message, bare. Standard input holds the runtime options or nothing.
///
/// # Errors
/// When the options do not decode or the OCI runtime's binary is not there.
pub fn info(program: &Program) -> Result<(), Error> {
    let given = given_options(&read_stdin()?)?;
    let options = options::decode(given.as_ref()).map_err(unreadable)?;
    let features = features_of(&binary(&options)?)?;
    let version = RuntimeVersion {
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
        ..RuntimeVersion::default()
    };
    let info = RuntimeInfo {
        name: program.runtime().to_owned(),
        version: MessageField::some(version),
        options: given.map(|_| any_of(&options)).transpose()?.into(),
        features: features.into(),
        ..RuntimeInfo::default()
    };
    let bytes = info
        .write_to_bytes()
        .map_err(|source| Error::Encode { what: "containerd.types.RuntimeInfo", source })?;
    print(&bytes)
}

fn given_options(input: &[u8]) -> Result<Option<Any>, Error> {
    if input.is_empty() {
        return Ok(None);
    }
    let any = Any::parse_from_bytes(input)
        .map_err(|source| unreadable(Error::Decode { what: "google.protobuf.Any", source }))?;
    Ok(Some(any))
}

fn unreadable(source: Error) -> Error {
    let action = "failed to read runtime options (*options.Options)";
    Error::Options { action, source: Box::new(source) }
}

/// The options in the one form containerd reads back, whichever they came in.
fn any_of(options: &Options) -> Result<Any, Error> {
    let options = options.clone();
    let message = oci::Options {
        no_pivot_root: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        shim_cgroup: options.shim_cgroup,
        io_uid: options.io_uid,
        io_gid: options.io_gid,
        binary_name: options.binary_name,
        root: options.root,
        systemd_cgroup: options.systemd_cgroup,
        criu_image_path: options.criu_image_path,
        criu_work_path: options.criu_work_path,
        task_api_address: options.task_api_address,
        task_api_version: options.task_api_version,
        ..oci::Options::default()
    };
    let value = message
        .write_to_bytes()
        .map_err(|source| Error::Encode { what: "containerd.runc.v1.Options", source })?;
    Ok(Any { type_url: "containerd.runc.v1.Options".to_owned(), value, ..Any::default() })
}

/// The OCI runtime's binary: a path as it is, a name by `PATH`, as Go's `exec.LookPath`.
fn binary(options: &Options) -> Result<PathBuf, Error> {
    let name = match options.binary_name.as_str() {
        "" => "runc",
        name => name,
    };
    let path = env::var_os("PATH");
    look_up(name, path.as_deref().unwrap_or_default())
}

fn look_up(name: &str, path: &OsStr) -> Result<PathBuf, Error> {
    let missing = |reason| Error::RuntimeBinary { name: name.to_owned(), reason };
    if name.contains('/') {
        let there = is_executable(Path::new(name));
        return there
            .then(|| PathBuf::from(name))
            .ok_or_else(|| missing("no such executable file"));
    }
    env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| missing("executable file not found in $PATH"))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// What `<binary> features` says, or nothing: runc has the command since 1.1, others may not.
fn features_of(binary: &Path) -> Result<Option<Any>, Error> {
    let runtime = serve::runtime()?;
    let said = runtime.block_on(async {
        let reaper = Reaper::new();
        tokio::select! {
            said = timeout(FEATURES_TIME, ask(&reaper, binary)) => said.ok().and_then(Result::ok),
            // Without it no exit arrives, and the runtime's answer is not needed.
            _ = reaper.clone().run() => None,
        }
    });
    // JSON in, JSON out: re-encoded, so that what is passed on is one well-formed value.
    let value = said.and_then(|said| serde_json::from_slice::<serde_json::Value>(&said).ok());
    let value = value.filter(serde_json::Value::is_object).map(|value| value.to_string());
    Ok(value.map(|value| Any {
        type_url: FEATURES_TYPE.to_owned(),
        value: value.into_bytes(),
        ..Any::default()
    }))
}

async fn ask(reaper: &Reaper, binary: &Path) -> io::Result<Vec<u8>> {
    let mut command = Command::new(binary);
    command.arg("features").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = reaper.spawn(&mut command)?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?;
    let mut said = Vec::new();
    stdout.take(FEATURES_LIMIT).read_to_end(&mut said).await?;
    let exit = child.exit.wait().await;
    exit.status.success().then_some(said).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> tempfile::TempPath {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(file.path(), PermissionsExt::from_mode(0o755)).unwrap();
        file.into_temp_path()
    }

    #[test]
    fn features_are_passed_on_as_json() {
        let runtime = script("test $1 = features && echo '{ \"ociVersionMin\": \"1.0.0\" }'");
        let features = features_of(&runtime).unwrap().unwrap();
        assert_eq!(features.type_url, FEATURES_TYPE);
        assert_eq!(features.value, br#"{"ociVersionMin":"1.0.0"}"#);
    }

    #[test]
    fn a_runtime_without_features_has_none() {
        for text in ["echo '{}'; exit 1", "echo usage", "echo 7", "exit 0"] {
            assert_eq!(features_of(&script(text)).unwrap(), None, "{text}");
        }
        assert_eq!(features_of(Path::new("/nonexistent")).unwrap(), None);
    }

    #[test]
    fn a_missing_binary_is_named_as_by_go() {
        let text = look_up("wedge-nonexistent", OsStr::new("/bin:relative")).unwrap_err().chain();
        assert_eq!(
            text,
            "failed to look up the path of \"wedge-nonexistent\": \
             exec: \"wedge-nonexistent\": executable file not found in $PATH"
        );
        assert!(look_up("/nonexistent/runc", OsStr::new("")).is_err());
        assert_eq!(look_up("sh", OsStr::new("/nonexistent:/bin")).unwrap(), Path::new("/bin/sh"));
    }
}
