// SPDX-License-Identifier: Apache-2.0
//! Logging binaries: shell scripts that do as the good and the bad ones do. nextest runs each test
//! in a process of its own, which the reaper's `waitid(P_ALL)` needs.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![expect(unreachable_pub, dead_code, reason = "the support module is shared")]

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind as IoError, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use support::{Fifos, LIMIT, open_fds, until};
use tempfile::TempDir;
use wedge_reaper::Reaper;
use wedge_stdio::{Context, Error, LoggerPolicy, LoggerRules, Owner, Prepared, Request};

/// Says that it is ready, and writes what it reads to the files `out` and `err`.
const GOOD: &str = "printf x >&5; exec 5>&-\n\
    /bin/cat <&4 >err & exec 4<&-\n\
    /bin/cat <&3 >out; wait; echo end >how";

fn run<T>(test: impl AsyncFnOnce(Reaper) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reaper = Reaper::new();
        // The reaper first: what it opens is there before the test looks.
        tokio::select! {
            biased;
            ended = reaper.clone().run() => unreachable!("the reaper ended: {ended:?}"),
            result = test(reaper.clone()) => result,
        }
    })
}

/// A logger in a directory of programs that only root can write to, which is its working directory.
struct Logger(TempDir);

impl Logger {
    fn new(script: &str) -> Logger {
        let logger = Logger(tempfile::tempdir_in("/usr/local/lib").unwrap());
        let script = format!("#!/bin/sh\ncd {}\n{script}\n", logger.0.path().display());
        fs::write(logger.path("logger"), script).unwrap();
        fs::set_permissions(logger.path("logger"), fs::Permissions::from_mode(0o755)).unwrap();
        logger
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What it wrote to a file, if it did.
    fn wrote(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    fn request(&self, scheme: &str) -> Request {
        let uri = format!("{scheme}://{}", self.path("logger").display());
        Request { stdout: uri.clone(), stderr: uri, ..Request::default() }
    }

    async fn prepare(&self, scheme: &str, reaper: &Reaper) -> Result<Prepared, Error> {
        prepare(&self.request(scheme), reaper).await
    }
}

async fn prepare(request: &Request, reaper: &Reaper) -> Result<Prepared, Error> {
    prepare_by(request, reaper, &LoggerRules::default()).await
}

async fn prepare_by(
    request: &Request,
    reaper: &Reaper,
    loggers: &LoggerRules,
) -> Result<Prepared, Error> {
    let owner = Owner { uid: 1000, gid: 1001 };
    request.prepare(&Context { owner, id: "the-id", namespace: "the-ns", reaper, loggers }).await
}

async fn all_reaped(reaper: &Reaper) {
    until("no child is left", || reaper.counts() == (0, 0, 0)).await;
}

#[test]
fn it_gets_both_streams_its_arguments_and_nothing_else() {
    run(async |reaper| {
        let before = open_fds();
        let logger = Logger::new(&format!(
            "/bin/cat /proc/$$/environ >env; printf '%s,' \"$0\" \"$@\" >args\n\
             all=$(/usr/bin/readlink /proc/$$/fd/*) links=$(/usr/bin/readlink /proc/$$/fd/[0-5])\n\
             echo \"$all\" >all; echo \"$links\" >links\n{GOOD}"
        ));
        let mut request = logger.request("binary-v2");
        request.stdout.push_str("?z=1&a=%2Fb+c");
        let mut prepared = prepare(&request, &reaper).await.unwrap();
        let (stdin, stdout, stderr) = prepared.take_child();
        assert!(stdin.is_none());
        let copier = prepared.start(None).unwrap();
        let (mut stdout, mut stderr) = (File::from(stdout.unwrap()), File::from(stderr.unwrap()));
        for pipe in [&stdout, &stderr] {
            let found = pipe.metadata().unwrap();
            assert_eq!([found.uid(), found.gid()], [1000, 1001]);
        }
        stdout.write_all(b"to stdout").unwrap();
        stderr.write_all(b"to stderr").unwrap();
        drop((stdout, stderr));
        assert!(copier.drain(LIMIT).await);
        until("the logger has ended", || logger.wrote("how").is_some_and(|how| !how.is_empty()))
            .await;
        copier.end().await;
        let wrote = |name| logger.wrote(name).unwrap();
        assert_eq!([wrote("out"), wrote("err")], ["to stdout", "to stderr"]);
        assert_eq!(wrote("how"), "end\n");
        assert_eq!(wrote("env"), "CONTAINER_ID=the-id\0CONTAINER_NAMESPACE=the-ns\0");
        assert_eq!(wrote("args"), format!("{},z,1,a,/b c,", logger.path("logger").display()));
        let links = wrote("links");
        let is_pipe = |link: &str| link.starts_with("pipe:");
        let kinds: Vec<bool> = links.lines().map(is_pipe).collect();
        assert_eq!(kinds, [false, false, false, true, true, true], "{links}");
        assert_eq!(links.matches("/dev/null\n").count(), 3, "{links}");
        // None of ours. What the test itself was started with and the shell opens may be there.
        assert!(!wrote("all").contains("anon_inode"), "{}", wrote("all"));
        all_reaped(&reaper).await;
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn the_start_waits_until_it_is_ready() {
    run(async |reaper| {
        let wait = "echo >started; while [ ! -e go ]; do /bin/sleep 0.01; done; echo >gone";
        let logger = Logger::new(&format!("{wait}\n{GOOD}"));
        let waited = async {
            until("it was started", || logger.wrote("started").is_some()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            fs::write(logger.path("go"), "").unwrap();
            std::future::pending::<()>().await;
        };
        let prepared = tokio::select! {
            prepared = logger.prepare("binary", &reaper) => prepared.unwrap(),
            () = waited => unreachable!(),
        };
        assert!(logger.wrote("gone").is_some());
        drop(prepared);
        all_reaped(&reaper).await;
    });
}

/// containerd #12595.
#[test]
fn one_that_crashes_at_once_fails_only_the_strict_scheme() {
    run(async |reaper| {
        let before = open_fds();
        let logger = Logger::new("exit 3");
        let err = logger.prepare("binary-v2", &reaper).await.unwrap_err();
        let text = "logging binary did not call ready (it may have crashed or exited prematurely)";
        assert_eq!(err.to_string(), text);
        let mut prepared = logger.prepare("binary", &reaper).await.unwrap();
        let (_, stdout, _stderr) = prepared.take_child();
        let copier = prepared.start(None).unwrap();
        all_reaped(&reaper).await;
        let mut stdout = File::from(stdout.unwrap());
        assert_eq!(stdout.write_all(b"x").unwrap_err().kind(), IoError::BrokenPipe);
        copier.end().await;
        drop((stdout, _stderr));
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn one_that_hangs_before_it_is_ready_is_killed() {
    run(async |reaper| {
        let before = open_fds();
        let logger = Logger::new("trap '' TERM; echo $$ >pid; while :; do /bin/sleep 1; done");
        let hanging = async {
            until("it runs", || logger.wrote("pid").is_some_and(|pid| !pid.is_empty())).await;
            // From here on, time passes whenever nothing else happens.
            tokio::time::pause();
            std::future::pending::<()>().await;
        };
        let err = tokio::select! {
            prepared = logger.prepare("binary", &reaper) => prepared.unwrap_err(),
            () = hanging => unreachable!(),
        };
        let path = logger.path("logger");
        let text = format!("failed to read from logging binary: {path:?} was not ready within 10s");
        assert_eq!(err.to_string(), text);
        all_reaped(&reaper).await;
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn the_rules_say_what_is_run_and_for_how_long_it_may_start() {
    run(async |reaper| {
        let logger = Logger::new("trap '' TERM; while :; do /bin/sleep 1; done");
        fs::set_permissions(logger.path("logger"), fs::Permissions::from_mode(0o757)).unwrap();
        let request = logger.request("binary");
        let mut rules = LoggerRules { ready: Duration::from_millis(200), ..LoggerRules::default() };
        let err = prepare_by(&request, &reaper, &rules).await.unwrap_err();
        assert!(err.to_string().contains("is refused"), "{err}");
        rules.policy = LoggerPolicy { allow_unsafe_paths: true, ..LoggerPolicy::default() };
        let err = prepare_by(&request, &reaper, &rules).await.unwrap_err();
        assert!(err.to_string().ends_with("was not ready within 200ms"), "{err}");
        all_reaped(&reaper).await;
    });
}

#[test]
fn one_that_is_missing_or_no_program_is_an_error() {
    run(async |reaper| {
        let before = open_fds();
        let logger = Logger::new("");
        fs::set_permissions(logger.path("logger"), fs::Permissions::from_mode(0o644)).unwrap();
        let err = logger.prepare("binary", &reaper).await.unwrap_err();
        let start = format!(
            "failed to start binary process: fork/exec {}: permission denied",
            logger.path("logger").display()
        );
        assert!(err.to_string().starts_with(&start), "{err}");
        fs::remove_file(logger.path("logger")).unwrap();
        let err = logger.prepare("binary", &reaper).await.unwrap_err();
        assert!(err.to_string().contains("no such file or directory"), "{err}");
        assert_eq!(reaper.counts(), (0, 0, 0));
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn one_that_goes_away_breaks_the_pipe_and_nothing_else() {
    run(async |reaper| {
        let logger = Logger::new("printf x >&5; read line <&3; echo \"$line\" >out; exit 1");
        let mut prepared = logger.prepare("binary-v2", &reaper).await.unwrap();
        let (_, stdout, _stderr) = prepared.take_child();
        let copier = prepared.start(None).unwrap();
        let mut stdout = File::from(stdout.unwrap());
        stdout.write_all(b"first\n").unwrap();
        all_reaped(&reaper).await;
        assert_eq!(stdout.write_all(b"x").unwrap_err().kind(), IoError::BrokenPipe);
        assert_eq!(logger.wrote("out").unwrap(), "first\n");
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        copier.end().await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_slow_one_may_read_to_the_end_before_it_is_signalled() {
    run(async |reaper| {
        let slow = "trap 'echo term >how; exit' TERM; printf x >&5; exec 5>&- 4<&-\n\
            /bin/sleep 0.1; /bin/cat <&3 >out; echo end >how";
        let logger = Logger::new(slow);
        let mut prepared = logger.prepare("binary-v2", &reaper).await.unwrap();
        let (_, stdout, _) = prepared.take_child();
        let copier = prepared.start(None).unwrap();
        File::from(stdout.unwrap()).write_all(&[b'x'; 60_000]).unwrap();
        copier.end().await;
        assert_eq!(logger.wrote("how").unwrap(), "end\n");
        assert_eq!(logger.wrote("out").unwrap().len(), 60_000);
        all_reaped(&reaper).await;
    });
}

#[test]
fn one_that_does_not_end_is_asked_to() {
    run(async |reaper| {
        let stay = "trap 'echo term >how; exit 0' TERM; printf x >&5\n\
            while :; do /bin/sleep 0.1; done";
        let logger = Logger::new(stay);
        let prepared = logger.prepare("binary-v2", &reaper).await.unwrap();
        prepared.start(None).unwrap().end().await;
        assert_eq!(logger.wrote("how").unwrap(), "term\n");
        assert_eq!(reaper.counts(), (0, 0, 0));
    });
}

#[test]
fn one_that_cannot_be_asked_is_killed() {
    run(async |reaper| {
        let logger = Logger::new("trap '' TERM; printf x >&5; while :; do /bin/sleep 1; done");
        let prepared = logger.prepare("binary-v2", &reaper).await.unwrap();
        let copier = prepared.start(None).unwrap();
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        copier.end().await;
        assert!(begun.elapsed() >= Duration::from_secs(14), "{:?}", begun.elapsed());
        assert!(begun.elapsed() <= Duration::from_secs(16), "{:?}", begun.elapsed());
        all_reaped(&reaper).await;
    });
}

#[test]
fn it_ends_when_the_process_is_never_started() {
    run(async |reaper| {
        let before = open_fds();
        let logger = Logger::new("printf x >&5; while :; do /bin/sleep 0.1; done");
        let prepared = logger.prepare("binary-v2", &reaper).await.unwrap();
        drop(prepared);
        let begun = Instant::now();
        all_reaped(&reaper).await;
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(open_fds(), before);
    });
}

/// A shim that is told to end leaves its containers, and they go on writing.
#[test]
fn it_outlives_the_shim_with_its_container() {
    let logger = Logger::new(&format!("trap 'echo term >how; exit' TERM\n{GOOD}"));
    let mut stdout = run(async |reaper| {
        let mut prepared = logger.prepare("binary-v2", &reaper).await.unwrap();
        let (_, stdout, _) = prepared.take_child();
        let _copier = prepared.start(None).unwrap();
        File::from(stdout.unwrap())
    });
    stdout.write_all(b"more\n").unwrap();
    drop(stdout);
    run(async |_| {
        until("it has ended", || logger.wrote("how").is_some_and(|how| !how.is_empty())).await;
    });
    assert_eq!([logger.wrote("how"), logger.wrote("out")].map(Option::unwrap), ["end\n", "more\n"]);
}

#[test]
fn a_terminal_is_copied_to_it() {
    run(async |reaper| {
        let before = open_fds();
        let (logger, fifos) = (Logger::new(GOOD), Fifos::new());
        let request =
            Request { terminal: true, stdin: fifos.path("stdin"), ..logger.request("binary-v2") };
        let mut prepared = prepare(&request, &reaper).await.unwrap();
        assert!(matches!(prepared.take_child(), (None, None, None)));
        let pty = openpty(None, None).unwrap();
        let copier = prepared.start(Some(pty.master)).unwrap();
        // The terminal echoes what is typed.
        let mut client = fifos.writer();
        client.write_all(b"typed\n").unwrap();
        let wrote = |name| logger.wrote(name).unwrap_or_default();
        until("the logger has it", || wrote("out") == "typed\r\n").await;
        let mut process = File::from(pty.slave);
        process.write_all(b"said\n").unwrap();
        drop(process);
        copier.process_exited();
        assert!(copier.drain(LIMIT).await);
        until("the logger has ended", || !wrote("how").is_empty()).await;
        copier.end().await;
        assert_eq!([wrote("out"), wrote("err")], ["typed\r\nsaid\r\n", ""]);
        assert_eq!(wrote("how"), "end\n");
        assert_eq!(reaper.counts(), (0, 0, 0));
        drop(client);
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn a_terminal_goes_on_when_it_goes_away() {
    run(async |reaper| {
        let logger = Logger::new("printf x >&5; exit 1");
        let request = Request { terminal: true, ..logger.request("binary") };
        let prepared = prepare(&request, &reaper).await.unwrap();
        let pty = openpty(None, None).unwrap();
        let copier = prepared.start(Some(pty.master)).unwrap();
        all_reaped(&reaper).await;
        let mut process = File::from(pty.slave);
        // Far more than a pty and a pipe hold.
        support::thread(move || process.write_all(&vec![b'x'; 1 << 20]).unwrap()).await;
        copier.process_exited();
        assert!(copier.drain(LIMIT).await);
        copier.end().await;
    });
}
