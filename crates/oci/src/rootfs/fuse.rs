// SPDX-License-Identifier: Apache-2.0
//! FUSE file systems, which programs of their own mount and serve.

use std::path::{Path, PathBuf};
use std::time::Duration;

use wedge_reaper::{Limits, Reaper};

use crate::call::{command_text, program};
use crate::error::{Error, Result, on_step};
use crate::rootfs::component::{locate, path_of};
use crate::rootfs::id_mapped::mount_id;
use crate::rootfs::mount::{Mount, Mounted};
use crate::rootfs::{blocking, undo};

/// How long mounting may take: image and network are the helper's business.
const MOUNT_LIMITS: Limits =
    Limits { time: Duration::from_secs(60), output: 16 << 10, survives: false };

/// How long fusermount gets before umount2(2) is tried as well; the `delete` action has less than
/// five seconds for everything.
const UNMOUNT_LIMITS: Limits =
    Limits { time: Duration::from_secs(1), output: 4 << 10, survives: false };

/// A program that mounts file systems of a certain prefix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Helper {
    name: &'static str,
    prefix: &'static str,
}

const HELPERS: [Helper; 2] = [
    Helper { name: "mount.fuse", prefix: "fuse." },
    Helper { name: "mount.fuse3", prefix: "fuse3." },
];

/// The helper for `fs_type`, if it takes one.
pub(super) fn helper(fs_type: &str) -> Option<Helper> {
    HELPERS.into_iter().find(|helper| fs_type.starts_with(helper.prefix))
}

/// Has `helper` make `mount`. What it starts to serve the file system is adopted by the shim and
/// ends when that is unmounted.
///
/// # Errors
/// [`Error::MountHelper`]; what a failing helper has mounted all the same is unmounted.
pub(super) async fn mount(
    reaper: &Reaper,
    helper: Helper,
    mount: &Mount,
    rootfs: &Path,
) -> Result<Option<Mounted>> {
    let place = Place { rootfs: rootfs.to_path_buf(), target: mount.target.clone() };
    let (place, before) = place.look().await?;
    let args = arguments(helper, mount, &before.point.to_string_lossy());
    let ran = run(reaper, helper.name, &args, MOUNT_LIMITS).await;
    let (_, after) = place.look().await?;
    let mounted = (after.mount_id != before.mount_id).then(|| Mounted::at(after.point));
    match ran {
        Ok(()) => Ok(mounted),
        Err((output, cause)) => {
            undo(mounted).await;
            let command = format!("[{} [{}]]", helper.name, args.join(" "));
            Err(Error::MountHelper { command, output, cause })
        }
    }
}

fn arguments(helper: Helper, mount: &Mount, target: &str) -> Vec<String> {
    let mut args = vec![mount.source.clone(), target.to_owned()];
    for option in &mount.options {
        args.extend(["-o".to_owned(), option.clone()]);
    }
    let fs_type = mount.fs_type.strip_prefix(helper.prefix).unwrap_or(&mount.fs_type);
    args.extend(["-t".to_owned(), fs_type.to_owned()]);
    args
}

/// Unmounts the FUSE file system at `target` with its own tool, which also knows how to tell the
/// program behind it. Whether that worked is seen by unmounting again.
pub(super) async fn unmount(reaper: &Reaper, target: &Path) {
    let args = ["-u".to_owned(), target.to_string_lossy().into_owned()];
    for name in ["fusermount3", "fusermount"] {
        match run(reaper, name, &args, UNMOUNT_LIMITS).await {
            Ok(()) => return,
            Err((output, cause)) => {
                log::debug!("{name} -u {}: {output:?}: {cause}", target.display());
            }
        }
    }
}

/// What it printed, and how it ended, when it failed.
async fn run(
    reaper: &Reaper,
    name: &str,
    args: &[String],
    limits: Limits,
) -> std::result::Result<(), (String, String)> {
    let mut command = program(name).map_err(|cause| (String::new(), cause))?;
    command.args(args);
    let output = reaper.capture(command, None, limits).await;
    let output = output.map_err(|err| (String::new(), command_text(&err)))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.output).into_owned();
    Err((printed, output.status.to_string()))
}

/// Where something is to be mounted.
struct Place {
    rootfs: PathBuf,
    target: String,
}

/// What is there.
struct Seen {
    point: PathBuf,
    mount_id: Option<u64>,
}

impl Place {
    /// Looks without asking the file system, which may not answer.
    async fn look(self) -> Result<(Place, Seen)> {
        blocking(move || {
            let seen = locate(&self.rootfs, &self.target).and_then(|fd| {
                let point = path_of(&fd)?;
                Ok(Seen { point, mount_id: mount_id(&fd)? })
            });
            let target = self.rootfs.join(self.target.trim_start_matches('/'));
            let seen = seen.map_err(on_step(format!("lookup {}", target.display())))?;
            Ok((self, seen))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_get_containerds_arguments() {
        assert!(helper("fuse").is_none() && helper("fuseblk").is_none());
        let mount = Mount {
            fs_type: "fuse3.fuse-overlayfs".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: vec!["lowerdir=/a:/b".to_owned(), "ro".to_owned()],
        };
        let helper = helper(&mount.fs_type).unwrap();
        assert_eq!(helper.name, "mount.fuse3");
        let args = arguments(helper, &mount, "/merged").join(" ");
        assert_eq!(args, "overlay /merged -o lowerdir=/a:/b -o ro -t fuse-overlayfs");
    }
}
