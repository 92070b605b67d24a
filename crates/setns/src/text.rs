// SPDX-License-Identifier: Apache-2.0
//! Texts as Go writes them: clients look for them.

use std::fmt::Write;
use std::io;

/// `strconv.Quote` of Go, `%q` of its fmt.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        let code = u32::from(char);
        let written = match char {
            '"' | '\\' => write!(quoted, "\\{char}"),
            '\u{7}' => write!(quoted, "\\a"),
            '\u{8}' => write!(quoted, "\\b"),
            '\u{b}' => write!(quoted, "\\v"),
            '\u{c}' => write!(quoted, "\\f"),
            '\n' | '\r' | '\t' => write!(quoted, "{}", char.escape_default()),
            '\0'..' ' | '\u{7f}' => write!(quoted, "\\x{code:02x}"),
            // Rust escapes what does not print, as Go does.
            '\'' => write!(quoted, "'"),
            _ if char.escape_debug().len() == 1 => write!(quoted, "{char}"),
            _ if code < 0x10000 => write!(quoted, "\\u{code:04x}"),
            _ => write!(quoted, "\\U{code:08x}"),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    quoted.push('"');
    quoted
}

/// The text of an errno.
pub(crate) fn errno(number: i32) -> String {
    wedge_sys::go_text(&io::Error::from_raw_os_error(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_gos() {
        for (text, quoted) in [
            ("foo", r#""foo""#),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            ("a\n\t\r\u{7}\u{1b}\u{0}\u{7f}", r#""a\n\t\r\a\x1b\x00\x7f""#),
            ("é\u{200b}'", r#""é\u200b'""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
