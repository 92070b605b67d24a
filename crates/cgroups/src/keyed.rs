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

/// Every "name value" of `text`, in order; a line of another form is passed over.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let pair = (words.next()?, number(words.next()?)?);
        words.next().is_none().then_some(pair)
    })
}

/// A counter or limit. A negative one is 0, as in containerd's cgroups library. `None` when it is
/// no number, or too large for one.
pub(crate) fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some("") => None,
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(0),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_containerd_does() {
        let table = [
            ("0\n", Some(0)),
            (" 12 ", Some(12)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", Some(0)),
            ("-99999999999999999999", Some(0)),
            ("-", None),
            ("max", None),
            ("1.5", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_of_another_form_are_passed_over() {
        let text = "a 1\n\nb\nc 2 3\nd x\n e  4\ng -5\n";
        assert_eq!(pairs(text).collect::<Vec<_>>(), [("a", 1), ("e", 4), ("g", 0)]);
    }

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
            pairs(&text).count();
            number(&text);
        }

        #[test]
        fn what_the_kernel_writes_is_read(number in any::<u64>(), other in any::<u64>()) {
            let text = format!("oom {other}\noom_kill {number}\noom_group_kill {other}\n");
            prop_assert_eq!(value(&text, "oom_kill"), Some(number));
        }
    }
}
