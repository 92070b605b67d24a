// SPDX-License-Identifier: Apache-2.0
//! Giving memory back.

use std::ffi::c_void;
use std::fs;
use std::hint::black_box;
use std::io;
use std::ptr;

use nix::unistd::{getpid, gettid};

const PAGE: usize = 4096;

/// What may be in use below a local variable: its frame, those of the calls that are made from it, and
/// the red zone of the ABI. A frame of a signal is gone by the time that a call is made.
const IN_USE: usize = 4 << 10;

/// Gives back to the kernel what the allocator holds free, and the main thread's stack below its
/// caller. All of it can be used again, and is zeroes then. For a quiet moment, and from the main
/// thread; elsewhere the stack is left alone.
///
/// # Errors
/// `/proc/self/maps` cannot be read, or madvise(2) refuses.
pub fn release_memory() -> io::Result<()> {
    // SAFETY: malloc_trim(3) has no precondition, and leaves what is allocated alone.
    unsafe { libc::malloc_trim(0) };
    if gettid() == getpid() { release_stack() } else { Ok(()) }
}

#[inline(never)]
fn release_stack() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let Some((start, end)) = stack(&maps) else { return Ok(()) };
    let local = 0_u8;
    let here = ptr::from_ref(black_box(&local)).addr();
    let used = here.saturating_sub(IN_USE) / PAGE * PAGE;
    if !(start..end).contains(&used) {
        return Ok(());
    }
    let unused = ptr::with_exposed_provenance_mut::<c_void>(start);
    // SAFETY: the range begins where the kernel says that this thread's stack does, and ends IN_USE
    // bytes below a variable of the running function. The stack grows down, so that all frames that
    // are in use are above; nothing keeps a pointer into a frame that is not. The calls below here
    // need far less than IN_USE. The pages stay mapped: a deeper call later finds zeroes there, and
    // no code may expect anything of a new frame.
    match unsafe { libc::madvise(unused, used - start, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where the main thread's stack is mapped.
fn stack(maps: &str) -> Option<(usize, usize)> {
    let line = maps.lines().find(|line| line.ends_with(" [stack]"))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_found_by_its_name() {
        let maps = "7ffd1000-7ffd2000 r--p 00000000 00:00 0          [vvar]\n\
                    7ffe0000-7ffe9000 rw-p 00000000 00:00 0          [stack]\n";
        assert_eq!(stack(maps), Some((0x7ffe_0000, 0x7ffe_9000)));
        assert_eq!(stack(""), None);
    }
}
