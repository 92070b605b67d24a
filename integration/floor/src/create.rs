// SPDX-License-Identifier: Apache-2.0
//! A container: new namespaces, its mounts and devices, the new root, then its init.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, close, mkdir, pipe2, pivot_root, read, symlinkat, write};

use crate::cgroup::Cgroup;
use crate::{PAUSE, process, raw};

/// What the parts of a container's life took.
pub(crate) struct Life {
    /// From nothing to an init that waits to be told.
    pub(crate) create: Duration,
    /// From there until it has executed its program.
    pub(crate) start: Duration,
    /// From SIGKILL until it was waited for.
    pub(crate) kill: Duration,
    /// What is left then: its cgroup.
    pub(crate) delete: Duration,
    /// CPU time of all of it.
    pub(crate) cpu: Duration,
}

/// The two pipes between us and the init.
struct Pipes {
    ready: (OwnedFd, OwnedFd),
    go: (OwnedFd, OwnedFd),
}

/// One container on the root file system at `rootfs`.
pub(crate) fn run(rootfs: &Path, number: usize) -> Result<Life> {
    let pipes = Pipes { ready: pipe2(OFlag::O_CLOEXEC)?, go: pipe2(OFlag::O_CLOEXEC)? };
    let before = process::cpu()?;
    let begun = Instant::now();
    let cgroup = Cgroup::create(&format!("wedge-floor-{}-{number}", std::process::id()))?;
    let namespaces = CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS;
    let flags = namespaces.bits().unsigned_abs();
    let Some(init) = raw::fork(flags, cgroup.to_be_born_in()).context("clone3")? else {
        let Err(error) = be_init(rootfs, &cgroup, &pipes);
        process::give_up(&error);
    };
    close(pipes.ready.1)?;
    let mut byte = [0];
    ensure!(read(&pipes.ready.0, &mut byte)? == 1, "the init is not ready");
    let created = begun.elapsed();
    write(&pipes.go.1, &byte)?;
    // It ends when execve(2) has closed the other end.
    ensure!(read(&pipes.ready.0, &mut byte)? == 0, "the init does not start");
    let started = begun.elapsed();
    kill(init, Signal::SIGKILL)?;
    process::reap(Some(init), true)?;
    let killed = begun.elapsed();
    cgroup.remove()?;
    let deleted = begun.elapsed();
    let (start, kill) = (started - created, killed - started);
    let cpu = process::cpu()? - before;
    Ok(Life { create: created, start, kill, delete: deleted - killed, cpu })
}

fn be_init(rootfs: &Path, cgroup: &Cgroup, pipes: &Pipes) -> Result<Infallible> {
    cgroup.join()?;
    mounts(rootfs).context("mounts")?;
    devices().context("devices")?;
    pivot().context("pivot_root")?;
    nix::unistd::setsid()?;
    write(&pipes.ready.1, b"r")?;
    ensure!(read(&pipes.go.0, &mut [0])? == 1, "nobody starts it");
    process::become_program(PAUSE, None)
}

/// What [`wedge_integration::Spec`] asks for, in its order; leaves the new root as the working
/// directory.
fn mounts(rootfs: &Path) -> Result<()> {
    const NONE: Option<&str> = None;
    const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
    const TMPFS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_STRICTATIME);
    const SMALL: Option<&str> = Some("mode=755,size=65536k");
    const SHARED: Option<&str> = Some("mode=1777,size=65536k");
    const TERMINALS: Option<&str> = Some("newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some(rootfs), rootfs, NONE, MsFlags::MS_REC | MsFlags::MS_BIND, NONE)?;
    chdir(rootfs)?;
    let new = |kind: &str, to: &str, flags, data: Option<&str>| {
        mount(Some(kind), to, Some(kind), flags, data).with_context(|| to.to_owned())
    };
    new("proc", "proc", SAFE, NONE)?;
    new("tmpfs", "dev", TMPFS, SMALL)?;
    mkdir("dev/pts", Mode::from_bits_truncate(0o755))?;
    let noexec = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    new("devpts", "dev/pts", noexec, TERMINALS)?;
    mkdir("dev/shm", Mode::from_bits_truncate(0o755))?;
    new("tmpfs", "dev/shm", SAFE, SHARED)?;
    new("sysfs", "sys", SAFE | MsFlags::MS_RDONLY, NONE)?;
    new("tmpfs", "run", TMPFS, SMALL)
}

fn devices() -> Result<()> {
    const DEVICES: [(&str, u64); 6] =
        [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9), ("tty", 0)];
    const LINKS: [(&str, &str); 5] = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    for (name, minor) in DEVICES {
        let major = if name == "tty" { 5 } else { 1 };
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&Path::new("dev").join(name), SFlag::S_IFCHR, mode, makedev(major, minor))?;
    }
    for (target, name) in LINKS {
        symlinkat(target, nix::fcntl::AT_FDCWD, &Path::new("dev").join(name))?;
    }
    Ok(())
}

fn pivot() -> Result<()> {
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}
