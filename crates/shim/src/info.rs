// SPDX-License-Identifier: Apache-2.0
//! `-info`: tells containerd what this runtime can do. The kubelet learns from it whether pods of
//! this runtime may have user namespaces and recursive read-only mounts.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::{Message, MessageField};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use wedge_oci::find_in_path;
use wedge_reaper::Reaper;
use wedge_sys::go_text;

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
    let path = env::var_os("PATH").unwrap_or_default();
    let features = features_of(&look_up(options.binary(), &path)?)?;
    let version = RuntimeVersion {
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
        ..RuntimeVersion::default()
    };
    let info = RuntimeInfo {
        name: program.runtime().to_owned(),
        version: MessageField::some(version),
        options: given.map(|_| options::encode(options.clone())).transpose()?.into(),
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

/// The OCI runtime's binary: a path as it is, a name by `PATH`, as Go's `exec.LookPath`.
fn look_up(name: &str, path: &OsStr) -> Result<PathBuf, Error> {
    let missing = |reason| Error::RuntimeBinary { name: name.to_owned(), reason };
    if !name.contains('/') {
        let found = find_in_path(name, path);
        return found.ok_or_else(|| missing("executable file not found in $PATH".to_owned()));
    }
    match fs::metadata(name) {
        Ok(found) if found.is_dir() => Err(missing("is a directory".to_owned())),
        Ok(found) if found.mode() & 0o111 == 0 => Err(missing("permission denied".to_owned())),
        Ok(_) => Ok(PathBuf::from(name)),
        Err(err) => Err(missing(format!("stat {name}: {}", go_text(&err)))),
    }
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
    use std::os::unix::fs::PermissionsExt;

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
        for (path, reason) in [
            ("/no/runc", "stat /no/runc: no such file or directory"),
            ("/etc/passwd", "permission denied"),
            ("/etc/", "is a directory"),
        ] {
            let text = look_up(path, OsStr::new("")).unwrap_err().chain();
            assert!(text.ends_with(&format!("exec: \"{path}\": {reason}")), "{text}");
        }
        assert_eq!(look_up("sh", OsStr::new("/nonexistent:/bin")).unwrap(), Path::new("/bin/sh"));
    }
}
