// SPDX-License-Identifier: Apache-2.0
//! A plan as the helper reads it.

use core::ffi::CStr;

use crate::header::{Field, Header, Slice, flags};
use crate::{LIMIT, MAGIC, MAX_INSTRUCTIONS, VERSION};

/// A plan is broken: nothing in it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid;

/// A checked plan: every slice is inside, every string ends, every table is aligned.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    bytes: &'a [u8],
    header: Header,
}

impl<'a> Plan<'a> {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// [`Invalid`], whatever is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Plan<'a>, Invalid> {
        let header = Header::read(bytes).ok_or(Invalid)?;
        let plan = Plan { bytes, header };
        let known = header.magic == MAGIC
            && header.version == VERSION
            && header.flags & !flags::ALL == 0
            && bytes.len() <= LIMIT
            && usize::try_from(header.total).is_ok_and(|total| total == bytes.len())
            // So that any offset inside is the start of a string that ends.
            && bytes.last() == Some(&0);
        (known && plan.slices() && plan.tables()).then_some(plan).ok_or(Invalid)
    }

    /// The fixed part.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether `flag` of [`flags`] is set.
    pub fn has(&self, flag: u32) -> bool {
        self.header.flags & flag != 0
    }

    /// The bytes of a slice of the header; nothing for one that is not inside.
    pub fn slice(&self, slice: Slice) -> &'a [u8] {
        self.inside(slice).unwrap_or_default()
    }

    /// The string a slice of the header is, up to its first NUL.
    pub fn string(&self, slice: Slice) -> &'a CStr {
        self.text_at(u64::from(slice.offset)).unwrap_or_default()
    }

    /// How many entries a table has, without the final null.
    pub fn entries(&self, table: Slice) -> usize {
        self.slice(table).len() / ENTRY - 1
    }

    /// Entry `index` of a table: a string, or nothing for a null.
    pub fn entry(&self, table: Slice, index: usize) -> Option<&'a CStr> {
        match u64::read(self.slice(table), index.checked_mul(ENTRY)?)? {
            0 => None,
            offset => self.text_at(offset),
        }
    }

    /// Entry `index` of a slice of `u32`.
    pub fn number(&self, slice: Slice, index: usize) -> Option<u32> {
        u32::read(self.slice(slice), index.checked_mul(4)?)
    }

    fn text_at(&self, offset: u64) -> Option<&'a CStr> {
        let from = usize::try_from(offset).ok()?;
        CStr::from_bytes_until_nul(self.bytes.get(from..)?).ok()
    }

    fn inside(&self, slice: Slice) -> Option<&'a [u8]> {
        let from = usize::try_from(slice.offset).ok()?;
        let len = usize::try_from(slice.len).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    fn slices(&self) -> bool {
        let header = &self.header;
        let aligned = |slice: Slice, to: u32| {
            slice.offset.is_multiple_of(8)
                && slice.len.is_multiple_of(to)
                && self.inside(slice).is_some()
        };
        let masks = [header.initial_cpus, header.last_cpus];
        let strings = [header.keyring, header.apparmor, header.cwd];
        masks.into_iter().all(|mask| aligned(mask, 8))
            && aligned(header.scheduler, 8)
            && aligned(header.groups, 4)
            && aligned(header.limits, 24)
            && aligned(header.seccomp, 8)
            && self.slice(header.seccomp).len() / 8 <= MAX_INSTRUCTIONS
            && strings.into_iter().all(|text| self.inside(text).is_some())
            && !self.string(header.cwd).is_empty()
    }

    fn tables(&self) -> bool {
        let header = &self.header;
        let room = usize::from(self.has(flags::FIND_HOME));
        self.table(header.cgroups, 0)
            && self.table(header.candidates, 0)
            && self.table(header.arguments, 0)
            && self.table(header.environment, room)
            && self.entries(header.arguments) > 0
    }

    /// Strings, then `room` free entries, then the null.
    fn table(&self, table: Slice, room: usize) -> bool {
        let Some(bytes) = self.inside(table) else { return false };
        let aligned = table.offset.is_multiple_of(8) && bytes.len().is_multiple_of(ENTRY);
        let Some(strings) = (bytes.len() / ENTRY).checked_sub(room + 1) else { return false };
        aligned
            && (0..strings).all(|index| self.entry(table, index).is_some())
            && (strings..=strings + room).all(|index| u64::read(bytes, index * ENTRY) == Some(0))
    }
}

/// Bytes of a table's entry: an offset in the plan, which the helper makes a pointer.
const ENTRY: usize = 8;

#[cfg(test)]
mod tests;
