// SPDX-License-Identifier: Apache-2.0
//! What is the same for every container.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use wedge_reaper::Reaper;

use crate::error::Unsupported;
use crate::namespaces::Namespaces;
use crate::nursery::Nursery;

/// The setns helper, an ELF executable.
const HELPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wedge-setns"));

/// The first Linux with all the helper calls: setns(2) with a pidfd is of 5.8, close_range(2) of
/// 5.9.
const OLDEST: (u32, u32) = (5, 9);

/// The setns helper in memory, and what the machine is like.
#[derive(Debug)]
pub struct Host {
    home: Mutex<Home>,
    /// A program that compiles seccomp profiles when its first argument is [`SECCOMP_COMMAND`].
    ///
    /// [`SECCOMP_COMMAND`]: crate::SECCOMP_COMMAND
    pub(crate) compiler: PathBuf,
    /// `/dev/null`, for streams there are none of.
    pub(crate) null: OwnedFd,
    /// Our own.
    pub(crate) namespaces: Namespaces,
    pub(crate) last_cap: u32,
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
    #[cfg(debug_assertions)]
    failpoint: std::sync::atomic::AtomicU32,
}

/// The helper, and where it runs.
#[derive(Debug)]
struct Home {
    /// Sealed: nobody can change it, whoever gets to `/proc/PID/exe` (CVE-2019-5736).
    helper: OwnedFd,
    /// Since the first exec.
    nursery: Option<Arc<Nursery>>,
}

impl Host {
    /// Looks at the machine and puts the helper into memory. `compiler` is a program that compiles
    /// seccomp profiles when its first argument is [`crate::SECCOMP_COMMAND`].
    ///
    /// # Errors
    /// When this process cannot join containers natively: it is not root of the machine, or the
    /// kernel is older than 5.9 or allows no executable memfd (`vm.memfd_noexec`).
    pub fn new(compiler: impl Into<PathBuf>) -> Result<Host, Unsupported> {
        if !nix::unistd::geteuid().is_root() || !maps_everything()? {
            return Err(Unsupported::new("the shim is not root of the initial user namespace"));
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease");
        let release = release.map_err(|err| Unsupported::of("/proc/sys/kernel/osrelease", &err))?;
        if version(&release).is_none_or(|version| version < OLDEST) {
            return Err(Unsupported::new(format!("Linux {} is too old", release.trim())));
        }
        let helper =
            helper().map_err(|err| Unsupported::of("no memfd for the setns helper", &err))?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let namespaces = Namespaces::own();
        let last_cap = setting("/proc/sys/kernel/cap_last_cap")?;
        let apparmor = setting("/sys/module/apparmor/parameters/enabled")?;
        Ok(Host {
            home: Mutex::new(Home { helper, nursery: None }),
            compiler: compiler.into(),
            null: null.map_err(|err| Unsupported::of("/dev/null", &err))?.into(),
            namespaces: namespaces.map_err(|err| Unsupported::of("own namespaces", &err))?,
            last_cap: last_cap.and_then(|text| text.trim().parse().ok()).unwrap_or(40),
            apparmor: apparmor.is_some_and(|enabled| enabled.starts_with('Y')),
            selinux: fs::exists("/sys/fs/selinux/enforce").unwrap_or(false),
            #[cfg(debug_assertions)]
            failpoint: std::sync::atomic::AtomicU32::new(0),
        })
    }

    /// The nursery, which is started when there is none.
    ///
    /// # Errors
    /// Those of memfd_create(2), fork(2) and execve(2).
    pub(crate) fn nursery(&self, reaper: &Reaper) -> io::Result<Arc<Nursery>> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nursery) = home.nursery.as_ref().filter(|nursery| nursery.lives()) {
            return Ok(nursery.clone());
        }
        let started = match Nursery::start(reaper, &home.helper) {
            // A container that got hold of the last one keeps it open for writing. That changes
            // nothing in it, but nobody can execute it meanwhile.
            Err(err) if err.raw_os_error() == Some(libc::ETXTBSY) => {
                home.helper = helper()?;
                Nursery::start(reaper, &home.helper)
            }
            started => started,
        };
        let nursery = Arc::new(started?);
        home.nursery = Some(nursery.clone());
        Ok(nursery)
    }

    /// Starts what the first exec would have to wait for, if it does not run yet. It is a child of
    /// this process, and ends with this value.
    ///
    /// # Errors
    /// The helper cannot be executed.
    pub fn prepare(&self, reaper: &Reaper) -> Result<(), Unsupported> {
        let failed = |err| Unsupported::of("the setns helper cannot run", &err);
        self.nursery(reaper).map(drop).map_err(failed)
    }

    /// The pid of what [`Host::prepare`] has started.
    pub fn helper_pid(&self) -> Option<u32> {
        let home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        home.nursery.as_ref().filter(|nursery| nursery.lives()).map(|nursery| nursery.pid)
    }

    /// This nursery has ended.
    pub(crate) fn close_nursery(&self, ended: &Arc<Nursery>) {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if home.nursery.as_ref().is_some_and(|nursery| Arc::ptr_eq(nursery, ended)) {
            home.nursery = None;
        }
    }

    /// For tests: helpers that are started from now on kill themselves at a stage
    /// ([`wedge_setns_wire::Stage`] as a number) or stop there ([`wedge_setns_wire::STOP`] added).
    #[cfg(debug_assertions)]
    pub fn set_failpoint(&self, failpoint: u32) {
        self.failpoint.store(failpoint, std::sync::atomic::Ordering::Relaxed);
    }

    /// 0, which is none, in a release.
    pub(crate) fn failpoint(&self) -> u32 {
        #[cfg(debug_assertions)]
        return self.failpoint.load(std::sync::atomic::Ordering::Relaxed);
        #[cfg(not(debug_assertions))]
        0
    }
}

/// What the machine says of itself; `None` where it does not.
fn setting(path: &str) -> Result<Option<String>, Unsupported> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) => {
            Some(Unsupported::of(path, &err)).filter(Unsupported::is_passing).map_or(Ok(None), Err)
        }
    }
}

/// Whether this is the initial user namespace: user_namespaces(7) gives its map.
fn maps_everything() -> Result<bool, Unsupported> {
    let map = setting("/proc/self/uid_map")?.unwrap_or_default();
    Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// The first two numbers of a release, uname(2).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn helper() -> io::Result<OwnedFd> {
    /// `MFD_EXEC`, Linux 6.3: says that we mean it.
    const EXECUTABLE: MFdFlags = MFdFlags::from_bits_retain(0x10);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memfd = match memfd_create("wedge-setns", flags | EXECUTABLE) {
        Err(nix::Error::EINVAL) => memfd_create("wedge-setns", flags),
        other => other,
    }?;
    let mut file = File::from(memfd);
    file.write_all(HELPER)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_compared_by_its_numbers() {
        for (release, expected) in [
            ("6.1.0-18-amd64\n", Some((6, 1))),
            ("5.10-rc1", Some((5, 10))),
            ("5.4.0", Some((5, 4))),
            ("5", None),
            ("", None),
            ("x.y", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!(version("5.10").is_some_and(|version| version > OLDEST));
    }
}
