// SPDX-License-Identifier: Apache-2.0
//! Streams by pipes, with real fifos.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![expect(unreachable_pub, reason = "the support module is shared")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use support::{
    Fifos, LIMIT, Pattern, cpu_time, is_full, open_fds, prepare, read_all, start, thread, until,
};
use wedge_stdio::{ErrorKind, Owner, Request};

#[tokio::test]
async fn fifty_megabytes_reach_a_slow_reader_byte_exact() {
    const TOTAL: usize = 50 << 20;
    let fifos = Fifos::new();
    let (copier, [_, stdout, _]) = start(&fifos.request(false, &["stdout"]));
    let mut process = File::from(stdout.unwrap());
    std::thread::spawn(move || Pattern::new().write(&mut process, TOTAL, &[65_536, 1, 4097, 333]));
    let path = fifos.path("stdout");
    until("the fifo is full", || is_full(&path)).await;
    let mut client = fifos.reader("stdout");
    let read = thread(move || {
        let mut pattern = Pattern::new();
        // Slow: small reads, and now and then one that may lose the processor.
        for number in 0_u64.. {
            if pattern.read(&mut client, 1, 1500) == 0 {
                break;
            }
            if number.is_multiple_of(8) {
                std::thread::yield_now();
            }
        }
        pattern.at()
    });
    assert_eq!(read.await, TOTAL);
    assert!(copier.drain(LIMIT).await);
}

/// Both sides of a splice say EAGAIN alike, and tokio's readiness is edge-triggered.
#[tokio::test]
async fn no_wake_up_is_lost_between_full_and_empty() {
    const TOTAL: usize = 8 << 20;
    let fifos = Fifos::new();
    let (copier, [_, stdout, stderr]) = start(&fifos.request(false, &["stdout", "stderr"]));
    let mut clients = Vec::new();
    for (name, fd) in [("stdout", stdout), ("stderr", stderr)] {
        let mut process = File::from(fd.unwrap());
        let sizes = [1, 2, 37, 5, 1, 900, 16];
        std::thread::spawn(move || Pattern::new().write(&mut process, TOTAL, &sizes));
        let path = fifos.path(name);
        let mut client = fifos.reader(name);
        clients.push(thread(move || {
            let mut pattern = Pattern::new();
            let mut reads = [1, 3, 64, 7, 5000, 2, 70_000].iter().cycle();
            while pattern.read(&mut client, 1, *reads.next().unwrap()) > 0 {
                // Now and then let the fifo fill up, so that the copy goes to sleep on it.
                for _ in 0..if pattern.at().is_multiple_of(64) { 2000 } else { 0 } {
                    if is_full(&path) {
                        break;
                    }
                    std::thread::yield_now();
                }
            }
            pattern.at()
        }));
    }
    for client in clients {
        assert_eq!(client.await, TOTAL);
    }
    assert!(copier.drain(LIMIT).await);
}

#[tokio::test]
async fn a_reader_that_goes_away_and_returns_loses_nothing() {
    const TOTAL: usize = 4 << 20;
    let fifos = Fifos::new();
    let (copier, [_, stdout, _]) = start(&fifos.request(false, &["stdout"]));
    let mut process = File::from(stdout.unwrap());
    let path = fifos.path("stdout");
    let mut pattern = Pattern::new();
    std::thread::spawn(move || Pattern::new().write(&mut process, TOTAL, &[10_000]));
    // More than fifo and pipe can hold is left whenever nobody reads, so the process is there.
    while pattern.at() + (1 << 19) < TOTAL {
        until("the fifo is full again", || is_full(&path)).await;
        let mut client = fifos.reader("stdout");
        pattern = thread(move || {
            pattern.read(&mut client, 100_000, 4096);
            pattern
        })
        .await;
    }
    let mut client = fifos.reader("stdout");
    pattern = thread(move || {
        pattern.read(&mut client, usize::MAX, 4096);
        pattern
    })
    .await;
    assert_eq!(pattern.at(), TOTAL);
    assert!(copier.drain(LIMIT).await);
}

#[tokio::test]
async fn a_copy_to_a_full_fifo_sleeps() {
    let fifos = Fifos::new();
    let (copier, [_, stdout, _]) = start(&fifos.request(false, &["stdout"]));
    let mut process = File::from(stdout.unwrap());
    // What fits into the fifo and the pipe together, with the fifo full in between.
    process.write_all(&[0; 65_536]).unwrap();
    let path = fifos.path("stdout");
    until("the fifo is full", || is_full(&path)).await;
    process.write_all(&[0; 65_536]).unwrap();
    let mut process = Some(process);
    for closed in [false, true] {
        if closed {
            process.take();
        }
        let before = cpu_time();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(cpu_time() - before < Duration::from_millis(60), "spins, closed: {closed}");
    }
    assert!(!copier.drain(Duration::ZERO).await);
}

/// splice(2) says EAGAIN, not 0, when the source has ended but the target is full.
#[tokio::test]
async fn output_that_just_fills_the_fifo_is_drained() {
    let fifos = Fifos::new();
    let (copier, [_, stdout, _]) = start(&fifos.request(false, &["stdout"]));
    let mut process = File::from(stdout.unwrap());
    process.write_all(&[0; 65_536]).unwrap();
    let path = fifos.path("stdout");
    until("the fifo is full", || is_full(&path)).await;
    drop(process);
    assert!(copier.drain(LIMIT).await);
}

/// Clients of containerd open their ends in the background: all of a short process's life, and
/// its Delete, may come first.
#[tokio::test]
async fn a_client_that_comes_after_the_end_still_gets_the_output() {
    let fifos = Fifos::new();
    let (copier, [_, stdout, _]) = start(&fifos.request(false, &["stdout"]));
    File::from(stdout.unwrap()).write_all(b"late").unwrap();
    let drained = copier.drain(LIMIT);
    let client = async {
        // Let the copy come to its end first.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        read_all(fifos.reader("stdout")).await
    };
    assert_eq!(tokio::join!(drained, client), (true, "late".to_owned()));
}

/// With the last writer gone, its open(2) would wait for ever.
#[tokio::test]
async fn a_client_that_comes_after_the_end_of_a_silent_process_is_let_in() {
    let fifos = Fifos::new();
    let (copier, [_, stdout, _]) = start(&fifos.request(false, &["stdout"]));
    drop(stdout);
    let drained = copier.drain(LIMIT);
    let client = async {
        // Let the copy come to its end first.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let path = fifos.path("stdout");
        read_all(thread(move || File::open(path).unwrap()).await).await
    };
    assert_eq!(tokio::join!(drained, client), (true, String::new()));
}

/// Clients that do not read do not hold up Delete for long.
#[tokio::test]
async fn both_outputs_end_when_the_process_closes_them() {
    let fifos = Fifos::new();
    let mut request = fifos.request(false, &["stdout", "stderr"]);
    request.stdout = format!("fifo://{}", request.stdout);
    let (copier, [stdin, stdout, stderr]) = start(&request);
    assert!(stdin.is_none());
    for (fd, text) in [(stdout, "out"), (stderr, "err")] {
        File::from(fd.unwrap()).write_all(text.as_bytes()).unwrap();
    }
    let clients = [fifos.reader("stdout"), fifos.reader("stderr")];
    assert!(copier.drain(LIMIT).await);
    for (client, text) in clients.into_iter().zip(["out", "err"]) {
        assert_eq!(read_all(client).await, text);
    }
}

#[tokio::test]
async fn stdin_ends_when_the_client_asked_for_it_and_nobody_writes() {
    let fifos = Fifos::new();
    let (copier, [stdin, ..]) = start(&fifos.request(false, &["stdin"]));
    let mut process = File::from(stdin.unwrap());
    for text in ["one", "two"] {
        // Without CloseIO a client that closes does not end it, and another may come.
        fifos.writer().write_all(text.as_bytes()).unwrap();
        let mut read = [0; 3];
        process = thread(move || {
            process.read_exact(&mut read).unwrap();
            assert_eq!(read, text.as_bytes());
            process
        })
        .await;
    }
    let mut client = fifos.writer();
    copier.close_stdin();
    copier.close_stdin();
    client.write_all(b"three").unwrap();
    drop(client);
    assert_eq!(read_all(process).await, "three");
}

#[tokio::test]
async fn a_big_stdin_reaches_a_slow_process_byte_exact() {
    const TOTAL: usize = 4 << 20;
    let fifos = Fifos::new();
    let (copier, [stdin, ..]) = start(&fifos.request(false, &["stdin"]));
    let mut process = File::from(stdin.unwrap());
    let mut client = fifos.writer();
    std::thread::spawn(move || Pattern::new().write(&mut client, TOTAL, &[3, 8000, 100]));
    copier.close_stdin();
    assert_eq!(thread(move || Pattern::new().read(&mut process, usize::MAX, 700)).await, TOTAL);
}

/// containerd #2551.
#[tokio::test]
async fn a_stdin_that_no_client_opens_blocks_nobody() {
    let fifos = Fifos::new();
    let (copier, [stdin, stdout, _]) = start(&fifos.request(false, &["stdin", "stdout"]));
    drop(stdout);
    assert!(copier.drain(LIMIT).await);
    let mut process = File::from(stdin.unwrap());
    let before = cpu_time();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(cpu_time() - before < Duration::from_millis(60), "the copy spins");
    copier.close_stdin();
    assert_eq!(thread(move || process.read(&mut [0; 1]).unwrap()).await, 0);
}

#[tokio::test]
async fn a_client_that_writes_to_a_closed_stdin_gets_a_broken_pipe() {
    let fifos = Fifos::new();
    let (_copier, [stdin, ..]) = start(&fifos.request(false, &["stdin"]));
    let mut client = fifos.writer();
    drop(stdin);
    let err = thread(move || {
        loop {
            if let Err(err) = client.write_all(b"x") {
                return err;
            }
        }
    });
    assert_eq!(err.await.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_drain_is_limited_when_a_daemon_keeps_stdout_open() {
    let before = open_fds();
    let fifos = Fifos::new();
    let (copier, [_, stdout, _]) = start(&fifos.request(false, &["stdout"]));
    let mut daemon = File::from(stdout.unwrap());
    daemon.write_all(b"started").unwrap();
    copier.process_exited();
    assert!(!copier.drain(Duration::from_millis(100)).await);
    copier.close();
    tokio::task::yield_now().await;
    assert!(!copier.drain(LIMIT).await, "closed is not drained, and is no reason to wait");
    let err = daemon.write_all(b"too late").unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::BrokenPipe);
    drop(daemon);
    assert_eq!(open_fds(), before);
}

#[tokio::test]
async fn after_close_no_task_and_no_descriptor_is_left() {
    let fifos = Fifos::new();
    let before = open_fds();
    let (copier, [stdin, stdout, stderr]) =
        start(&fifos.request(false, &["stdin", "stdout", "stderr"]));
    // One copy asleep on a full fifo, one on an empty pipe, one on stdin.
    let mut process = File::from(stdout.unwrap());
    let path = fifos.path("stdout");
    let writer = thread(move || while process.write_all(&[0; 4096]).is_ok() {});
    until("the fifo is full", || is_full(&path)).await;
    assert_eq!(open_fds().len(), before.len() + 9 + 3, "nine of ours, three of the process");
    copier.close();
    tokio::task::yield_now().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    writer.await;
    drop((stdin, stderr));
    assert_eq!(open_fds(), before);
}

/// containerd #7604, #8856, #11885.
#[tokio::test]
async fn descriptors_stay_constant_over_many_processes() {
    let fifos = Fifos::new();
    let request = fifos.request(false, &["stdin", "stdout", "stderr"]);
    let before = open_fds();
    for round in 0..200 {
        let (copier, ends) = start(&request);
        // Without a client an end would be waited for.
        let (client, _other) = (fifos.reader("stdout"), fifos.reader("stderr"));
        File::from(ends.into_iter().nth(1).flatten().unwrap()).write_all(b"x").unwrap();
        match round % 3 {
            0 => {
                let (drained, text) = tokio::join!(copier.drain(LIMIT), read_all(client));
                assert_eq!((drained, text.as_str()), (true, "x"));
            }
            1 => copier.close(),
            _ => copier.close_stdin(),
        }
        drop(copier);
        // Prepared for a runtime command that then fails.
        drop(prepare(&request, Owner::default()).unwrap());
        tokio::task::yield_now().await;
    }
    assert_eq!(open_fds(), before);
}

#[tokio::test]
async fn what_is_no_fifo_is_refused_and_nothing_stays_open() {
    let fifos = Fifos::new();
    symlink(fifos.path("stdout"), fifos.path("link")).unwrap();
    File::create(fifos.path("file")).unwrap();
    let before = open_fds();
    let bad = ["link", "file", "missing", ".", "/dev/null"];
    for (name, stream) in bad.iter().flat_map(|name| (0..3).map(move |stream| (name, stream))) {
        let path = if name.starts_with('/') { (*name).to_owned() } else { fifos.path(name) };
        let mut request = fifos.request(false, &["stdin", "stdout", "stderr"]);
        *[&mut request.stdin, &mut request.stdout, &mut request.stderr][stream] = path.clone();
        let err = prepare(&request, Owner::default()).unwrap_err();
        let (kind, why) = match *name {
            "missing" => (ErrorKind::Unknown, "no such file or directory"),
            _ => (ErrorKind::InvalidArgument, "not a fifo"),
        };
        assert_eq!(err.kind(), kind, "{err}");
        // Go quotes only one of them.
        let what = if stream == 0 { path.clone() } else { format!("w/o fifo {path:?}") };
        let text = format!("containerd-shim: opening {what} failed: {why}");
        assert_eq!(err.to_string(), text);
        assert_eq!(open_fds(), before, "{err}");
    }
}

/// containerd #10906.
#[tokio::test]
async fn the_user_of_the_process_can_open_its_stdout_again() {
    let fifos = Fifos::new();
    let owner = Owner { uid: 1000, gid: 1001 };
    let request = fifos.request(false, &["stdin", "stdout", "stderr"]);
    let mut prepared = prepare(&request, owner).unwrap();
    let (stdin, stdout, stderr) = prepared.take_child();
    let copier = prepared.start(None).unwrap();
    let client = fifos.reader("stdout");
    let stdout = File::from(stdout.unwrap());
    for end in [&File::from(stdin.unwrap()), &stdout, &File::from(stderr.unwrap())] {
        let end = end.metadata().unwrap();
        assert_eq!((end.uid(), end.gid()), (1000, 1001));
    }
    thread(move || {
        // Of this thread only.
        setfsgid(Gid::from_raw(1001));
        setfsuid(Uid::from_raw(1000));
        let path = format!("/proc/self/fd/{}", stdout.as_raw_fd());
        OpenOptions::new().write(true).open(path).unwrap().write_all(b"again").unwrap();
    })
    .await;
    assert_eq!(read_all(client).await, "again");
    drop(copier);
}

#[tokio::test]
async fn without_streams_there_is_nothing_to_do() {
    let before = open_fds();
    let (copier, ends) = start(&Request::default());
    assert!(ends.iter().all(Option::is_none));
    assert!(copier.drain(Duration::ZERO).await);
    copier.close_stdin();
    copier.resize(80, 24).unwrap();
    copier.close();
    assert_eq!(open_fds(), before);
}
