// SPDX-License-Identifier: Apache-2.0
//! One log line in the text format of logrus.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, Record};

/// A line, with its end, is at most this long: `PIPE_BUF`, so that a write to a pipe is atomic.
const LINE_LIMIT: usize = 4096;

/// How much of it a message, one field, and all fields of a record may take, quoted.
const MESSAGE_LIMIT: usize = 2048;
const FIELD_LIMIT: usize = 512;
const FIELDS_LIMIT: usize = 1024;

/// What is kept free for the count of lost lines.
const LOST_LIMIT: usize = 40;

/// Formats `record` as it happened at `now`. `fields` is what every line carries.
pub(super) fn of(record: &Record<'_>, now: SystemTime, fields: &str) -> String {
    let level = match record.level() {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let mut line = format!("time=\"{}\" level={level} msg=", rfc3339(now));
    quote(&mut line, &record.args().to_string(), MESSAGE_LIMIT);
    let mut own = Fields(String::new());
    // A value that cannot be formatted costs its field, not the line.
    record.key_values().visit(&mut own).unwrap_or_default();
    for part in [fields, &own.0] {
        if line.len() + part.len() + LOST_LIMIT < LINE_LIMIT {
            line.push_str(part);
        }
    }
    line.push('\n');
    line
}

/// Adds how many lines before this one were lost.
pub(super) fn append_lost(line: &mut String, lost: u64) {
    line.pop();
    field(line, "lost_lines", &lost.to_string());
    line.push('\n');
}

/// Adds ` key=value`, the value quoted when it is not one plain word.
pub(super) fn field(line: &mut String, key: &str, value: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+:".contains(c);
    line.push(' ');
    line.extend(key.chars().filter(|&c| plain(c)));
    line.push('=');
    if !value.is_empty() && value.len() <= FIELD_LIMIT && value.chars().all(plain) {
        line.push_str(value);
    } else {
        quote(line, value, FIELD_LIMIT);
    }
}

struct Fields(String);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        if self.0.len() < FIELDS_LIMIT {
            field(&mut self.0, key.as_str(), &value.to_string());
        }
        Ok(())
    }
}

/// Quotes `text` as JSON, so that a value chosen by a container can neither end its field nor
/// start a line, and cuts it when the result would be longer than `limit`.
fn quote(line: &mut String, text: &str, limit: usize) {
    let end = line.len() + limit - "…\"".len();
    line.push('"');
    for c in text.chars() {
        let before = line.len();
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            '\r' => line.push_str("\\r"),
            c if c.is_control() => line.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => line.push(c),
        }
        if line.len() > end {
            line.truncate(before);
            line.push('…');
            break;
        }
    }
    line.push('"');
}

/// `now` in UTC as RFC 3339 with nanoseconds. A clock before 1970 shows the first moment of it.
pub(super) fn rfc3339(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date of the Gregorian calendar, counted in years that begin in March so that the
    // leap day is the last: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = format!("{year:04}-{month:02}-{day:02}T");
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a String cannot fail.
    write!(text, "{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
        .unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64, nanos: u32) -> String {
        rfc3339(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
    }

    #[test]
    fn times_are_rfc3339_with_nanoseconds() {
        // From date -u.
        let table = [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000000007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000007Z"),
            (1_795_291_200, "2026-11-21T20:00:00.000000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000007Z"),
        ];
        for (seconds, text) in table {
            assert_eq!(at(seconds, 7), text);
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00.000000000Z");
    }

    fn line(message: &str, fields: &[(&str, &str)]) -> String {
        let fields = &fields;
        let mut builder = Record::builder();
        builder.level(Level::Warn).key_values(fields);
        let of = |record: Record<'_>| of(&record, SystemTime::UNIX_EPOCH, " pid=7");
        of(builder.args(format_args!("{message}")).build())
    }

    #[test]
    fn a_line_looks_like_logrus() {
        assert_eq!(
            line("odd", &[("id", "a-b"), ("text", "two words"), ("no", "")]),
            "time=\"1970-01-01T00:00:00.000000000Z\" level=warning msg=\"odd\" pid=7 \
             id=a-b text=\"two words\" no=\"\"\n"
        );
    }

    #[test]
    fn nothing_can_be_injected() {
        let evil = "x\" level=fatal\ntime=\"\u{1b}[0m\r\\";
        let line = line(evil, &[("evil", evil)]);
        assert_eq!(line.lines().count(), 1, "{line}");
        let quoted = r#""x\" level=fatal\ntime=\"\u001b[0m\r\\""#;
        assert!(line.ends_with(&format!("msg={quoted} pid=7 evil={quoted}\n")), "{line}");
    }

    proptest! {
        #[test]
        fn a_line_always_fits_a_pipe_write(
            message in "\\PC{0,3000}|[\\x00-\\x20]{0,3000}",
            values in proptest::collection::vec("\\PC{0,900}", 0..9),
        ) {
            let fields: Vec<(&str, &str)> = values.iter().map(|value| ("k", &**value)).collect();
            let mut line = line(&message, &fields);
            append_lost(&mut line, u64::MAX);
            prop_assert!(line.len() <= LINE_LIMIT, "{}", line.len());
            prop_assert_eq!(line.matches('\n').count(), 1);
            let quoted = line.split_once("msg=").unwrap().1;
            let mut parsed = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
            let parsed = parsed.next().unwrap().unwrap();
            let kept = parsed.strip_suffix('…').unwrap_or(&parsed);
            prop_assert!(message.starts_with(kept));
        }
    }
}
