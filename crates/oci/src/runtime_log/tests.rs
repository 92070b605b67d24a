// SPDX-License-Identifier: Apache-2.0

use super::*;
use proptest::prelude::*;
use std::io::Write;

#[test]
fn the_last_error_line_wins() {
    let table: [(&str, Option<&str>); 9] = [
        (
            r#"{"level":"error","msg":"container does not exist","time":"2026-11-21T23:10:41Z"}"#,
            Some("container does not exist"),
        ),
        (
            "{\"msg\":\"chdir failed\",\"level\":\"error\",\"time\":\"2026\"}\n",
            Some("chdir failed"),
        ),
        (
            "{\"level\":\"error\",\"msg\":\"No help topic for 'x'\\n\"}",
            Some("No help topic for 'x'"),
        ),
        (
            "{\"level\":\"error\",\"msg\":\"a\"}\n{\"level\":\"error\",\"msg\":\"b\"}\n{\"level\":\"warning\",\"msg\":\"c\"}",
            Some("b"),
        ),
        ("{\"Level\":\"error\",\"MSG\":\"a\"}", Some("a")),
        ("{\"level\":\"error\",\"msg\":\"a\"}\nnot json\n{\"level\":", Some("a")),
        ("{\"level\":\"warning\",\"msg\":\"a\"}", None),
        ("{\"level\":\"error\"}", None),
        ("", None),
    ];
    for (log, message) in table {
        assert_eq!(last_error(log.as_bytes()).as_deref(), message, "{log}");
    }
}

#[test]
fn only_the_end_of_a_huge_log_is_read_and_a_huge_message_is_cut() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, r#"{{"level":"error","msg":"old"}}"#).unwrap();
    file.write_all(&vec![b'\n'; 1 << 20]).unwrap();
    assert_eq!(last_error_in(file.path()).unwrap(), None);
    let long = "ü".repeat(15 << 10);
    writeln!(file, r#"{{"level":"error","msg":"{long}"}}"#).unwrap();
    let message = last_error_in(file.path()).unwrap().unwrap();
    assert_eq!(message.len(), MESSAGE);
    assert!(long.starts_with(&message));
}

#[test]
fn a_missing_log_is_an_error() {
    let err = last_error_in(Path::new("/nonexistent/log.json")).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::NotFound);
}

/// What one line of a log may be, and the message it stands for.
fn line() -> impl Strategy<Value = (String, Option<String>)> {
    let object = |level: &str, text: &str| {
        serde_json::json!({ "level": level, "msg": text, "time": "now" }).to_string()
    };
    prop_oneof![
        "[^\n]{0,20}".prop_map(|text| (text, None)),
        "[a-zü\"\\\\\n{}]{1,20}".prop_map(move |text| (object("info", &text), None)),
        "[a-zü\"\\\\{}]{1,20}".prop_map(move |text| (object("error", &text), Some(text))),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Some(message) = last_error(&bytes) {
            prop_assert!(message.len() <= MESSAGE);
        }
    }

    #[test]
    fn the_last_error_is_found_among_anything(lines in proptest::collection::vec(line(), 0..20)) {
        let log = lines.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("\n");
        let expected = lines.iter().rev().find_map(|(_, message)| message.clone());
        prop_assert_eq!(last_error(log.as_bytes()), expected);
    }

    #[test]
    fn a_cut_text_is_a_prefix(text in any::<String>()) {
        prop_assert!(text.starts_with(cut(&text)));
    }
}
