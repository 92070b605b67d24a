// SPDX-License-Identifier: Apache-2.0
//! A profile of AppArmor, for tests in the VM: Debian's kernel has it switched on.

use std::fs;

use anyhow::{Result, ensure};

use crate::Cmd;

/// Denies one thing, so that a label that does nothing is seen.
const RULES: &str = "(attach_disconnected,mediate_deleted) {
  file, network, capability, mount, umount, pivot_root, ptrace, signal, unix,
  deny /dev/shm/denied w,
}";

/// Whether the kernel has AppArmor, and switched on.
pub fn is_enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text == "Y\n")
}

/// A profile in the kernel, which lets everything be done but writing to /dev/shm/denied.
#[derive(Debug)]
pub struct Profile {
    name: String,
    text: String,
}

impl Profile {
    /// Loads one, named after the test.
    ///
    /// # Errors
    /// There is no AppArmor.
    pub fn load(token: &str) -> Result<Profile> {
        ensure!(is_enabled(), "no AppArmor");
        let name = format!("wedge-{token}");
        let text = format!("profile {name} flags={RULES}\n");
        let profile = Profile { name, text };
        profile.parser("-a")?;
        Ok(profile)
    }

    /// What containers and execs ask for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `proc_pid_attr(5)` says of who is confined by it.
    pub fn label(&self) -> String {
        format!("{} (enforce)\n", self.name)
    }

    /// Takes it out of the kernel again.
    ///
    /// # Errors
    /// `apparmor_parser` fails.
    pub fn unload(self) -> Result<()> {
        self.parser("-R")
    }

    fn parser(&self, action: &str) -> Result<()> {
        let parser = Cmd::new("/sbin/apparmor_parser").args([action, "--skip-cache"]);
        let out = parser.stdin(self.text.as_str()).output()?;
        ensure!(out.code == 0, "{out}");
        Ok(())
    }
}
