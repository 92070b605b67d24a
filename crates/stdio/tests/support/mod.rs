// SPDX-License-Identifier: Apache-2.0
//! A client and a process made of threads: blocking ends, as the real ones have.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{self, Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use tempfile::TempDir;
use tokio::sync::oneshot;
use wedge_reaper::Reaper;
use wedge_stdio::{Context, Copier, Error, LoggerRules, Owner, Prepared, Request};

pub const LIMIT: Duration = Duration::from_secs(60);

/// A directory with fifos.
pub struct Fifos(TempDir);

impl Fifos {
    pub fn new() -> Fifos {
        let fifos = Fifos(tempfile::tempdir().unwrap());
        for name in ["stdin", "stdout", "stderr"] {
            nix::unistd::mkfifo(&fifos.0.path().join(name), Mode::from_bits_truncate(0o700))
                .unwrap();
        }
        fifos
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A request for the named streams.
    pub fn request(&self, terminal: bool, names: &[&str]) -> Request {
        let of = |name| {
            if names.contains(&name) { self.path(name) } else { String::new() }
        };
        Request { terminal, stdin: of("stdin"), stdout: of("stdout"), stderr: of("stderr") }
    }

    /// Opens a client's end of stdin.
    pub fn writer(&self) -> File {
        OpenOptions::new().write(true).open(self.path("stdin")).unwrap()
    }

    /// Opens a client's end of an output.
    pub fn reader(&self, name: &str) -> File {
        File::open(self.path(name)).unwrap()
    }
}

/// Opens the streams of `request`, for which there is nothing to wait.
pub fn prepare(request: &Request, owner: Owner) -> Result<Prepared, Error> {
    let reaper = Reaper::new();
    let loggers = LoggerRules::default();
    let context =
        Context { owner, id: "id", namespace: "namespace", reaper: &reaper, loggers: &loggers };
    let prepared = pin!(request.prepare(&context));
    match prepared.poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("it waits for something"),
    }
}

/// Starts the copies of `request`, and gives the process's ends.
pub fn start(request: &Request) -> (Copier, [Option<OwnedFd>; 3]) {
    let mut prepared = prepare(request, Owner::default()).unwrap();
    let (stdin, stdout, stderr) = prepared.take_child();
    (prepared.start(None).unwrap(), [stdin, stdout, stderr])
}

/// Runs blocking code on a thread, from now on; the future gives the result.
pub fn thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> {
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || drop(done.send(work())));
    async {
        tokio::time::timeout(LIMIT, result).await.expect("no progress").expect("the thread failed")
    }
}

/// Waits for a fact.
pub async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !fact() {
        assert!(Instant::now() < end, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What this process has open.
pub fn open_fds() -> Vec<String> {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .filter(|target| !target.ends_with("/fd"))
        .collect()
}

/// The processor time of the calling thread.
pub fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Whether a fifo has no room.
pub fn is_full(path: &str) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let fifo = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
}

/// A stream of bytes in which any loss, repetition or swap shows.
pub struct Pattern {
    block: Vec<u8>,
    at: usize,
}

impl Pattern {
    pub fn new() -> Pattern {
        // A prime length, so that the block never falls in step with pages or buffers.
        let noise = |i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes()[0];
        Pattern { block: (0..65_521).map(noise).collect(), at: 0 }
    }

    /// How many bytes have gone by.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next up to `len` bytes.
    pub fn next(&mut self, len: usize) -> &[u8] {
        let start = self.at % self.block.len();
        let end = self.block.len().min(start + len);
        self.at += end - start;
        &self.block[start..end]
    }

    /// Writes `total` bytes in pieces of `sizes`, again and again.
    pub fn write(mut self, to: &mut impl Write, total: usize, sizes: &[usize]) {
        for size in sizes.iter().cycle() {
            let left = total - self.at;
            if left == 0 {
                return;
            }
            to.write_all(self.next(left.min(*size))).unwrap();
        }
    }

    /// Reads and checks up to `limit` bytes with reads of `size`. Returns how many there were.
    pub fn read(&mut self, from: &mut impl Read, limit: usize, size: usize) -> usize {
        let mut buffer = vec![0; size];
        let start = self.at;
        while self.at - start < limit {
            let count = from.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            let mut read = &buffer[..count];
            while !read.is_empty() {
                let at = self.at;
                let expected = self.next(read.len());
                assert!(read.starts_with(expected), "wrong bytes after {at}");
                read = &read[expected.len()..];
            }
        }
        self.at - start
    }
}

/// Reads what a client gets from now to the end.
pub fn read_all(mut client: File) -> impl Future<Output = String> {
    thread(move || {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    })
}
