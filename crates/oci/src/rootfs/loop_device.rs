// SPDX-License-Identifier: Apache-2.0
//! Loop devices for images of file systems.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use wedge_sys::{configure_loop_device, free_loop_device};

use crate::error::{Error, Result, on_step};
use crate::rootfs::options::Image;
use crate::rootfs::{blocking, is_busy};

const CONTROL: &str = "/dev/loop-control";

/// How often a device that was free is tried again: between asking and taking, somebody else may
/// have taken it. The pauses grow with each try; in all they are half a minute or less.
const TRIES: u32 = 100;

/// A loop device that shows an image. The kernel takes it apart when nobody has it open or mounted
/// any more.
#[derive(Debug)]
pub(super) struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Sets one up for `image`.
    ///
    /// # Errors
    /// When the image cannot be opened, there are no loop devices, or none stays free.
    pub(super) async fn set_up(image: &Path, how: Image) -> Result<LoopDevice> {
        for attempt in 1..TRIES {
            let path = image.to_path_buf();
            match blocking(move || try_set_up(&path, how)).await {
                Err(Error::MountStep { cause, .. }) if is_busy(&cause) => {
                    sleep(pause(attempt)).await;
                }
                done => return done,
            }
        }
        Err(Error::NoLoopDevice)
    }

    /// `/dev/loopN`.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn try_set_up(image: &Path, how: Image) -> Result<LoopDevice> {
    let number = OpenOptions::new().read(true).write(true).open(CONTROL);
    let control = number.map_err(on_step(format!("could not open {CONTROL}")))?;
    let number = free_loop_device(control).map_err(on_step("could not get free loop device"))?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let open = |path: &Path| OpenOptions::new().read(true).write(!how.read_only).open(path);
    let on = |step: &str, path: &Path| on_step(format!("{step}: {}", path.display()));
    let backing = open(image).map_err(on("could not open backing file", image))?;
    let device = open(&path).map_err(on("could not open loop device", &path))?;
    configure_loop_device(&device, backing, image, how.read_only, how.direct_io)
        .map_err(on("failed to configure loop device", &path))?;
    Ok(LoopDevice { path, _open: device })
}

/// Somewhere below ten milliseconds more each time, and not the same in two processes.
fn pause(attempt: u32) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let range = Duration::from_millis(10) * attempt;
    range.mul_f64(f64::from(now.subsec_micros() % 1000) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_bounded() {
        for attempt in 1..TRIES {
            assert!(pause(attempt) < Duration::from_millis(10) * attempt);
        }
    }
}
