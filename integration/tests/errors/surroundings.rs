// SPDX-License-Identifier: Apache-2.0
//! A good request in bad surroundings: the bundle, the runtime, the streams, the mounts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use wedge_integration::fake_runtime::Step;
use wedge_integration::proc::Proc;
use wedge_integration::protos::api::{CreateTaskRequest, Mount};
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Lab, Process, Rig, ShimUnderTest, Spec, Stdio, fifo, payload, wait};

#[test]
fn a_configuration_that_is_missing_or_cut_off_is_reported() -> Result<()> {
    let rig = Rig::runc()?;
    let config = rig.bundle.dir().join("config.json");
    let whole = fs::read(&config)?;
    fs::write(&config, &whole[..whole.len() / 2])?;
    let cut = "OCI runtime create failed: runc create failed: unexpected EOF";
    rig.refuses(Code::UNKNOWN, cut, |_| rig.create())?;
    fs::remove_file(&config)?;
    let missing = "OCI runtime create failed: runc create failed: JSON specification file config.json not found";
    rig.refuses(Code::UNKNOWN, missing, |_| rig.create())?;
    fs::write(&config, whole)?;
    rig.end()
}

/// The action `start` reads it too, for the group of the container.
#[test]
fn no_shim_is_started_without_a_configuration() -> Result<()> {
    let lab = Lab::new()?;
    let bundle = lab.bundle("c", &Spec::new(["true"]))?;
    fs::remove_file(bundle.dir().join("config.json"))?;
    let out = lab.invoke(&bundle, &[], "start").output()?;
    out.assert_error("config.json: no such file or directory");
    assert_eq!((out.code, out.text().as_str()), (1, ""));
    assert!(!lab.socket(bundle.id()).exists());
    lab.finish()
}

/// As a container's entry point that does not exist is: by runc, in create.
#[test]
fn a_program_that_is_missing_is_reported() -> Result<()> {
    let rig = Rig::runc()?;
    rig.bundle.write_config(&root_of(&rig, Spec::new(["no-such-program"])))?;
    let text = "OCI runtime create failed: runc create failed: unable to start container process: \
                exec: \"no-such-program\": executable file not found in $PATH";
    rig.refuses(Code::UNKNOWN, text, |_| rig.create())?;
    rig.bundle.write_config(&root_of(&rig, Spec::new([payload::PATH, "pause"])))?;
    rig.run()?;
    // What the first exec of a container makes, and its others use.
    rig.exec("first", [payload::PATH, "exit", "0"])?;
    rig.shim.wait(rig.id(), "first")?;
    rig.shim.delete(rig.id(), "first")?;
    rig.add("e1", ["no-such-program"])?;
    let text = "OCI runtime exec failed: exec failed: unable to start container process: \
                exec: \"no-such-program\": executable file not found in $PATH";
    rig.refuses(Code::UNKNOWN, text, |shim| shim.start(rig.id(), "e1"))?;
    rig.end()
}

/// What [`Lab::bundle`] does for a first configuration.
fn root_of(rig: &Rig, spec: Spec) -> Spec {
    let cgroup = format!("/{}/{}", rig.lab.namespace(), rig.id());
    spec.root(&rig.lab.dir().join("rootfs")).cgroup(&cgroup)
}

#[test]
fn a_runtime_that_is_missing_is_reported_as_by_go() -> Result<()> {
    for (binary, problem) in [
        ("no-such-runc", "exec: \"no-such-runc\": executable file not found in $PATH"),
        ("/no/such/runc", "fork/exec /no/such/runc: no such file or directory"),
    ] {
        let mut lab = Lab::new()?;
        lab.options_mut().binary_name = binary.to_owned();
        let rig = Rig::on(lab, &Spec::new(["true"]))?;
        let log = rig.bundle.dir().join("log.json");
        let text = format!(
            "OCI runtime create failed: unable to retrieve OCI runtime error \
             (open {}: no such file or directory): {problem}",
            log.display()
        );
        rig.refuses(Code::UNKNOWN, &text, |_| rig.create())?;
        rig.close()?;
    }
    Ok(())
}

/// containerd #4434.
#[test]
fn a_noisy_runtime_that_leaves_its_output_open_blocks_nobody() -> Result<()> {
    if ShimUnderTest::skips_go("it reads the output of the runtime to its end")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.create()?;
    let noisy = Step { stderr_mib: 10, keep_stderr_open: true, ..Step::default() };
    rig.script().script("start", noisy.clone())?;
    rig.shim.start(rig.id(), "")?;
    let holder =
        |process: &Proc| process.args().is_ok_and(|args| args.iter().any(|arg| arg == "hold"));
    let held = rig.shim.proc().children().into_iter().any(|child| holder(&child));
    assert!(held, "Start has waited until nobody held the runtime's standard error");
    rig.script().script("pause", Step { fail: Some("no".to_owned()), ..noisy })?;
    let text = "OCI runtime pause failed: no";
    assert_refused(rig.shim.pause(rig.id()), Code::UNKNOWN, text);
    rig.end()
}

#[test]
fn a_noisy_error_is_cut() -> Result<()> {
    if ShimUnderTest::skips_go("it sends all of it, more than its peer takes")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let fail = Step { fail: Some("x".repeat(10 << 20)), ..Step::default() };
    rig.script().script("pause", fail)?;
    let before = rig.footprint()?;
    let error = rig.shim.pause(rig.id()).unwrap_err();
    assert_eq!(error.code(), Some(Code::UNKNOWN));
    let text = error.to_string();
    assert!(text.len() < 20_000 && text.contains("OCI runtime pause failed: "), "{}", text.len());
    rig.unchanged_since(&before)?;
    rig.end()
}

/// Create and Start of an exec with `stdio` fail with a message about `path`.
fn refuses_stdio(rig: &Rig, stdio: &Stdio, code: Code, words: &[&str]) -> Result<()> {
    let other = rig.lab.bundle("other", &Spec::new([payload::PATH, "pause"]))?;
    rig.shim.exec(rig.id(), "e1", &Process::new(["true"]), stdio)?;
    let before = rig.footprint()?;
    for result in [rig.shim.create(&other, stdio), rig.shim.start(rig.id(), "e1")] {
        let error = result.err().with_context(|| format!("{stdio:?} was taken"))?;
        assert_eq!(error.code(), Some(code), "{stdio:?}: {error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
        rig.unchanged_since(&before)?;
    }
    assert_eq!(rig.lab.fake(&other).commands()?, [""; 0]);
    Ok(rig.shim.delete(rig.id(), "e1").map(drop)?)
}

#[test]
fn a_stream_must_be_a_fifo() -> Result<()> {
    // Go appends to regular files, follows links, and finds a missing FIFO only when the
    // container runs.
    if ShimUnderTest::skips_go("it takes any file for a stream")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let dir = rig.lab.dir().join("fifo");
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    fifo::make(Path::new(&path("good")))?;
    symlink(path("good"), path("link"))?;
    fs::write(path("regular"), "contents")?;
    for (name, code, problem) in [
        ("link", Code::INVALID_ARGUMENT, "not a fifo"),
        ("regular", Code::INVALID_ARGUMENT, "not a fifo"),
        ("", Code::INVALID_ARGUMENT, "not a fifo"),
        ("missing", Code::UNKNOWN, "no such file or directory"),
    ] {
        let (bad, good) = (path(name), path("good"));
        let words = ["failed to create init process I/O: ", bad.as_str(), problem];
        let console = ["failed to start console copy: ", bad.as_str(), problem];
        let stdin = Stdio { stdin: bad.clone(), stdout: good.clone(), ..Stdio::null() };
        let stdout = Stdio { stdout: bad.clone(), ..Stdio::null() };
        let stderr = Stdio { stdout: good, stderr: bad.clone(), ..Stdio::null() };
        let terminal = Stdio { stdout: bad.clone(), terminal: true, ..Stdio::null() };
        for stdio in [stdin, stdout, stderr] {
            refuses_stdio(&rig, &stdio, code, &words)?;
        }
        refuses_stdio(&rig, &terminal, code, &console)?;
    }
    assert_eq!(fs::read_to_string(path("regular"))?, "contents");
    assert!(!Path::new(&path("missing")).exists());
    rig.end()
}

#[test]
fn a_scheme_must_be_known() -> Result<()> {
    let rig = Rig::fake()?;
    let stdio = |stdout: &str| Stdio { stdout: stdout.to_owned(), ..Stdio::null() };
    for (uri, problem) in [
        ("streaming+unix:///x", "unknown STDIO scheme streaming+unix"),
        (":x", "unable to parse stdout uri: parse \":x\": missing protocol scheme"),
    ] {
        let text = format!("failed to create init process I/O: {problem}");
        let before = rig.footprint()?;
        let error = rig.shim.create(&rig.bundle, &stdio(uri)).unwrap_err();
        assert!(error.to_string().ends_with(&text), "{error}");
        rig.unchanged_since(&before)?;
    }
    rig.end()
}

/// containerd #12595: the second kind must say that it is ready.
#[test]
fn a_logging_binary_or_log_file_must_be_usable() -> Result<()> {
    if ShimUnderTest::skips_go(
        "its version has no binary-v2, and takes a terminal's URI for a path",
    )? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    for (uri, problem) in [
        ("binary:///no/such/logger", "/no/such/logger: no such file or directory"),
        ("binary-v2:///no/such/logger", "/no/such/logger: no such file or directory"),
        ("binary-v2:///bin/true", "logging binary did not call ready"),
        ("file:///dev/null/x", "mkdir /dev/null"),
    ] {
        let stdio = Stdio { stdout: uri.to_owned(), ..Stdio::null() };
        refuses_stdio(
            &rig,
            &stdio,
            Code::UNKNOWN,
            &["failed to create init process I/O: ", problem],
        )?;
    }
    rig.end()
}

#[test]
fn a_failing_rootfs_mount_undoes_the_ones_before() -> Result<()> {
    if ShimUnderTest::skips_go("the texts are those of containerd 2")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let mut request = rig.shim.create_request(&rig.bundle, &Stdio::null());
    let (tmpfs, missing) =
        (mount("tmpfs", "tmpfs", &[]), mount("bind", "/no/such", &["rbind", "ro"]));
    request.rootfs = vec![tmpfs.clone(), tmpfs.clone(), missing];
    let rootfs = rig.bundle.dir().join("rootfs");
    let text = format!(
        "failed to mount rootfs component: mount source: \"/no/such\", target: {rootfs:?}, \
         fstype: bind, flags: 20481, data: \"\", err: no such file or directory"
    );
    rig.refuses(Code::UNKNOWN, &text, |shim| shim.create_with(&request))?;
    request.rootfs = vec![tmpfs.clone(), mount("no-such-fs", "x", &["data=1"])];
    let text = format!(
        "failed to mount rootfs component: mount source: \"x\", target: {rootfs:?}, \
         fstype: no-such-fs, flags: 0, data: \"data=1\", err: no such device"
    );
    rig.refuses(Code::UNKNOWN, &text, |shim| shim.create_with(&request))?;
    request.rootfs = vec![tmpfs, mount("bind", "/x", &["X-containerd.what"])];
    let text = "failed to mount rootfs component: internal mount option \"X-containerd.what\" \
                was not consumed by the mount manager";
    rig.refuses(Code::UNKNOWN, text, |shim| shim.create_with(&request))?;
    assert_eq!(rig.script().commands()?, [""; 0]);
    rig.end()
}

fn mount(fs_type: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        type_: fs_type.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

#[test]
fn a_checkpoint_that_cannot_be_restored_can_be_deleted() -> Result<()> {
    let rig = Rig::fake()?;
    let before = rig.footprint()?;
    let request = CreateTaskRequest {
        checkpoint: "/no/such/checkpoint".to_owned(),
        ..rig.shim.create_request(&rig.bundle, &Stdio::null())
    };
    assert_eq!(rig.shim.create_with(&request)?, 0);
    let text = "OCI runtime restore failed: unknown command \"restore\"";
    assert_refused(rig.shim.start(rig.id(), ""), Code::UNKNOWN, text);
    rig.shim.delete(rig.id(), "")?;
    rig.lab.events().log().wait(rig.id(), "delete")?;
    // The connection to the event server is new.
    wait::until("nothing is left", || {
        let change = rig.footprint()?.since(&before, rig.lab.shim().is_go());
        ensure!(change.iter().all(|line| line.starts_with("descriptor socket")), "{change:?}");
        Ok(())
    })?;
    rig.end()
}
