// SPDX-License-Identifier: Apache-2.0
//! Output that a process has left when it ended.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![expect(unreachable_pub, dead_code, reason = "the support module is shared")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::{Fifos, LIMIT, start, thread};

/// A client that is told of an exit may give up a fifo it has not read yet.
#[tokio::test]
async fn unread_output_is_waited_for_and_not_for_ever() {
    let fifos = Fifos::new();
    let (copier, [_, stdout, _]) = start(&fifos.request(false, &["stdout"]));
    let mut client = fifos.reader("stdout");
    // Nothing was written, though somebody could still write.
    tokio::time::timeout(LIMIT, copier.taken(LIMIT * 2)).await.unwrap();
    let mut process = File::from(stdout.unwrap());
    process.write_all(b"text").unwrap();
    let (begun, limit) = (Instant::now(), Duration::from_millis(50));
    copier.taken(limit).await;
    assert!(begun.elapsed() >= limit, "nobody has read it");
    let read = copier.taken(LIMIT * 2);
    let (text, ()) = tokio::join!(
        thread(move || {
            let mut text = [0; 4];
            client.read_exact(&mut text).unwrap();
            text
        }),
        async { tokio::time::timeout(LIMIT, read).await.unwrap() }
    );
    assert_eq!(&text, b"text");
}
