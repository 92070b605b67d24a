// SPDX-License-Identifier: Apache-2.0
//! Messages on the nursery's socket: one packet each.

/// Bytes of a request: the number the shim gives it, a native `u32`. Its descriptors come along, and
/// the answer is the same number: a joiner was born.
pub const REQUEST: usize = 4;
