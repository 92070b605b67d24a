// SPDX-License-Identifier: Apache-2.0
//! Instructions of classic BPF, as far as seccomp filters use them (linux/bpf_common.h,
//! Documentation/networking/filter.rst).

/// Loads the word at offset `k` of `struct seccomp_data`.
pub(crate) const LOAD_WORD: u16 = 0x20;
/// Goes on `k` instructions further.
pub(crate) const JUMP: u16 = 0x05;
/// Goes on `jt` instructions further if the accumulator equals `k`, else `jf`.
pub(crate) const JUMP_EQUAL: u16 = 0x15;
/// The same if it is greater than `k`.
pub(crate) const JUMP_GREATER: u16 = 0x25;
/// The same if it is not less than `k`.
pub(crate) const JUMP_NOT_LESS: u16 = 0x35;
/// The same if it has one of the bits of `k`.
pub(crate) const JUMP_BITS: u16 = 0x45;
/// The verdict is `k`.
pub(crate) const RETURN: u16 = 0x06;

/// Offset of the system call's number in `struct seccomp_data`, linux/seccomp.h.
pub(crate) const NR: u32 = 0;
/// Offset of its architecture.
pub(crate) const ARCH: u32 = 4;

/// Set in the numbers of x32, which has the audit architecture of x86-64.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// A `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Insn {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

impl Insn {
    /// One without two ways to go on.
    pub(crate) fn plain(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }

    /// As the kernel of this machine reads it.
    pub(crate) fn bytes(self) -> [u8; 8] {
        let ([c0, c1], [k0, k1, k2, k3]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// The instructions of a program; what is left at the end is no instruction.
    pub(crate) fn of_program(bytes: &[u8]) -> Vec<Self> {
        let (whole, _) = bytes.as_chunks::<8>();
        let read = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Self {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        };
        whole.iter().map(read).collect()
    }
}
