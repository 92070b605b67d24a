// SPDX-License-Identifier: Apache-2.0
//! Texts captured from runc 1.1.5 and crun 1.8.1, and what they must become.

use super::*;
use nix::errno::Errno;

fn said(printed: &str, logged: Logged) -> Said {
    let ended = "runc did not terminate successfully: exit status 1".to_owned();
    Said { ended, printed: printed.to_owned(), logged, cut_short: false }
}

fn message(text: &str) -> Logged {
    Logged::Message(text.to_owned())
}

/// What the runtime printed and logged (both print the line they log), and kill's answer for
/// container t3.
const KILLS: [(&str, &str); 9] = [
    ("container does not exist", "no such container: not found"),
    ("container not running", "process already finished: not found"),
    ("os: process already finished", "process already finished: not found"),
    ("unable to signal init: no such process", "process already finished: not found"),
    ("kill container: No such process", "process already finished: not found"),
    (
        "error opening file `/run/containerd/runc/k8s.io/t3/status`: No such file or directory",
        "no such container: not found",
    ),
    (
        "cannot open directory '/run/containerd/runc/k8s.io/t3': No such file or directory",
        "no such container: not found",
    ),
    (
        "unable to signal init: invalid argument",
        "unknown error after kill: runc did not terminate successfully: exit status 1: unable to \
         signal init: invalid argument",
    ),
    (
        "error opening file `/etc/other/status`: No such file or directory",
        "unknown error after kill: runc did not terminate successfully: exit status 1: error \
         opening file `/etc/other/status`: No such file or directory",
    ),
];

#[test]
fn kill_answers_as_containerd_does_whether_the_text_was_printed_or_logged() {
    for (text, answer) in KILLS {
        for said in
            [said(text, Logged::Nothing), said("", message(text)), said(text, message(text))]
        {
            assert_eq!(Error::after_kill(&said, "t3").to_string(), answer, "{said:?}");
        }
    }
}

#[test]
fn only_gone_things_are_not_found() {
    for (text, answer) in KILLS {
        let err = Error::after_kill(&said(text, Logged::Nothing), "t3");
        let gone = answer.ends_with(": not found");
        assert_eq!(err.kind() == ErrorKind::NotFound, gone, "{text}");
    }
}

#[test]
fn delete_forgives_exactly_a_missing_container() {
    let table = [
        ("container does not exist", true),
        ("error opening file `/r/t3/status`: No such file or directory", true),
        ("cannot open directory '/r/t3': No such file or directory", true),
        ("cannot delete container t3 that is not stopped: running", false),
        ("cannot open directory '/r/t33': No such file or directory", false),
        ("container not running", false),
    ];
    for (text, missing) in table {
        assert_eq!(said(text, Logged::Nothing).is_no_such_container("t3"), missing, "{text}");
    }
}

/// Logs of failed commands as captured, and the client's text.
#[test]
fn the_runtime_log_becomes_the_clients_text() {
    let table = [
        (
            "OCI runtime create failed",
            "runc create failed: unable to start container process: exec: \"nonexistent\": \
             executable file not found in $PATH",
        ),
        ("OCI runtime create failed", "runc create failed: container with given ID already exists"),
        ("OCI runtime start failed", "cannot start a container that has stopped"),
        (
            "OCI runtime exec failed",
            "exec failed: cannot exec in a paused container (use --ignore-paused to override)",
        ),
        ("OCI runtime pause failed", "container not running"),
        ("OCI runtime resume failed", "container not paused"),
        ("failed to delete task", "cannot delete container t3 that is not stopped: running"),
        (
            "OCI runtime create failed",
            "cgroups in hybrid mode not supported, drop all controllers from cgroupv2",
        ),
    ];
    for (operation, text) in table {
        let err = said("something else", message(text)).failed(operation);
        assert_eq!(err.to_string(), format!("{operation}: {text}"));
        assert_eq!(err.kind(), ErrorKind::Unknown);
    }
}

#[test]
fn without_a_log_the_command_itself_speaks() {
    let operation = "OCI runtime create failed";
    assert_eq!(
        said("chdir `/b` failed", Logged::Nothing).failed(operation).to_string(),
        "OCI runtime create failed: runc did not terminate successfully: exit status 1: chdir \
         `/b` failed"
    );
    assert_eq!(
        said("", Logged::Nothing).failed(operation).to_string(),
        "OCI runtime create failed: runc did not terminate successfully: exit status 1"
    );
    let unreadable = Logged::Unreadable("open /b/log.json: no such file or directory".to_owned());
    assert_eq!(
        said("", unreadable).failed(operation).to_string(),
        "OCI runtime create failed: unable to retrieve OCI runtime error (open /b/log.json: no \
         such file or directory): runc did not terminate successfully: exit status 1"
    );
}

#[test]
fn a_mount_error_has_every_argument_of_the_call() {
    let mount =
        Mount { fs_type: "overlay".to_owned(), source: "overlay".to_owned(), ..Mount::default() };
    let err = Error::Mount {
        mount: Box::new(mount),
        target: "/b/rootfs".into(),
        flags: 1,
        data: "lowerdir=/a".to_owned(),
        cause: Errno::EINVAL.into(),
    };
    assert_eq!(
        err.to_string(),
        "failed to mount rootfs component: mount source: \"overlay\", target: \"/b/rootfs\", \
         fstype: overlay, flags: 1, data: \"lowerdir=/a\", err: invalid argument"
    );
}
