// SPDX-License-Identifier: Apache-2.0
//! The binaries that are measured, and what runs them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wedge_integration::{Cmd, Lab, Rig, ShimUnderTest, Spec, helper, payload};

use crate::lane::{Lane, Runtime, Shim};
use crate::samples::Samples;
use crate::surroundings;

/// Stands in for what crun may not do here.
const MEMLOCK: &str = include_str!("memlock.c");

/// containerd 1.6's default profile as `ctr run --seccomp` writes it.
const PROFILE: &str = include_str!("../../../../crates/seccomp/tests/verdicts/containerd-1.6.json");

/// Copies of both shims, on a disk, and where crun runs.
#[derive(Debug)]
pub(crate) struct World {
    dir: PathBuf,
    ours: ShimUnderTest,
    go: ShimUnderTest,
    floor: PathBuf,
    /// The library crun needs, if it runs with one only; `None` if it does not run at all.
    crun: Option<Option<PathBuf>>,
    /// Why crun is not measured.
    pub(crate) without_crun: Option<String>,
}

impl World {
    /// Copies the binaries and tries crun.
    pub(crate) fn new(against: Option<PathBuf>) -> Result<World> {
        let dir = dir();
        fs::create_dir_all(&dir)?;
        let ours = ShimUnderTest::from_env()?;
        ensure!(!ours.is_go(), "unset SHIM_UNDER_TEST");
        let ours = ours.copy_to(&dir.join("wedge"))?;
        let go = against.map_or_else(ShimUnderTest::go, |path| Ok(ShimUnderTest::Go(path)))?;
        let go = go.copy_to(&dir.join("go"))?;
        let floor = helper("wedge-floor")?;
        let mut world = World { dir, ours, go, floor, crun: Some(None), without_crun: None };
        world.crun = world.find_crun();
        Ok(world)
    }

    /// Plain, with the library, or not at all.
    fn find_crun(&mut self) -> Option<Option<PathBuf>> {
        let Err(plain) = self.try_crun() else { return Some(None) };
        let library = self.library().and_then(|library| {
            self.crun = Some(Some(library.clone()));
            self.try_crun().map(|()| library)
        });
        match library {
            Ok(library) => Some(Some(library)),
            Err(_) => {
                self.without_crun = Some(format!("crun does not run here: {plain:#}"));
                None
            }
        }
    }

    fn try_crun(&self) -> Result<()> {
        Cmd::new("crun").arg("--version").output().context("crun is not installed")?;
        let lab = self.lab(Lane::new(Shim::Go, Runtime::Crun))?;
        let rig = Rig::on(lab, &spec(false))?;
        let Err(refused) = rig.run() else { return rig.end() };
        rig.shim.shutdown().ok();
        rig.lab.discard();
        Err(refused.into())
    }

    fn library(&self) -> Result<PathBuf> {
        let (source, library) = (self.dir.join("memlock.c"), self.dir.join("memlock.so"));
        fs::write(&source, MEMLOCK)?;
        let cc = Cmd::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source);
        let out = cc.output()?;
        ensure!(out.code == 0, "{out}");
        Ok(library)
    }

    /// A place for a shim.
    pub(crate) fn lab(&self, lane: Lane) -> Result<Lab> {
        let mut lab = Lab::with_shim(self.shim(lane).clone())?;
        if lane.shim == Shim::WedgeRuntimeExec {
            lab.configure("exec = \"runtime\"\n")?;
        }
        if lane.runtime == Runtime::Crun {
            "crun".clone_into(&mut lab.options_mut().binary_name);
            if let Some((name, value)) = self.variables(lane) {
                lab.variable(name, &value);
            }
        }
        Ok(lab)
    }

    /// What shims of a lane need in their environment.
    pub(crate) fn variables(&self, lane: Lane) -> Option<(&'static str, String)> {
        let library = self.crun.as_ref()?.as_ref()?;
        let needs = lane.runtime == Runtime::Crun;
        needs.then(|| ("LD_PRELOAD", library.to_string_lossy().into_owned()))
    }

    /// The binary of a lane.
    pub(crate) fn shim(&self, lane: Lane) -> &ShimUnderTest {
        if lane.is_go() { &self.go } else { &self.ours }
    }

    /// Ours and theirs, on each runtime there is.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        let runtimes = [Some(Runtime::Runc), self.crun.as_ref().map(|_| Runtime::Crun)];
        let both = |runtime| [Shim::Wedge, Shim::Go].map(|shim| Lane::new(shim, runtime));
        runtimes.into_iter().flatten().flat_map(both).collect()
    }

    /// Ours and theirs, on runc: for what the runtime has no part in.
    pub(crate) fn shims(&self) -> Vec<Lane> {
        [Shim::Wedge, Shim::Go].map(|shim| Lane::new(shim, Runtime::Runc)).to_vec()
    }

    /// Runs `wedge-floor`; the milliseconds of each of its lines, column by column.
    pub(crate) fn floor<const N: usize>(&self, args: &[&str]) -> Result<[Samples; N]> {
        let out = Cmd::new(&self.floor).args(args).output()?;
        ensure!(out.code == 0, "{out}");
        let text = out.text();
        let mut columns = [const { Vec::new() }; N];
        for line in text.lines() {
            for (column, word) in columns.iter_mut().zip(line.split(' ')) {
                column.push(word.parse::<f64>()? / 1e6);
            }
        }
        Ok(columns.map(Samples::from_iter))
    }

    /// A directory on a disk.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The program that [`World::floor`] runs.
    pub(crate) fn floor_program(&self) -> &Path {
        &self.floor
    }

    /// How the cgroups are mounted.
    pub(crate) fn cgroup(&self) -> &'static str {
        if surroundings::is_unified() { "v2" } else { "v1" }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Where the copies are. Not on a tmpfs: there every page of a program counts as dirty.
pub(crate) fn dir() -> PathBuf {
    PathBuf::from(format!("/var/tmp/wedge-bench-{}", std::process::id()))
}

/// A container that sleeps, with containerd's default seccomp profile or without one.
pub(crate) fn spec(profile: bool) -> Spec {
    let spec = Spec::new([payload::PATH, "pause"]);
    match serde_json::from_str::<Value>(PROFILE) {
        Ok(value) if profile => spec.set("/linux/seccomp", value),
        Ok(_) | Err(_) => spec,
    }
}
