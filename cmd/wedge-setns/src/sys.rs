// SPDX-License-Identifier: Apache-2.0
//! The system call instruction.

use core::arch::asm;

/// An error of the kernel, a number of errno(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

pub(crate) type Result<T> = core::result::Result<T, Errno>;

/// Calls the kernel.
///
/// # Safety
/// What the call does with memory must be sound: pointers among `args` are valid for it.
pub(crate) unsafe fn syscall<const N: usize>(number: usize, args: [usize; N]) -> Result<usize> {
    let arg = |index: usize| args.get(index).copied().unwrap_or(0);
    let result: isize;
    // SAFETY: the x86_64 calling convention of syscall(2): it changes rax, rcx and r11, and what
    // it does to memory is the caller's to prove.
    unsafe {
        asm!("syscall",
            inlateout("rax") number.cast_signed() => result,
            in("rdi") arg(0), in("rsi") arg(1), in("rdx") arg(2),
            in("r10") arg(3), in("r8") arg(4), in("r9") arg(5),
            lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    if (-4095..0).contains(&result) {
        return Err(Errno(i32::try_from(-result).unwrap_or(0)));
    }
    Ok(result.cast_unsigned())
}
