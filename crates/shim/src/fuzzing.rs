// SPDX-License-Identifier: Apache-2.0
//! A decoder that is private, for the fuzz target in `fuzz/` and for nobody else.

use crate::args::Flags;
use crate::bootstrap::Daemon;
use crate::error::Error;
use crate::{options, socket};

/// What `start` makes of its standard input, without a look at the machine: where the shim's
/// socket would be.
///
/// # Errors
/// When it is neither of the messages a daemon sends, or carries broken options.
pub fn bootstrap(input: &[u8], flags: &Flags) -> Result<String, Error> {
    let daemon = Daemon::of(input, flags)?;
    // A file of options, if one is named, is the machine's.
    if let Some(options) = daemon.options().filter(|any| !options::name_a_file(any)) {
        options::decode(Some(options))?;
    }
    let containerd = daemon.grpc_address().unwrap_or(&flags.address);
    Ok(socket::address(daemon.socket_dir(), containerd, &flags.namespace, &flags.id))
}
