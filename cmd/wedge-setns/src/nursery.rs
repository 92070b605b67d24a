// SPDX-License-Identifier: Apache-2.0
//! The process that joiners are born of: small, so that forking it costs little, and here already,
//! so that no exec waits for an execve(2) more than its own. It never joins anything.

use wedge_setns_wire::{Kind, PACKET, REQUEST, Report, fd};

use crate::call;
use crate::joiner::{self, not_dumpable};
use crate::socket::{self, Received};
use crate::sys::{Errno, Result};

/// Exit status of a helper that was started by something else than the shim: by a container that
/// executes `/proc/self/exe`, for instance.
pub(crate) const NOT_OURS: i32 = 255;

/// Serves until the shim is gone.
pub(crate) fn main() -> ! {
    const SOCK_SEQPACKET: i32 = 5;
    if socket::kind_of(fd::CONTROL) != Ok(SOCK_SEQPACKET) || prepare().is_err() {
        call::exit(NOT_OURS);
    }
    loop {
        let mut number = [0; REQUEST];
        match socket::receive(fd::CONTROL, &mut number) {
            Ok(Received { length: 0, .. }) => call::exit(0),
            Ok(request) => bear(&number, request.fds()),
            Err(_) => call::exit(NOT_OURS),
        }
    }
}

/// What joiners inherit, but for the ends of children. Other signals are as they should be, since
/// the shim started this.
fn prepare() -> Result<()> {
    call::set_name(c"wedge-setns")?;
    call::ignore_children()?;
    not_dumpable()?;
    call::close_from(fd::CONTROL.cast_unsigned() + 1)
}

/// Forks a joiner with these descriptors.
fn bear(number: &[u8; REQUEST], fds: &[i32]) {
    if let Some((own, cgroup)) = fds.split_first_chunk::<{ fd::COUNT }>() {
        match call::fork(cgroup.first().copied()) {
            Ok(0) => joiner::main(own),
            // A shim that is gone is noticed by the next receive.
            Ok(_) => _ = call::write(fd::CONTROL, number),
            Err(error) => tell_that_there_is_none(own, error),
        }
    }
    // Without all of them the end of the control socket says that nothing came of it.
    for fd in fds {
        _ = call::close(*fd);
    }
}

fn tell_that_there_is_none(fds: &[i32; fd::COUNT], error: Errno) {
    let report = Report { kind: Kind::NotBorn, stage: 0, errno: error.0, aux: b"" };
    let mut packet = [0; PACKET];
    let length = report.encode(&mut packet);
    let [_, _, _, control, ..] = fds;
    _ = call::write(*control, packet.get(..length).unwrap_or_default());
}
