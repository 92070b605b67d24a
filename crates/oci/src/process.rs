// SPDX-License-Identifier: Apache-2.0
//! The OCI `process` object of an exec.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The process of an exec as the client sent it, with `terminal` as the request has it: the
/// request decides which streams there are. Fields that this shim does not know stay.
///
/// # Errors
/// [`Error::Process`] when it is not a JSON object.
pub fn exec_process(json: &[u8], terminal: bool) -> Result<Vec<u8>> {
    let failed = |cause| Error::Process { cause };
    let mut process: Map<String, Value> = serde_json::from_slice(json).map_err(failed)?;
    process.insert("terminal".to_owned(), Value::Bool(terminal));
    serde_json::to_vec(&process).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_decides_about_the_terminal_and_unknown_fields_stay() {
        let sent = br#"{"args":["sh"],"terminal":true,"new":{"x":1}}"#;
        let kept: Value = serde_json::from_slice(&exec_process(sent, false).unwrap()).unwrap();
        let expected = serde_json::json!({"args": ["sh"], "terminal": false, "new": {"x": 1}});
        assert_eq!(kept, expected);
        for bad in ["", "[]", "null", "{"] {
            assert!(exec_process(bad.as_bytes(), false).is_err(), "{bad}");
        }
    }
}
