// SPDX-License-Identifier: Apache-2.0
//! The JSON that clients send: the OCI `process` of an exec, the `LinuxResources` of an update.

use std::collections::HashMap;

use serde::de::IgnoredAny;
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

/// Checks that `json` is an object, or null for no change. What it says is the runtime's affair.
///
/// # Errors
/// [`Error::Resources`] when it is something else.
pub(crate) fn check_resources(json: &[u8]) -> Result<()> {
    let parsed: serde_json::Result<Option<HashMap<String, IgnoredAny>>> =
        serde_json::from_slice(json);
    parsed.map(drop).map_err(|cause| Error::Resources { cause })
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
    #[test]
    fn resources_are_an_object() {
        for good in ["{}", "null", r#"{"memory":{"limit":1},"new":[1.5]}"#] {
            assert!(check_resources(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", "[]", "1", "{", "{}{}"] {
            assert!(check_resources(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
