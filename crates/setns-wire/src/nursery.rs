// SPDX-License-Identifier: Apache-2.0
//! Messages on the nursery's socket: one packet each.

/// Bytes of a request: the number the shim gives it, a native `u32`. Its descriptors come along.
pub const REQUEST: usize = 4;

/// Bytes of the answer.
pub const BIRTH: usize = 8;

/// A joiner was born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// The number of the request.
    pub number: u32,
    /// Its pid.
    pub pid: u32,
}

impl Birth {
    /// As a packet.
    pub fn encode(self) -> [u8; BIRTH] {
        let ([n0, n1, n2, n3], [p0, p1, p2, p3]) =
            (self.number.to_ne_bytes(), self.pid.to_ne_bytes());
        [n0, n1, n2, n3, p0, p1, p2, p3]
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Option<Birth> {
        let packet: [u8; BIRTH] = packet.try_into().ok()?;
        let [n0, n1, n2, n3, p0, p1, p2, p3] = packet;
        Some(Birth {
            number: u32::from_ne_bytes([n0, n1, n2, n3]),
            pid: u32::from_ne_bytes([p0, p1, p2, p3]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_survives_the_socket() {
        let birth = Birth { number: 7, pid: 4_000_000 };
        assert_eq!(Birth::decode(&birth.encode()), Some(birth));
        assert_eq!(Birth::decode(&[0; BIRTH - 1]), None);
        assert_eq!(Birth::decode(&[0; BIRTH + 1]), None);
    }
}
