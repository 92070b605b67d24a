// SPDX-License-Identifier: Apache-2.0
//! What containerd says to `start` on standard input, and in which form it expects the answer.

use std::io::{IsTerminal, Read};

use containerd_shim::bootstrap::BootstrapParams;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use protobuf::Message;

use crate::args::Flags;
use crate::error::Error;

/// As much input as containerd's own shim reads.
const INPUT_LIMIT: u64 = 10 << 20;

/// How the daemon speaks. Those before 2.3 cannot be told apart: same arguments, environment and
/// input from 1.6 to 2.2.
#[derive(Debug)]
pub(crate) enum Dialect {
    /// containerd up to 2.2: the runtime options or nothing. The answer is the plain address,
    /// the one form that all of them understand.
    Legacy {
        /// The runtime options.
        options: Option<Any>,
    },
    /// containerd 2.3 and later. Not answered yet: `reply` is the place for `BootstrapResult`.
    Params(Box<BootstrapParams>),
}

impl Dialect {
    /// Tells the dialect of `input`.
    ///
    /// # Errors
    /// When it is no message of either, or one meant for another shim.
    pub(crate) fn of(input: &[u8], flags: &Flags) -> Result<Dialect, Error> {
        if input.is_empty() {
            return Ok(Dialect::Legacy { options: None });
        }
        if let Ok(params) = BootstrapParams::parse_from_bytes(input) {
            if params.instance_id == flags.id && params.namespace == flags.namespace {
                return Ok(Dialect::Params(Box::new(params)));
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
        Ok(Dialect::Legacy { options: Some(options) })
    }

    /// The runtime options that came along.
    ///
    /// # Errors
    /// For a dialect that is not supported yet.
    pub(crate) fn options(&self) -> Result<Option<&Any>, Error> {
        match self {
            Dialect::Legacy { options } => Ok(options.as_ref()),
            Dialect::Params(params) => {
                Err(Error::BootstrapProtocol { version: params.containerd_version.clone() })
            }
        }
    }

    /// What to print when the shim serves at `address`.
    ///
    /// # Errors
    /// For a dialect that is not supported yet.
    pub(crate) fn reply(&self, address: &str) -> Result<Vec<u8>, Error> {
        match self {
            Dialect::Legacy { .. } => Ok(address.as_bytes().to_vec()),
            Dialect::Params(params) => {
                Err(Error::BootstrapProtocol { version: params.containerd_version.clone() })
            }
        }
    }
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
    fn nothing_and_an_any_are_the_legacy_dialect() {
        let silent = Dialect::of(b"", &flags()).unwrap();
        assert_eq!(silent.options().unwrap(), None);
        let any = Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: vec![0x40, 1],
            ..Any::default()
        };
        let dialect = Dialect::of(&any.write_to_bytes().unwrap(), &flags()).unwrap();
        assert_eq!(dialect.options().unwrap(), Some(&any));
        assert_eq!(dialect.reply("unix:///x").unwrap(), b"unix:///x");
    }

    #[test]
    fn an_any_with_a_binary_value_is_legacy_although_it_is_no_utf8() {
        let any = Any { type_url: "t".to_owned(), value: vec![0xff, 0xfe], ..Any::default() };
        let dialect = Dialect::of(&any.write_to_bytes().unwrap(), &flags()).unwrap();
        assert_eq!(dialect.options().unwrap(), Some(&any));
    }

    #[test]
    fn parameters_are_told_by_id_and_namespace() {
        let own = params("abc").write_to_bytes().unwrap();
        let dialect = Dialect::of(&own, &flags()).unwrap();
        let err = dialect.options().unwrap_err();
        assert!(err.to_string().starts_with("containerd v2.3.0 uses"), "{err}");
        let foreign = params("other").write_to_bytes().unwrap();
        assert!(matches!(Dialect::of(&foreign, &flags()), Err(Error::ForeignParams)));
        assert!(matches!(Dialect::of(b"\xff\xff", &flags()), Err(Error::Decode { .. })));
    }
}
