// SPDX-License-Identifier: Apache-2.0
//! Loop devices, loop(4).

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_config` of linux/loop.h, with its `struct loop_info64` spelled out.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// Device, inode, rdevice, offset and size limit.
    places: [u64; 5],
    /// Number of the device; type and key size of its encryption.
    numbers: [u32; 3],
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// The number of a loop device that was free just now; `control` is `/dev/loop-control`.
///
/// # Errors
/// The error of the ioctl.
pub fn free_loop_device(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument; another kind of file answers ENOTTY.
    let number = unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Makes the loop `device` show the file `backing`, whose path is `name`, until nobody has the
/// device open or mounted (LOOP_CONFIGURE, Linux 5.8). `direct_io` goes around the page cache.
///
/// # Errors
/// `EBUSY` when the device is not free (any more), `EINVAL` when direct I/O is impossible.
pub fn configure_loop_device(
    device: impl AsFd,
    backing: impl AsFd,
    name: &Path,
    read_only: bool,
    direct_io: bool,
) -> io::Result<()> {
    let mut file_name = [0; 64];
    // Only for losetup(8) to show; the last byte stays zero.
    for (place, byte) in file_name.iter_mut().take(63).zip(name.as_os_str().as_bytes()) {
        *place = *byte;
    }
    let config = LoopConfig {
        fd: backing.as_fd().as_raw_fd().unsigned_abs(),
        block_size: 0,
        places: [0; 5],
        numbers: [0; 3],
        flags: LO_FLAGS_AUTOCLEAR
            | if read_only { LO_FLAGS_READ_ONLY } else { 0 }
            | if direct_io { LO_FLAGS_DIRECT_IO } else { 0 },
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: `config` has the layout and size of the kernel's struct loop_config (asserted
    // below), lives for the call, and the kernel only reads it.
    let result =
        unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_loop_device_says_so() {
        let file = tempfile::tempfile().unwrap();
        let err = free_loop_device(&file).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::ENOTTY));
        let name = Path::new("/a/path/that/is/longer/than/the/sixty-four/bytes/of/the/kernel/x");
        let err = configure_loop_device(&file, &file, name, true, true).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::ENOTTY));
    }
}
