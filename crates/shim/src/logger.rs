// SPDX-License-Identifier: Apache-2.0
//! The log of a shim: lines as logrus writes them, into the fifo `log` of the bundle, which
//! containerd copies to its own log.
//!
//! Logging never blocks and never fails. containerd may be down, or stuck with the fifo full:
//! then lines are dropped and counted, and the first line that gets through says how many.

mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use log::{LevelFilter, Log, Metadata, Record};

/// Writes records as lines. There is one, installed for the whole process.
#[derive(Debug)]
pub(crate) struct Logger {
    /// ` namespace=… pid=… runtime=…`, the same on each line.
    fields: String,
    sink: Mutex<Sink>,
}

impl Logger {
    /// A logger that writes to the fifo at `path`, open or not.
    pub(crate) fn to_fifo(path: &Path, runtime: &str, namespace: &str) -> Logger {
        let sink = Sink::Fifo(Fifo { path: path.to_owned(), file: None, lost: 0 });
        Logger::new(sink, runtime, namespace)
    }

    /// A logger for the `delete` action, whose standard error containerd reads.
    pub(crate) fn to_stderr(runtime: &str, namespace: &str) -> Logger {
        Logger::new(Sink::Stderr, runtime, namespace)
    }

    fn new(sink: Sink, runtime: &str, namespace: &str) -> Logger {
        let mut fields = String::new();
        line::field(&mut fields, "namespace", namespace);
        line::field(&mut fields, "pid", &std::process::id().to_string());
        line::field(&mut fields, "runtime", runtime);
        Logger { fields, sink: Mutex::new(sink) }
    }

    /// Makes it the process's log and standard error, at debug level or info. Panics are logged
    /// before they end the process.
    pub(crate) fn install(self, debug: bool) {
        if let Sink::Fifo(fifo) = &mut *self.sink() {
            fifo.open();
        }
        log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
        if let Err(err) = log::set_boxed_logger(Box::new(self)) {
            log::warn!("failed to install the logger: {err}");
        }
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    }

    fn sink(&self) -> std::sync::MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line::of(record, SystemTime::now(), &self.fields);
        // Foreign values are formatted by now: nothing under the lock can panic, so the panic
        // hook cannot meet its own lock.
        self.sink().write(line);
    }

    fn flush(&self) {}
}

#[derive(Debug)]
enum Sink {
    Fifo(Fifo),
    Stderr,
}

impl Sink {
    fn write(&mut self, line: String) {
        match self {
            Sink::Fifo(fifo) => fifo.write(line),
            Sink::Stderr => ignore(io::stderr().write_all(line.as_bytes())),
        }
    }
}

#[derive(Debug)]
struct Fifo {
    path: PathBuf,
    file: Option<File>,
    /// Lines dropped since the last one that was written.
    lost: u64,
}

impl Fifo {
    fn write(&mut self, mut line: String) {
        if self.lost > 0 {
            line::append_lost(&mut line, self.lost);
        }
        if self.try_write(&line) {
            self.lost = 0;
        } else {
            self.lost += 1;
        }
    }

    fn try_write(&mut self, line: &str) -> bool {
        match self.file.as_mut().map(|file| file.write(line.as_bytes())) {
            // A fifo takes up to PIPE_BUF bytes whole or not at all (pipe(7)).
            Some(Ok(_)) => return true,
            Some(Err(err)) if err.kind() == io::ErrorKind::WouldBlock => return false,
            // The reader is gone, and may have come back to a new fifo.
            Some(Err(_)) | None => self.open(),
        }
        self.file.as_mut().is_some_and(|file| file.write(line.as_bytes()).is_ok())
    }

    /// Opens the fifo if somebody reads it (`ENXIO` otherwise), and makes it standard error.
    fn open(&mut self) {
        self.file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(&self.path)
            .ok();
        if let Some(file) = &self.file {
            ignore(wedge_sys::stderr_to(file));
        }
    }
}

/// There is nowhere left to report a failure of the log itself.
fn ignore(_: io::Result<()>) {}

#[cfg(test)]
mod tests;
