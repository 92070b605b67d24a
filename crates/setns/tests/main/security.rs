// SPDX-License-Identifier: Apache-2.0
//! What a container can do to a helper that joins it: nothing.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, symlink};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use serde_json::{Value, json};
use wedge_setns_wire::Stage;

use crate::support::{Bench, Done, Process, Setup, until};

const SIGCONT: i32 = 18;

/// The stages at which a process exists in the container.
const INSIDE: [Stage; 18] = [
    Stage::Session,
    Stage::Keyring,
    Stage::Limits,
    Stage::WorkingDirectory,
    Stage::Bounding,
    Stage::KeepCaps,
    Stage::StandardStreams,
    Stage::Groups,
    Stage::Gid,
    Stage::Uid,
    Stage::Dumpable,
    Stage::CwdOutside,
    Stage::Capabilities,
    Stage::NotFound,
    Stage::Execute,
    Stage::Seccomp,
    Stage::LastCapabilities,
    Stage::Descriptors,
];

/// Tries everything on process `$1` that leads to the host or into the helper; prints what worked.
const ATTACK: &str = r#"
for link in root cwd exe ns/mnt ns/user fd/0 fd/3; do
    readlink /proc/$1/$link >/dev/null && echo $link
done
ls /proc/$1/root/ >/dev/null && echo into root
for file in mem maps environ auxv; do
    (: </proc/$1/$file) && echo open $file
done
(: >/proc/$1/mem) && echo write mem
strace -qq -o /dev/null -p $1 && echo traced
exit 0
"#;

/// A container in which there is strace.
fn with_strace() -> Setup {
    let mut setup = Setup::new();
    setup.add_mount(json!({"destination": "/usr", "type": "bind", "source": "/usr",
        "options": ["rbind", "ro"]}));
    for directory in ["lib", "lib64"] {
        symlink(format!("usr/{directory}"), setup.rootfs().join(directory)).unwrap();
    }
    setup.config["process"]["env"] = json!(["PATH=/bin:/usr/bin"]);
    setup.config["linux"]["seccomp"] = crate::seccomp::containerds();
    let rules = setup.config["linux"]["seccomp"]["syscalls"].as_array_mut().unwrap();
    rules.push(json!({"names": ["ptrace"], "action": "SCMP_ACT_ALLOW"}));
    setup
}

/// The pid of `process` in the container.
fn inner_pid(process: &Process) -> String {
    process.status("NSpid").split_whitespace().last().unwrap().to_owned()
}

async fn attack(bench: &Bench<'_>, attacker: &Value, pid: &str) -> String {
    let mut attacker = attacker.clone();
    attacker["args"] = json!(["sh", "-c", ATTACK, "sh", pid]);
    bench.exec(&attacker).await.unwrap().stdout
}

/// Runs `look` while the helper of `process` stands at `stage`, if it gets there.
async fn while_at<T>(
    bench: &Bench<'_>,
    stage: Stage,
    process: &Value,
    look: impl AsyncFnOnce(&Process) -> T,
) -> T {
    bench.stop_at(stage);
    let look = async {
        let mut helper = bench.stopped().await;
        // The joiner has some of these stages too.
        while helper.status("NSpid").split_whitespace().count() == 1 {
            bench.signal(&helper, SIGCONT);
            helper = bench.stopped().await;
        }
        bench.go_through();
        let seen = look(&helper).await;
        go_on(bench, &helper).await;
        seen
    };
    let (done, seen) = tokio::join!(bench.exec(process), look);
    assert_eq!(done.unwrap().code, 0);
    seen
}

/// A stage that is reached more than once stops more than once.
async fn go_on(bench: &Bench<'_>, helper: &Process) {
    let ended = || {
        let now = Process::read(helper.pid).filter(|now| now.name == helper.name);
        let Some(now) = now.filter(|now| now.field(3) != "Z") else { return Some(()) };
        if now.field(3) == "T" {
            bench.signal(&now, SIGCONT);
        }
        None
    };
    until("it runs its program", ended).await;
}

#[test]
fn a_container_sees_nothing_of_a_process_on_its_way() {
    with_strace().run(async |bench| {
        let attacker = bench.process(&[]);
        // What the same attack does to a process of the container.
        let (_, process) = bench.waiting(bench.process(&[])).await;
        let pid = inner_pid(&process);
        let end = async {
            until("it is traced", || (process.status("TracerPid") != "0").then_some(())).await;
            bench.signal(&process, 9);
        };
        let (worked, ()) = tokio::join!(attack(bench, &attacker, &pid), end);
        let expected = "root\ncwd\nexe\nns/mnt\nns/user\nfd/0\ninto root\nopen mem\n\
                        open maps\nopen environ\nopen auxv\nwrite mem\ntraced\n";
        assert_eq!(worked, expected);

        let target = bench.process(&["true"]);
        for stage in INSIDE {
            let worked = while_at(bench, stage, &target, async |helper| {
                attack(bench, &attacker, &inner_pid(helper)).await
            });
            assert_eq!(worked.await, "", "{stage:?}");
        }
    });
}

#[test]
fn even_who_may_trace_everything_finds_nothing_of_the_host() {
    let setup = Setup::new();
    setup.file("etc/marker", 0o644, "the container's\n");
    setup.run(async |bench| {
        let all = json!([
            "CAP_SYS_PTRACE",
            "CAP_SYS_ADMIN",
            "CAP_DAC_READ_SEARCH",
            "CAP_KILL",
            "CAP_DAC_OVERRIDE",
            "CAP_CHOWN",
            "CAP_FOWNER",
            "CAP_SETUID",
            "CAP_SETGID"
        ]);
        let target = bench.process(&["true"]);
        let script = "cat /proc/$1/root/etc/marker; readlink /proc/$1/cwd; ls /proc/$1/fd";
        for stage in INSIDE.into_iter().take(6) {
            let (seen, root) = while_at(bench, stage, &target, async |helper| {
                let mut attacker = bench.process(&["sh", "-c", script, "sh", &inner_pid(helper)]);
                for set in ["bounding", "effective", "permitted"] {
                    attacker["capabilities"][set] = all.clone();
                }
                let root = fs::metadata(helper.path("root/etc/marker")).unwrap().ino();
                (bench.exec(&attacker).await.unwrap().stdout, root)
            })
            .await;
            let marker = fs::metadata(bench.setup.rootfs().join("etc/marker")).unwrap().ino();
            assert_eq!(root, marker);
            // 3 is the socket of the shim; the pidfd of the init and the plan are gone.
            assert_eq!(seen, "the container's\n/\n0\n1\n2\n3\n", "{stage:?}");
        }
    });
}

#[test]
fn the_helper_cannot_be_overwritten() {
    Setup::new().run(async |bench| {
        let process = bench.process(&["true"]);
        let open = while_at(bench, Stage::WorkingDirectory, &process, async |helper| {
            let path = helper.path("exe");
            let target = fs::read_link(&path).unwrap();
            assert_eq!(target.to_str().unwrap(), "/memfd:wedge-setns (deleted)");
            let refused = File::options().write(true).open(&path).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ExecutableFileBusy);
            let exe = File::open(&path).unwrap();
            let seals = SealFlag::from_bits_retain(fcntl(&exe, FcntlArg::F_GET_SEALS).unwrap());
            let all = SealFlag::F_SEAL_SEAL
                | SealFlag::F_SEAL_SHRINK
                | SealFlag::F_SEAL_GROW
                | SealFlag::F_SEAL_WRITE;
            assert_eq!(seals & all, all);
            exe
        })
        .await;
        // CVE-2019-5736: kept open until nobody executes it any more.
        let helper = Process::read(bench.host.helper_pid().unwrap()).unwrap();
        bench.signal(&helper, 9);
        until("it is gone", || Process::read(helper.pid).is_none().then_some(())).await;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        let mut writable = File::options().write(true).open(path).unwrap();
        let refused = writable.write(b"#!/bin/sh\n").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        // What is open for writing cannot be executed, though: the next one is another.
        assert_eq!(bench.output(&process).await, "");
        drop((open, writable));
    });
}

#[test]
fn a_helper_that_a_container_executes_refuses() {
    let setup = Setup::new();
    setup.file("bin/script", 0o755, "#!/proc/self/exe\n");
    setup.run(async |bench| {
        for program in ["/proc/self/exe", "script"] {
            let done = bench.exec(&bench.process(&[program])).await.unwrap();
            let nothing = String::new();
            assert_eq!(done, Done { code: 255, stdout: nothing.clone(), stderr: nothing });
        }
    });
}

#[test]
fn a_faked_proc_changes_nothing() {
    let mut setup = Setup::new();
    setup.config["linux"]["seccomp"] = crate::seccomp::containerds();
    setup.run(async |bench| {
        let mount = bench.setup.rootfs().join("etc/fake");
        fs::create_dir_all(mount.join("self/attr/apparmor")).unwrap();
        for file in ["self/oom_score_adj", "self/attr/exec", "self/setgroups", "self/cgroup"] {
            fs::write(mount.join(file), "").unwrap();
        }
        // From outside, as the container's profile forbids it.
        let mut command = std::process::Command::new("nsenter");
        let target = bench.init.pid.to_string();
        command.args(["-t", &target, "-m", "-p", "--", "/bin/busybox", "mount", "--bind"]);
        command.args(["/etc/fake", "/proc"]);
        let output = bench.reaper.capture(command, None, wedge_reaper::Limits::default()).await;
        assert!(output.unwrap().status.success());
        let mut process = bench.process(&["sh", "-c", "id; pwd; ls /proc; cat /proc/self/*"]);
        process["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
        process["cwd"] = json!("/tmp");
        let done = bench.exec(&process).await.unwrap();
        assert_eq!(done.stdout, "uid=7 gid=8 groups=9\n/tmp\nself\n");
    });
}
