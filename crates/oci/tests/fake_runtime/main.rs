// SPDX-License-Identifier: Apache-2.0
//! The command line of the runtime, with a shell script in its place.
#![expect(clippy::unwrap_used, reason = "tests")]

mod errors;
mod fake;

use std::fs;
use std::io::{Read, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::pty::openpty;
use wedge_oci::{ChildIo, ConsoleSocket};

use fake::run;

const GLOBAL: &str = "--root /r/ns --log LOG --log-format json";

#[test]
fn arguments_come_as_from_the_go_shim() {
    run("[ $C = ps ] && echo null; exit 0", async |fake| {
        let runtime = fake.runtime();
        runtime.create(ChildIo::default(), None).await.unwrap();
        assert_eq!(
            fake.args(),
            "--root /r/ns --log /bundle/log.json --log-format json create --bundle /bundle \
             --pid-file /bundle/init.pid c1"
        );
        runtime.start().await.unwrap();
        assert_eq!(fake.args(), format!("{GLOBAL} start c1"));
        runtime.kill(9, true).await.unwrap();
        assert_eq!(fake.args(), format!("{GLOBAL} kill --all c1 9"));
        runtime.kill(15, false).await.unwrap();
        assert_eq!(fake.args(), format!("{GLOBAL} kill c1 15"));
        runtime.pause().await.unwrap();
        assert_eq!(fake.args(), format!("{GLOBAL} pause c1"));
        runtime.resume().await.unwrap();
        assert_eq!(fake.args(), format!("{GLOBAL} resume c1"));
        assert!(runtime.pids().await.unwrap().is_empty());
        assert_eq!(fake.args(), format!("{GLOBAL} ps --format json c1"));
        runtime.delete(false).await.unwrap();
        assert_eq!(fake.args(), format!("{GLOBAL} delete c1"));
        runtime.delete(true).await.unwrap();
        assert_eq!(fake.args(), format!("{GLOBAL} delete --force c1"));
        assert_eq!(fake.files(), <[String; 0]>::default(), "no log is left");
    });
}

#[test]
fn options_become_flags() {
    run("exit 0", async |fake| {
        fake.options.systemd_cgroup = true;
        fake.options.no_pivot_root = true;
        fake.options.no_new_keyring = true;
        let console = ConsoleSocket::bind().unwrap();
        fake.runtime().create(ChildIo::default(), Some(&console)).await.unwrap();
        let args = fake.args();
        let args = args.split_once("--log-format json ").unwrap().1;
        assert_eq!(
            args.replace(console.path().to_str().unwrap(), "SOCKET"),
            "--systemd-cgroup create --bundle /bundle --pid-file /bundle/init.pid \
             --console-socket SOCKET --no-pivot --no-new-keyring c1"
        );
    });
}

#[test]
fn exec_hands_the_process_over_in_a_private_file_and_removes_it() {
    let script = "f=$(sed -n '/^--process$/{n;p}' $B/../args); cat $f > $B/../process; \
                  stat -c %a $f > $B/../mode; printf 77 > $B/e1.pid";
    run(script, async |fake| {
        let runtime = fake.runtime();
        fs::write(fake.path("bundle/e1.pid"), "1").unwrap();
        fs::write(fake.path("bundle/.e1.pid"), "").unwrap();
        runtime.exec("e1", b"{\"args\":[]}", ChildIo::default(), None).await.unwrap();
        let args = "exec --process PROCESS --detach --pid-file /bundle/e1.pid c1";
        assert_eq!(fake.args(), format!("{GLOBAL} {args}"));
        assert_eq!(fs::read_to_string(fake.path("process")).unwrap(), "{\"args\":[]}");
        assert_eq!(fs::read_to_string(fake.path("mode")).unwrap(), "600\n");
        assert_eq!(runtime.exec_pid("e1").await.unwrap(), 77);
        assert_eq!(fake.files(), ["e1.pid"]);
    });
}

#[test]
fn resources_come_on_standard_input_as_they_were_sent() {
    run("cat > $B/../resources", async |fake| {
        let runtime = fake.runtime();
        // More than a pipe holds.
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
        for resources in ["{\"memory\": {\"limit\": 9223372036854771712}}", "null", &large] {
            runtime.update(resources.as_bytes()).await.unwrap();
            assert_eq!(fake.args(), format!("{GLOBAL} update --resources=- c1"));
            assert_eq!(fs::read_to_string(fake.path("resources")).unwrap(), resources);
        }
        assert_eq!(fake.files(), <[String; 0]>::default(), "no log is left");
        fs::remove_file(fake.path("args")).unwrap();
        let err = runtime.update(b"[]").await.unwrap_err();
        assert_eq!(err.kind(), wedge_oci::ErrorKind::InvalidArgument, "{err}");
        assert!(!fake.path("args").exists(), "the runtime was not asked");
    });
}

#[test]
fn streams_are_the_containers_and_our_copies_are_closed() {
    run("cat > $B/../stdin; echo out; echo err >&2; exit 1", async |fake| {
        let (mut out, child_out) = pipe().unwrap();
        let (mut err, child_err) = pipe().unwrap();
        let (child_in, mut input) = pipe().unwrap();
        std::io::Write::write_all(&mut input, b"typed").unwrap();
        drop(input);
        let io = ChildIo {
            stdin: Some(OwnedFd::from(child_in)),
            stdout: Some(OwnedFd::from(child_out)),
            stderr: Some(OwnedFd::from(child_err)),
        };
        let failure = fake.runtime().create(io, None).await.unwrap_err().to_string();
        assert!(failure.ends_with("exit status 1"), "no output of the container: {failure}");
        let mut text = String::new();
        // Both end, so nobody else holds the write ends.
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut text).unwrap();
        assert_eq!(text, "out\nerr\n");
        assert_eq!(fs::read_to_string(fake.path("stdin")).unwrap(), "typed");
    });
}

#[test]
fn missing_streams_are_dev_null() {
    let script = "fds=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo $fds > $B/../fds";
    run(script, async |fake| {
        fake.runtime().create(ChildIo::default(), None).await.unwrap();
        let fds = fs::read_to_string(fake.path("fds")).unwrap();
        assert_eq!(fds, "/dev/null /dev/null /dev/null\n");
    });
}

#[test]
fn a_terminal_comes_over_the_console_socket() {
    // The script only waits for the test, which plays the part a shell cannot.
    run("while [ ! -e $B/../sent ]; do sleep 0.01; done", async |fake| {
        let console = ConsoleSocket::bind().unwrap();
        let (path, sent) = (console.path().to_path_buf(), fake.path("sent"));
        let runtime = fake.runtime();
        let (created, ()) =
            tokio::join!(runtime.create(ChildIo::default(), Some(&console)), async {
                send_terminal(&path, &sent);
            },);
        created.unwrap();
        let master = console.receive().await.unwrap();
        assert!(wedge_sys::is_tty(master));
    });
}

fn send_terminal(socket: &Path, sent: &Path) {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::AsRawFd;
    let pty = openpty(None, None).unwrap();
    let stream = UnixStream::connect(socket).unwrap();
    let fds = [pty.master.as_raw_fd()];
    let name = [std::io::IoSlice::new(b"x")];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &name, &rights, MsgFlags::empty(), None).unwrap();
    fs::write(sent, "").unwrap();
}
