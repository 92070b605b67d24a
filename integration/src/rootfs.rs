// SPDX-License-Identifier: Apache-2.0
//! A root file system of busybox and [`payload`](crate::payload): a few milliseconds to make, so
//! each test has its own and may write to it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use crate::{Cmd, helper};

const BUSYBOX: &str = "/bin/busybox";

/// Makes the tree at `dir`: busybox with a link per applet, `/bin/wedge-payload`, an `/etc` with
/// root and user 1000, and the empty directories a container needs.
///
/// # Errors
/// A file operation fails, or busybox (package busybox-static) or the payload is missing.
pub fn make(dir: &Path) -> Result<()> {
    for sub in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    // A copy, not a link: root in a container can write to it, and this one is the host's.
    fs::copy(BUSYBOX, dir.join("bin/busybox")).with_context(|| format!("copying {BUSYBOX}"))?;
    let (payload, target) = (helper("wedge-payload")?, dir.join("bin/wedge-payload"));
    if fs::hard_link(&payload, &target).is_err() {
        fs::copy(&payload, &target).with_context(|| format!("copying {}", payload.display()))?;
    }
    let applets = Cmd::new(BUSYBOX).arg("--list").output()?;
    applets.assert_ok();
    for applet in applets.text().lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", dir.join("bin").join(applet))?;
    }
    fs::write(
        dir.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
    )?;
    fs::write(dir.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
    Ok(())
}
