// SPDX-License-Identifier: Apache-2.0
//! The flat keyed files of cgroups, one "name value" per line.
//!
//! cgroups-rs parses them too, but only from a file that it opens and consumes; here they are read
//! again and again through one descriptor, which tells a removed cgroup from a new one of the
//! same name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The largest file read is memory.events with some ten short lines.
const SIZE: usize = 1024;

/// Reads `file` from its beginning, pread(2).
///
/// # Errors
/// `ENODEV` when the cgroup was removed.
pub(crate) fn read(file: &File) -> io::Result<String> {
    let mut buffer = [0; SIZE];
    let length = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

/// The value of `name` in `text`. `None` when there is no such line, or no number in it.
pub(crate) fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let v2 = "low 0\nhigh 7\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\nsock_throttled 0\n";
        assert_eq!(value(v2, "oom_kill"), Some(2));
        assert_eq!(value(v2, "oom"), Some(3));
        assert_eq!(value("oom_kill_disable 1\nunder_oom 0\noom_kill 5\n", "oom_kill"), Some(5));
        // Linux before 4.13.
        assert_eq!(value("oom_kill_disable 0\nunder_oom 0\n", "oom_kill"), None);
        assert_eq!(value("populated 1\nfrozen 0\n", "populated"), Some(1));
        assert_eq!(value("oom_kill max\n", "oom_kill"), None);
        assert_eq!(value("", "oom_kill"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}", name in "[a-z_]{0,10}") {
            value(&text, &name);
        }

        #[test]
        fn what_the_kernel_writes_is_read(number in any::<u64>(), other in any::<u64>()) {
            let text = format!("oom {other}\noom_kill {number}\noom_group_kill {other}\n");
            prop_assert_eq!(value(&text, "oom_kill"), Some(number));
        }
    }
}
