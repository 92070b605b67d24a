// SPDX-License-Identifier: Apache-2.0
//! Writing a plan.

use alloc::vec::Vec;

use crate::header::{Header, Slice};
use crate::{LIMIT, MAGIC, VERSION};

/// Collects what the header's slices point to, then writes the whole.
#[derive(Debug, Default)]
pub struct Encoder {
    /// What follows the header.
    body: Vec<u8>,
}

impl Encoder {
    /// An empty plan.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// Adds bytes, aligned for every type of the kernel's interface.
    pub fn bytes(&mut self, bytes: &[u8]) -> Slice {
        self.align();
        let offset = self.offset();
        self.body.extend_from_slice(bytes);
        Slice { offset, len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
    }

    /// Adds one string; what follows a NUL in it is lost.
    pub fn string(&mut self, text: &[u8]) -> Slice {
        let offset = self.offset();
        self.body.extend_from_slice(text);
        self.body.push(0);
        Slice { offset, len: u32::try_from(text.len()).unwrap_or(u32::MAX) }
    }

    /// Adds strings, and `room` free entries for the helper to fill.
    pub fn table<T: AsRef<[u8]>>(
        &mut self,
        strings: impl IntoIterator<Item = T>,
        room: usize,
    ) -> Slice {
        let mut entries = Vec::new();
        for text in strings {
            let at = u64::from(self.string(text.as_ref()).offset);
            entries.extend_from_slice(&at.to_ne_bytes());
        }
        entries.resize(entries.len() + (room + 1) * size_of::<u64>(), 0);
        self.bytes(&entries)
    }

    /// The plan. `None` when it is longer than [`LIMIT`].
    pub fn finish(self, header: Header) -> Option<Vec<u8>> {
        // The last byte is a NUL, so that every string ends.
        let length = Header::SIZE + self.body.len() + 1;
        if length > LIMIT {
            return None;
        }
        let total = u32::try_from(length).ok()?;
        let mut plan = Vec::with_capacity(length);
        Header { magic: MAGIC, version: VERSION, total, ..header }.write(&mut plan);
        plan.extend_from_slice(&self.body);
        plan.push(0);
        Some(plan)
    }

    fn offset(&self) -> u32 {
        u32::try_from(Header::SIZE + self.body.len()).unwrap_or(u32::MAX)
    }

    fn align(&mut self) {
        while !(Header::SIZE + self.body.len()).is_multiple_of(8) {
            self.body.push(0);
        }
    }
}
