// SPDX-License-Identifier: Apache-2.0
//! The real runc, as installed, through the life of a container.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{Read, pipe};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use wedge_oci::{Bundle, ChildIo, ConsoleSocket, Options, Runtime, Spec};
use wedge_reaper::Reaper;

const PROCESS: &str = r#"{"terminal":TERMINAL,"user":{"uid":0,"gid":0},"args":ARGS,
    "env":["PATH=/bin"],"cwd":"/"}"#;

fn process(terminal: bool, args: &[&str]) -> String {
    let args = serde_json::to_string(args).unwrap();
    PROCESS.replace("TERMINAL", &terminal.to_string()).replace("ARGS", &args)
}

/// A bundle of one static binary; the container's state is kept beside it.
fn bundle(dir: &tempfile::TempDir, process: &str) -> (Bundle, Options) {
    let bundle = Bundle::new(dir.path());
    fs::create_dir_all(bundle.rootfs().join("bin")).unwrap();
    fs::create_dir_all(bundle.rootfs().join("proc")).unwrap();
    fs::create_dir_all(bundle.rootfs().join("dev")).unwrap();
    fs::copy("/bin/busybox", bundle.rootfs().join("bin/busybox")).unwrap();
    let config = format!(
        r#"{{"ociVersion":"1.0.2","process":{process},"root":{{"path":"rootfs"}},
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
        {{"destination":"/dev","type":"tmpfs","source":"tmpfs"}},
        {{"destination":"/dev/pts","type":"devpts","source":"devpts",
        "options":["newinstance","ptmxmode=0666"]}}],
        "linux":{{"cgroupsPath":"/{}","namespaces":[{{"type":"pid"}},{{"type":"mount"}}]}}}}"#,
        dir.path().file_name().unwrap().to_str().unwrap().replace('.', "wedge-oci-")
    );
    fs::write(bundle.config(), config).unwrap();
    let root = dir.path().join("state").to_str().unwrap().to_owned();
    (bundle, Options { root, ..Options::default() })
}

fn run(process: &str, test: impl AsyncFnOnce(&Runtime, &Bundle)) {
    wedge_sys::set_subreaper().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (bundle, options) = bundle(&dir, process);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let reaper = Reaper::new();
        let runtime = Runtime::new(reaper.clone(), bundle.clone(), "ns", "c1", &options);
        tokio::select! {
            () = test(&runtime, &bundle) => {}
            ended = reaper.run() => unreachable!("the reaper ended: {ended:?}"),
        }
    });
}

#[test]
fn a_container_lives_and_dies() {
    let process_json = process(false, &["/bin/busybox", "sleep", "1000"]);
    run(&process_json, async |runtime, bundle| {
        assert!(!Spec::read(bundle).unwrap().shared_pid_namespace);
        runtime.create(ChildIo::default(), None).await.unwrap();
        let init = runtime.init_pid().await.unwrap();
        runtime.start().await.unwrap();
        assert_eq!(runtime.pids().await.unwrap(), [init]);

        let (mut out, child_out) = pipe().unwrap();
        let io = ChildIo { stdout: Some(OwnedFd::from(child_out)), ..ChildIo::default() };
        let echo = process(false, &["/bin/busybox", "echo", "hello"]);
        runtime.exec("e1", echo.as_bytes(), io, None).await.unwrap();
        assert_ne!(runtime.exec_pid("e1").await.unwrap(), init);
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n");

        let missing = process(false, &["missing"]);
        let err = runtime.exec("e2", missing.as_bytes(), ChildIo::default(), None).await;
        let text = "OCI runtime exec failed: exec failed: unable to start container process: exec: \
                    \"missing\": executable file not found in $PATH";
        assert_eq!(err.unwrap_err().to_string(), text);

        let end = Instant::now() + Duration::from_secs(20);
        while let Err(err) = runtime.pause().await {
            // On a busy machine runc may not get to freeze it at once.
            let again = err.to_string().contains("unable to freeze") && Instant::now() < end;
            assert!(again, "{err}");
        }
        let err = runtime.pause().await.unwrap_err().to_string();
        assert!(err.starts_with("OCI runtime pause failed: "), "{err}");
        runtime.resume().await.unwrap();
        runtime.kill(9, true).await.unwrap();
        runtime.delete(true).await.unwrap();
        runtime.delete(false).await.unwrap();
        let err = runtime.kill(9, false).await.unwrap_err().to_string();
        assert_eq!(err, "no such container: not found");
    });
}

#[test]
fn a_container_gets_a_terminal_over_the_console_socket() {
    let process_json = process(true, &["/bin/busybox", "sleep", "1000"]);
    run(&process_json, async |runtime, _| {
        let console = ConsoleSocket::bind().unwrap();
        runtime.create(ChildIo::default(), Some(&console)).await.unwrap();
        assert!(wedge_sys::is_tty(console.receive().await.unwrap()));
        runtime.delete(true).await.unwrap();
    });
}

#[test]
fn an_entrypoint_that_does_not_exist_fails_create() {
    run(&process(false, &["missing"]), async |runtime, _| {
        let err = runtime.create(ChildIo::default(), None).await.unwrap_err().to_string();
        let text = "OCI runtime create failed: runc create failed: unable to start container \
                    process: exec: \"missing\": executable file not found in $PATH";
        assert_eq!(err, text);
        runtime.delete(true).await.unwrap();
    });
}
