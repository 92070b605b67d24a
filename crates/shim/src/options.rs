// SPDX-License-Identifier: Apache-2.0
//! Runtime options, in the two messages containerd sends them in.
//!
//! `io.containerd.runc.v2` gets `containerd.runc.v1.Options`; a runtime of any other name gets
//! `runtimeoptions.v1.Options`, which carries the TOML section of the CRI configuration or the
//! path of a file with it (containerd internal/cri/config, containerd #9671, #13291).

use std::path::Path;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::oci;
use protobuf::{CodedInputStream, Message, UnknownValueRef};
use wedge_oci::{Checkpoint, Options};

use crate::error::Error;

/// The types of options this shim understands, without what may stand before them.
const RUNC: &str = "containerd.runc.v1.Options";
const GENERIC: &str = "runtimeoptions.v1.Options";
const CHECKPOINT: &str = "containerd.runc.v1.CheckpointOptions";

/// Whether a type URL is one of runtime options. containerd's typeurl writes bare names,
/// `Any::pack` puts a host before them.
pub(crate) fn is_options(type_url: &str) -> bool {
    matches!(name(type_url), RUNC | GENERIC)
}

fn name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

/// Decodes what `Create`, `start` or `-info` was given. No options are default options.
///
/// # Errors
/// For any type but the two above, and for content that does not decode.
pub(crate) fn decode(any: Option<&Any>) -> Result<Options, Error> {
    let Some(any) = any else {
        return Ok(Options::default());
    };
    match name(&any.type_url) {
        RUNC => runc_options(&any.value),
        GENERIC => generic_options(&any.value),
        "" if any.value.is_empty() => Ok(Options::default()),
        _ => Err(Error::OptionsType { type_url: any.type_url.clone() }),
    }
}

fn runc_options(value: &[u8]) -> Result<Options, Error> {
    let sent = oci::Options::parse_from_bytes(value)
        .map_err(|source| Error::Decode { what: "containerd.runc.v1.Options", source })?;
    Ok(Options {
        no_pivot_root: sent.no_pivot_root,
        no_new_keyring: sent.no_new_keyring,
        shim_cgroup: sent.shim_cgroup,
        io_uid: sent.io_uid,
        io_gid: sent.io_gid,
        binary_name: sent.binary_name,
        root: sent.root,
        systemd_cgroup: sent.systemd_cgroup,
        criu_image_path: sent.criu_image_path,
        criu_work_path: sent.criu_work_path,
        task_api_address: sent.task_api_address,
        task_api_version: sent.task_api_version,
    })
}

/// The options in the one form containerd reads back, whichever they came in.
///
/// # Errors
/// Never in practice.
pub(crate) fn encode(options: Options) -> Result<Any, Error> {
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
    let value = message.write_to_bytes().map_err(|source| Error::Encode { what: RUNC, source })?;
    Ok(Any { type_url: RUNC.to_owned(), value, ..Any::default() })
}

/// Decodes what `Checkpoint` was given: the directory for the images, and maybe options, of which
/// `image_path` and `cgroups_mode` mean nothing here, as in Go.
///
/// # Errors
/// When the options are of another type or do not decode.
pub(crate) fn decode_checkpoint(path: String, any: Option<&Any>) -> Result<Checkpoint, Error> {
    let sent = match any {
        None => oci::CheckpointOptions::default(),
        Some(any) if name(&any.type_url) == CHECKPOINT || any.value.is_empty() => {
            oci::CheckpointOptions::parse_from_bytes(&any.value)
                .map_err(|source| Error::Decode { what: CHECKPOINT, source })?
        }
        Some(any) => return Err(Error::OptionsType { type_url: any.type_url.clone() }),
    };
    let parent_path = parent_path(&sent)?.into();
    Ok(Checkpoint {
        image_path: path.into(),
        work_path: sent.work_path.into(),
        parent_path,
        exit: sent.exit,
        open_tcp: sent.open_tcp,
        external_unix_sockets: sent.external_unix_sockets,
        terminal: sent.terminal,
        file_locks: sent.file_locks,
        empty_namespaces: sent.empty_namespaces,
    })
}

/// Field 10, newer than the message of containerd-shim-protos.
fn parent_path(sent: &oci::CheckpointOptions) -> Result<String, Error> {
    const PARENT_PATH: u32 = 10;
    match sent.special_fields.unknown_fields().get(PARENT_PATH) {
        Some(UnknownValueRef::LengthDelimited(path)) => {
            String::from_utf8(path.to_vec()).map_err(|_| Error::OptionsText)
        }
        Some(_) | None => Ok(String::new()),
    }
}

/// Whether the options themselves are in a file, which decoding them reads.
pub(crate) fn name_a_file(any: &Any) -> bool {
    let generic = (name(&any.type_url) == GENERIC).then(|| Generic::decode(&any.value));
    matches!(generic, Some(Ok(sent)) if !sent.config_path.is_empty())
}

/// containerd sends either a path or a body; a path wins, as in other shims.
fn generic_options(value: &[u8]) -> Result<Options, Error> {
    let sent = Generic::decode(value)
        .map_err(|source| Error::Decode { what: "runtimeoptions.v1.Options", source })?;
    let text = match sent.config_path.as_str() {
        "" => String::from_utf8(sent.config_body).map_err(|_| Error::OptionsText)?,
        path => std::fs::read_to_string(path).map_err(|source| Error::File {
            action: "read runtime options",
            path: Path::new(path).to_owned(),
            source,
        })?,
    };
    Options::from_toml(&text)
        .map_err(|source| Error::Oci { action: "parse runtime options", source })
}

/// `runtimeoptions.v1.Options`; containerd-shim-protos has no type for it. Its field 1, a type
/// URL of the content, is not needed: runc's options are the only content there is.
#[derive(Default)]
struct Generic {
    config_path: String,
    config_body: Vec<u8>,
}

impl Generic {
    fn decode(value: &[u8]) -> protobuf::Result<Generic> {
        const CONFIG_PATH: u32 = 2 << 3 | 2;
        const CONFIG_BODY: u32 = 3 << 3 | 2;
        let mut message = Generic::default();
        let mut input = CodedInputStream::from_bytes(value);
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match tag {
                CONFIG_PATH => message.config_path = input.read_string()?,
                CONFIG_BODY => message.config_body = input.read_bytes()?,
                other => skip(other, &mut input)?,
            }
        }
        Ok(message)
    }
}

fn skip(tag: u32, input: &mut CodedInputStream<'_>) -> protobuf::Result<()> {
    let mut unknown = protobuf::UnknownFields::new();
    protobuf::rt::read_unknown_or_skip_group(tag, input, &mut unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.to_owned(), value, ..Any::default() }
    }

    fn runc() -> Vec<u8> {
        let options = oci::Options {
            systemd_cgroup: true,
            binary_name: "/usr/bin/crun".to_owned(),
            io_uid: 7,
            ..oci::Options::default()
        };
        options.write_to_bytes().unwrap()
    }

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend(content);
        bytes
    }

    #[test]
    fn every_type_url_goes_where_it_belongs() {
        let toml = b"SystemdCgroup = true\nBinaryName = '/usr/bin/crun'\nIoUid = 7\n";
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&config, toml).unwrap();
        let path = config.path().to_str().unwrap().as_bytes();
        let body = [field(1, b"some.type"), vec![0x20, 1], field(3, toml)].concat();
        let both = [field(2, path), field(3, b"IoUid = 1")].concat();
        let expected = Options {
            systemd_cgroup: true,
            binary_name: "/usr/bin/crun".to_owned(),
            io_uid: 7,
            ..Options::default()
        };
        let table = [
            ("containerd.runc.v1.Options", runc(), expected.clone()),
            ("type.googleapis.com/containerd.runc.v1.Options", runc(), expected.clone()),
            ("runtimeoptions.v1.Options", body.clone(), expected.clone()),
            ("types.containerd.io/runtimeoptions.v1.Options", body, expected.clone()),
            ("runtimeoptions.v1.Options", both, expected),
            ("runtimeoptions.v1.Options", vec![], Options::default()),
            ("containerd.runc.v1.Options", vec![], Options::default()),
            ("", vec![], Options::default()),
        ];
        for (type_url, value, expected) in table {
            assert_eq!(decode(Some(&any(type_url, value))).unwrap(), expected, "{type_url}");
        }
        assert_eq!(decode(None).unwrap(), Options::default());
    }

    #[test]
    fn a_checkpoint_needs_no_options() {
        let plain = decode_checkpoint("/i".to_owned(), None).unwrap();
        assert_eq!(plain, Checkpoint { image_path: "/i".into(), ..Checkpoint::default() });
        let sent = oci::CheckpointOptions { exit: true, open_tcp: true, ..Default::default() };
        let bytes = [sent.write_to_bytes().unwrap(), field(10, b"../p")].concat();
        let decoded = decode_checkpoint("/i".to_owned(), Some(&any(CHECKPOINT, bytes))).unwrap();
        let parent_path = "../p".into();
        assert_eq!(decoded, Checkpoint { exit: true, open_tcp: true, parent_path, ..plain });
        assert!(decode_checkpoint("/i".to_owned(), Some(&any(RUNC, runc()))).is_err());
    }

    #[test]
    fn anything_else_is_an_error() {
        let table = [
            any("io.containerd.kata.v1.Options", vec![]),
            any("xcontainerd.runc.v1.Options", runc()),
            any("", runc()),
            any("containerd.runc.v1.Options", vec![0xff]),
            any("runtimeoptions.v1.Options", vec![0x1a, 9, b'x']),
            any("runtimeoptions.v1.Options", field(2, b"/nonexistent.toml")),
            any("runtimeoptions.v1.Options", field(3, b"\xff")),
            any("runtimeoptions.v1.Options", field(3, b"SystemdCgroup = 'yes'")),
        ];
        for any in table {
            assert!(decode(Some(&any)).is_err(), "{any:?}");
        }
    }
}
