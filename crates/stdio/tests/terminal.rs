// SPDX-License-Identifier: Apache-2.0
//! A process with a terminal, with real ptys and fifos.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![expect(unreachable_pub, dead_code, reason = "the support module is shared")]
#![expect(clippy::disallowed_methods, reason = "a test waits for its own children")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::ttyname;
use support::{
    Fifos, LIMIT, Pattern, cpu_time, is_full, open_fds, prepare, read_all, thread, until,
};
use wedge_stdio::{Copier, ErrorKind, Owner};

/// Starts the copies of a terminal, and gives its slave, which does not touch the bytes.
fn start(fifos: &Fifos, names: &[&str]) -> (Copier, File) {
    let mut prepared = prepare(&fifos.request(true, names), Owner::default()).unwrap();
    let (stdin, stdout, stderr) = prepared.take_child();
    assert!([stdin, stdout, stderr].iter().all(Option::is_none));
    let pty = openpty(None, None).unwrap();
    raw(&pty.slave);
    (prepared.start(Some(pty.master)).unwrap(), pty.slave.into())
}

fn raw(slave: &OwnedFd) {
    let mut settings = tcgetattr(slave).unwrap();
    cfmakeraw(&mut settings);
    tcsetattr(slave, SetArg::TCSANOW, &settings).unwrap();
}

#[tokio::test]
async fn output_right_before_the_exit_is_not_lost() {
    let fifos = Fifos::new();
    for lines in ["1", "500", "20000"] {
        let (copier, slave) = start(&fifos, &["stdout"]);
        let client = fifos.reader("stdout");
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        // A session leader with the pty as its controlling terminal, like a container's init.
        let mut child = Command::new("setsid")
            .args(["--ctty", "seq", lines])
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        drop(slave);
        // The reader is slow: it starts when the process must already be waiting, or is gone.
        let path = fifos.path("stdout");
        until("full or exited", || is_full(&path) || child.try_wait().unwrap().is_some()).await;
        let output = read_all(client);
        thread(move || assert!(child.wait().unwrap().success())).await;
        copier.process_exited();
        assert!(copier.drain(LIMIT).await);
        let expected: String =
            (1..=lines.parse().unwrap()).map(|line: u32| format!("{line}\n")).collect();
        assert_eq!(output.await, expected);
    }
}

/// The exit may be known before the runtime has polled the terminal even once.
#[tokio::test]
async fn output_that_nobody_has_noticed_at_the_exit_is_not_lost() {
    let fifos = Fifos::new();
    for _ in 0..100 {
        let (copier, mut slave) = start(&fifos, &["stdout"]);
        let client = fifos.reader("stdout");
        slave.write_all(b"last words").unwrap();
        copier.process_exited();
        let (drained, text) = tokio::join!(copier.drain(LIMIT), read_all(client));
        assert_eq!((drained, text.as_str()), (true, "last words"));
    }
}

#[tokio::test]
async fn a_background_process_does_not_hold_the_terminal() {
    let fifos = Fifos::new();
    let (copier, mut daemon) = start(&fifos, &["stdout"]);
    let client = fifos.reader("stdout");
    daemon.write_all(b"before").unwrap();
    assert!(!copier.drain(Duration::from_millis(50)).await, "the process runs");
    copier.process_exited();
    assert!(copier.drain(LIMIT).await);
    assert_eq!(read_all(client).await, "before");
    assert!(daemon.write_all(b"after").is_err(), "the master is closed");
}

/// The master reads EIO while no slave is open, which is not the end.
#[tokio::test]
async fn a_terminal_that_is_closed_and_opened_again_goes_on() {
    let fifos = Fifos::new();
    let (copier, slave) = start(&fifos, &["stdout"]);
    let mut client = fifos.reader("stdout");
    let name = ttyname(&slave).unwrap();
    drop(slave);
    let before = cpu_time();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(cpu_time() - before < Duration::from_millis(60), "the copy spins");
    let mut again = OpenOptions::new().write(true).open(name).unwrap();
    again.write_all(b"again").unwrap();
    let mut read = [0; 5];
    thread(move || client.read_exact(&mut read).map(|()| assert_eq!(&read, b"again")))
        .await
        .unwrap();
    drop(again);
    copier.process_exited();
    assert!(copier.drain(LIMIT).await);
}

#[tokio::test]
async fn much_output_reaches_a_slow_reader_byte_exact() {
    const TOTAL: usize = 8 << 20;
    let fifos = Fifos::new();
    let (copier, mut slave) = start(&fifos, &["stdout"]);
    let mut client = fifos.reader("stdout");
    let writer = thread(move || Pattern::new().write(&mut slave, TOTAL, &[5000, 3, 777]));
    let path = fifos.path("stdout");
    until("the fifo is full", || is_full(&path)).await;
    let reader = thread(move || Pattern::new().read(&mut client, usize::MAX, 1000));
    writer.await;
    copier.process_exited();
    assert!(copier.drain(LIMIT).await);
    assert_eq!(reader.await, TOTAL);
}

#[tokio::test]
async fn much_input_reaches_a_slow_process_byte_exact() {
    const TOTAL: usize = 2 << 20;
    let fifos = Fifos::new();
    let (_copier, mut slave) = start(&fifos, &["stdin", "stdout"]);
    let mut client = fifos.writer();
    std::thread::spawn(move || Pattern::new().write(&mut client, TOTAL, &[3, 20_000, 100]));
    let reader = thread(move || {
        let mut pattern = Pattern::new();
        while pattern.at() < TOTAL {
            pattern.read(&mut slave, 1, 300);
            std::thread::yield_now();
        }
    });
    reader.await;
}

/// Ctrl-C must get through to a process whose output nobody reads.
#[tokio::test]
async fn input_gets_through_while_the_output_is_stuck() {
    let fifos = Fifos::new();
    let (_copier, slave) = start(&fifos, &["stdin", "stdout"]);
    let mut output = slave.try_clone().unwrap();
    std::thread::spawn(move || while output.write_all(&[b'x'; 4096]).is_ok() {});
    let path = fifos.path("stdout");
    until("the fifo is full", || is_full(&path)).await;
    let mut client = fifos.writer();
    client.write_all(b"\x03").unwrap();
    let mut slave = slave;
    let mut read = [0; 1];
    thread(move || slave.read_exact(&mut read).map(|()| assert_eq!(read, *b"\x03"))).await.unwrap();
}

/// As with the Go shim, but what was pending is copied first.
#[tokio::test]
async fn the_end_of_stdin_closes_the_terminal_after_pending_output() {
    let fifos = Fifos::new();
    let (copier, mut slave) = start(&fifos, &["stdin", "stdout"]);
    let client = fifos.reader("stdout");
    drop(fifos.writer());
    assert!(!copier.drain(Duration::from_millis(50)).await, "only CloseIO ends it");
    slave.write_all(b"pending").unwrap();
    copier.close_stdin();
    assert!(copier.drain(LIMIT).await);
    assert_eq!(read_all(client).await, "pending");
    assert!(slave.write_all(b"x").is_err(), "the master is closed");
    copier.resize(1, 1).unwrap();
}

#[tokio::test]
async fn resize_sets_the_low_16_bits() {
    let fifos = Fifos::new();
    let (copier, slave) = start(&fifos, &["stdout"]);
    copier.resize(65_536 + 132, 43).unwrap();
    let size = Command::new("stty").arg("size").stdin(slave).output().unwrap();
    assert_eq!(String::from_utf8(size.stdout).unwrap(), "43 132\n");
}

/// containerd #11160.
#[tokio::test]
async fn descriptors_stay_constant_over_many_terminals() {
    let fifos = Fifos::new();
    let before = open_fds();
    for round in 0..200 {
        let (copier, mut slave) = start(&fifos, &["stdin", "stdout"]);
        if round == 0 {
            assert_eq!(open_fds().len(), before.len() + 6 + 1, "six of ours, one slave");
        }
        slave.write_all(b"x").unwrap();
        drop(slave);
        match round % 3 {
            0 => {
                let client = fifos.reader("stdout");
                copier.process_exited();
                let (drained, text) = tokio::join!(copier.drain(LIMIT), read_all(client));
                assert_eq!((drained, text.as_str()), (true, "x"));
            }
            1 => copier.close(),
            _ => {}
        }
        drop(copier);
        tokio::task::yield_now().await;
    }
    assert_eq!(open_fds(), before);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test]
async fn a_terminal_without_a_console_is_an_error_and_leaves_nothing_open() {
    let fifos = Fifos::new();
    let before = open_fds();
    let request = fifos.request(true, &["stdin", "stdout"]);
    let err = prepare(&request, Owner::default()).unwrap().start(None).unwrap_err();
    assert_eq!(err.to_string(), "failed to watch console: no pty master");
    let no_pty = File::open("/dev/null").unwrap().into();
    let err = prepare(&request, Owner::default()).unwrap().start(Some(no_pty)).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unknown);
    assert_eq!(open_fds(), before);
}
