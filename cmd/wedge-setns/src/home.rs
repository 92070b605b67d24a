// SPDX-License-Identifier: Apache-2.0
//! `HOME`, when the environment has none.

use wedge_setns_wire::{Entry, Plan, Stage, entry_of, flags, home_of};

use crate::call;
use crate::kernel::{S_IFMT, S_IFREG, errno, open};
use crate::report::{reach, unsupported};
use crate::sys::{Errno, Result};
use crate::work::Work;

const NAME: &[u8] = b"HOME=";

/// What `/etc/passwd` says of a user.
enum Found {
    /// The home directory, from here to there in the buffer.
    Home(usize, usize),
    Nothing,
    /// It depends on who reads it.
    Unclear,
}

/// The user's home from the container's `/etc/passwd`; `/` when it says nothing. With crun there is
/// none then, unless there is no such file.
pub(crate) fn find(plan: &Plan<'_>, work: &mut Work) {
    reach(plan, Stage::Home);
    let crun = plan.has(flags::CRUN);
    let found = look_up(plan.header().uid, crun, work.buffer);
    let home = match found {
        Ok(Found::Home(from, to)) => work.buffer.get(from..to).unwrap_or_default(),
        Ok(Found::Unclear) => unsupported(Stage::Home, Errno(errno::EINVAL)),
        Ok(Found::Nothing) if crun => return,
        Err(Errno(error)) if crun && error != errno::ENOENT => {
            unsupported(Stage::Home, Errno(error))
        }
        Ok(Found::Nothing) | Err(_) => b"/",
    };
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

fn look_up(uid: u32, crun: bool, buffer: &mut [u8]) -> Result<Found> {
    // It is the container's: a FIFO or a terminal must not stop us.
    let file = call::open_file(c"/etc/passwd", open::NONBLOCK | open::NO_CTTY)?;
    let regular = call::state(file, None)?.mode & S_IFMT == S_IFREG;
    let found = match regular {
        true => search(file, uid, crun, buffer)?,
        false if crun => Found::Unclear,
        false => Found::Nothing,
    };
    call::close(file)?;
    Ok(found)
}

/// Where the home is in the buffer. Reads line by line; a line that is longer than the buffer
/// ends the search.
fn search(file: i32, uid: u32, crun: bool, buffer: &mut [u8]) -> Result<Found> {
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
        let home = match crun {
            true => entry_of(whole, uid),
            false => home_of(whole, uid).map_or(Entry::Missing, Entry::Home),
        };
        match home {
            Entry::Unclear => return Ok(Found::Unclear),
            // One that is not there at all is no part of the buffer.
            Entry::Home([]) => return Ok(Found::Home(0, 0)),
            Entry::Home(home) => {
                let from = home.as_ptr().addr() - buffer.as_ptr().addr();
                return Ok(Found::Home(from, from + home.len()));
            }
            Entry::Missing => {}
        }
        if count == 0 {
            return Ok(if crun && end > 0 && end == buffer.len() {
                Found::Unclear
            } else {
                Found::Nothing
            });
        }
        buffer.copy_within(lines..end, 0);
        filled = end - lines;
    }
}
