// SPDX-License-Identifier: Apache-2.0
//! The few fields of the OCI runtime spec the shim itself needs.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use serde::Deserialize;
use serde_json::Value;

use crate::bundle::Bundle;
use crate::error::{Error, Result, on_path};

/// A spec beyond this many bytes is refused rather than read into memory.
const LIMIT: u64 = 16 << 20;

/// What the shim needs of a `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// The container's annotations.
    pub annotations: HashMap<String, String>,
    /// The container's processes survive its init, because it has no pid namespace of its own:
    /// none is listed (the host's), or one to join is (a pod's). Go's `ShouldKillAllOnExit`.
    pub shared_pid_namespace: bool,
}

/// A spec without what the shim never looks at: a field that this version of oci-spec cannot read
/// must not matter.
#[derive(Deserialize)]
struct Shallow {
    annotations: Option<HashMap<String, String>>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    namespaces: Option<Vec<Value>>,
}

impl Spec {
    /// Reads `config.json` of a bundle.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::TooLarge`] or [`Error::Json`]. What an unreadable spec means is
    /// the caller's to decide.
    pub fn read(bundle: &Bundle) -> Result<Spec> {
        let path = bundle.config();
        let file = File::open(&path).map_err(on_path("open", &path))?;
        let mut text = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut text).map_err(on_path("read", &path))?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > LIMIT {
            return Err(Error::TooLarge { path, limit: LIMIT });
        }
        Spec::parse(&text).map_err(|cause| Error::Json { path, cause })
    }

    fn parse(text: &[u8]) -> serde_json::Result<Spec> {
        let shallow: Shallow = serde_json::from_slice(text)?;
        let namespaces = shallow.linux.and_then(|linux| linux.namespaces).unwrap_or_default();
        Ok(Spec {
            annotations: shallow.annotations.unwrap_or_default(),
            shared_pid_namespace: !namespaces.into_iter().any(is_new_pid_namespace),
        })
    }
}

fn is_new_pid_namespace(entry: Value) -> bool {
    // A kind of namespace that oci-spec does not know is no pid namespace.
    let Ok(namespace) = serde_json::from_value::<LinuxNamespace>(entry) else {
        return false;
    };
    let joins = namespace.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    namespace.typ() == LinuxNamespaceType::Pid && !joins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_namespace_is_shared_unless_a_new_one_is_asked_for() {
        let table = [
            (r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}"#, false),
            (r#"{"linux":{"namespaces":[{"type":"pid","path":""}]}}"#, false),
            (r#"{"linux":{"namespaces":[{"type":"new-kind"},{"type":"pid"}]}}"#, false),
            (r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#, true),
            (r#"{"linux":{"namespaces":[{"type":"network"}]}}"#, true),
            (r#"{"linux":{"namespaces":null}}"#, true),
            (r#"{"linux":{}}"#, true),
            ("{}", true),
        ];
        for (text, shared) in table {
            let spec = Spec::parse(text.as_bytes()).unwrap();
            assert_eq!(spec.shared_pid_namespace, shared, "{text}");
        }
    }

    #[test]
    fn annotations_are_read_whatever_else_the_spec_holds() {
        let text = r#"{"process":{"rlimits":"nonsense"},"annotations":{"a":"b"},"hooks":7}"#;
        assert_eq!(Spec::parse(text.as_bytes()).unwrap().annotations["a"], "b");
        assert!(Spec::parse(br#"{"annotations":null}"#).unwrap().annotations.is_empty());
    }

    #[test]
    fn a_missing_broken_or_huge_spec_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(dir.path());
        assert!(matches!(Spec::read(&bundle), Err(Error::Path { .. })));
        std::fs::write(bundle.config(), "{").unwrap();
        assert!(matches!(Spec::read(&bundle), Err(Error::Json { .. })));
        File::create(bundle.config()).unwrap().set_len(LIMIT + 1).unwrap();
        assert!(matches!(Spec::read(&bundle), Err(Error::TooLarge { .. })));
    }
}
