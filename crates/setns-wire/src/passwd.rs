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
    fn what_does_not_parse_counts_as_root() {
        assert_eq!(home_of(b"# comment\nroot:x:0:0::/root:", 0), Some(&b""[..]));
        assert_eq!(home_of(b"x:x:abc:0::/odd:\n", 0), Some(&b"/odd"[..]));
        assert_eq!(home_of(b"x:x:-1:0::/odd:\n", 0), None);
        assert_eq!(home_of(b"", 0), None);
    }
}
