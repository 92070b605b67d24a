// SPDX-License-Identifier: Apache-2.0
//! What a C library would bring: the entry point, and the memory functions compilers call.

use core::arch::{asm, global_asm};

use crate::{call, nursery};

// The kernel starts a program with its arguments on the stack, which nobody here wants, and
// without a frame; the psABI wants the stack aligned to 16 bytes at a call.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);

extern "C" fn main() -> ! {
    nursery::main()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    call::exit(255)
}

/// # Safety
/// As memcpy(3).
// SAFETY: the symbol is what the compiler calls; nothing else in this program defines it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for `count` bytes at both places; the direction flag is clear at
    // any call by the psABI.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As memmove(3).
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if to.cast_const() <= from || to.cast_const() >= from.wrapping_add(count) {
        // SAFETY: the same contract, and copying upwards overwrites nothing that is still to be
        // read.
        return unsafe { memcpy(to, from, count) };
    }
    let (end_to, end_from) = (to.wrapping_add(count), from.wrapping_add(count));
    // SAFETY: the caller vouches for `count` bytes at both places; downwards nothing is
    // overwritten before it is read; the direction flag is put back.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _,
            inout("rdi") end_to.wrapping_sub(1) => _, inout("rsi") end_from.wrapping_sub(1) => _,
            options(nostack));
    }
    to
}

/// # Safety
/// As memset(3).
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for `count` writable bytes.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("eax") byte,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As memcmp(3).
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    let mut at = 0;
    while at < count {
        // SAFETY: `at` is below `count`, for which the caller vouches.
        let left = unsafe { a.wrapping_add(at).read_volatile() };
        // SAFETY: as above.
        let right = unsafe { b.wrapping_add(at).read_volatile() };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
        at += 1;
    }
    0
}

/// # Safety
/// As bcmp(3).
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, count) }
}

/// # Safety
/// As strlen(3).
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller vouches for a NUL, and nothing beyond the first is read.
    while unsafe { text.wrapping_add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
