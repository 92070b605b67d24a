// SPDX-License-Identifier: Apache-2.0
//! exec.bats, cwd.bats, env.bats, tty.bats, umask.bats, rlimits.bats.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wedge_integration::{Process, Stdio, wait};

use super::{Check, Want, as_1000, check, check_all, sh, skipped, user};
use crate::pair::Pair;

fn limit(soft: u64, hard: u64) -> Value {
    json!([{ "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard }])
}

fn exec() -> Vec<Check> {
    let groups = json!({ "uid": 0, "gid": 0, "additionalGids": [100, 99] });
    vec![
        check(
            "exec",
            Process::new(["echo", "Hello from exec"]),
            Want::Prints(0, "Hello from exec\n"),
        ),
        check("exit code 0", Process::new(["true"]), Want::Prints(0, "")),
        check("exit code 1", Process::new(["false"]), Want::Prints(1, "")),
        check("exit code 42", sh("exit 42"), Want::Prints(42, "")),
        check("by a signal", sh("kill -9 $$"), Want::Prints(137, "")),
        check(
            "no binary",
            Process::new(["non-existent"]),
            Want::Refused("exec: \"non-existent\": executable file not found in $PATH"),
        ),
        check("ls -la", Process::new(["ls", "-la"]), Want::Says(0, &[" .\n", " ..\n"])),
        check("--cwd /bin", Process::new(["pwd"]).set("cwd", "/bin"), Want::Prints(0, "/bin\n")),
        check(
            "--env",
            Process::new(["env"]).env("RUNC_EXEC_TEST", "true"),
            Want::Prints(0, "PATH=/bin\nRUNC_EXEC_TEST=true\nHOME=/root\n"),
        ),
        check(
            "--user",
            as_1000(Process::new(["id"])),
            Want::Prints(0, "uid=1000(user) gid=1000(user)\n"),
        ),
        check("--user: HOME", as_1000(sh("echo $HOME")), Want::Prints(0, "/\n")),
        check(
            "HOME from passwd (4688)",
            user(sh("echo $HOME"), json!({ "uid": 7, "gid": 7 })),
            Want::Prints(0, "/home/of/7\n"),
        ),
        check("groups", user(Process::new(["id", "-G"]), groups), Want::Prints(0, "0 99 100\n")),
        check("one line", Process::new(["/bad"]), Want::SaysOneLine(255)).since("1.2"),
        // A stdout that is somebody else's cannot be opened again.
        check("stdout is the user's", as_1000(sh("echo x >/dev/stdout")), Want::Prints(0, "x\n")),
    ]
}

fn environments() -> Vec<Check> {
    let env = |env: &[&str]| Process::new(["env"]).set("env", json!(env));
    let none = "exec: \"env\": executable file not found in $PATH";
    let set = "PATH=/bin\nHOME=/root\n";
    let (twice, last) = (["A=1", "PATH=/bin", "HOME=/h", "A=2"], "PATH=/bin\nHOME=/h\nA=2\n");
    let (lines, kept) = (["PATH=/bin", "HOME=/", "A=x\ny\n"], "PATH=/bin\nHOME=/\nA=x\ny\n\n");
    vec![
        check("env: only its own", env(&["A=b"]), Want::Refused(none)),
        check("env: HOME is always set", env(&["PATH=/bin"]), Want::Prints(0, set)),
        check("env: an empty HOME", env(&["HOME=", "PATH=/bin"]), Want::Prints(0, set))
            .since("1.3"),
        check("env: the last of duplicates", env(&twice), Want::Prints(0, last)).since("1.3"),
        check("env: newlines", env(&lines), Want::Prints(0, kept)),
    ]
}

fn directories() -> Vec<Check> {
    let there = || sh("pwd").set("cwd", "/home/of/7");
    let printed = || Want::Prints(0, "/home/of/7\n");
    vec![
        check("cwd of another, as root", there(), printed()),
        check("cwd of its own", user(there(), json!({ "uid": 7, "gid": 7 })), printed()),
        // Who may enter it is asked as root first.
        check("cwd of another, as a user", as_1000(there()), printed()),
    ]
}

fn terminals() -> Vec<Check> {
    let stat = "stat -c %u:%g $(tty)";
    let tty = |script: &str| sh(script).set("terminal", true);
    let names = tty("for fd in 0 1 2; do readlink /proc/self/fd/$fd; done");
    let name = "/dev/pts/0\r\n/dev/pts/0\r\n/dev/pts/0\r\n";
    let size = json!({ "height": 10, "width": 110 });
    vec![
        check("no tty", sh("tty"), Want::Prints(1, "not a tty\n")),
        check("ptsname", names, Want::Prints(0, name)),
        check("tty owner", tty(stat), Want::Prints(0, "0:5\r\n")),
        check("tty owner of a user", as_1000(tty(stat)), Want::Prints(0, "1000:5\r\n")),
        check("tty of a user opens", as_1000(tty("echo y >$(tty)")), Want::Prints(0, "y\r\n")),
        check(
            "consoleSize",
            tty("stty size").set("consoleSize", size),
            Want::Prints(0, "10 110\r\n"),
        ),
    ]
}

fn limits() -> Vec<Check> {
    let limits = |limits: Value| sh("ulimit -Sn; ulimit -Hn").set("rlimits", limits);
    vec![
        check("umask", sh("umask"), Want::Prints(0, "0077\n")).since("1.2"),
        check("limit below", limits(limit(40, 50)), Want::Prints(0, "40\n50\n")).since("1.2"),
        check("limit equal", limits(limit(1024, 1024)), Want::Prints(0, "1024\n1024\n")),
    ]
}

#[test]
fn processes() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let spec = Pair::spec().set("/process/user", json!({ "uid": 0, "gid": 0, "umask": 63 }));
    let pair = Pair::new(&spec)?;
    let root = pair.lab.dir().join("rootfs");
    let home = root.join("home/of/7");
    fs::create_dir_all(&home)?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
    chown(&home, Some(7), Some(7))?;
    let users = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n";
    fs::write(root.join("etc/passwd"), format!("{users}seven:x:7:7::/home/of/7:/bin/sh\n"))?;
    fs::write(root.join("bad"), "#!/nonexistent\n")?;
    fs::set_permissions(root.join("bad"), fs::Permissions::from_mode(0o755))?;
    for checks in [exec(), environments(), directories(), terminals(), limits()] {
        check_all(&pair, &checks)?;
    }
    pair.end()
}

/// exec.bats: an exec as a user without streams leaves the host's null device alone (runc #3674).
#[test]
fn the_null_device_stays_roots() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let owner = || fs::metadata("/dev/null").map(|null| (null.uid(), null.gid()));
    let before = owner()?;
    let pair = Pair::new(&Pair::spec())?;
    for side in pair.sides() {
        let exec = side.next();
        let process = sh("readlink /proc/self/fd/0 | grep -qx /dev/null");
        let process = user(process, json!({ "uid": 4711, "gid": 4711 }));
        side.shim.exec(side.id(), &exec, &process, &Stdio::null())?;
        side.shim.start(side.id(), &exec)?;
        assert_eq!(side.shim.wait(side.id(), &exec)?.status, 0, "{}", side.exec);
        side.shim.delete(side.id(), &exec)?;
        assert_eq!(owner()?, before, "{}", side.exec);
    }
    pair.end()
}

/// exec.bats: the process is another than the init, and of its pid namespace. As with every
/// runtime, it is a child of the shim.
#[test]
fn a_process_is_the_shims_child() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec())?;
    for side in pair.sides() {
        let exec = side.next();
        side.shim.exec(side.id(), &exec, &sh("exec sleep 1000"), &Stdio::null())?;
        let pid = side.shim.start(side.id(), &exec)?;
        ensure!(pid != side.init.0, "{}", side.exec);
        let process = wedge_integration::proc::Proc(pid);
        wait::until("it has the shim for a parent", || {
            let parent = process.stat()?.parent;
            ensure!(parent == side.shim.proc().0, "{}: {parent}", side.exec);
            Ok(())
        })?;
        side.shim.kill(side.id(), &exec, 15, false)?;
        assert_eq!(side.shim.wait(side.id(), &exec)?.status, 143, "{}", side.exec);
        side.shim.delete(side.id(), &exec)?;
    }
    pair.end()
}

/// tty.bats, and what a user does next: another size, and Ctrl-C.
#[test]
fn a_terminal_is_resized_and_interrupted() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec())?;
    for side in pair.sides() {
        let exec = side.next();
        let mut fifos = pair.lab.terminal(&format!("{}-{exec}", side.id()))?;
        let script =
            "read line; stty size; trap 'exit 9' INT; echo trapped; while :; do sleep 1; done";
        let process = sh(script).set("terminal", true);
        side.shim.exec(side.id(), &exec, &process, fifos.stdio())?;
        side.shim.start(side.id(), &exec)?;
        side.shim.resize_pty(side.id(), &exec, 77, 33)?;
        fifos.write(b"\n")?;
        fifos.stdout.wait_text("33 77\r\n")?;
        fifos.stdout.wait_text("trapped")?;
        fifos.write(&[3])?;
        assert_eq!(side.shim.wait(side.id(), &exec)?.status, 9, "{}", side.exec);
        fifos.stdout.finish()?;
        side.shim.delete(side.id(), &exec)?;
    }
    pair.end()
}
