// SPDX-License-Identifier: Apache-2.0
//! The runtime options of a container.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// `containerd.runc.v1.Options`, in the JSON that the Go shim keeps in `options.json`: zero values
/// are left out, missing and unknown keys are tolerated, so that either shim can clean up after
/// the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Use chroot-like MS_MOVE instead of pivot_root (`--no-pivot`).
    #[serde(skip_serializing_if = "is_zero")]
    pub no_pivot_root: bool,
    /// Do not create a session keyring for the container (`--no-new-keyring`).
    #[serde(skip_serializing_if = "is_zero")]
    pub no_new_keyring: bool,
    /// A cgroup to put the shim into.
    #[serde(skip_serializing_if = "is_zero")]
    pub shim_cgroup: String,
    /// The owner of the container's pipes.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_uid: u32,
    /// The group of the container's pipes.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_gid: u32,
    /// The runtime binary, a name in $PATH or a path. Empty: runc.
    #[serde(skip_serializing_if = "is_zero")]
    pub binary_name: String,
    /// The directory of the runtime's state. Empty: /run/containerd/runc.
    #[serde(skip_serializing_if = "is_zero")]
    pub root: String,
    /// Let systemd manage the container's cgroup.
    #[serde(skip_serializing_if = "is_zero")]
    pub systemd_cgroup: bool,
    /// Where CRIU keeps images.
    #[serde(skip_serializing_if = "is_zero")]
    pub criu_image_path: String,
    /// Where CRIU keeps its work files.
    #[serde(skip_serializing_if = "is_zero")]
    pub criu_work_path: String,
    /// The address of a task service that serves this container already.
    #[serde(skip_serializing_if = "is_zero")]
    pub task_api_address: String,
    /// The version of that service.
    #[serde(skip_serializing_if = "is_zero")]
    pub task_api_version: u32,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Options {
    /// The runtime binary, a name in $PATH or a path.
    pub fn binary(&self) -> &str {
        if self.binary_name.is_empty() { "runc" } else { &self.binary_name }
    }

    /// Reads the TOML that CRI and ctr send as `runtimeoptions.v1.Options.config_body` to runtimes
    /// that are not literally `io.containerd.runc.v2` (containerd #9671). Keys are matched
    /// without regard to case, as Go does; unknown ones, and the obsolete `CriuPath`, are ignored.
    ///
    /// # Errors
    /// [`Error::Toml`] when it is no TOML, [`Error::Option`] when a value has the wrong type.
    pub fn from_toml(text: &str) -> Result<Options> {
        let table: Table = text.parse().map_err(|cause| Error::Toml { cause: Box::new(cause) })?;
        let mut options = Options::default();
        for (key, value) in &table {
            options.set(key, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<()> {
        match key.to_lowercase().as_str() {
            "nopivotroot" => self.no_pivot_root = boolean(key, value)?,
            "nonewkeyring" => self.no_new_keyring = boolean(key, value)?,
            "shimcgroup" => self.shim_cgroup = string(key, value)?,
            "iouid" => self.io_uid = number(key, value)?,
            "iogid" => self.io_gid = number(key, value)?,
            "binaryname" => self.binary_name = string(key, value)?,
            "root" => self.root = string(key, value)?,
            "systemdcgroup" => self.systemd_cgroup = boolean(key, value)?,
            "criuimagepath" => self.criu_image_path = string(key, value)?,
            "criuworkpath" => self.criu_work_path = string(key, value)?,
            _ => {}
        }
        Ok(())
    }
}

fn boolean(key: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| wrong(key, "a boolean"))
}

fn string(key: &str, value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a string"))
}

fn number(key: &str, value: &Value) -> Result<u32> {
    let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| wrong(key, "an integer from 0 to 4294967295"))
}

fn wrong(key: &str, expected: &'static str) -> Error {
    Error::Option { key: key.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_go_writes() {
        assert_eq!(serde_json::to_string(&Options::default()).unwrap(), "{}");
        let options = Options {
            no_pivot_root: true,
            io_uid: 1000,
            binary_name: "crun".to_owned(),
            systemd_cgroup: true,
            task_api_version: 3,
            ..Options::default()
        };
        assert_eq!(
            serde_json::to_string(&options).unwrap(),
            r#"{"no_pivot_root":true,"io_uid":1000,"binary_name":"crun","systemd_cgroup":true,"task_api_version":3}"#
        );
    }

    #[test]
    fn json_of_other_versions_is_read() {
        let read = |text| serde_json::from_str::<Options>(text).unwrap();
        assert_eq!(read("{}"), Options::default());
        assert_eq!(read(r#"{"criu_path":"/x","new":{"a":[1]},"root":"/r"}"#).root, "/r");
    }

    #[test]
    fn toml_keys_ignore_case_and_unknown_ones_are_skipped() {
        let text = "SystemdCgroup = true\nbinaryname = \"crun\"\nIOUID = 7\nIoGid = 8\n\
                    Root = \"/r\"\nCriuPath = \"/x\"\nCriuImagePath = \"/i\"\n\
                    CriuWorkPath = \"/w\"\nNoPivotRoot = true\nNoNewKeyring = true\n\
                    ShimCgroup = \"/s\"\nFuture = [1]\n[sub]\nRoot = 3\n";
        let expected = Options {
            systemd_cgroup: true,
            binary_name: "crun".to_owned(),
            io_uid: 7,
            io_gid: 8,
            root: "/r".to_owned(),
            criu_image_path: "/i".to_owned(),
            criu_work_path: "/w".to_owned(),
            no_pivot_root: true,
            no_new_keyring: true,
            shim_cgroup: "/s".to_owned(),
            ..Options::default()
        };
        assert_eq!(Options::from_toml(text).unwrap(), expected);
        assert_eq!(Options::from_toml("").unwrap(), Options::default());
    }

    #[test]
    fn toml_of_the_wrong_type_names_the_key() {
        for (text, message) in [
            ("SystemdCgroup = \"yes\"", "runtime option SystemdCgroup must be a boolean"),
            ("root = 1", "runtime option root must be a string"),
            ("IoUid = -1", "runtime option IoUid must be an integer from 0 to 4294967295"),
            ("IoGid = 4294967296", "runtime option IoGid must be an integer from 0 to 4294967295"),
        ] {
            assert_eq!(Options::from_toml(text).unwrap_err().to_string(), message);
        }
        let err = Options::from_toml("= x").unwrap_err().to_string();
        assert!(err.starts_with("failed to parse runtime options: "), "{err}");
        assert!(!err.contains('\n'), "{err}");
    }
}
