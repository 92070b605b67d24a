// SPDX-License-Identifier: Apache-2.0
//! A directory, a containerd namespace and a name of its own for one test.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs, statfs};

use crate::leftovers::{self, Names};
use crate::proc::{self, Proc};
use crate::wait;

/// Where all tests work: short, because socket paths have 107 bytes.
const BASE: &str = "/run/wedge-test";

/// How long a shim may take to end: the Go one waits five seconds for its parts when one is stuck.
const FINISH_LIMIT: Duration = Duration::from_secs(8);

/// Names the token to child processes, so that they can be found.
pub(crate) const TOKEN_VARIABLE: &str = "WEDGE_TEST";

/// Names the configuration to shims, so that the machine's own has no part in a test.
pub(crate) const CONFIG_VARIABLE: &str = "WEDGE_CONFIG";

/// One test's corner of the machine. Everything in it carries the random token: the directory,
/// the containerd namespace (runc's state and the cgroups are named after it, machine-wide), and
/// the environment of each process. So whatever is left behind can be found, and removed.
#[derive(Debug)]
pub struct Scratch {
    token: String,
    dir: PathBuf,
    groupings: Mutex<Vec<String>>,
    finished: AtomicBool,
    /// What all directories are in. While it is open it stays mounted.
    held: Mutex<Option<fs::File>>,
}

impl Scratch {
    /// Makes the directory, in memory. Removes what tests of dead processes left first.
    ///
    /// # Errors
    /// A file operation or a mount fails.
    pub fn new() -> Result<Scratch> {
        let base = base();
        let held = hold(&base)?;
        let dead = |owner: u32, start: u64| {
            Proc(owner).stat().map_or(true, |stat| stat.start_time != start)
        };
        sweep(&base, dead);
        let token = format!("wt{}", random_hex()?);
        let dir = base.join(&token);
        fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let start = Proc(process::id()).stat()?.start_time;
        fs::write(dir.join("owner"), format!("{} {start}", process::id()))?;
        let (groupings, finished) = (Mutex::default(), AtomicBool::new(false));
        let held = Mutex::new(Some(held));
        let scratch = Scratch { token, dir, groupings, finished, held };
        fs::create_dir(scratch.dir.join("etc"))?;
        scratch.configure("")?;
        Ok(scratch)
    }

    /// Where shims of this test find their configuration, with drop-ins in `conf.d` beside it.
    pub fn config(&self) -> PathBuf {
        self.dir.join("etc/config.toml")
    }

    /// Writes the configuration for shims that are started from now on; at first it is empty.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn configure(&self, text: &str) -> Result<()> {
        let path = self.config();
        fs::write(&path, text)?;
        // Whatever the umask.
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o644))?)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes another directory, on a disk. It goes with the first.
    pub(crate) fn on_disk(&self) -> Result<PathBuf> {
        let dir = leftovers::on_disk(&self.token);
        fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(dir)
    }

    /// The containerd namespace, which is the token.
    pub fn namespace(&self) -> &str {
        &self.token
    }

    /// The path containerd's gRPC socket has, whether there is a containerd or not.
    pub fn address(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// Makes a container id and remembers it for the check of sockets.
    ///
    /// # Errors
    /// No random bytes.
    pub fn id(&self, name: &str) -> Result<String> {
        let id = format!("{name}-{}", random_hex()?);
        self.note(&id);
        Ok(id)
    }

    /// Remembers an id (or a pod's id) the shim socket may be named after.
    pub fn note(&self, id: &str) {
        self.note_in(&self.token, id);
    }

    /// As [`Scratch::note`], of another containerd namespace than the test's own.
    pub fn note_in(&self, namespace: &str, id: &str) {
        let mut noted = self.groupings.lock().unwrap_or_else(PoisonError::into_inner);
        noted.push(format!("{namespace}/{id}"));
    }

    pub(crate) fn names(&self) -> Names {
        let groupings = self.groupings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Names { token: self.token.clone(), dir: self.dir.clone(), groupings }
    }

    /// Processes of this test: by environment, cgroup or argument.
    pub fn processes(&self) -> Vec<Proc> {
        leftovers::processes(&self.token)
    }

    /// Waits until nothing is left of the test, then removes the directory.
    ///
    /// # Errors
    /// Something is left; the message lists it. The directory then stays, the rest is removed.
    pub fn finish(&self) -> Result<()> {
        let names = self.names();
        wait::until_for(FINISH_LIMIT, "nothing of the test is left", || {
            let left = leftovers::find(&names);
            ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
            Ok(())
        })?;
        self.finished.store(true, Ordering::Relaxed);
        leftovers::purge(&names);
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("removing {}", self.dir.display()))?;
        self.let_go();
        Ok(())
    }

    /// The last one takes the tmpfs away, unless a failed test has left its directory there.
    fn let_go(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let base = base();
        if fs::read_dir(&base).is_ok_and(|mut all| all.next().is_none()) {
            // Not where nothing was mounted, nor as long as others hold it.
            umount2(&base, MntFlags::UMOUNT_NOFOLLOW).ok();
        }
    }

    /// Ends everything and removes it, the directory too, by force and without a word: when the
    /// user has interrupted the program.
    pub fn discard(&self) {
        self.finished.store(true, Ordering::Relaxed);
        leftovers::purge(&self.names());
        fs::remove_dir_all(&self.dir).ok();
        self.let_go();
    }

    /// Ends and removes whatever this process has made and not yet finished, as
    /// [`Scratch::discard`] does, for one that has many.
    pub fn discard_all() {
        let mine = |owner: u32, _: u64| owner == process::id();
        for dir in sweep(&base(), mine) {
            fs::remove_dir_all(dir).ok();
        }
    }

    /// Whether [`Scratch::finish`] succeeded.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// What an unfinished test looks like from outside: its processes and mounts.
    pub fn report(&self) -> String {
        let left = leftovers::find(&self.names()).join("\n");
        let tree = proc::tree(&self.processes());
        let dir = self.dir.display();
        format!("kept: {dir}\n--- processes\n{tree}--- in the way\n{left}\n")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.finished.load(Ordering::Relaxed) {
            leftovers::purge(&self.names());
            // Logs and bundles stay for the reader, bulk does not.
            fs::remove_dir_all(self.dir.join("rootfs")).ok();
        }
    }
}

fn base() -> PathBuf {
    std::env::var_os("WEDGE_TEST_DIR").map_or(PathBuf::from(BASE), PathBuf::from)
}

/// Opens the directory of all tests, with a tmpfs mounted there if it is on a disk, as `/run` is on no
/// common system. The fsync(2) of a containerd waits for all that a disk has to do, which was more
/// than two minutes.
fn hold(base: &Path) -> Result<fs::File> {
    loop {
        fs::create_dir_all(base)?;
        let dir = fs::File::open(base)?;
        if base != Path::new(BASE) || fstatfs(&dir)?.filesystem_type() == TMPFS_MAGIC {
            return Ok(dir);
        }
        let alone = Flock::lock(dir, FlockArg::LockExclusive);
        let _alone = alone.map_err(|(_, errno)| errno).context("locking")?;
        // Another test may have been first: the path leads to its mount then, not to what is locked.
        if statfs(base)?.filesystem_type() != TMPFS_MAGIC {
            mount(Some("tmpfs"), base, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
                .with_context(|| format!("tmpfs on {}", base.display()))?;
        }
    }
}

/// Purges the directories of processes, known by pid and start time, of which `is_due` is true:
/// they ended without their destructors, or are about to. Returns what is left of them: logs and
/// bundles.
fn sweep(base: &Path, is_due: impl Fn(u32, u64) -> bool) -> Vec<PathBuf> {
    let mut swept = Vec::new();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let dir = entry.path();
        let owner = fs::read_to_string(dir.join("owner")).unwrap_or_default();
        let mut fields = owner.split(' ').map(str::parse::<u64>);
        let (Some(Ok(pid)), Some(Ok(start))) = (fields.next(), fields.next()) else { continue };
        if u32::try_from(pid).is_ok_and(|pid| !is_due(pid, start)) {
            continue;
        }
        let token = entry.file_name().to_string_lossy().into_owned();
        leftovers::purge(&Names { token, dir: dir.clone(), groupings: Vec::new() });
        fs::remove_dir_all(dir.join("rootfs")).ok();
        // Without an owner it is a record of a failure, and no business of later sweeps.
        fs::remove_file(dir.join("owner")).ok();
        swept.push(dir);
    }
    swept
}

/// Eight random hexadecimal digits.
fn random_hex() -> Result<String> {
    let mut bytes = [0; 4];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
