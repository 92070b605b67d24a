// SPDX-License-Identifier: Apache-2.0
//! `start` beside `runc start`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::{Bench, LIMIT, Setup, failed, left, until};

const DEAD: &str = "OCI runtime start failed: container process is already dead";
const STOPPED: &str = "OCI runtime start failed: cannot start a container that has stopped";
const RUNNING: &str = "OCI runtime start failed: cannot start an already running container";
const PAUSED: &str = "OCI runtime start failed: cannot start a container in the paused state";

/// Whether this process has the file open: a start that waits for its init has.
fn is_open(path: &Path) -> bool {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == path)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn what_is_started_is_as_if_runc_had_started_it() {
    Setup::new().run(async |bench| {
        assert_eq!(bench.status().await, "created");
        let open = descriptors();
        let container = bench.container();
        container.start(Some(&bench.init), LIMIT).await.unwrap();
        drop(container);
        assert_eq!(descriptors(), open, "nothing is held");
        assert_eq!(bench.status().await, "running");
        bench.by_runc("exec", &["/bin/busybox", "true"]).await;
        let said = bench.runc_refuses("start", &[]).await;
        assert_eq!(format!("OCI runtime start failed: {said}"), RUNNING);
        bench.by_runc("pause", &[]).await;
        bench.by_runc("resume", &[]).await;
        bench.by_runc("kill", &["KILL"]).await;
        bench.ended().await;
        bench.by_runc("delete", &[]).await;
    });
}

#[test]
fn what_was_started_is_not_started_again() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        let (one, other) = tokio::join!(
            container.start(Some(&bench.init), LIMIT),
            container.start(Some(&bench.init), LIMIT),
        );
        // Who reads the byte has started it.
        let loser = if one.is_ok() { other } else { one };
        assert_eq!(failed(loser), RUNNING);
        assert_eq!(failed(container.start(Some(&bench.init), LIMIT).await), RUNNING);
        assert_eq!(bench.status().await, "running");
    });
    Setup::new().run(async |bench| {
        let container = bench.container();
        bench.by_runc("start", &[]).await;
        assert_eq!(failed(container.start(Some(&bench.init), LIMIT).await), RUNNING);
    });
}

#[test]
fn an_init_that_is_dead_is_not_started() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        bench.kill_init().await;
        assert_eq!(failed(container.start(Some(&bench.init), LIMIT).await), STOPPED);
        assert_eq!(failed(container.start(None, LIMIT).await), STOPPED);
        let said = bench.runc_refuses("start", &[]).await;
        assert_eq!(format!("OCI runtime start failed: {said}"), STOPPED);
    });
}

#[test]
fn an_init_that_dies_meanwhile_is_not_started() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        bench.stop().await;
        let (started, ()) = tokio::join!(container.start(Some(&bench.init), LIMIT), async {
            until("start waits", || is_open(&bench.fifo()).then_some(())).await;
            bench.init.send_signal(9).unwrap();
        });
        assert_eq!(failed(started), DEAD);
    });
}

#[test]
fn an_init_that_does_not_answer_can_be_started_later() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        bench.stop().await;
        let limit = Duration::from_millis(50);
        let text = "OCI runtime start failed: its init did not answer within 50ms";
        assert_eq!(failed(container.start(Some(&bench.init), limit).await), text);
        assert_eq!(bench.status().await, "created");
        bench.init.send_signal(18).unwrap();
        container.start(Some(&bench.init), LIMIT).await.unwrap();
        assert_eq!(bench.status().await, "running");
    });
}

#[test]
fn what_is_paused_is_not_started() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        bench.by_runc("pause", &[]).await;
        assert_eq!(failed(container.start(Some(&bench.init), LIMIT).await), PAUSED);
        assert_eq!(bench.status().await, "paused");
        bench.by_runc("resume", &[]).await;
        assert_eq!(bench.status().await, "created", "nobody has let it go on");
        container.start(Some(&bench.init), LIMIT).await.unwrap();
    });
}

#[test]
fn an_init_that_ends_at_once_was_started() {
    for _ in 0..20 {
        let mut setup = Setup::new();
        setup.config["process"]["args"] = serde_json::json!(["/bin/busybox", "false"]);
        setup.run(async |bench| {
            bench.start().await;
            assert_eq!(bench.ended().await.status.code(), 1);
        });
    }
}

/// Whoever comes first: it was started, or says why not, and nothing hangs. Begun with the delete,
/// when that has killed the init, and when nothing is left.
#[test]
fn a_start_beside_a_forced_delete_ends() {
    let stages: [fn(&Bench<'_>) -> bool; 3] =
        [|_| true, |bench| bench.init.has_ended(), |bench| !bench.fifo().exists()];
    for stage in stages.into_iter().cycle().take(9) {
        Setup::new().run(async |bench| {
            let container = bench.container();
            let (_, started) = tokio::join!(bench.by_runc("delete", &["--force"]), async {
                until("delete is there", || stage(bench).then_some(())).await;
                container.start(Some(&bench.init), LIMIT).await
            });
            let said = started.map_or_else(|err| err.to_string(), |()| "started".to_owned());
            let gone = said.contains("cannot be used") || said.contains("of another container");
            assert!(gone || ["started", DEAD, STOPPED].contains(&said.as_str()), "{said}");
            assert!(!left(container.start(None, LIMIT).await).is_empty());
        });
    }
}

/// The byte of the init is read by another start, of somebody who does not know of us.
#[test]
fn another_start_that_reads_the_byte_is_the_one() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        bench.stop().await;
        let fifo = bench.fifo();
        let (started, ()) = tokio::join!(container.start(Some(&bench.init), LIMIT), async {
            until("start waits", || is_open(&fifo).then_some(())).await;
            let other = open(&fifo, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).unwrap();
            bench.init.send_signal(18).unwrap();
            // Without awaiting: we are the first to read.
            let mut byte = [0];
            while !matches!(nix::unistd::read(&other, &mut byte), Ok(1)) {
                std::hint::spin_loop();
            }
        });
        assert_eq!(failed(started), RUNNING);
        until("it runs", || (bench.command() == "busybox").then_some(())).await;
    });
}

#[test]
fn a_fifo_that_is_none_is_not_opened() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        let (fifo, other) = (bench.fifo(), bench.fifo().with_file_name("other"));
        mkfifo(&other, Mode::S_IRUSR).unwrap();
        fs::rename(&fifo, fifo.with_file_name("kept")).unwrap();
        std::os::unix::fs::symlink(&other, &fifo).unwrap();
        assert_eq!(failed(container.start(Some(&bench.init), LIMIT).await), RUNNING);
    });
}
