// SPDX-License-Identifier: Apache-2.0
//! What the helper reports, in the OCI runtime's words.
#![expect(clippy::wildcard_enum_match_arm, reason = "each function explains a few stages")]

use wedge_setns_wire::{Report, Stage};

use crate::container::Container;
use crate::error::{Error, Failure, Unsupported};
use crate::limits;
use crate::process::Process;
use crate::text::{errno, quote};

/// What a text may need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) container: &'a Container,
    pub(crate) process: &'a Process,
}

pub(crate) const STOPPED: &str = "cannot exec in a stopped container";
pub(crate) const PAUSED: &str =
    "cannot exec in a paused container (use --ignore-paused to override)";

/// The failure behind a report from process `sender`.
pub(crate) fn failure(report: &Report<'_>, sender: u32, context: Context<'_>) -> Failure {
    match context.container.crun {
        Some(_) => of_crun(report, context.process),
        None => explain(report, sender, context).into(),
    }
}

/// Of crun's words only these are the same in every version. What it would not say at all is ours,
/// and final: an exec that was stopped for safety is not tried in another way.
fn of_crun(report: &Report<'_>, process: &Process) -> Failure {
    let cause = errno(report.errno);
    match Stage::from_number(report.stage) {
        Some(Stage::NotFound) if !named_by_path(process) => {
            let name = process.args().first().map_or("", String::as_str);
            let cause = "No such file or directory";
            Error::Crun(format!("executable file `{name}` not found in $PATH: {cause}")).into()
        }
        Some(Stage::CwdOutside) => Error::Crun(outside(report.errno, &cause)).into(),
        Some(stage) => Failure::Refused(Unsupported::new(format!("{stage:?}: {cause}"))),
        None => Unsupported::new("the setns helper stopped at an unknown stage").into(),
    }
}

fn named_by_path(process: &Process) -> bool {
    process.args().first().is_some_and(|name| name.contains('/'))
}

/// The error behind a report of failure from process `sender`.
pub(crate) fn explain(report: &Report<'_>, sender: u32, context: Context<'_>) -> Error {
    let Some(stage) = Stage::from_number(report.stage) else {
        return Error::Start(format!("unknown stage {} of the setns helper", report.stage));
    };
    let cause = errno(report.errno);
    let aux = String::from_utf8_lossy(report.aux);
    // The init became a zombie meanwhile, or its pid namespace has no init any more.
    if stage == Stage::Namespaces && report.errno == libc::ESRCH {
        return Error::Refused(STOPPED.to_owned());
    }
    if stage == Stage::Limits {
        return Error::Start(limits::refused(&aux, &cause));
    }
    if let Some(text) = before_the_fork(stage, report.errno, &cause, &aux, sender) {
        return Error::Start(text);
    }
    let text = program(stage, &cause, context.process)
        .or_else(|| identity(stage, report.errno, &cause, context.process))
        .or_else(|| attributes(stage, report.errno, &cause, context.container))
        .unwrap_or_else(|| format!("error executing setns process: {stage:?}: {cause}"));
    Error::Start(text)
}

fn before_the_fork(
    stage: Stage,
    number: i32,
    cause: &str,
    aux: &str,
    joiner: u32,
) -> Option<String> {
    let executing = |what: &str| format!("error executing setns process: {what}: {cause}");
    Some(match stage {
        Stage::OomScore => executing("failed to update /proc/self/oom_score_adj"),
        Stage::InitialCpus => {
            format!("error starting setns process: error setting initial CPU affinity: {cause}")
        }
        Stage::LastCpus => format!("error setting final CPU affinity: {cause}"),
        Stage::Cgroup => {
            // Of a cgroup that is gone the file cannot even be opened.
            let call = if number == libc::ENOENT { "openat2" } else { "write" };
            format!(
                "error adding pid {joiner} to cgroups: failed to write {joiner}: {call} {aux}: {cause}"
            )
        }
        Stage::Namespaces => executing("failed to setns into the container's namespaces"),
        Stage::NamespaceRoot => executing("failed to become root in user namespace"),
        // fork(2) says so when the init of the pid namespace is gone.
        Stage::Clone if number == libc::ENOMEM => {
            executing("failed to start a process in the pid namespace, which has no init")
        }
        Stage::Clone => executing("failed to start a process in the container"),
        _ => return None,
    })
}

/// Finding the program: these are the texts that users and clients look for most.
fn program(stage: Stage, cause: &str, process: &Process) -> Option<String> {
    let name = process.args().first().map_or("", String::as_str);
    let quoted = quote(name);
    Some(match stage {
        Stage::NotFound => format!("exec: {quoted}: executable file not found in $PATH"),
        Stage::ProgramStat => format!("exec: {quoted}: stat {name}: {cause}"),
        Stage::ProgramIsDirectory => format!("exec: {quoted}: is a directory"),
        Stage::ProgramAccess => format!("exec: {quoted}: {cause}"),
        Stage::ProgramRelative => {
            format!("exec: {quoted}: cannot run executable found relative to current directory")
        }
        _ => return None,
    })
}

fn identity(stage: Stage, number: i32, cause: &str, process: &Process) -> Option<String> {
    let (uid, gid) = (process.user.uid, process.user.gid);
    let unmapped = number == libc::EINVAL;
    Some(match stage {
        Stage::WorkingDirectory => {
            let cwd = quote(&process.cwd);
            format!("chdir to cwd ({cwd}) set in config.json failed: {cause}")
        }
        Stage::Home => format!("/etc/passwd: {cause}"),
        Stage::CwdOutside => outside(number, cause),
        Stage::StandardStreams => format!("unable to setup user: fchown: {cause}"),
        Stage::Groups => format!("unable to setup user: setgroups: {cause}"),
        Stage::Gid if unmapped => {
            format!("unable to setup user: cannot setgid to unmapped gid {gid} in user namespace")
        }
        Stage::Gid => format!("unable to setup user: setgid: {cause}"),
        Stage::Uid if unmapped => {
            format!("unable to setup user: cannot setuid to unmapped uid {uid} in user namespace")
        }
        Stage::Uid => format!("unable to setup user: setuid: {cause}"),
        _ => return None,
    })
}

fn outside(number: i32, cause: &str) -> String {
    match number {
        libc::ENOENT => {
            "current working directory is outside of container mount namespace root -- \
                         possible container breakout detected"
                .to_owned()
        }
        _ => format!("failed to verify if current working directory is safe: {cause}"),
    }
}

fn attributes(stage: Stage, number: i32, cause: &str, container: &Container) -> Option<String> {
    Some(match stage {
        Stage::Keyring => {
            format!("unable to join session keyring: unable to create session key: {cause}")
        }
        Stage::Terminal => format!("open /dev/pts/ptmx: {cause}"),
        Stage::ControllingTerminal => format!("unable to set the controlling terminal: {cause}"),
        Stage::Scheduler if number == libc::EPERM && container.cpuset => {
            "process scheduler can't be used together with AllowedCPUs".to_owned()
        }
        Stage::Scheduler => format!("error setting scheduler: {cause}"),
        Stage::IoPriority => format!("failed to set io priority: {cause}"),
        Stage::Personality => format!("unable to set personality: {cause}"),
        Stage::Bounding => format!("unable to apply bounding set: {cause}"),
        Stage::KeepCaps => format!("unable to set keep caps: {cause}"),
        Stage::Capabilities | Stage::LastCapabilities => {
            format!("unable to apply caps: can't apply capabilities: {cause}")
        }
        Stage::AppArmor => format!(
            "apparmor failed to apply profile: write /proc/thread-self/attr/apparmor/exec: {cause}"
        ),
        Stage::Seccomp => {
            format!("unable to init seccomp: error loading seccomp filter into kernel: {cause}")
        }
        _ => return None,
    })
}
