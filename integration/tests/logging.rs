// SPDX-License-Identifier: Apache-2.0
//! Output to files and to logging binaries, through `ctr` and containerd.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Container, Env, Lab, Output, ShimUnderTest, Spec, Stdio, payload, wait};

/// Says that it is ready, and writes its input to `<id>.out` and `<id>.err`. It ignores SIGTERM,
/// which the Go shim sends together with the end of the input.
const GOOD: &str = "trap '' TERM; printf x >&5; exec 5>&-\n\
    /bin/cat <&4 >$CONTAINER_ID.err & exec 4<&-\n\
    /bin/cat <&3 >$CONTAINER_ID.out; wait; echo end >$CONTAINER_ID.end";

/// How soon a container must be gone although its logger behaves badly: Delete waits 15 seconds.
const BOUND: Duration = Duration::from_secs(20);

/// A logger in the test's directory, which is root's, and works there.
struct Logger(PathBuf);

impl Logger {
    /// One that the operator has allowed.
    fn allowed(env: &Env, script: &str) -> Result<Logger> {
        env.configure(&Logger::configuration(env.dir()))?;
        Logger::new(env.dir(), script)
    }

    fn configuration(dir: &Path) -> String {
        format!("[logger]\nallowed_directories = [\"{}\"]\n", dir.display())
    }

    fn new(dir: &Path, script: &str) -> Result<Logger> {
        let path = dir.join("logger");
        fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", dir.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Logger(path))
    }

    fn uri(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.0.display())
    }

    fn flag(&self, scheme: &str) -> String {
        format!("--log-uri={}", self.uri(scheme))
    }

    fn wrote(&self, name: &str) -> Result<String> {
        let path = self.0.with_file_name(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

fn both_streams(number: u64) -> [String; 3] {
    let script =
        format!("wedge-payload print {number} & wedge-payload print {number} stderr; wait");
    ["sh".to_owned(), "-c".to_owned(), script]
}

/// Starts `sleep`, for execs.
fn base(env: &Env) -> Result<Container> {
    env.container("base")?.start(["sleep", "1000"])
}

/// Runs a script by the exec `exec1`. With a log URI, `ctr` takes no `--fifo-dir`.
fn exec(env: &Env, container: &Container, flag: &str, script: &str) -> Result<Output> {
    let flags = ["task", "exec", "--exec-id=exec1", flag, container.id()];
    env.ctr().cmd(flags).args(["sh", "-c", script]).output()
}

#[test]
fn both_streams_are_appended_to_one_file() -> Result<()> {
    let env = Env::new()?;
    let path = env.dir().join("log/of/it");
    let flag = format!("--log-uri=file://{}", path.display());
    let script = ["sh", "-c", "for i in $(seq 5000); do echo out $i; echo err $i >&2; done"];
    env.container("file")?.flags([&flag]).run(script)?.assert_ok();
    let text = fs::read_to_string(&path)?;
    // A stream is copied in pieces, as by Go, and a piece of the other may come inside of a line:
    // what counts is that every byte is there once.
    let sorted = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes
    };
    let written: String = (1..=5000).map(|i| format!("out {i}\nerr {i}\n")).collect();
    ensure!(sorted(&text) == sorted(&written), "{} bytes of {}", text.len(), written.len());
    env.container("file")?.flags([&flag]).run(["echo", "more"])?.assert_ok();
    assert_eq!(fs::read_to_string(&path)?, text + "more\n");
    env.finish()
}

#[test]
fn an_exec_has_a_file_of_its_own() -> Result<()> {
    let env = Env::new()?;
    let container = base(&env)?;
    let path = env.dir().join("exec.log");
    let flag = format!("--log-uri=file://{}", path.display());
    exec(&env, &container, &flag, "echo out; exit 3")?.assert_code(3);
    assert_eq!(fs::read_to_string(&path)?, "out\n");
    container.remove()?;
    env.finish()
}

#[test]
fn a_logger_gets_every_byte_of_both_streams() -> Result<()> {
    let env = Env::new()?;
    let arguments = "printf '%s,' \"$@\" >args; echo $CONTAINER_NAMESPACE >namespace";
    let logger = Logger::allowed(&env, &format!("{arguments}\n{GOOD}"))?;
    let launch = env.container("logged")?.flags([logger.flag("binary") + "?id=a%20b"]);
    let id = launch.id().to_owned();
    launch.run(both_streams(3_000_000))?.assert_ok();
    wait::until("the logger has ended", || logger.wrote(&format!("{id}.end")))?;
    for stream in ["out", "err"] {
        let text = fs::read(env.dir().join(format!("{id}.{stream}")))?;
        payload::assert_pattern(&text, 3_000_000);
    }
    assert_eq!(logger.wrote("args")?, "id,a b,");
    assert_eq!(logger.wrote("namespace")?.trim(), env.namespace());
    env.finish()
}

#[test]
fn an_exec_has_a_logger_of_its_own() -> Result<()> {
    let env = Env::new()?;
    let logger = Logger::allowed(&env, GOOD)?;
    let container = base(&env)?;
    let script = "echo out; echo err >&2; exit 4";
    exec(&env, &container, &logger.flag("binary"), script)?.assert_code(4);
    wait::until("the logger has ended", || logger.wrote("exec1.end"))?;
    assert_eq!([logger.wrote("exec1.out")?, logger.wrote("exec1.err")?], ["out\n", "err\n"]);
    container.exec(["echo", "still there"])?.assert_ok().assert_stdout("still there\n");
    container.remove()?;
    env.finish()
}

/// containerd #12595.
#[test]
fn a_logger_that_crashes_at_once_stops_only_the_strict_scheme() -> Result<()> {
    if ShimUnderTest::skips_go("containerd 1.6 has no binary-v2")? {
        return Ok(());
    }
    let env = Env::new()?;
    let logger = Logger::allowed(&env, "exit 1")?;
    env.container("lax")?.flags([logger.flag("binary")]).run(["true"])?.assert_ok();
    let strict = env.container("strict")?.flags([logger.flag("binary-v2")]).run(["true"])?;
    strict.assert_error(
        "failed to create init process I/O: logging binary did not call ready \
         (it may have crashed or exited prematurely)",
    );
    let container = base(&env)?;
    let out = exec(&env, &container, &logger.flag("binary-v2"), "true")?;
    out.assert_error("failed to create init process I/O: logging binary did not call ready");
    container.remove()?;
    env.finish()
}

#[test]
fn a_logger_that_is_never_ready_fails_the_start() -> Result<()> {
    if ShimUnderTest::skips_go("it waits for ever")? {
        return Ok(());
    }
    let env = Env::new()?;
    let logger = Logger::allowed(&env, "trap '' TERM; while :; do /bin/sleep 1; done")?;
    let out = env.container("stuck")?.flags([logger.flag("binary")]).run(["true"])?;
    out.assert_error("failed to create init process I/O: failed to read from logging binary: ");
    out.assert_error("was not ready within 10s");
    assert!(out.took < BOUND, "{out}");
    env.finish()
}

#[test]
fn a_container_outlives_its_logger() -> Result<()> {
    let env = Env::new()?;
    let logger = Logger::allowed(&env, "printf x >&5; read line <&3; echo \"$line\" >line")?;
    // A closed pipe would end it: it must say nothing more by itself.
    let container = env.container("widow")?.flags([logger.flag("binary")]).start([
        "sh",
        "-c",
        "echo first; exec sleep 1000",
    ])?;
    wait::until("the logger has read a line", || {
        ensure!(logger.wrote("line")? == "first\n", "not yet");
        Ok(())
    })?;
    container.exec(["echo", "alive"])?.assert_ok().assert_stdout("alive\n");
    // Who writes to it is killed by SIGPIPE, and nobody else, once the logger has ended.
    wait::until("nobody reads", || {
        let out = container.exec(["sh", "-c", "/bin/busybox echo x >/proc/1/fd/1"])?;
        ensure!(out.code == 141, "{out}");
        Ok(())
    })?;
    assert_eq!(container.task()?.status, "RUNNING");
    container.remove()?;
    env.finish()
}

#[test]
fn a_logger_that_does_not_end_is_made_to() -> Result<()> {
    let env = Env::new()?;
    let stay = "trap '' TERM; printf x >&5; exec 5>&-; while :; do /bin/sleep 1; done";
    let logger = Logger::allowed(&env, stay)?;
    let out = env.container("long")?.flags([logger.flag("binary")]).run(["true"])?;
    assert!(out.assert_ok().took < BOUND, "{out}");
    env.finish()
}

/// The class of CVE-2026-53488.
#[test]
fn only_a_program_of_the_hosts_is_run() -> Result<()> {
    if ShimUnderTest::skips_go("it runs whatever it is told to")? {
        return Ok(());
    }
    let env = Env::new()?;
    let logger = Logger::new(env.dir(), &format!("touch ran\n{GOOD}"))?;
    let open = env.dir().join("open");
    fs::create_dir(&open)?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777))?;
    let (planted, link) = (open.join("planted"), env.dir().join("link"));
    fs::copy(&logger.0, &planted)?;
    symlink(&planted, &link)?;
    let refused = |path: &Path| -> Result<Output> {
        let flag = format!("--log-uri=binary://{}", path.display());
        env.container("refused")?.flags([flag]).run(["true"])
    };
    for path in [&planted, &link] {
        let text = format!(
            "failed to create init process I/O: failed to start binary process: {path:?} is \
             refused: {open:?} is writable by others than root"
        );
        refused(path)?.assert_error(&text);
    }
    refused(&logger.0)?.assert_error("is not in /usr, /bin or /sbin");
    fs::set_permissions(&logger.0, fs::Permissions::from_mode(0o757))?;
    refused(&logger.0)?.assert_error("is writable by others than root");
    refused(Path::new("/no/such/logger"))?.assert_error(
        "failed to start binary process: fork/exec /no/such/logger: no such file or directory",
    );
    ensure!(logger.wrote("ran").is_err(), "it was run");
    env.finish()
}

/// An image's files are root's. The shim works in the bundle, so that the way to them is known.
#[test]
fn a_program_of_the_image_is_not_run() -> Result<()> {
    if ShimUnderTest::skips_go("it runs whatever it is told to")? {
        return Ok(());
    }
    let env = Env::new()?;
    let program = env.rootfs().join("evil");
    fs::write(&program, format!("#!/bin/sh\ntouch {}/ran\n{GOOD}\n", env.dir().display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    for path in ["/proc/self/cwd/../../../../rootfs/evil", &program.to_string_lossy()] {
        let flag = format!("--log-uri=binary://{path}");
        let out = env.container("refused")?.flags([flag]).run(["true"])?;
        out.assert_error("is not in /usr, /bin or /sbin");
    }
    ensure!(!env.dir().join("ran").exists(), "it was run");
    env.finish()
}

/// `ctr` 1.6 cannot ask for it.
#[test]
fn the_terminal_of_a_container_is_logged() -> Result<()> {
    if ShimUnderTest::skips_go("every other time its logger on a terminal never sees an end")? {
        return Ok(());
    }
    let lab = Lab::new()?;
    lab.configure(&Logger::configuration(lab.dir()))?;
    let logger = Logger::new(lab.dir(), GOOD)?;
    let spec = Spec::new(["sh", "-c", "tty; echo err >&2; exit 5"]).terminal();
    let bundle = lab.bundle("term", &spec)?;
    let shim = lab.start(&bundle)?;
    let stdout = logger.uri("binary");
    let stdio = Stdio { stdout, terminal: true, ..Stdio::null() };
    shim.create(&bundle, &stdio)?;
    shim.start(bundle.id(), "")?;
    assert_eq!(shim.wait(bundle.id(), "")?.status, 5);
    shim.delete(bundle.id(), "")?;
    let id = bundle.id();
    wait::until("the logger has ended", || logger.wrote(&format!("{id}.end")))?;
    assert_eq!(logger.wrote(&format!("{id}.out"))?, "/dev/pts/0\r\nerr\r\n");
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn a_terminal_needs_a_place_for_its_output() -> Result<()> {
    if ShimUnderTest::skips_go("it says so in other words")? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let bundle = lab.bundle("term", &Spec::new(["true"]).terminal())?;
    let shim = lab.start(&bundle)?;
    let result = shim.create(&bundle, &Stdio { terminal: true, ..Stdio::null() });
    let text = "failed to start console copy: no stdout fifo";
    assert_refused(result, Code::INVALID_ARGUMENT, text);
    shim.shutdown()?;
    lab.finish()
}
