// SPDX-License-Identifier: Apache-2.0
//! From a profile to a program, in the steps of runc's libcontainer/seccomp/seccomp_linux.go.

use std::fs::File;
use std::io::{Read, Seek};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::arch::{self, Arch};
use crate::profile::{Profile, Rule, is_permissive};
use crate::program::{FLAG_LOG, FLAG_SPEC_ALLOW};
use crate::{Error, Program, compact, enosys};

/// More rules than this are searched as a tree, as in runc.
const LINEAR_RULES: usize = 32;

/// Compiles the object `config.seccomp` of runc's `state.json` into what runc would load for it.
///
/// Blocks for up to some 20 ms, and leaves libseccomp's tables in memory: not for a process that
/// stays.
///
/// # Errors
/// The profile is not JSON, needs a listener or something unknown, or libseccomp or this kernel refuses it.
pub fn compile(profile_json: &[u8]) -> Result<Program, Error> {
    let profile = Profile::parse(profile_json)?;
    let default = profile.default_action()?;
    let flags = profile.flags()?;
    let archs = architectures(&profile)?;

    let mut filter = ScmpFilterContext::new(default).map_err(failed("create"))?;
    for arch in &archs {
        filter.add_arch(arch.scmp).map_err(failed("add an architecture to"))?;
    }
    // Only libseccomp's own load would use these, but it knows whether the kernel has them.
    filter.set_ctl_log(flags & FLAG_LOG != 0).map_err(failed("log actions of"))?;
    filter.set_ctl_ssb(flags & FLAG_SPEC_ALLOW != 0).map_err(failed("allow speculation in"))?;
    filter.set_ctl_nnp(false).map_err(failed("keep no_new_privs out of"))?;
    for rule in profile.rules() {
        add_rule(&mut filter, rule, default)?;
    }
    if profile.rules().len() > LINEAR_RULES {
        filter.set_ctl_optimize(2).map_err(failed("make a tree of"))?;
    }

    let mut program = Vec::new();
    if !is_permissive(default) {
        program = enosys::stub(&archs, profile.rules());
    }
    export(&filter, &mut program)?;
    let audits: Vec<u32> = archs.iter().map(|arch| arch.audit).collect();
    let program = compact::compact(&program, &audits).unwrap_or(program);
    Program::new(program, flags)
}

/// Those of the profile, and the native one.
fn architectures(profile: &Profile) -> Result<Vec<Arch>, Error> {
    let mut archs = vec![arch::native()?];
    for name in profile.architectures() {
        let arch = arch::by_name(name)?;
        if !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    Ok(archs)
}

/// Adds what stands for one rule, if anything.
fn add_rule(filter: &mut ScmpFilterContext, rule: &Rule, default: ScmpAction) -> Result<(), Error> {
    if rule.name.is_empty() {
        return Err(Error::unsupported("system call", &rule.name));
    }
    let action = rule.action()?;
    if action == default {
        return Ok(()); // libseccomp would refuse it
    }
    let Ok(syscall) = ScmpSyscall::from_name(&rule.name) else {
        // runc leaves out what its libseccomp does not know, but that one may be newer than ours,
        // and a call it denies must not get through here.
        return if is_permissive(default) {
            Err(Error::unsupported("system call", &rule.name))
        } else {
            Ok(())
        };
    };
    for conditions in rule.conditions()? {
        filter
            .add_rule_conditional(action, syscall, &conditions)
            .map_err(|source| Error::Rule { syscall: rule.name.clone(), source })?;
    }
    Ok(())
}

/// Appends libseccomp's program. It goes through a file, since a pipe holds 64 KiB and libseccomp
/// may write more than the kernel would take.
fn export(filter: &ScmpFilterContext, program: &mut Vec<u8>) -> Result<(), Error> {
    let io = |operation| move |source| Error::Io { operation, source };
    let memfd = memfd_create("wedge-seccomp", MFdFlags::MFD_CLOEXEC);
    let mut file = File::from(memfd.map_err(|errno| io("create a memfd")(errno.into()))?);
    filter.export_bpf(&file).map_err(failed("export"))?;
    file.rewind().map_err(io("rewind a memfd"))?;
    file.read_to_end(program).map_err(io("read a memfd"))?;
    Ok(())
}

fn failed(operation: &'static str) -> impl Fn(SeccompError) -> Error {
    move |source| Error::Filter { operation, source }
}
