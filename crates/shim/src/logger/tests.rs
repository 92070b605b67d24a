// SPDX-License-Identifier: Apache-2.0
use super::*;
use nix::sys::stat::Mode;
use std::io::Read;

struct Bundle {
    dir: tempfile::TempDir,
    logger: Logger,
}

impl Bundle {
    fn new() -> Bundle {
        log::set_max_level(LevelFilter::Info);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let logger = Logger::to_fifo(&path, "io.containerd.wedge.v2", "default");
        Bundle { dir, logger }
    }

    /// A reader as containerd is one: it holds the fifo open for both.
    fn reader(&self) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.dir.path().join("log"))
            .unwrap()
    }

    fn say(&self, message: &str) {
        self.logger.log(
            &Record::builder().level(log::Level::Info).args(format_args!("{message}")).build(),
        );
    }
}

fn read(mut reader: &File) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        bytes.extend(&buffer[..count]);
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_record_is_one_line_with_the_shims_fields() {
    let bundle = Bundle::new();
    let reader = bundle.reader();
    bundle.say("hello");
    let line = read(&reader);
    assert!(line.starts_with("time=\"20"), "{line}");
    let pid = std::process::id();
    let rest = format!(
        "level=info msg=\"hello\" namespace=default pid={pid} runtime=io.containerd.wedge.v2\n"
    );
    assert!(line.ends_with(&rest), "{line}");
}

#[test]
fn without_a_reader_lines_are_lost_and_counted() {
    let bundle = Bundle::new();
    for _ in 0..3 {
        bundle.say("nobody listens");
    }
    let reader = bundle.reader();
    bundle.say("somebody does");
    bundle.say("again");
    let lines = read(&reader);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("somebody does") && lines[0].ends_with(" lost_lines=3"));
    assert!(lines[1].contains("again") && !lines[1].contains("lost"));
}

#[test]
fn a_full_fifo_loses_lines_and_does_not_block() {
    let bundle = Bundle::new();
    let reader = bundle.reader();
    let sent = 2000;
    for number in 0..sent {
        bundle.say(&format!("line {number} {}", "x".repeat(100)));
    }
    let kept = read(&reader).lines().count();
    assert!(kept > 0 && kept < sent, "{kept}");
    bundle.say("room again");
    let line = read(&reader);
    assert!(line.ends_with(&format!(" lost_lines={}\n", sent - kept)), "{line}");
}

#[test]
fn a_reader_that_returns_is_found_also_at_a_new_fifo() {
    let bundle = Bundle::new();
    drop(bundle.reader());
    let reader = bundle.reader();
    bundle.say("first");
    assert!(read(&reader).contains("first"));
    drop(reader);
    bundle.say("lost");
    let reader = bundle.reader();
    bundle.say("second");
    let lines = read(&reader);
    assert!(lines.contains("second") && lines.contains("lost_lines=1"), "{lines}");
    drop(reader);
    std::fs::remove_file(bundle.dir.path().join("log")).unwrap();
    bundle.say("lost");
    nix::unistd::mkfifo(&bundle.dir.path().join("log"), Mode::S_IRWXU).unwrap();
    let reader = bundle.reader();
    bundle.say("third");
    let lines = read(&reader);
    assert!(lines.contains("third") && lines.contains("lost_lines=1"), "{lines}");
}

#[test]
fn standard_error_goes_to_the_fifo_too() {
    let bundle = Bundle::new();
    let reader = bundle.reader();
    bundle.say("opens it");
    nix::unistd::write(io::stderr(), b"from libc\n").unwrap();
    let lines = read(&reader);
    assert!(lines.ends_with("from libc\n"), "{lines}");
}
