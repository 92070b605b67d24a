// SPDX-License-Identifier: Apache-2.0
//! What tests and the program `wedge-payload` (src/bin/wedge-payload) have to agree on.

/// Where the payload is in the root file system.
pub const PATH: &str = "/bin/wedge-payload";

/// The bytes `wedge-payload print LEN` prints: a period that no buffer size divides, so that a
/// lost, doubled or moved block shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// Asserts that `bytes` are exactly [`pattern`]`(len)`, and says where they first differ.
#[track_caller]
pub fn assert_pattern(bytes: &[u8], len: usize) {
    let expected = pattern(len);
    let differs = bytes.iter().zip(&expected).position(|(seen, expected)| seen != expected);
    let seen = bytes.len();
    assert!(
        differs.is_none() && seen == len,
        "{seen} of {len} bytes, first difference at {differs:?}"
    );
}
