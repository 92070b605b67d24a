// SPDX-License-Identifier: Apache-2.0
//! What needs a destination that no public request can have yet: one that fails.

use std::time::Duration;

use wedge_sys::{Polled, watch};

use super::*;
use crate::pipe::Pipe;
use crate::request::Owner;

fn pipe() -> (Polled<File>, File) {
    let pipe = Pipe::output("stdout", Owner::default()).unwrap();
    (watch(pipe.ours, Interest::READABLE).unwrap(), pipe.theirs.unwrap().into())
}

fn broken() -> Polled<File> {
    let pipe = Pipe::input(Owner::default()).unwrap();
    drop(pipe.theirs);
    watch(pipe.ours, Interest::WRITABLE).unwrap()
}

#[tokio::test]
async fn a_failed_destination_keeps_the_source_drained() {
    let (source, mut writer) = pipe();
    let target = broken();
    // Far more than the pipe holds: without a reader this would block for ever.
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        for _ in 0..1024 {
            writer.write_all(&[7; 1024]).unwrap();
        }
        drop(writer);
        ended.send(()).unwrap();
    });
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, output("stdout", Path::new("/fifo"), &source, &target))
        .await
        .unwrap();
    end.await.unwrap();
}

#[tokio::test]
async fn stdin_ends_quietly_when_the_process_has_closed_it() {
    let (source, mut writer) = pipe();
    writer.write_all(b"nobody reads this").unwrap();
    input(Path::new("/fifo"), &source, &broken()).await;
    drop(writer);
}

#[tokio::test]
async fn write_all_waits_for_room() {
    let pipe = Pipe::input(Owner::default()).unwrap();
    let target = watch(pipe.ours, Interest::WRITABLE).unwrap();
    let mut reader: File = pipe.theirs.unwrap().into();
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let expected = bytes.clone();
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        ended.send(read == expected).unwrap();
    });
    write_all(&target, &bytes).await.unwrap();
    drop(target);
    assert!(end.await.unwrap());
}
