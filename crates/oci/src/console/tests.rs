// SPDX-License-Identifier: Apache-2.0
//! A peer that plays the runtime.

use super::*;
use nix::pty::openpty;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

fn send(path: &Path, fd: impl AsFd) {
    let stream = UnixStream::connect(path).unwrap();
    let fds = [fd.as_fd().as_raw_fd()];
    let name = [IoSlice::new(b"/dev/ptmx")];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &name, &rights, MsgFlags::empty(), None).unwrap();
}

#[tokio::test]
async fn the_master_of_a_real_pty_arrives_and_the_directory_goes() {
    let socket = ConsoleSocket::bind().unwrap();
    let dir = socket.path().parent().unwrap().to_path_buf();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let pty = openpty(None, None).unwrap();
    send(socket.path(), &pty.master);
    drop(pty.master);
    let master = socket.receive().await.unwrap();
    assert!(!dir.exists());
    fs::File::from(pty.slave).write_all(b"hello").unwrap();
    let mut read = [0; 5];
    fs::File::from(master).read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
}

#[tokio::test]
async fn a_terminal_sent_after_the_wait_began_arrives() {
    let socket = ConsoleSocket::bind().unwrap();
    let path = socket.path().to_path_buf();
    let pty = openpty(None, None).unwrap();
    let stream = async {
        tokio::task::yield_now().await;
        send(&path, &pty.master);
    };
    let (master, ()) = tokio::join!(socket.receive(), stream);
    assert!(wedge_sys::is_tty(master.unwrap()));
}

#[tokio::test]
async fn what_is_no_terminal_is_refused() {
    let socket = ConsoleSocket::bind().unwrap();
    send(socket.path(), fs::File::open("/dev/null").unwrap());
    let err = socket.receive().await.unwrap_err().to_string();
    assert_eq!(
        err,
        "failed to retrieve console master: the runtime sent something that is not a terminal"
    );

    let socket = ConsoleSocket::bind().unwrap();
    drop(UnixStream::connect(socket.path()).unwrap());
    assert!(matches!(socket.receive().await, Err(Error::Console { .. })));
}

#[tokio::test]
async fn a_runtime_that_never_connects_is_a_timeout_and_leaves_nothing() {
    let socket = ConsoleSocket::bind().unwrap();
    let dir = socket.path().parent().unwrap().to_path_buf();
    let received = socket.receive_within(Duration::from_millis(20)).await;
    assert!(matches!(received, Err(Error::ConsoleTimeout { .. })));
    assert!(!dir.exists());
}
