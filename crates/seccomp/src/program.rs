// SPDX-License-Identifier: Apache-2.0
//! Programs, and how one process hands them to another.

use std::fmt;

use crate::{Error, arch, compact};

/// The longest program the kernel takes: `BPF_MAXINSNS` of linux/bpf_common.h.
pub const MAX_INSNS: usize = 4096;

/// Bytes of a `struct sock_filter` of linux/filter.h.
const INSN: usize = 8;
/// The flags and the number of instructions, both `u32`.
const HEADER: usize = 8;

/// `SECCOMP_FILTER_FLAG_LOG` of linux/seccomp.h.
pub(crate) const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
pub(crate) const FLAG_SPEC_ALLOW: u32 = 1 << 2;

/// A seccomp filter, ready for the kernel.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    filter: Vec<u8>,
    flags: u32,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Thousands of bytes would say nothing to a reader.
        f.debug_struct("Program")
            .field("insns", &self.insns())
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl Program {
    pub(crate) fn new(filter: Vec<u8>, flags: u32) -> Result<Self, Error> {
        if filter.is_empty() || !filter.len().is_multiple_of(INSN) {
            return Err(Error::Malformed("not a whole number of instructions"));
        }
        if filter.len() / INSN > MAX_INSNS {
            return Err(Error::TooLong { insns: filter.len() / INSN });
        }
        if flags & !(FLAG_LOG | FLAG_SPEC_ALLOW) != 0 {
            return Err(Error::Malformed("unknown flags"));
        }
        Ok(Self { filter, flags })
    }

    /// A filter that an OCI runtime has compiled by libseccomp, of a profile without flags. It may
    /// come out shorter; the verdicts are the same.
    ///
    /// # Errors
    /// When it has no instruction, too many, or a part of one. What they say is for the kernel to
    /// check.
    pub fn of_filter(filter: Vec<u8>) -> Result<Self, Error> {
        let given = Self::new(filter, FLAG_SPEC_ALLOW)?;
        // One that tells apart others than these stays as it is.
        let family = if cfg!(target_arch = "x86_64") { "x86" } else { "arm" };
        let audits = [arch::native()?.audit, arch::by_name(family)?.audit];
        match compact::compact(&given.filter, &audits) {
            Some(shorter) => Self::new(shorter, FLAG_SPEC_ALLOW),
            None => Ok(given),
        }
    }

    /// The instructions: an array of [`Self::insns`] `struct sock_filter` of this machine.
    #[must_use]
    pub fn filter(&self) -> &[u8] {
        &self.filter
    }

    /// The number of instructions, from 1 to [`MAX_INSNS`].
    #[must_use]
    pub fn insns(&self) -> usize {
        self.filter.len() / INSN
    }

    /// The flags for seccomp(2): none, or of `SECCOMP_FILTER_FLAG_LOG` and `_SPEC_ALLOW`.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// As bytes for [`Self::decode`] of the same build on the same machine.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let insns = u32::try_from(self.insns()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + self.filter.len());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(insns.to_ne_bytes());
        bytes.extend(&self.filter);
        bytes
    }

    /// The program that [`Self::encode`] made these bytes of.
    ///
    /// # Errors
    /// The bytes are cut off, too many, or have unknown flags. What the instructions say is for the
    /// kernel to check.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (flags, rest) = take_u32(bytes)?;
        let (insns, filter) = take_u32(rest)?;
        if usize::try_from(insns).ok().and_then(|insns| insns.checked_mul(INSN))
            != Some(filter.len())
        {
            return Err(Error::Malformed("not the length it says"));
        }
        Self::new(filter.to_vec(), flags)
    }
}

fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), Error> {
    let (word, rest) = bytes.split_first_chunk().ok_or(Error::Malformed("no header"))?;
    Ok((u32::from_ne_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        for (insns, flags) in [(1, 0), (7, FLAG_LOG), (MAX_INSNS, FLAG_LOG | FLAG_SPEC_ALLOW)] {
            let program = Program::new(vec![6; insns * INSN], flags).unwrap();
            assert_eq!(program.insns(), insns);
            assert_eq!(Program::decode(&program.encode()).unwrap(), program);
        }
    }

    #[test]
    fn a_filter_of_somebody_elses_is_shortened_or_stays() {
        const ALLOW: u32 = 0x7fff_0000;
        let insn = |code: u16, jt: u8, jf: u8, k: u32| {
            [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat()
        };
        // A load of the number, 40 comparisons one after the other, and a verdict.
        let mut linear = insn(0x20, 0, 0, 0);
        (0..40)
            .for_each(|nr| linear.extend([insn(0x15, 0, 1, nr), insn(0x06, 0, 0, ALLOW)].concat()));
        linear.extend(insn(0x06, 0, 0, 0));
        let program = Program::of_filter(linear).unwrap();
        assert!(program.insns() < 20, "{program:?}");
        assert_eq!(program.flags(), FLAG_SPEC_ALLOW);
        let odd = [insn(0x87, 0, 0, 0), insn(0x06, 0, 0, 0)].concat();
        assert_eq!(Program::of_filter(odd.clone()).unwrap().filter(), odd);
        assert!(
            Program::of_filter(Vec::new()).is_err() && Program::of_filter(vec![6; 12]).is_err()
        );
    }

    #[test]
    fn bytes_that_are_no_program_are_refused() {
        let good = Program::new(vec![6; 2 * INSN], 0).unwrap().encode();
        for len in 0..good.len() {
            assert!(Program::decode(&good[..len]).is_err(), "{len} bytes");
        }
        assert!(Program::decode(&[&good[..], &[0]].concat()).is_err(), "a byte more");
        assert!(Program::decode(&[0; HEADER]).is_err(), "no instruction");
        let mut flags = good;
        flags[..4].copy_from_slice(&8_u32.to_ne_bytes());
        assert!(matches!(Program::decode(&flags), Err(Error::Malformed("unknown flags"))));
        let long = Program::new(vec![6; (MAX_INSNS + 1) * INSN], 0);
        assert!(matches!(long, Err(Error::TooLong { insns: 4097 })));
    }
}
