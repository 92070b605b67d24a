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
use wedge_reaper::{ExitWatch, Reaper};
use wedge_setns_wire::{BIRTH, Birth, fd};

use crate::talk::{readable, sockets};

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

/// What is asked for, and the pids of what was born.
#[derive(Debug, Default)]
struct Requests {
    last: u32,
    open: HashMap<u32, Option<u32>>,
}

impl Nursery {
    /// Starts one from `helper`, which is sealed.
    pub(crate) fn start(reaper: &Reaper, helper: &OwnedFd) -> io::Result<Nursery> {
        let (ours, theirs) = sockets()?;
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
        requests.open.insert(number, None);
        Ok(number)
    }

    /// The pid of what was born for a request; nothing when the nursery died before.
    pub(crate) async fn born(&self, number: u32) -> Option<u32> {
        let socket = readable(self.socket.try_clone().ok()?).ok()?;
        let listen = async {
            loop {
                let heard = self.requests().hear(&self.socket);
                if let Some(pid) = self.requests().open.get(&number).copied().flatten() {
                    return Some(pid);
                }
                heard.ok()?;
                socket.readable().await.ok()?.clear_ready();
            }
        };
        tokio::time::timeout(PATIENCE, listen).await.ok().flatten()
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
            let mut packet = [0; BIRTH + 1];
            match wedge_sys::receive(socket, &mut packet) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(received) if received.length > 0 => {
                    let packet = packet.get(..received.length).unwrap_or_default();
                    let birth = Birth::decode(packet).ok_or(io::ErrorKind::InvalidData)?;
                    if let Some(pid) = self.open.get_mut(&birth.number) {
                        *pid = Some(birth.pid);
                    }
                }
                Ok(_) => return Err(io::ErrorKind::ConnectionReset.into()),
                Err(err) => return Err(err),
            }
        }
    }
}
