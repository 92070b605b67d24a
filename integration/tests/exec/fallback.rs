// SPDX-License-Identifier: Apache-2.0
//! Which containers' execs are native ones, and which are left to the OCI runtime and why: the
//! shim's state says so.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::thread;

use anyhow::{Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Env, Lab, Process, ShimUnderTest, Spec, Stdio, payload};

use crate::differential::DEFAULT_PROFILE;
use crate::pair::{Outcome, Pair, Side};

fn skipped() -> Result<bool> {
    ShimUnderTest::skips_go("it has no execs of its own")
}

/// What the shim says of its execs, and of the container's.
fn counted(side: &Side, lab: &Lab, exec: &str, native: usize, fallbacks: usize) -> Result<()> {
    let dump = side.dump(lab)?;
    let text = format!("; exec {exec}, {native} native, {fallbacks} by the OCI runtime");
    ensure!(dump.contains(&text), "expected {text:?} in {dump}");
    Ok(())
}

/// An exec, one on a terminal, one of another user and one that does not start.
fn four(side: &Side, lab: &Lab) -> Result<()> {
    let ended = |stdout: &str| Outcome::Ended {
        status: 0,
        stdout: stdout.to_owned(),
        stderr: String::new(),
    };
    assert_eq!(side.run(lab, &Process::new(["echo", "a"]))?, ended("a\n"));
    let terminal = Process::new(["tty"]).set("terminal", true);
    assert_eq!(side.run(lab, &terminal)?, ended("/dev/pts/0\r\n"));
    let other = Process::new(["id", "-u"]).set("user", json!({ "uid": 1000, "gid": 1000 }));
    assert_eq!(side.run(lab, &other)?, ended("1000\n"));
    let outcome = side.run(lab, &Process::new(["no-such-program"]))?;
    ensure!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    Ok(())
}

/// All four are native ones: of the three that ran the shim counts each.
fn nothing_falls_back(lab: Lab, spec: &Spec) -> Result<()> {
    let side = Side::start(&lab, "auto", spec)?;
    four(&side, &lab)?;
    counted(&side, &lab, "auto", 3, 0)?;
    ensure!(!side.dump(&lab)?.contains("execs by the OCI runtime"));
    side.end()?;
    lab.finish()
}

#[test]
fn nothing_falls_back_in_what_ctr_makes() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let env = Env::new()?;
    let container = env.container("c")?.start(["sleep", "1000"])?;
    container.exec(["echo", "a"])?.assert_ok().assert_stdout("a\n");
    container.exec(["false"])?.assert_code(1);
    container.exec(["no-such-program"])?.assert_error("executable file not found in $PATH");
    container.shim()?.signal(Signal::SIGUSR1)?;
    env.daemon().wait_log("; exec auto, 2 native, 0 by the OCI runtime")?;
    container.remove()?;
    env.finish()
}

/// A container as containerd's CRI plugin makes it: in a pod's namespaces, under the default
/// profile, with its masked and read-only paths.
#[test]
fn nothing_falls_back_in_a_pod() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pause = Side::start(&lab, "auto", &Pair::spec())?;
    let join =
        |kind: &str, name: &str| json!({ "type": kind, "path": pause.init.path("ns").join(name) });
    let own = |kind: &str| json!({ "type": kind });
    let namespaces =
        [own("pid"), own("mount"), join("ipc", "ipc"), join("uts", "uts"), join("network", "net")];
    let masked = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"];
    let profile: Value = serde_json::from_str(DEFAULT_PROFILE)?;
    let spec = Pair::spec()
        .set("/linux/namespaces", json!(namespaces))
        .set("/linux/seccomp", profile)
        .set("/linux/maskedPaths", json!(masked))
        .set("/linux/readonlyPaths", json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]))
        .set("/linux/resources/cpu", json!({ "shares": 2, "quota": 50_000, "period": 100_000 }))
        .set("/process/user", json!({ "uid": 0, "gid": 0, "additionalGids": [0, 1, 10] }))
        .set("/process/oomScoreAdj", 1000)
        .set("/process/apparmorProfile", "")
        .annotation("io.kubernetes.cri.container-type", "container");
    let side = Side::start(&lab, "auto", &spec)?;
    four(&side, &lab)?;
    counted(&side, &lab, "auto", 3, 0)?;
    side.end()?;
    pause.end()?;
    lab.finish()
}

/// By their numbers, linux/capability.h.
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID \
    SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER \
    SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE \
    SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN \
    SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// All capabilities there are, no profile, the host's devices and namespaces.
#[test]
fn nothing_falls_back_in_a_privileged_container() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    // What this machine does not have cannot be given.
    let own = wedge_integration::proc::Proc(std::process::id()).status("CapBnd")?;
    let own = u64::from_str_radix(own.trim(), 16)?;
    let names = CAPABILITIES.split_whitespace().zip(0..);
    let names = names.filter(|(_, number)| own & (1_u64 << number) != 0);
    let names: Vec<String> = names.map(|(name, _)| format!("CAP_{name}")).collect();
    let caps = json!({ "bounding": names, "effective": names, "permitted": names,
        "inheritable": names });
    let kinds = ["mount", "uts"].map(|kind| json!({ "type": kind }));
    let mut spec = Pair::spec()
        .set("/process/capabilities", caps)
        .set("/process/noNewPrivileges", false)
        .set("/linux/namespaces", json!(kinds))
        .set("/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]));
    spec = spec.set(
        "/linux/devices",
        json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o600 }]),
    );
    nothing_falls_back(Lab::new()?, &spec)
}

/// Every exec of the container is the OCI runtime's, and the state says why.
fn falls_back(lab: &Lab, spec: &Spec, process: &Process, reason: &str) -> Result<()> {
    let dump = fall_back(lab, spec, process)?;
    let text = format!(", execs by the OCI runtime: {reason}");
    ensure!(dump.contains(&text), "expected {text:?} in {dump}");
    refuses(lab, spec, process, reason)
}

/// What the shim says after two execs that were the OCI runtime's.
fn fall_back(lab: &Lab, spec: &Spec, process: &Process) -> Result<String> {
    let side = Side::start(lab, "auto", spec)?;
    for _ in 0..2 {
        let outcome = side.run(lab, process)?;
        ensure!(matches!(outcome, Outcome::Ended { status: 3, .. }), "{outcome:?}");
    }
    counted(&side, lab, "auto", 0, 2)?;
    let dump = side.dump(lab)?;
    side.end()?;
    Ok(dump)
}

/// With `exec = "native"` the same is an error.
fn refuses(lab: &Lab, spec: &Spec, process: &Process, reason: &str) -> Result<()> {
    let side = Side::start(lab, "native", spec)?;
    let exec = side.next();
    side.shim.exec(side.id(), &exec, process, &Stdio::null())?;
    let text = format!("OCI runtime exec failed: exec = \"native\" is configured, but {reason}");
    assert_refused(side.shim.start(side.id(), &exec), Code::FAILED_PRECONDITION, &text);
    counted(&side, lab, "native", 0, 0)?;
    side.shim.delete(side.id(), &exec)?;
    side.end()
}

fn exit_3() -> Process {
    Process::new(["sh", "-c", "exit 3"])
}

#[test]
fn without_a_mount_namespace() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let kinds = json!([{ "type": "pid" }]);
    let spec = Pair::spec().set("/linux/namespaces", kinds).set("/mounts", json!([]));
    // Who makes such a container mounts what runc needs.
    let root = lab.dir().join("rootfs");
    let proc = root.join("proc");
    mount(Some("proc"), &proc, Some("proc"), MsFlags::empty(), None::<&str>)?;
    let checked = falls_back(&lab, &spec, &exit_3(), "it has no mount namespace");
    // runc has made mounts in the namespace it found, and leaves them.
    while umount2(&root, MntFlags::MNT_DETACH).is_ok() {}
    umount2(&proc, MntFlags::MNT_DETACH)?;
    checked?;
    lab.finish()
}

#[test]
fn what_a_process_asks_for() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let bare = Pair::spec().set("/process/capabilities", Value::Null);
    let process = exit_3().set("capabilities", Value::Null);
    // Another process of this container might be a native one.
    let dump = fall_back(&lab, &bare, &process)?;
    ensure!(!dump.contains("execs by the OCI runtime"), "{dump}");
    let reason = "neither the process nor its container has capabilities set";
    refuses(&lab, &bare, &process, reason)?;
    // runc starts it, and execve refuses it.
    let nul = Process::new(["echo", "a\0b"]);
    refuses(&lab, &Pair::spec(), &nul, "the process has a NUL in a string")?;
    if !fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on == "Y\n") {
        let confined = exit_3().set("apparmorProfile", "cri-containerd.apparmor.d");
        let reason = "there is no AppArmor for the process's profile";
        refuses(&lab, &Pair::spec(), &confined, reason)?;
    }
    lab.finish()
}

/// A filter that asks a listener: the runtime hands the listener's descriptor on.
#[test]
fn with_a_seccomp_listener() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let path = lab.dir().join("seccomp");
    let listener = UnixListener::bind(&path)?;
    // Who is sent a descriptor and does not take it makes the calls fail.
    thread::spawn(move || {
        for mut runc in listener.incoming().flatten() {
            io::copy(&mut runc, &mut io::sink()).ok();
        }
    });
    let rule = json!({ "names": ["chroot"], "action": "SCMP_ACT_NOTIFY" });
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule],
        "listenerPath": &path });
    let spec = Pair::spec().set("/linux/seccomp", profile);
    let reason = format!("seccomp profile: seccomp listener {path:?} is not supported");
    falls_back(&lab, &spec, &exit_3(), &reason)?;
    lab.finish()
}

/// A wrapper may do more than runc. The operator can say that it does not.
#[test]
fn with_another_runtime_binary() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    let wrapper = lab.dir().join("wrapper");
    symlink("/usr/sbin/runc", &wrapper)?;
    let wrapper = wrapper.to_string_lossy().into_owned();
    lab.options_mut().binary_name.clone_from(&wrapper);
    let side = Side::start(&lab, "auto", &Pair::spec())?;
    four(&side, &lab)?;
    // The one that did not start, too.
    counted(&side, &lab, "auto", 0, 4)?;
    let reason = format!(", execs by the OCI runtime: the OCI runtime is {wrapper}, not runc");
    ensure!(side.dump(&lab)?.contains(&reason), "{}", side.dump(&lab)?);
    side.end()?;
    let side = Side::start(&lab, "native", &Pair::spec())?;
    four(&side, &lab)?;
    counted(&side, &lab, "native", 3, 0)?;
    side.end()?;
    lab.finish()
}

#[test]
fn when_the_operator_wants_the_oci_runtime() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let side = Side::start(&lab, "runtime", &Spec::new([payload::PATH, "pause"]))?;
    four(&side, &lab)?;
    // That is no fallback, and needs no reason.
    counted(&side, &lab, "runtime", 0, 0)?;
    ensure!(!side.dump(&lab)?.contains("execs by the OCI runtime"));
    side.end()?;
    lab.finish()
}
