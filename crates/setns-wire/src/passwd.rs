// SPDX-License-Identifier: Apache-2.0
//! The home directory from a container's `/etc/passwd`, as runc reads it: its own reader, because
//! a C library's would load code from the container (CVE-2019-14271).

/// Field 6 of the first line of `passwd` (passwd(5)) whose uid is `uid`. As in runc a number that
/// does not parse, and a line that is too short, count as uid 0; empty lines are passed over.
pub fn home_of(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    passwd.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find_map(|line| {
        if line.is_empty() {
            return None;
        }
        let mut fields = line.split(|byte| *byte == b':');
        let found = fields.nth(2).map_or(0, number);
        let home = fields.nth(2).unwrap_or_default();
        (found == i64::from(uid)).then_some(home)
    })
}

/// What a C library's reader of passwd(5) would say of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The home directory.
    Home(&'a [u8]),
    /// No line is the user's.
    Missing,
    /// There is a line of which each library may think otherwise.
    Unclear,
}

/// The home directory of `uid` as crun finds it, by its C library. Lines whose meaning is beyond
/// doubt have seven fields, two of them plain numbers; NIS lines (`+`) are not among them.
pub fn entry_of(passwd: &[u8], uid: u32) -> Entry<'_> {
    for line in passwd.split(|byte| *byte == b'\n') {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match fields(line) {
            None => return Entry::Unclear,
            Some((found, home)) if found == uid => return Entry::Home(home),
            Some(_) => {}
        }
    }
    Entry::Missing
}

/// Uid and home of a plain line.
fn fields(line: &[u8]) -> Option<(u32, &[u8])> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next()?;
    let (uid, gid) = (fields.nth(1).and_then(plain)?, fields.next().and_then(plain));
    let home = fields.nth(1)?;
    let named = name.first().is_some_and(|first| first.is_ascii_alphanumeric() || *first == b'_');
    let whole = fields.next().is_some() && fields.next().is_none();
    let text = !line.iter().any(|byte| matches!(byte, b'\0' | b'\r'));
    (named && gid.is_some() && whole && text).then_some((uid, home))
}

fn plain(field: &[u8]) -> Option<u32> {
    let digits = field.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(field).ok().filter(|_| digits)?.parse().ok()
}

/// Go's `strconv.Atoi`, 0 for what it refuses.
fn number(field: &[u8]) -> i64 {
    core::str::from_utf8(field).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_with_the_uid_wins() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n\n a:x:1000:1000::/home/a:/bin/sh\n\
                       b:x:1000:1000::/home/b:\nempty:x:7:7:::\nlast:x:8:8::/last";
        for (uid, home) in [
            (0, Some(&b"/root"[..])),
            (1000, Some(b"/home/a")),
            (7, Some(b"")),
            (8, Some(b"/last")),
            (9, None),
        ] {
            assert_eq!(home_of(passwd, uid), home, "{uid}");
        }
    }

    #[test]
    fn what_a_library_may_read_otherwise_is_unclear() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\n#x\n\nu:x:1000:5::/home/u:/bin/sh\n_e:x:7:7:::\n";
        for (uid, entry) in [
            (0, Entry::Home(b"/root")),
            (1000, Entry::Home(b"/home/u")),
            (7, Entry::Home(b"")),
            (8, Entry::Missing),
        ] {
            assert_eq!(entry_of(passwd, uid), entry, "{uid}");
        }
        assert_eq!(entry_of(b"", 0), Entry::Missing);
        for line in [
            "+::::::",
            " a:x:1:1::/:",
            "a:x:1",
            "a:x:1:1::/",
            "a:x:1:1::/::",
            "a:x::1::/:",
            "a:x:+1:1::/:",
            "a:x:1:b::/:",
            "a:x:4294967296:1::/:",
            ":x:1:1::/:",
            "a:x:1:1::/\r:",
        ] {
            assert_eq!(entry_of(line.as_bytes(), 1), Entry::Unclear, "{line}");
        }
        assert_eq!(entry_of(b"a:x:1:1::/a:\n+", 1), Entry::Home(b"/a"));
    }

    #[test]
    fn what_does_not_parse_counts_as_root() {
        assert_eq!(home_of(b"# comment\nroot:x:0:0::/root:", 0), Some(&b""[..]));
        assert_eq!(home_of(b"x:x:abc:0::/odd:\n", 0), Some(&b"/odd"[..]));
        assert_eq!(home_of(b"x:x:-1:0::/odd:\n", 0), None);
        assert_eq!(home_of(b"", 0), None);
    }
}
