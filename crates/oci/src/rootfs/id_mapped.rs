// SPDX-License-Identifier: Apache-2.0
//! The layers of an overlay, with their ids mapped.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::mkdtemp;
use wedge_sys::{attach_mount, clone_mount, map_mount_ids};

use crate::error::{Error, Result, on_step};
use crate::rootfs::mount::detach;
use crate::rootfs::overlay::{common_parent, lowers, with_lowers};
use crate::temporary::remove;

const PREPARE: &str = "failed to prepare idmapped overlay";

/// Mounts in a temporary directory through which the layers are seen with mapped ids, and options
/// that name them there. An overlay keeps what it needs of them, so they go once it is mounted,
/// when this is dropped.
#[derive(Debug)]
pub(super) struct MappedLowers {
    dir: PathBuf,
    /// Directories in it, each with a mount once it is here.
    points: Vec<PathBuf>,
    options: Vec<String>,
}

impl MappedLowers {
    /// Maps the layers of an overlay with these options.
    ///
    /// # Errors
    /// When there are no layers, or their file system cannot map ids; nothing is left behind.
    pub(super) fn make(options: &[String], namespace: &OwnedFd) -> Result<MappedLowers> {
        let Some(paths) = lowers(options) else {
            let why = "failed to parse overlay lowerdir's from given options";
            return Err(Error::IdMap { problem: format!("{PREPARE}: {why}") });
        };
        let paths = paths.map(Layer::open).collect::<Result<Vec<Layer>>>()?;
        let (trees, seen) = arrange(&paths);
        let mut mapped = MappedLowers { dir: make_dir()?, points: vec![], options: vec![] };
        for (number, tree) in trees.iter().enumerate() {
            mapped.add(number, tree, namespace)?;
        }
        let seen = seen.iter().map(|path| mapped.dir.join(path).display().to_string());
        let seen = seen.collect::<Vec<_>>().join(":");
        mapped.options = with_lowers(options, &seen);
        Ok(mapped)
    }

    /// The options of the overlay, with the mapped layers.
    pub(super) fn options(&self) -> &Vec<String> {
        &self.options
    }

    /// Mounts `tree` in the temporary directory, read-only: an overlay does not write there.
    fn add(&mut self, number: usize, tree: &Path, namespace: &OwnedFd) -> Result<()> {
        let point = self.dir.join(number.to_string());
        let failed = |step: &str| failed(&format!("{step} {}", point.display()));
        DirBuilder::new().mode(0o700).create(&point).map_err(failed("mkdir"))?;
        self.points.push(point.clone());
        let clone = open_path(tree).and_then(|tree| clone_mount(tree, false));
        let clone = clone.map_err(failed("unable to open tree for"))?;
        map_mount_ids(&clone, namespace, MsFlags::MS_RDONLY | MsFlags::MS_PRIVATE)
            .map_err(failed("unable to shift GID/UID or set mount attrs for"))?;
        let attached = open_path(&point).and_then(|place| attach_mount(&clone, place));
        attached.map_err(failed("unable to attach mount tree to"))
    }
}

impl Drop for MappedLowers {
    fn drop(&mut self) {
        for point in &self.points {
            // Not there when making it failed. Whatever happens, only empty directories are
            // removed: below a mount that stayed is an image.
            if let Err(err) = detach(point)
                && err.kind() != io::ErrorKind::InvalidInput
            {
                log::warn!("failed to unmount temp lowerdir {}: {err}", point.display());
            }
            remove(point, fs::remove_dir);
        }
        remove(&self.dir, fs::remove_dir);
    }
}

/// A layer, by its real path: a link in it would lead out of the mapped mount.
struct Layer {
    path: PathBuf,
    mount_id: Option<u64>,
}

impl Layer {
    fn open(path: &str) -> Result<Layer> {
        let layer = fs::canonicalize(path).and_then(|path| {
            let mount_id = mount_id(open_path(&path)?)?;
            Ok(Layer { path, mount_id })
        });
        layer.map_err(failed(&format!("unable to open tree for {path}")))
    }
}

/// What is to be mounted, and where the layers are then, seen from the temporary directory. One
/// mount does for layers that are in one file system, as those of a snapshotter are: each mount is
/// an event for everybody on the host who watches them.
fn arrange(layers: &[Layer]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let paths: Vec<&Path> = layers.iter().map(|layer| layer.path.as_path()).collect();
    let parent = common_parent(&paths).filter(|parent| {
        let id = open_path(parent).and_then(mount_id).ok().flatten();
        id.is_some() && layers.iter().all(|layer| layer.mount_id == id)
    });
    let inside = parent.as_ref().map(|parent| {
        let inside = paths.iter().filter_map(|path| path.strip_prefix(parent).ok());
        inside.map(|path| Path::new("0").join(path)).collect()
    });
    match (parent, inside) {
        (Some(parent), Some(inside)) if layers.len() > 1 => (vec![parent], inside),
        _ => {
            let numbers = (0..layers.len()).map(|number| PathBuf::from(number.to_string()));
            (paths.into_iter().map(Path::to_path_buf).collect(), numbers.collect())
        }
    }
}

fn make_dir() -> Result<PathBuf> {
    let made = mkdtemp(&env::temp_dir().join("ovl-idmappedXXXXXX"));
    let what = "failed to create temporary overlay lowerdir mount location";
    made.map_err(io::Error::from).map_err(failed(what))
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Which mount a descriptor is on, from proc_pid_fdinfo(5); `None` on kernels that do not say.
pub(super) fn mount_id(fd: impl AsFd) -> io::Result<Option<u64>> {
    let mut info = String::new();
    File::open(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?
        .read_to_string(&mut info)?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    Ok(id.and_then(|id| id.trim().parse().ok()))
}

fn failed(step: &str) -> impl FnOnce(io::Error) -> Error + use<> {
    on_step(format!("{PREPARE}: failed to create idmapped mount: {step}"))
}
