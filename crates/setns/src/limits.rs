// SPDX-License-Identifier: Apache-2.0
//! Resource limits. The process sets them itself, but in a user namespace, where it may not raise
//! them: then it waits until they were set from outside.

use std::io;

use crate::error::Error;
use crate::process::Rlimit;

/// In the order of their numbers, `asm-generic/resource.h`.
const NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    resource: u32,
    soft: u64,
    hard: u64,
}

pub(crate) fn parse(limits: &[Rlimit]) -> Result<Vec<Limit>, Error> {
    let parse = |limit: &Rlimit| {
        let known = limit.kind.strip_prefix("RLIMIT_").and_then(|kind| {
            let number = NAMES.iter().position(|name| *name == kind)?;
            u32::try_from(number).ok()
        });
        let wrong = || Error::Refused(format!("wrong rlimit value: {}", limit.kind));
        let resource = known.ok_or_else(wrong)?;
        Ok(Limit { resource, soft: limit.soft, hard: limit.hard })
    };
    limits.iter().map(parse).collect()
}

/// As the helper reads them.
pub(crate) fn encode(limits: &[Limit]) -> Vec<u8> {
    let words = |limit: &Limit| [u64::from(limit.resource), limit.soft, limit.hard];
    limits.iter().flat_map(words).flat_map(u64::to_ne_bytes).collect()
}

/// The text for a limit that could not be set.
pub(crate) fn refused(resource: &str, cause: &str) -> String {
    format!(
        "error setting rlimits for ready process: error setting rlimit type {resource}: {cause}"
    )
}

/// Sets every limit of `pid`, which waits.
pub(crate) fn apply(limits: &[Limit], pid: u32) -> Result<(), Error> {
    limits.iter().try_for_each(|limit| {
        let set = wedge_sys::set_limit_of(pid, limit.resource, limit.soft, limit.hard);
        set.map_err(|err: io::Error| {
            Error::Start(refused(&limit.resource.to_string(), &wedge_sys::go_text(&err)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers() {
        let limit = |kind: &str| Rlimit { kind: kind.to_owned(), hard: 2, soft: 1 };
        let parsed = parse(&[limit("RLIMIT_NOFILE"), limit("RLIMIT_RTTIME")]).unwrap();
        assert_eq!(parsed[0], Limit { resource: libc::RLIMIT_NOFILE, soft: 1, hard: 2 });
        assert_eq!(parsed[1].resource, libc::RLIMIT_RTTIME);
        for kind in ["NOFILE", "RLIMIT_NEW", ""] {
            let error = parse(&[limit(kind)]).unwrap_err();
            assert_eq!(error, Error::Refused(format!("wrong rlimit value: {kind}")));
        }
    }
}
