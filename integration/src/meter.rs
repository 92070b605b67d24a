// SPDX-License-Identifier: Apache-2.0
//! CPU time, as the scheduler charges it to cgroups: to the nanosecond (v1) or microsecond (v2),
//! and of processes that are long gone. `/proc/PID/stat` counts in ticks of ten milliseconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Lab, wait};
use anyhow::{Context, Result};

const UNIFIED: &str = "/sys/fs/cgroup";
const CPUACCT: &str = "/sys/fs/cgroup/cpuacct";

/// `/<namespace>`, where the containers of a [`Lab`] are, and `/<namespace>/shim` for its shims.
#[derive(Debug)]
pub struct Meter {
    all: PathBuf,
    shim: PathBuf,
}

impl Meter {
    /// Has the lab start its shims in the cgroup, from now on.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn on(lab: &mut Lab) -> Result<Meter> {
        let unified = Path::new(UNIFIED).join("cgroup.controllers").exists();
        let all = Path::new(if unified { UNIFIED } else { CPUACCT }).join(lab.namespace());
        let shim = all.join("shim");
        fs::create_dir_all(&shim).with_context(|| shim.display().to_string())?;
        lab.confine(Some(&shim));
        Ok(Meter { all, shim })
    }

    /// What shims, runtimes, helpers and containers have used so far.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn all(&self) -> Result<Duration> {
        usage(&self.all)
    }

    /// What shims, and runtimes before they entered a container, have used so far.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn shim(&self) -> Result<Duration> {
        usage(&self.shim)
    }

    /// The cgroup of the shims.
    pub fn dir(&self) -> &Path {
        &self.shim
    }

    /// Removes the cgroup; the shims have ended, or are about to.
    ///
    /// # Errors
    /// One has not.
    pub fn remove(self) -> Result<()> {
        wait::until("the cgroup of the shims is empty", || {
            fs::remove_dir(&self.shim).with_context(|| self.shim.display().to_string())
        })
    }
}

fn usage(dir: &Path) -> Result<Duration> {
    let file = dir.join("cpuacct.usage");
    if file.exists() {
        return Ok(Duration::from_nanos(fs::read_to_string(file)?.trim().parse()?));
    }
    let text = fs::read_to_string(dir.join("cpu.stat"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(Duration::from_micros(line.context("no usage_usec")?.parse()?))
}
