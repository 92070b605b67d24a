// SPDX-License-Identifier: Apache-2.0
//! Every way in which an exec does not start, in runc's words.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};

use serde_json::json;

use crate::support::{START, Setup};

const PREFIX: &str = "OCI runtime exec failed: exec failed: ";

#[test]
fn programs_that_cannot_be_executed() {
    let setup = Setup::new();
    setup.file("etc/passwd", 0o644, "");
    setup.file("home/tool", 0o755, "");
    fs::DirBuilder::new().mode(0o700).create(setup.rootfs().join("home/private")).unwrap();
    setup.run(async |bench| {
        for (program, text) in [
            ("foo", r#"exec: "foo": executable file not found in $PATH"#),
            ("", r#"exec: "": executable file not found in $PATH"#),
            (".", r#"exec: ".": executable file not found in $PATH"#),
            ("..", r#"exec: "..": executable file not found in $PATH"#),
            ("a\"b\n", r#"exec: "a\"b\n": executable file not found in $PATH"#),
            ("/bin/nofoo", r#"exec: "/bin/nofoo": stat /bin/nofoo: no such file or directory"#),
            ("/etc/passwd/x", r#"exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory"#),
            ("/etc/passwd", r#"exec: "/etc/passwd": permission denied"#),
            ("/tmp", r#"exec: "/tmp": is a directory"#),
            ("./x", r#"exec: "./x": stat ./x: no such file or directory"#),
        ] {
            assert_eq!(bench.error(&bench.process(&[program])).await, format!("{START}{text}"));
        }

        let mut user = bench.process(&["/home/private/x"]);
        user["user"] = json!({"uid": 1000, "gid": 1000});
        let text = r#"exec: "/home/private/x": stat /home/private/x: permission denied"#;
        // Some capabilities of root stay with any user: it is the container's set.
        user["capabilities"] = json!({});
        assert_eq!(bench.error(&user).await, format!("{START}{text}"));

        for path in ["PATH=.", "PATH=", "PATH=/nowhere::/bin", "PATH=home"] {
            let mut process = bench.process(&["tool"]);
            process["cwd"] = json!(if path == "PATH=home" { "/" } else { "/home" });
            process["env"] = json!([path]);
            let text = r#"exec: "tool": cannot run executable found relative to current directory"#;
            assert_eq!(bench.error(&process).await, format!("{START}{text}"), "{path}");
        }
        let mut pathless = bench.process(&["sh"]);
        pathless["env"] = json!([]);
        let text = r#"exec: "sh": executable file not found in $PATH"#;
        assert_eq!(bench.error(&pathless).await, format!("{START}{text}"));
    });
}

#[test]
fn processes_that_runc_refuses() {
    Setup::new().run(async |bench| {
        let changed = |key: &str, value: serde_json::Value| {
            let mut process = bench.process(&["true"]);
            process[key] = value;
            process
        };
        for (process, text) in [
            (changed("cwd", json!("")), "Cwd property must not be empty"),
            (changed("cwd", json!("tmp")), "Cwd must be an absolute path"),
            (changed("args", json!([])), "args must not be empty"),
            (
                changed("rlimits", json!([{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}])),
                "wrong rlimit value: RLIMIT_FOO",
            ),
            (
                changed("env", json!(["A"])),
                "unable to start container process: invalid environment variable: missing '='",
            ),
            (
                changed("env", json!(["=A"])),
                "unable to start container process: invalid environment variable: name cannot be \
                 empty",
            ),
            (
                changed("env", json!(["K=a\0b"])),
                "unable to start container process: invalid environment variable \"K\": contains \
                 nul byte (\\x00)",
            ),
        ] {
            assert_eq!(bench.error(&process).await, format!("{PREFIX}{text}"));
        }
    });
}

#[test]
fn limits_and_priorities_that_the_kernel_refuses() {
    Setup::new().run(async |bench| {
        let beyond: u64 =
            fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
        for (key, value, text) in [
            (
                "rlimits",
                json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": beyond + 1}]),
                "error setting rlimits for ready process: error setting rlimit type 7: operation \
                 not permitted",
            ),
            (
                "rlimits",
                json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]),
                "error setting rlimits for ready process: error setting rlimit type 4: invalid \
                 argument",
            ),
            (
                "scheduler",
                json!({"policy": "SCHED_FIFO", "priority": 1000}),
                "error setting scheduler: invalid argument",
            ),
            (
                "execCPUAffinity",
                json!({"initial": "4095"}),
                "error starting setns process: error setting initial CPU affinity: invalid \
                 argument",
            ),
            (
                "execCPUAffinity",
                json!({"final": "4095"}),
                "error setting final CPU affinity: invalid argument",
            ),
        ] {
            let mut process = bench.process(&["true"]);
            process[key] = value;
            assert_eq!(bench.error(&process).await, format!("{START}{text}"));
            bench.assert_nothing_left().await;
        }
    });
}

#[test]
fn a_deadline_and_a_cpuset_exclude_each_other() {
    let mut setup = Setup::new();
    setup.config["linux"]["resources"] = json!({"cpu": {"cpus": "0"}});
    setup.run(async |bench| {
        let mut process = bench.process(&["true"]);
        process["scheduler"] = json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000,
            "deadline": 100_000_000, "period": 100_000_000});
        let text = "process scheduler can't be used together with AllowedCPUs";
        assert_eq!(bench.error(&process).await, format!("{START}{text}"));
    });
}

#[test]
fn working_directories() {
    let setup = Setup::in_user_namespace();
    setup.file("etc/file", 0o644, "");
    // Of nobody in the container, for a group that is: container root has no power over it.
    let shared = setup.rootfs().join("home/shared");
    fs::DirBuilder::new().mode(0o710).create(&shared).unwrap();
    chown(&shared, Some(5), Some(101_000)).unwrap();
    fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o710)).unwrap();
    setup.run(async |bench| {
        let mut process = bench.process(&["pwd"]);
        for (cwd, cause) in [
            ("/nonexist", "no such file or directory"),
            ("/etc/file", "not a directory"),
            ("/home/shared", "permission denied"),
        ] {
            process["cwd"] = json!(cwd);
            let text = format!("chdir to cwd (\"{cwd}\") set in config.json failed: {cause}");
            assert_eq!(bench.error(&process).await, format!("{START}{text}"));
        }
        process["user"] = json!({"uid": 1000, "gid": 1000});
        assert_eq!(bench.output(&process).await, "/home/shared\n");
    });
}

#[test]
fn users_that_a_namespace_does_not_have() {
    Setup::in_user_namespace().run(async |bench| {
        for (user, text) in [
            (
                json!({"uid": 70_000, "gid": 1}),
                "cannot setuid to unmapped uid 70000 in user namespace",
            ),
            (
                json!({"uid": 1, "gid": 70_001}),
                "cannot setgid to unmapped gid 70001 in user namespace",
            ),
            (
                json!({"uid": 1, "gid": 1, "additionalGids": [5, 70_002]}),
                "setgroups: invalid argument",
            ),
        ] {
            let mut process = bench.process(&["true"]);
            process["user"] = user;
            let text = format!("{START}unable to setup user: {text}");
            assert_eq!(bench.error(&process).await, text);
        }
        // Its root may not do what takes the machine's.
        for (key, value, text) in [
            (
                "scheduler",
                json!({"policy": "SCHED_FIFO", "priority": 1}),
                "error setting scheduler: operation not permitted",
            ),
            (
                "ioPriority",
                json!({"class": "IOPRIO_CLASS_RT", "priority": 0}),
                "failed to set io priority: operation not permitted",
            ),
        ] {
            let mut process = bench.process(&["true"]);
            process[key] = value;
            assert_eq!(bench.error(&process).await, format!("{START}{text}"));
        }
    });
}

#[test]
fn a_container_that_is_paused_or_gone() {
    Setup::new().run(async |bench| {
        let process = bench.process(&["true"]);
        bench.setup.runc(&bench.reaper, &["pause", bench.setup.id()]).await;
        let text = "cannot exec in a paused container (use --ignore-paused to override)";
        assert_eq!(bench.error(&process).await, format!("{PREFIX}{text}"));
        bench.setup.runc(&bench.reaper, &["resume", bench.setup.id()]).await;
        assert_eq!(bench.output(&process).await, "");

        bench.kill_init().await;
        let text = "cannot exec in a stopped container";
        assert_eq!(bench.error(&process).await, format!("{PREFIX}{text}"));
    });
}

#[test]
fn terminals_that_cannot_be_opened() {
    let mut setup = Setup::new();
    // No devpts.
    setup.config["mounts"].as_array_mut().unwrap().pop();
    setup.run(async |bench| {
        let mut process = bench.process(&["true"]);
        process["terminal"] = json!(true);
        let missing = format!("{START}open /dev/pts/ptmx: no such file or directory");
        assert_eq!(bench.error(&process).await, missing);

        // CVE-2025-52565: what else the container may put there.
        let fake = format!("{START}open /dev/pts/ptmx: invalid argument");
        for script in [
            "mkdir /dev/pts; >/dev/pts/ptmx",
            "rm /dev/pts/ptmx; \
             mkfifo /dev/pts/ptmx",
            "rm /dev/pts/ptmx; ln -s /dev/null /dev/pts/ptmx",
            "rm /dev/pts/ptmx; mknod /dev/pts/ptmx c 5 2",
        ] {
            bench
                .sh(&script
                    .replace("mkdir", "busybox mkdir")
                    .replace("rm ", "busybox rm ")
                    .replace("ln ", "busybox ln ")
                    .replace("mknod", "busybox mknod"))
                .await;
            assert_eq!(bench.error(&process).await, fake, "{script}");
        }
    });
}
