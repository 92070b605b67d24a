// SPDX-License-Identifier: Apache-2.0
//! The object `config.seccomp` of runc's `state.json`: `Seccomp` in runc's
//! libcontainer/configs/config.go.
//!
//! Fields that are not known here are refused: what a later runc adds may change what the rest
//! means.

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp};
use serde::Deserialize;

use crate::Error;
use crate::program::{FLAG_LOG, FLAG_SPEC_ALLOW};

/// What runc returns from denied calls when the profile does not say.
const EPERM: u16 = 1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    default_action: i64,
    default_errno_ret: Option<u64>,
    architectures: Option<Vec<String>>,
    flags: Option<Vec<String>>,
    syscalls: Option<Vec<Rule>>,
    listener_path: Option<String>,
    #[serde(rename = "listener_metadata")]
    _listener_metadata: Option<String>,
}

/// One entry of `syscalls`: runc has one for each name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) name: String,
    action: i64,
    #[serde(rename = "errnoRet")]
    errno_ret: Option<u64>,
    args: Option<Vec<Condition>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    index: u64,
    value: u64,
    value_two: u64,
    op: i64,
}

impl Profile {
    /// Reads the object; what only the runtime can do is refused here.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Error> {
        let profile: Self = serde_json::from_slice(json)
            .map_err(|err| if err.is_data() { Error::Form(err) } else { Error::Json(err) })?;
        if let Some(path) = profile.listener_path.as_deref().filter(|path| !path.is_empty()) {
            return Err(Error::unsupported("listener", path));
        }
        for rule in profile.rules() {
            rule.action()?;
        }
        Ok(profile)
    }

    pub(crate) fn default_action(&self) -> Result<ScmpAction, Error> {
        action(self.default_action, self.default_errno_ret)
    }

    pub(crate) fn architectures(&self) -> &[String] {
        self.architectures.as_deref().unwrap_or_default()
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        self.syscalls.as_deref().unwrap_or_default()
    }

    /// The flags for seccomp(2). That `SPEC_ALLOW` is the default when config.json has no `flags`
    /// was runc's business when it made the container: no flags here means none.
    pub(crate) fn flags(&self) -> Result<u32, Error> {
        self.flags.iter().flatten().try_fold(0, |flags, flag| match flag.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | FLAG_LOG),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags | FLAG_SPEC_ALLOW),
            // Accepted and ignored by runc: threads do not outlive the execve that follows.
            "SECCOMP_FILTER_FLAG_TSYNC" => Ok(flags),
            // Also SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which is for listeners.
            other => Err(Error::unsupported("flag", other)),
        })
    }
}

impl Rule {
    pub(crate) fn action(&self) -> Result<ScmpAction, Error> {
        action(self.action, self.errno_ret)
    }

    /// The conditions of each of libseccomp's rules that stand for this one. libseccomp knows only
    /// one condition per argument, all of which have to hold; as soon as an argument has two, runc
    /// makes a rule of each condition, any of which will do.
    pub(crate) fn conditions(&self) -> Result<Vec<Vec<ScmpArgCompare>>, Error> {
        let conditions = self.args.as_deref().unwrap_or_default();
        let compares = conditions.iter().map(Condition::compare).collect::<Result<Vec<_>, _>>()?;
        let twice = conditions.iter().enumerate().any(|(position, condition)| {
            conditions.iter().take(position).any(|earlier| earlier.index == condition.index)
        });
        Ok(if twice { compares.into_iter().map(|one| vec![one]).collect() } else { vec![compares] })
    }
}

impl Condition {
    fn compare(&self) -> Result<ScmpArgCompare, Error> {
        let index = u32::try_from(self.index).ok().filter(|index| *index < 6);
        let index = index.ok_or_else(|| Error::unsupported("argument index", &self.index))?;
        // `Operator` of runc's config.go.
        let (op, value) = match self.op {
            1 => (ScmpCompareOp::Equal, self.value),
            2 => (ScmpCompareOp::NotEqual, self.value),
            3 => (ScmpCompareOp::Greater, self.value),
            4 => (ScmpCompareOp::GreaterEqual, self.value),
            5 => (ScmpCompareOp::Less, self.value),
            6 => (ScmpCompareOp::LessOrEqual, self.value),
            7 => (ScmpCompareOp::MaskedEqual(self.value), self.value_two),
            other => return Err(Error::unsupported("operator", &other)),
        };
        Ok(ScmpArgCompare::new(index, op, value))
    }
}

/// `Action` of runc's config.go. Of the number to return runc keeps 16 bits, and Trace has the same
/// default as Errno.
fn action(action: i64, errno_ret: Option<u64>) -> Result<ScmpAction, Error> {
    let ret = errno_ret.map_or(EPERM, low_16_bits);
    match action {
        1 | 8 => Ok(ScmpAction::KillThread),
        2 => Ok(ScmpAction::Errno(ret.into())),
        3 => Ok(ScmpAction::Trap),
        4 => Ok(ScmpAction::Allow),
        5 => Ok(ScmpAction::Trace(ret)),
        6 => Ok(ScmpAction::Log),
        9 => Ok(ScmpAction::KillProcess),
        // Also 7, Notify: its listener has to be handed over by the runtime.
        other => Err(Error::unsupported("action", &other)),
    }
}

/// Whether calls without a rule are executed with this default. A tracer counts as letting them
/// pass: a good one emulates system calls it has never heard of.
pub(crate) fn is_permissive(default: ScmpAction) -> bool {
    matches!(default, ScmpAction::Allow | ScmpAction::Log | ScmpAction::Trace(_))
}

fn low_16_bits(number: u64) -> u16 {
    let [low, high, ..] = number.to_le_bytes();
    u16::from_le_bytes([low, high])
}
