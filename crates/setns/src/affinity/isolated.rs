// SPDX-License-Identifier: Apache-2.0
//! Which CPUs the machine keeps for real-time work: `nohz_full`, as runc commit afc23e3397 found
//! it. `isolcpus` is not looked at.

#[cfg(test)]
mod tests;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{AffinityError, CpuSet};

const CMDLINE: &str = "/proc/cmdline";
const SYSFS: &str = "/sys/devices/system/cpu/nohz_full";

/// Reads `/proc/cmdline` and, unless that says it, `/sys/devices/system/cpu/nohz_full`. Neither
/// changes while the machine runs.
///
/// # Errors
/// A list that makes no sense. A file that cannot be read says nothing.
pub fn read_isolated_cpus() -> Result<Option<CpuSet>, AffinityError> {
    read_from(Path::new(CMDLINE), Path::new(SYSFS))
}

fn read_from(cmdline: &Path, sysfs: &Path) -> Result<Option<CpuSet>, AffinityError> {
    isolated_cpus(&read(cmdline).unwrap_or_default(), read(sysfs).as_deref())
}

/// The text of a file, which need not exist: kernels without `CONFIG_NO_HZ_FULL` have none in sysfs.
fn read(path: &Path) -> Option<String> {
    match fs::read(path) {
        // A command line may have any bytes; those of interest are ASCII.
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => None,
        Err(err) => {
            let path = path.display().to_string();
            log::warn!(path, err:%; "failed to read which CPUs are isolated");
            None
        }
    }
}

/// The isolated CPUs by the kernel's command line and the text of the file in sysfs, which has the
/// list of a kernel that isolates by its configuration. `(null)` and nothing mean none.
///
/// # Errors
/// A list that makes no sense.
pub fn isolated_cpus(cmdline: &str, sysfs: Option<&str>) -> Result<Option<CpuSet>, AffinityError> {
    let sysfs = sysfs.map(str::trim).filter(|list| !list.is_empty() && *list != "(null)");
    let Some(list) = boot_parameter(cmdline, "nohz_full").or(sysfs) else {
        return Ok(None);
    };
    let set = CpuSet::parse_kernel_list(list)
        .map_err(|source| AffinityError::IsolatedList { list: list.to_owned(), source })?;
    Ok(Some(set).filter(|set| !set.is_empty()))
}

/// The first value of a parameter that is not empty, by the rules of the kernel's `parse_args()`:
/// spaces inside double quotes do not separate, `-` in a name is `_`, and what follows `--` is for
/// init.
fn boot_parameter<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    let mut quoted = false;
    let separator = |c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    };
    cmdline.split(separator).take_while(|argument| *argument != "--").find_map(|argument| {
        let (key, value) = argument.trim_matches('"').split_once('=')?;
        let value = value.trim_matches('"');
        (key.replace('-', "_") == name && !value.is_empty()).then_some(value)
    })
}
