// SPDX-License-Identifier: Apache-2.0
//! Architectures as runc, libseccomp and the kernel name them.

use libseccomp::ScmpArch;

use crate::Error;

/// One ABI of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arch {
    /// libseccomp's name.
    pub(crate) scmp: ScmpArch,
    /// What the kernel puts into `seccomp_data.arch`: `AUDIT_ARCH_…` of linux/audit.h.
    pub(crate) audit: u32,
}

const AUDIT_64BIT: u32 = 0x8000_0000;
const AUDIT_LE: u32 = 0x4000_0000;
const AUDIT_N32: u32 = 0x2000_0000;

/// `AUDIT_ARCH_X86_64`: also that of x32, whose numbers have bit 30 set.
pub(crate) const AUDIT_X86_64: u32 = 62 | AUDIT_64BIT | AUDIT_LE;

/// The architecture runc's `state.json` calls `name`. Those of the other byte order are missing:
/// libseccomp cannot have both in one filter, so that a runc here could not have written them.
pub(crate) fn by_name(name: &str) -> Result<Arch, Error> {
    let (scmp, audit) = match name {
        "amd64" => (ScmpArch::X8664, AUDIT_X86_64),
        "x86" => (ScmpArch::X86, 3 | AUDIT_LE),
        "x32" => (ScmpArch::X32, AUDIT_X86_64),
        "arm" => (ScmpArch::Arm, 40 | AUDIT_LE),
        "arm64" => (ScmpArch::Aarch64, 183 | AUDIT_64BIT | AUDIT_LE),
        "mipsel" => (ScmpArch::Mipsel, 8 | AUDIT_LE),
        "mipsel64" => (ScmpArch::Mipsel64, 8 | AUDIT_64BIT | AUDIT_LE),
        "mipsel64n32" => (ScmpArch::Mipsel64N32, 8 | AUDIT_64BIT | AUDIT_LE | AUDIT_N32),
        "ppc64le" => (ScmpArch::Ppc64Le, 21 | AUDIT_64BIT | AUDIT_LE),
        "riscv64" => (ScmpArch::Riscv64, 243 | AUDIT_64BIT | AUDIT_LE),
        other => return Err(Error::unsupported("architecture", other)),
    };
    Ok(Arch { scmp, audit })
}

/// The architecture of this build, which is part of every filter.
pub(crate) fn native() -> Result<Arch, Error> {
    by_name(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    })
}
