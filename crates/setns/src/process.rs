// SPDX-License-Identifier: Apache-2.0
//! The OCI process of an exec.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Unsupported};
use crate::schedule::{IoPriority, Scheduler};
use crate::state::Capabilities;

/// `process` of the OCI runtime specification, config.md.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Process {
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<ConsoleSize>,
    pub(crate) user: User,
    pub(crate) args: Option<Vec<String>>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) cwd: String,
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) rlimits: Option<Vec<Rlimit>>,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor_profile: String,
    pub(crate) selinux_label: String,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) io_priority: Option<IoPriority>,
    #[serde(rename = "execCPUAffinity")]
    pub(crate) exec_cpu_affinity: Option<ExecCpuAffinity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConsoleSize {
    pub(crate) height: u32,
    pub(crate) width: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Option<Vec<u32>>,
    /// Only crun looks at it here.
    pub(crate) umask: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rlimit {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExecCpuAffinity {
    pub(crate) initial: String,
    #[serde(rename = "final")]
    pub(crate) last: String,
}

impl Process {
    /// Parses and validates, in runc's order and words (`validateProcessSpec`).
    pub(crate) fn parse(json: &[u8], selinux: bool) -> Result<Process, Error> {
        let process = decode(json).map_err(|err| Error::Refused(err.to_string()))?;
        let refused = if process.cwd.is_empty() {
            "Cwd property must not be empty"
        } else if !process.cwd.starts_with('/') {
            "Cwd must be an absolute path"
        } else if process.args().is_empty() {
            "args must not be empty"
        } else if !process.selinux_label.is_empty() && !selinux {
            "selinux label is specified in config, but selinux is disabled or not supported"
        } else {
            return Ok(process);
        };
        Err(Error::Refused(refused.to_owned()))
    }

    /// Parses what crun would take without a word, and what is the same in every crun.
    pub(crate) fn parse_for_crun(json: &[u8]) -> Result<Process, Unsupported> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|err| Unsupported::new(format!("the process: {err}")))?;
        let process =
            decode(json).map_err(|err| Unsupported::new(format!("the process: {err}")))?;
        let named = process.args().first().is_some_and(|name| !name.is_empty());
        let scheduled = process.scheduler.is_some() || process.io_priority.is_some();
        let reasons = [
            (!process.cwd.starts_with('/'), "has no absolute working directory"),
            (!named, "has no program"),
            (process.env.as_deref().unwrap_or_default().is_empty(), "has no environment"),
            (value.get("user").is_none_or(Value::is_null), "has no user"),
            // Whose the terminal is depends on the version.
            (process.terminal && process.user.uid != 0, "is not root and has a terminal"),
            (scheduled, "has a scheduling policy or an I/O priority"),
            (process.exec_cpu_affinity.is_some(), "has a CPU affinity"),
        ];
        match reasons.into_iter().find(|(applies, _)| *applies) {
            Some((_, reason)) => Err(Unsupported::new(format!("the process {reason}"))),
            None => Ok(process),
        }
    }

    pub(crate) fn args(&self) -> &[String] {
        self.args.as_deref().unwrap_or_default()
    }
}

/// As Go decodes, and near enough crun: a null is as if the member were not there.
fn decode(json: &[u8]) -> serde_json::Result<Process> {
    let mut value: Value = serde_json::from_slice(json)?;
    drop_nulls(&mut value);
    Process::deserialize(value)
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(drop_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_is_as_if_it_were_not_there() {
        let process = Process::parse(
            br#"{"terminal":null,"consoleSize":null,"user":null,"args":["a"],"env":null,"cwd":"/",
            "capabilities":null,"rlimits":null,"noNewPrivileges":null,"apparmorProfile":null,
            "selinuxLabel":null,"scheduler":{"policy":null},"execCPUAffinity":{"initial":null}}"#,
            false,
        );
        let process = process.unwrap();
        assert!(!process.no_new_privileges && process.capabilities.is_none());
        assert_eq!((process.user.uid, process.args().len()), (0, 1));
    }

    #[test]
    fn validation_speaks_as_runc_does() {
        for (json, text) in [
            ("{}", "Cwd property must not be empty"),
            (r#"{"cwd":"x","args":[]}"#, "Cwd must be an absolute path"),
            (r#"{"cwd":"/"}"#, "args must not be empty"),
            (r#"{"cwd":"/","args":null}"#, "args must not be empty"),
        ] {
            let error = Process::parse(json.as_bytes(), false).unwrap_err();
            assert_eq!(error, Error::Refused(text.to_owned()), "{json}");
        }
        let labelled = br#"{"cwd":"/","args":["a"],"selinuxLabel":"x"}"#;
        assert!(Process::parse(labelled, false).is_err());
        assert!(Process::parse(labelled, true).is_ok());
    }

    #[test]
    fn absent_and_empty_capabilities_differ() {
        let parse = |json: &str| Process::parse(json.as_bytes(), false).unwrap().capabilities;
        assert!(parse(r#"{"cwd":"/","args":["a"]}"#).is_none());
        assert!(parse(r#"{"cwd":"/","args":["a"],"capabilities":null}"#).is_none());
        assert!(parse(r#"{"cwd":"/","args":["a"],"capabilities":{}}"#).is_some());
    }
}
