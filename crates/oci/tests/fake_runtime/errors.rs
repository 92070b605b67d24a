// SPDX-License-Identifier: Apache-2.0
//! What becomes of a failing runtime.

use std::fs;
use std::time::{Duration, Instant};

use wedge_oci::{ChildIo, ConsoleSocket, ErrorKind};

use crate::fake::run;

#[test]
fn a_missing_pid_file_is_reported_as_go_does() {
    run("exit 0", async |fake| {
        let path = fake.path("bundle/init.pid");
        let err = fake.runtime().init_pid().await.unwrap_err().to_string();
        let text = "failed to retrieve OCI runtime container pid: open";
        assert_eq!(err, format!("{text} {}: no such file or directory", path.display()));
        let err = fake.runtime().exec_pid("x").await.unwrap_err().to_string();
        assert!(err.starts_with("failed to retrieve OCI runtime exec pid: open "), "{err}");
    });
}

#[test]
fn the_last_error_of_the_call_s_own_log_is_the_message() {
    run("error old; error \"$C went wrong\"; echo noise; exit 1", async |fake| {
        let runtime = fake.runtime();
        let io = ChildIo::default;
        let table = [
            (runtime.create(io(), None).await, "OCI runtime create failed: create went wrong"),
            (runtime.start().await, "OCI runtime start failed: start went wrong"),
            (runtime.exec("e", b"", io(), None).await, "OCI runtime exec failed: exec went wrong"),
            (runtime.pause().await, "OCI runtime pause failed: pause went wrong"),
            (runtime.resume().await, "OCI runtime resume failed: resume went wrong"),
            (runtime.delete(false).await, "failed to delete task: delete went wrong"),
        ];
        for (result, text) in table {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
        assert_eq!(fake.files(), ["log.json"]);
    });
}

#[test]
fn what_an_earlier_create_logged_is_not_taken_for_the_error_of_a_silent_one() {
    run("exit 3", async |fake| {
        let runtime = fake.runtime();
        fs::write(fake.path("bundle/log.json"), r#"{"level":"error","msg":"old"}"#).unwrap();
        let err = runtime.create(ChildIo::default(), None).await.unwrap_err().to_string();
        let binary = runtime.binary();
        let log = fake.path("bundle/log.json");
        assert_eq!(
            err,
            format!(
                "OCI runtime create failed: unable to retrieve OCI runtime error (open {}: no \
                 such file or directory): {binary} did not terminate successfully: exit status 3",
                log.display()
            )
        );
    });
}

#[test]
fn a_runtime_that_was_killed_is_told_from_one_that_failed() {
    for (script, cut_short) in [("kill -9 $$", true), ("kill -6 $$", true), ("exit 255", false)] {
        run(script, async |fake| {
            let err = fake.runtime().create(ChildIo::default(), None).await.unwrap_err();
            assert_eq!(err.is_cut_short(), cut_short, "{script}: {err}");
        });
    }
}

#[test]
fn without_a_log_captured_output_is_the_message() {
    run("echo some; echo words >&2; exit 2", async |fake| {
        let runtime = fake.runtime();
        let ran = format!("{} did not terminate successfully: exit status 2", runtime.binary());
        let err = runtime.start().await.unwrap_err().to_string();
        assert_eq!(err, format!("OCI runtime start failed: {ran}: some\nwords"));
        let err = runtime.kill(9, false).await.unwrap_err().to_string();
        assert_eq!(err, format!("unknown error after kill: {ran}: some\nwords"));
        let err = runtime.pids().await.unwrap_err().to_string();
        assert_eq!(err, format!("{ran}: some\nwords"));
        let err = runtime.update(b"{}").await.unwrap_err().to_string();
        assert_eq!(err, format!("{ran}: some\nwords"));
        let console = ConsoleSocket::bind().unwrap();
        let err = runtime.exec("e", b"", ChildIo::default(), Some(&console)).await.unwrap_err();
        assert_eq!(err.to_string(), format!("OCI runtime exec failed: {ran}: some\nwords"));
        // crun prints JSON lines until its log is open.
        fake.script("echo '{\"msg\":\"bad\",\"level\":\"error\"}' >&2; exit 1");
        let err = runtime.start().await.unwrap_err().to_string();
        assert_eq!(err, "OCI runtime start failed: bad");
    });
}

#[test]
fn a_container_that_is_gone_is_not_found_for_kill_and_fine_for_delete() {
    run("error 'container does not exist'; exit 1", async |fake| {
        let runtime = fake.runtime();
        let err = runtime.kill(9, true).await.unwrap_err();
        assert_eq!(err.to_string(), "no such container: not found");
        assert_eq!(err.kind(), ErrorKind::NotFound);
        runtime.delete(false).await.unwrap();
        fake.script("echo 'container not running' >&2; exit 1");
        let err = runtime.kill(9, true).await.unwrap_err();
        assert_eq!(err.to_string(), "process already finished: not found");
    });
}

#[test]
fn a_runtime_that_cannot_be_started_is_reported_as_go_does() {
    run("exit 0", async |fake| {
        let log = fake.path("bundle/log.json").display().to_string();
        let unreadable = format!(
            "OCI runtime create failed: unable to retrieve OCI runtime error (open {log}: no such \
             file or directory)"
        );
        fake.options.binary_name = "no-such-runtime".to_owned();
        let err = fake.runtime().create(ChildIo::default(), None).await.unwrap_err().to_string();
        let text = "exec: \"no-such-runtime\": executable file not found in $PATH";
        assert_eq!(err, format!("{unreadable}: {text}"));
        let err = fake.runtime().start().await.unwrap_err().to_string();
        assert_eq!(err, format!("OCI runtime start failed: {text}"));
        fake.options.binary_name = "/no/such/runtime".to_owned();
        let err = fake.runtime().start().await.unwrap_err().to_string();
        let text = "fork/exec /no/such/runtime: no such file or directory";
        assert_eq!(err, format!("OCI runtime start failed: {text}"));
    });
}

/// containerd #4434: 10 MB on standard error, and a child that keeps it open.
#[test]
fn a_runtime_that_talks_without_end_and_leaves_a_child_does_not_block() {
    let script = "head -c 10000000 /dev/zero | tr '\\0' x >&2; sleep 300 & echo $! > $B/../child; \
                  exit 1";
    run(script, async |fake| {
        let started = Instant::now();
        let err = fake.runtime().start().await.unwrap_err().to_string();
        assert!(started.elapsed() < Duration::from_secs(60));
        assert!(err.len() < 20 << 10, "{}", err.len());
        let child = fs::read_to_string(fake.path("child")).unwrap();
        let pid = wedge_sys::PidFd::open(child.trim().parse().unwrap()).unwrap();
        pid.send_signal(9).unwrap();
    });
}

#[test]
fn many_failing_calls_leave_the_bundle_as_it_was() {
    run("error failed; exit 1", async |fake| {
        let runtime = fake.runtime();
        for _ in 0..50 {
            runtime.exec("probe", b"{}", ChildIo::default(), None).await.unwrap_err();
        }
        assert_eq!(fake.files(), <[String; 0]>::default());
        assert_eq!(fake.reaper.counts(), (0, 0, 0));
    });
}

#[test]
fn concurrent_calls_do_not_mix_up_their_errors() {
    run("error \"$C failed\"; exit 1", async |fake| {
        let runtime = fake.runtime();
        let (one, two) = tokio::join!(runtime.pause(), runtime.resume());
        assert_eq!(one.unwrap_err().to_string(), "OCI runtime pause failed: pause failed");
        assert_eq!(two.unwrap_err().to_string(), "OCI runtime resume failed: resume failed");
    });
}
