// SPDX-License-Identifier: Apache-2.0
//! What containerd says to `start` on standard input, and in which form it expects the answer.

use std::io::{IsTerminal, Read};
use std::path::Path;

use containerd_shim::bootstrap::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use protobuf::Message;

use crate::args::Flags;
use crate::config::Reply;
use crate::error::Error;
use crate::options;

/// As much input as containerd's own shim reads.
const INPUT_LIMIT: u64 = 10 << 20;

/// The protocol that containerd 2.3 and later are told; their service is `containerd.task.v3.Task`.
const VERSION: i32 = 3;

/// The daemon that calls, as far as its words tell. Those before 2.3 cannot be told apart: same
/// arguments, environment and input from 1.6 to 2.2.
#[derive(Debug)]
pub(crate) enum Daemon {
    /// containerd up to 2.2: the runtime options or nothing. The answer is the plain address,
    /// the one form that all of them understand, or JSON when that was configured.
    Legacy {
        /// The runtime options.
        options: Option<Any>,
    },
    /// containerd 2.3 and later: `containerd.runtime.bootstrap.v1`.
    Params(Box<BootstrapParams>),
}

impl Daemon {
    /// Tells who has said `input`.
    ///
    /// # Errors
    /// When it is no message of either, or one meant for another shim.
    pub(crate) fn of(input: &[u8], flags: &Flags) -> Result<Daemon, Error> {
        if input.is_empty() {
            return Ok(Daemon::Legacy { options: None });
        }
        if let Ok(params) = BootstrapParams::parse_from_bytes(input) {
            if params.instance_id == flags.id && params.namespace == flags.namespace {
                return Ok(Daemon::Params(Box::new(params)));
            }
            // An `Any` decodes as parameters too: its URL and value are the first two fields.
            let plain = BootstrapParams {
                instance_id: params.instance_id.clone(),
                namespace: params.namespace.clone(),
                ..BootstrapParams::default()
            };
            if params != plain {
                return Err(Error::ForeignParams);
            }
        }
        let options = Any::parse_from_bytes(input)
            .map_err(|source| Error::Decode { what: "google.protobuf.Any", source })?;
        Ok(Daemon::Legacy { options: Some(options) })
    }

    /// The runtime options that came along.
    pub(crate) fn options(&self) -> Option<&Any> {
        match self {
            Daemon::Legacy { options } => options.as_ref(),
            Daemon::Params(params) => {
                let mut extensions = params.extensions.iter().filter_map(|e| e.value.as_ref());
                extensions.find(|any| options::is_options(&any.type_url))
            }
        }
    }

    /// Where events go, when the daemon says it here and not in the environment.
    pub(crate) fn ttrpc_address(&self) -> Option<&str> {
        self.param(|params| &params.containerd_ttrpc_address)
    }

    /// The daemon's own socket, when it says it here: part of what the shim's socket is named by.
    pub(crate) fn grpc_address(&self) -> Option<&str> {
        self.param(|params| &params.containerd_grpc_address)
    }

    /// The directory the daemon wants the shim's socket in.
    pub(crate) fn socket_dir(&self) -> Option<&Path> {
        self.param(|params| params.socket_dir.as_ref().unwrap_or(&EMPTY)).map(Path::new)
    }

    /// Whether the daemon wants a debug log.
    pub(crate) fn debug(&self) -> bool {
        const DEBUG: i32 = -4;
        matches!(self, Daemon::Params(params) if params.log_level.value() <= DEBUG)
    }

    /// Whether the daemon looks for the address in a file of the bundle that the shim writes.
    pub(crate) fn reads_address_file(&self) -> bool {
        matches!(self, Daemon::Legacy { .. })
    }

    fn param<'a>(&'a self, field: impl Fn(&'a BootstrapParams) -> &'a String) -> Option<&'a str> {
        match self {
            Daemon::Legacy { .. } => None,
            Daemon::Params(params) => Some(field(params).as_str()).filter(|text| !text.is_empty()),
        }
    }

    /// What to print when the shim serves at `address`.
    ///
    /// # Errors
    /// When protobuf cannot encode it.
    pub(crate) fn reply(&self, address: &str, form: Reply) -> Result<Vec<u8>, Error> {
        match (self, form) {
            (_, Reply::Address) | (Daemon::Legacy { .. }, Reply::Auto) => {
                Ok(address.as_bytes().to_vec())
            }
            (Daemon::Legacy { .. }, Reply::Json) => Ok(json(address).into_bytes()),
            (Daemon::Params(_), Reply::Auto | Reply::Json) => {
                let result = BootstrapResult {
                    version: VERSION,
                    address: address.to_owned(),
                    protocol: "ttrpc".to_owned(),
                    ..BootstrapResult::default()
                };
                let what = "BootstrapResult";
                result.write_to_bytes().map_err(|source| Error::Encode { what, source })
            }
        }
    }
}

static EMPTY: String = String::new();

/// `BootstrapParams` of containerd 2.0's pkg/shim, byte for byte as its own shim marshals it. The
/// version is that of the task service: with 3 the daemon calls `containerd.task.v3.Task`, with 2,
/// or given a plain address, `containerd.task.v2.Task`. Both are served.
fn json(address: &str) -> String {
    let address = serde_json::Value::from(address);
    format!(r#"{{"version":{VERSION},"address":{address},"protocol":"ttrpc"}}"#)
}

/// Reads standard input to its end. A terminal is no input: somebody is trying the shim by hand.
///
/// # Errors
/// [`Error::Stdin`].
pub(crate) fn read_stdin() -> Result<Vec<u8>, Error> {
    let stdin = std::io::stdin();
    let mut input = Vec::new();
    if !stdin.is_terminal() {
        let read = stdin.lock().take(INPUT_LIMIT).read_to_end(&mut input);
        read.map_err(|source| Error::Stdin { source })?;
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use containerd_shim::protos::bootstrap_api::Extension;
    use protobuf::{EnumOrUnknown, MessageField};

    use super::*;

    fn flags() -> Flags {
        Flags { namespace: "k8s.io".to_owned(), id: "abc".to_owned(), ..Flags::default() }
    }

    fn params(id: &str) -> BootstrapParams {
        BootstrapParams {
            instance_id: id.to_owned(),
            namespace: "k8s.io".to_owned(),
            containerd_version: "v2.3.0".to_owned(),
            ..BootstrapParams::default()
        }
    }

    #[test]
    fn nothing_and_an_any_are_of_a_legacy_daemon() {
        let silent = Daemon::of(b"", &flags()).unwrap();
        assert_eq!(silent.options(), None);
        let any = Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: vec![0x40, 1],
            ..Any::default()
        };
        let daemon = Daemon::of(&any.write_to_bytes().unwrap(), &flags()).unwrap();
        assert_eq!(daemon.options(), Some(&any));
        for (form, reply) in [
            (Reply::Auto, "unix:///x"),
            (Reply::Address, "unix:///x"),
            (Reply::Json, r#"{"version":3,"address":"unix:///x","protocol":"ttrpc"}"#),
        ] {
            assert_eq!(daemon.reply("unix:///x", form).unwrap(), reply.as_bytes(), "{form}");
        }
    }

    #[test]
    fn an_any_with_a_binary_value_is_legacy_although_it_is_no_utf8() {
        let any = Any { type_url: "t".to_owned(), value: vec![0xff, 0xfe], ..Any::default() };
        let daemon = Daemon::of(&any.write_to_bytes().unwrap(), &flags()).unwrap();
        assert_eq!(daemon.options(), Some(&any));
    }

    #[test]
    fn parameters_are_told_by_id_and_namespace() {
        let own = params("abc").write_to_bytes().unwrap();
        assert!(matches!(Daemon::of(&own, &flags()), Ok(Daemon::Params(_))));
        let foreign = params("other").write_to_bytes().unwrap();
        assert!(matches!(Daemon::of(&foreign, &flags()), Err(Error::ForeignParams)));
        assert!(matches!(Daemon::of(b"\xff\xff", &flags()), Err(Error::Decode { .. })));
    }

    #[test]
    fn parameters_carry_everything_and_get_a_message_back() {
        let any = |url: &str| Any { type_url: url.to_owned(), ..Any::default() };
        let extension =
            |url| Extension { value: MessageField::some(any(url)), ..Extension::default() };
        let sent = BootstrapParams {
            log_level: EnumOrUnknown::from_i32(-4),
            containerd_ttrpc_address: "/run/t".to_owned(),
            containerd_grpc_address: "/run/g".to_owned(),
            socket_dir: Some("/run/sockets".to_owned()),
            extensions: vec![extension("other"), extension("x/containerd.runc.v1.Options")],
            ..params("abc")
        };
        let daemon = Daemon::of(&sent.write_to_bytes().unwrap(), &flags()).unwrap();
        assert_eq!(daemon.options(), Some(&any("x/containerd.runc.v1.Options")));
        assert_eq!(daemon.ttrpc_address(), Some("/run/t"));
        assert_eq!(daemon.grpc_address(), Some("/run/g"));
        assert_eq!(daemon.socket_dir(), Some(Path::new("/run/sockets")));
        assert!(daemon.debug() && !daemon.reads_address_file());
        // version 3, address "unix:///x", protocol "ttrpc", as bytes on the wire.
        for form in [Reply::Auto, Reply::Json] {
            let reply = daemon.reply("unix:///x", form).unwrap();
            assert_eq!(reply, b"\x08\x03\x12\x09unix:///x\x1a\x05ttrpc", "{form}");
        }
        assert_eq!(daemon.reply("unix:///x", Reply::Address).unwrap(), b"unix:///x");
    }

    #[test]
    fn parameters_may_say_nothing() {
        let own = params("abc").write_to_bytes().unwrap();
        let daemon = Daemon::of(&own, &flags()).unwrap();
        assert_eq!((daemon.options(), daemon.ttrpc_address()), (None, None));
        assert_eq!((daemon.socket_dir(), daemon.debug()), (None, false));
    }
}
