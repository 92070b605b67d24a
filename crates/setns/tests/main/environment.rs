// SPDX-License-Identifier: Apache-2.0
//! The environment, and `HOME` of all things.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::support::{Bench, Setup};

/// `HOME` of an exec as `uid`.
async fn home(bench: &Bench<'_>, uid: u32) -> String {
    let mut process = bench.process(&["env"]);
    process["user"] = json!({"uid": uid, "gid": 0});
    let env = bench.output(&process).await;
    let home = env.lines().find_map(|line| line.strip_prefix("HOME="));
    home.unwrap_or_else(|| panic!("no HOME: {env}")).to_owned()
}

#[test]
fn home_comes_from_passwd() {
    let setup = Setup::new();
    let long = format!("{}:x:1:1::/long:\n", "x".repeat(70_000));
    setup.run(async |bench| {
        for (passwd, homes) in [
            (
                "root:x:0:0:root:/root:/bin/sh\na:x:1000:1000::/home/a:\n",
                [(0, "/root"), (1000, "/home/a"), (7, "/")],
            ),
            ("no newline:x:5:5::/last", [(5, "/last"), (6, "/"), (0, "/")]),
            // What does not parse counts as root.
            ("# comment\nroot:x:0:0::/root:\n", [(0, ""), (1, "/"), (2, "/")]),
            ("\n\nx:x:0:0::/first:\ny:x:0:0::/second:\n", [(0, "/first"), (1, "/"), (2, "/")]),
            ("", [(0, "/"), (1, "/"), (2, "/")]),
            (&"filler:x:9:9::/filler:\n".repeat(10_000), [(9, "/filler"), (1, "/"), (0, "/")]),
            // A line beyond all measure ends the search.
            (&(long + "b:x:1:1::/b:\n"), [(1, "/"), (2, "/"), (3, "/")]),
        ] {
            bench.setup.file("etc/passwd", 0o644, passwd);
            for (uid, expected) in homes {
                assert_eq!(home(bench, uid).await, expected, "{uid}: {passwd:.80}");
            }
            if passwd.len() < 1000 {
                let env = bench.output_of_runc(&bench.process(&["env"])).await;
                assert!(env.contains(&format!("HOME={}\n", home(bench, 0).await)), "{env}");
            }
        }
    });
}

#[test]
fn home_without_a_passwd_that_can_be_read_is_the_root() {
    Setup::new().run(async |bench| {
        let passwd = bench.setup.rootfs().join("etc/passwd");
        assert_eq!(home(bench, 0).await, "/");
        nix::unistd::mkfifo(&passwd, Mode::S_IRUSR).unwrap();
        assert_eq!(home(bench, 0).await, "/");
        fs::remove_file(&passwd).unwrap();
        fs::create_dir(&passwd).unwrap();
        assert_eq!(home(bench, 0).await, "/");
        fs::remove_dir(&passwd).unwrap();
        for target in ["/dev/zero", "/proc/self/fd/3", "/etc/passwd", "/dev/ptmx"] {
            symlink(target, &passwd).unwrap();
            assert_eq!(home(bench, 0).await, "/", "{target}");
            fs::remove_file(&passwd).unwrap();
        }
    });
}

#[test]
fn of_several_entries_the_last_survives() {
    let setup = Setup::new();
    setup.file("etc/passwd", 0o644, "root:x:0:0:root:/root:\n");
    setup.run(async |bench| {
        for (env, printed) in [
            (json!(["PATH=/bin", "A=1", "B=2", "A=3"]), "PATH=/bin\nB=2\nA=3\nHOME=/root\n"),
            (json!(["PATH=/x", "HOME=", "PATH=/bin"]), "PATH=/bin\nHOME=/root\n"),
            (json!(["HOME=/mine", "PATH=/bin"]), "HOME=/mine\nPATH=/bin\n"),
            (json!(["HOME=/a", "HOME=/b", "PATH=/bin"]), "HOME=/b\nPATH=/bin\n"),
            (
                json!(["PATH=/bin", "N=a\nb=c", "E=", "Q==x"]),
                "PATH=/bin\nN=a\nb=c\nE=\nQ==x\nHOME=/root\n",
            ),
        ] {
            let mut process = bench.process(&["env"]);
            process["env"] = env;
            assert_eq!(bench.output(&process).await, printed);
        }
    });
}

#[test]
fn arguments_arrive_as_they_are() {
    Setup::new().run(async |bench| {
        let long = "x".repeat(100_000);
        let script = "for a; do echo \"<$a>\"; done";
        let args = ["sh", "-c", script, "sh", "", "a b", "ä\n\"", &long];
        let printed = format!("<>\n<a b>\n<ä\n\">\n<{long}>\n");
        assert_eq!(bench.output(&bench.process(&args)).await, printed);
        // The name of the program is not the path it was found at.
        let name = bench.output(&bench.process(&["cat", "/proc/self/cmdline"])).await;
        assert_eq!(name, "cat\0/proc/self/cmdline\0");
    });
}

#[test]
fn more_than_the_kernel_takes_is_an_error_of_the_process() {
    Setup::new().run(async |bench| {
        let mut process = bench.process(&["true"]);
        // One string of more than 32 pages, execve(2).
        process["env"] = json!(["PATH=/bin", format!("A={}", "x".repeat(200_000))]);
        let done = bench.exec(&process).await.unwrap();
        assert_eq!(
            (done.code, done.stderr.as_str()),
            (255, "exec /bin/true: argument list too long\n")
        );

        let strings: Vec<String> =
            (0..100).map(|n| format!("{n}={}", "x".repeat(100_000))).collect();
        process["env"] = Value::from(strings);
        assert!(bench.error(&process).await.contains("too long"));
    });
}
