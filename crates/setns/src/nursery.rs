// SPDX-License-Identifier: Apache-2.0
//! The helper that waits: one process per shim, of which the joiner of each exec is forked.
//!
//! A fork of the shim itself costs more than all the rest: its page tables are copied, and each page
//! that it writes to afterwards is a fault. And no exec waits for the helper to be executed.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use wedge_reaper::{ExitWatch, Reaper};
use wedge_setns_wire::{REQUEST, fd};
use wedge_sys::watch;

use crate::socket;

/// How long the answer to a request may follow what came of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running nursery. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Nursery {
    pub(crate) pid: u32,
    /// Not watched: its answers are read when they matter, and must wake nobody before.
    socket: OwnedFd,
    exit: ExitWatch,
    requests: Mutex<Requests>,
}

/// What is asked for.
#[derive(Debug, Default)]
struct Requests {
    last: u32,
    /// Which are open, and whether something was born for them.
    open: HashMap<u32, bool>,
}

impl Nursery {
    /// Starts one from `helper`, which is sealed.
    pub(crate) fn start(reaper: &Reaper, helper: &OwnedFd) -> io::Result<Nursery> {
        let (ours, theirs) = socket::pair()?;
        let program = format!("/proc/self/fd/{}", helper.as_raw_fd());
        let mut command = Command::new(program);
        command.arg0("wedge-setns").env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        wedge_sys::pass_fd(&mut command, theirs, fd::CONTROL)?;
        let child = reaper.spawn(&mut command)?;
        let (pid, exit) = (child.pid, child.exit);
        Ok(Nursery { pid, socket: ours, exit, requests: Mutex::default() })
    }

    pub(crate) fn lives(&self) -> bool {
        self.exit.peek().is_none()
    }

    /// Asks for a joiner with `fds`, in `cgroup` if there is one; the number of the request, to be
    /// [forgotten](Nursery::forget). What comes of it is told on the control socket.
    pub(crate) fn ask(
        &self,
        fds: [BorrowedFd<'_>; fd::COUNT],
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<u32> {
        let mut requests = self.requests();
        requests.hear(&self.socket)?;
        let number = requests.last.wrapping_add(1);
        let fds: Vec<RawFd> = fds.into_iter().chain(cgroup).map(|fd| fd.as_raw_fd()).collect();
        let packet = number.to_ne_bytes();
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&packet)],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        requests.last = number;
        requests.open.insert(number, false);
        Ok(number)
    }

    /// Whether a joiner was born for a request. If not, the nursery died before.
    pub(crate) async fn has_born(&self, number: u32) -> bool {
        let known = || self.requests().open.get(&number).copied().unwrap_or_default();
        let listen = async {
            let socket = watch(self.socket.try_clone()?, Interest::READABLE)?;
            loop {
                self.requests().hear(&self.socket)?;
                if known() {
                    return Ok::<(), io::Error>(());
                }
                socket.readable().await?.clear_ready();
            }
        };
        match tokio::time::timeout(PATIENCE, listen).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => log::debug!("the nursery has ended: {err}"),
            Err(_) => log::warn!("the nursery has not answered within {PATIENCE:?}"),
        }
        known()
    }

    pub(crate) fn forget(&self, number: u32) {
        self.requests().open.remove(&number);
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    /// Takes every answer that is there.
    fn hear(&mut self, socket: &OwnedFd) -> io::Result<()> {
        loop {
            let mut packet = [0; REQUEST];
            match wedge_sys::receive(socket, &mut packet) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(received) if received.length > 0 => {
                    if let Some(born) = self.open.get_mut(&u32::from_ne_bytes(packet)) {
                        *born = true;
                    }
                }
                Ok(_) => return Err(io::ErrorKind::ConnectionReset.into()),
                Err(err) => return Err(err),
            }
        }
    }
}
