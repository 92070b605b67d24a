// SPDX-License-Identifier: Apache-2.0
//! Runs programs as the kernel does (Documentation/networking/filter.rst, linux/bpf_common.h).

/// A `struct seccomp_data`; the instruction pointer is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) nr: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    pub(crate) fn new(arch: u32, nr: u32) -> Self {
        Self { arch, nr, args: [0; 6] }
    }

    pub(crate) fn arg(mut self, index: usize, value: u64) -> Self {
        self.args[index] = value;
        self
    }

    /// The word at this offset; little-endian, so the low half of an argument is first.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 | 12 => 0,
            _ => {
                let offset = usize::try_from(offset - 16).unwrap();
                assert!(offset % 4 == 0, "the kernel refuses unaligned loads");
                let bytes = self.args[offset / 8].to_le_bytes();
                u32::from_le_bytes(*bytes[offset % 8..].first_chunk().unwrap())
            }
        }
    }
}

/// The verdict of a program; panics on what the kernel would not load, or libseccomp not use.
pub(crate) fn run(filter: &[u8], call: Call) -> u32 {
    let (mut pc, mut accumulator) = (0, 0);
    loop {
        let insn = &filter[pc * 8..pc * 8 + 8];
        let code = u16::from_ne_bytes([insn[0], insn[1]]);
        let k = u32::from_ne_bytes(*insn[4..].first_chunk().unwrap());
        pc += 1;
        let jump = |condition| usize::from(if condition { insn[2] } else { insn[3] });
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => pc += usize::try_from(k).unwrap(),
            0x15 => pc += jump(accumulator == k),
            0x25 => pc += jump(accumulator > k),
            0x35 => pc += jump(accumulator >= k),
            0x45 => pc += jump(accumulator & k != 0),
            0x06 => return k,
            other => panic!("instruction {} has code {other:#x}", pc - 1),
        }
    }
}
