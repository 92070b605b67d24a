// SPDX-License-Identifier: Apache-2.0
//! The reaper with real children. nextest runs each test in a process of its own, which
//! `waitid(P_ALL)` needs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wedge_reaper::{CommandError, Limits, Reaper};

fn run<T>(test: impl AsyncFnOnce(Reaper) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reaper = Reaper::new();
        tokio::select! {
            result = test(reaper.clone()) => result,
            ended = reaper.run() => unreachable!("the reaper ended: {ended:?}"),
        }
    })
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

#[test]
fn the_exit_of_a_spawned_child_arrives() {
    run(async |reaper| {
        for (script, code) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -34 $$", 162)] {
            let mut child = reaper.spawn(&mut sh(script)).unwrap();
            assert_eq!(child.exit.wait().await.status.code(), code, "{script}");
        }
        assert_eq!(reaper.counts(), (0, 0, 0));
    });
}

#[test]
fn an_orphan_that_exits_before_it_is_claimed_keeps_its_status() {
    wedge_sys::set_subreaper().unwrap();
    run(async |reaper| {
        let expectation = reaper.expect();
        // The shells end at once; the innermost, now our child, prints its pid and ends with 5.
        let script = "(sh -c 'echo $$; exec >&- 2>&-; exit 5' &)";
        let output = reaper.capture(sh(script), None, Limits::default()).await.unwrap();
        let pid: u32 = String::from_utf8(output.output).unwrap().trim().parse().unwrap();
        let (mut watch, _) = expectation.claim(pid).unwrap();
        assert_eq!(watch.wait().await.status.code(), 5);
        assert_eq!(reaper.counts(), (0, 0, 0));
    });
}

/// Whoever claims gets an error, and could not end the process any more: it would run on unwatched.
#[test]
fn a_process_that_cannot_be_watched_is_killed() {
    wedge_sys::set_subreaper().unwrap();
    run(async |reaper| {
        let expectation = reaper.expect();
        let script = "(sh -c 'echo $$; exec >&- 2>&-; exec sleep 1000' &)";
        let output = reaper.capture(sh(script), None, Limits::default()).await.unwrap();
        let pid: u32 = String::from_utf8(output.output).unwrap().trim().parse().unwrap();
        let full = limit_descriptors(0);
        let error = expectation.claim(pid).unwrap_err();
        limit_descriptors(full);
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        let process = format!("/proc/{pid}");
        let begun = Instant::now();
        while std::fs::exists(&process).unwrap() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
        assert_eq!(reaper.counts(), (0, 0, 0));
    });
}

/// No more descriptors than these are opened; the number that was allowed before.
fn limit_descriptors(number: u64) -> u64 {
    let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, number, hard).unwrap();
    before
}

#[test]
fn a_number_of_no_process_kills_nobody() {
    let reaper = Reaper::new();
    for pid in [0, u32::MAX, 1 << 31, 1 << 30] {
        assert!(reaper.expect().claim(pid).is_err(), "{pid}");
    }
    assert_eq!(reaper.counts(), (0, 0, 0));
}

#[test]
fn output_held_open_by_a_daemon_does_not_delay_the_result() {
    run(async |reaper| {
        let begun = Instant::now();
        let output =
            reaper.capture(sh("echo before; sleep 60 & exit 3"), None, Limits::default()).await;
        let output = output.unwrap();
        assert_eq!(output.status.code(), 3);
        assert_eq!(output.output, b"before\n");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    });
}

#[test]
fn ten_megabytes_of_output_are_bounded() {
    run(async |reaper| {
        let limits = Limits { output: 1000, ..Limits::default() };
        let script = "dd if=/dev/zero bs=1M count=10 2>/dev/null; exit 1";
        let output = reaper.capture(sh(script), None, limits).await.unwrap();
        assert_eq!((output.status.code(), output.output.len()), (1, 1000));
    });
}

#[test]
fn a_command_that_never_ends_is_killed_and_reaped() {
    run(async |reaper| {
        let limits = Limits { time: Duration::from_millis(200), ..Limits::default() };
        let result = reaper.capture(sh("exec sleep 1000"), None, limits).await;
        assert!(matches!(result, Err(CommandError::Timeout { .. })), "{result:?}");
        let begun = Instant::now();
        while reaper.counts() != (0, 0, 0) {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn input_reaches_the_command_and_a_missing_program_is_an_error() {
    run(async |reaper| {
        let output = reaper.capture(sh("cat"), Some(b"{}"), Limits::default()).await.unwrap();
        assert_eq!(output.output, b"{}");
        // More than a pipe holds.
        let large = vec![b'x'; 1 << 20];
        let output = reaper.capture(sh("wc -c"), Some(&large), Limits::default()).await.unwrap();
        assert_eq!(output.output, b"1048576\n");
        let missing = Command::new("/nonexistent/runc");
        let result = reaper.capture(missing, None, Limits::default()).await;
        assert!(matches!(result, Err(CommandError::Spawn { .. })), "{result:?}");
        assert_eq!(reaper.counts(), (0, 0, 0));
    });
}

#[test]
fn a_child_starts_with_clean_signals() {
    wedge_sys::ignore_sigpipe().unwrap();
    run(async |reaper| {
        let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
        let output = reaper.capture(sh(script), None, Limits::default()).await.unwrap();
        let text = String::from_utf8(output.output).unwrap();
        for line in text.lines() {
            assert!(line.ends_with("\t0000000000000000"), "{text}");
        }
        assert_eq!(text.lines().count(), 2);
    });
}

/// The parent-death signal follows the thread.
#[test]
fn a_surviving_child_outlives_the_thread_that_spawned_it() {
    run(async |reaper| {
        let (spawner, (gone, waiter)) = (reaper.clone(), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            let mut command = sh("read line; exit 7");
            command.stdin(std::process::Stdio::piped());
            gone.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            spawner.spawn_surviving(&mut command).unwrap()
        });
        let mut child = thread.join().unwrap();
        let task = std::path::Path::new("/proc").join(waiter.recv().unwrap());
        while task.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(child.stdin.take());
        assert_eq!(child.exit.wait().await.status.code(), 7);
    });
}

#[test]
fn a_child_in_a_user_namespace_stays_until_it_is_killed() {
    run(async |reaper| {
        let mut child = reaper.spawn_in_user_namespace().unwrap();
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        assert_ne!(namespace(&child.pid.to_string()), namespace("self"));
        assert_eq!(reaper.counts(), (1, 0, 0));
        wedge_sys::PidFd::open(child.pid).unwrap().send_signal(9).unwrap();
        assert_eq!(child.exit.wait().await.status.code(), 137);
        assert_eq!(reaper.counts(), (0, 0, 0));
    });
}
