// SPDX-License-Identifier: Apache-2.0
//! Output that goes to a log file.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![expect(unreachable_pub, dead_code, reason = "the support module is shared")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use support::{LIMIT, open_fds, thread, until};
use wedge_reaper::Reaper;
use wedge_stdio::{Context, Copier, Error, ErrorKind, LoggerRules, Owner, Prepared, Request};

/// Both outputs to one file, as containerd's `cio.LogURI` asks for.
fn request(path: &Path) -> Request {
    let uri = format!("file://{}", path.display());
    Request { stdout: uri.clone(), stderr: uri, ..Request::default() }
}

async fn prepare(request: &Request) -> Result<Prepared, Error> {
    let (owner, reaper, loggers) = (Owner::default(), Reaper::new(), LoggerRules::default());
    let context =
        Context { owner, id: "id", namespace: "namespace", reaper: &reaper, loggers: &loggers };
    request.prepare(&context).await
}

async fn start(request: &Request) -> (Copier, [Option<OwnedFd>; 3]) {
    let mut prepared = prepare(request).await.unwrap();
    let (stdin, stdout, stderr) = prepared.take_child();
    (prepared.start(None).unwrap(), [stdin, stdout, stderr])
}

fn uses(path: &Path) -> usize {
    open_fds().iter().filter(|target| Path::new(target) == path).count()
}

/// containerd #3118, #3153.
#[tokio::test]
async fn both_streams_are_complete_in_one_file() {
    const LINES: usize = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b c/log");
    umask(Mode::from_bits_truncate(0o022));
    let (copier, [stdin, stdout, stderr]) = start(&request(&path)).await;
    assert!(stdin.is_none());
    assert_eq!(uses(&path), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode(&path), mode(path.parent().unwrap())], [0o644, 0o755]);
    for (name, fd, lines) in [("out", stdout, LINES), ("err", stderr, LINES / 2)] {
        let mut process = File::from(fd.unwrap());
        std::thread::spawn(move || {
            for line in 0..lines {
                process.write_all(format!("[{name} {line}]").as_bytes()).unwrap();
            }
        });
    }
    assert!(copier.drain(LIMIT).await);
    let text = fs::read_to_string(&path).unwrap();
    // A write of a process may be cut in two by the other stream, so look for what each wrote.
    let bytes: usize = ["out", "err"].iter().map(|name| text.matches(name).count()).sum();
    assert!(bytes > LINES, "{bytes}");
    let expected = |name, lines| (0..lines).map(|line| format!("[{name} {line}]").len()).sum();
    let total: usize = [expected("out", LINES), expected("err", LINES / 2)].iter().sum();
    assert_eq!(text.len(), total);
    assert!(text.contains(&format!("[out {}]", LINES - 1)), "the end of stdout is missing");
    assert_eq!(uses(&path), 0);
}

#[tokio::test]
async fn one_stream_outlives_the_other_and_old_content_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "before\n").unwrap();
    let (copier, [_, stdout, stderr]) = start(&request(&path)).await;
    drop(stdout);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let mut process = File::from(stderr.unwrap());
    process.write_all(b"still here\n").unwrap();
    until("the text is in the file", || read(&path) == "before\nstill here\n").await;
    assert!(!copier.drain(Duration::from_millis(50)).await);
    // As logrotate does with copytruncate.
    OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    process.write_all(b"rotated\n").unwrap();
    drop(process);
    assert!(copier.drain(LIMIT).await);
    assert_eq!(read(&path), "rotated\n");
}

#[tokio::test]
async fn a_full_disk_stops_neither_the_process_nor_the_log() {
    let dir = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let size = Some("size=64k");
    mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), size).unwrap();
    let path = dir.path().join("log");
    let (copier, [_, stdout, _]) = start(&request(&path)).await;
    let mut process = File::from(stdout.unwrap());
    let (stop, stopped) = mpsc::channel::<()>();
    let written = thread(move || {
        process.write_all(&vec![b'x'; 1 << 20]).unwrap();
        let mut line = 0;
        while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
            line += 1;
            process.write_all(format!("line {line}\n").as_bytes()).unwrap();
        }
        line
    });
    let full = || fs::metadata(&path).unwrap().len() == 64 << 10;
    let text = || fs::read_to_string(&path).unwrap();
    until("the disk is full", full).await;
    until("a line is in the file", || {
        // Nearly full is full before the next look.
        if fs::metadata(&path).unwrap().len() > 32 << 10 {
            OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        }
        text().contains("line ")
    })
    .await;
    drop(stop);
    let last = written.await;
    assert!(copier.drain(LIMIT).await);
    assert!(text().ends_with(&format!("line {last}\n")), "{:?}", text());
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_and_nothing_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "").unwrap();
    symlink(at("file"), at("link")).unwrap();
    nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    let before = open_fds();
    let reader = OpenOptions::new().read(true).write(true).open(at("fifo")).unwrap();
    let table = [
        (at("link"), "open"),
        (at("fifo"), "open"),
        (dir.path().to_owned(), "open"),
        ("/dev/null".into(), "open"),
        (at("file/below"), "mkdir"),
        ("/proc/no/such".into(), "mkdir"),
    ];
    for (path, call) in table {
        let err = prepare(&request(&path)).await.unwrap_err();
        let start = format!("{call} {}: ", path.display());
        assert!(err.to_string().starts_with(&start), "{err}");
        assert_eq!(err.kind(), ErrorKind::Unknown);
    }
    drop(reader);
    assert_eq!(open_fds(), before);
}
