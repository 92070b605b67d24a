// SPDX-License-Identifier: Apache-2.0
//! `HOME`, when the environment has none.

use wedge_setns_wire::{Plan, home_of};

use crate::call;
use crate::kernel::{S_IFMT, S_IFREG, open};
use crate::sys::Result;
use crate::work::Work;

const NAME: &[u8] = b"HOME=";

/// The user's home from the container's `/etc/passwd`; `/` when it says nothing.
pub(crate) fn find(plan: &Plan<'_>, work: &mut Work) {
    let home = look_up(plan.header().uid, work.buffer);
    let home = home.ok().flatten().unwrap_or(b"/");
    // Longer than any path can be: `home` has the length of the buffer this came from.
    let entry = NAME.iter().chain(home).chain(&[0]).copied();
    for (place, byte) in work.home.iter_mut().zip(entry) {
        *place = byte;
    }
    if let Some(last) = work.home.last_mut() {
        *last = 0;
    }
    work.add_home(plan);
}

fn look_up(uid: u32, buffer: &mut [u8]) -> Result<Option<&[u8]>> {
    // It is the container's: a FIFO or a terminal must not stop us.
    let file = call::open_file(c"/etc/passwd", open::NONBLOCK | open::NO_CTTY)?;
    let regular = call::state(file, None)?.mode & S_IFMT == S_IFREG;
    let found = if regular { search(file, uid, buffer)? } else { None };
    call::close(file)?;
    Ok(found.and_then(|(from, to)| buffer.get(from..to)))
}

/// Where the home is in the buffer. Reads line by line; a line that is longer than the buffer
/// ends the search.
fn search(file: i32, uid: u32, buffer: &mut [u8]) -> Result<Option<(usize, usize)>> {
    let mut filled = 0;
    loop {
        let count = call::read(file, buffer.get_mut(filled..).unwrap_or_default())?;
        let end = filled + count;
        let known = buffer.get(..end).unwrap_or_default();
        let lines = match known.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) if count > 0 => newline + 1,
            _ if count > 0 => 0,
            _ => end,
        };
        let whole = known.get(..lines).unwrap_or_default();
        if let Some(home) = home_of(whole, uid) {
            if home.is_empty() {
                // One that is not there at all is no part of the buffer.
                return Ok(Some((0, 0)));
            }
            let from = home.as_ptr().addr() - buffer.as_ptr().addr();
            return Ok(Some((from, from + home.len())));
        }
        if count == 0 {
            return Ok(None);
        }
        buffer.copy_within(lines..end, 0);
        filled = end - lines;
    }
}
