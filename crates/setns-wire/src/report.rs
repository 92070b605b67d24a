// SPDX-License-Identifier: Apache-2.0
//! Messages on the control socket: one packet each.

/// What the shim sends, a single byte: the process that waits has its limits.
pub const GO: u8 = 1;
/// The longest text of a report, in bytes.
pub const AUX: usize = 240;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The terminal's master comes with this packet.
    Terminal = 1,
    /// Everything is done but the seccomp filter and execve. The end of the socket then means
    /// success.
    Ready,
    /// It cannot be done, by anybody: stage and errno say why.
    Failed,
    /// It cannot be done here: the OCI runtime may know how. Nothing visible has happened.
    Unsupported,
    /// It waits for its limits, and [`GO`].
    Waiting,
    /// There is no joiner: errno says why. From the nursery.
    NotBorn,
}

/// A packet of the helper.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What happened.
    pub kind: Kind,
    /// A [`crate::Stage`] as a number.
    pub stage: u32,
    /// The error of the system call, 0: none.
    pub errno: i32,
    /// A path or the like.
    pub aux: &'a [u8],
}

/// The fixed part of a packet.
const FIXED: usize = 12;
/// The longest packet, in bytes.
pub const PACKET: usize = FIXED + AUX;

impl<'a> Report<'a> {
    /// Writes the packet; returns its length.
    pub fn encode(&self, out: &mut [u8; PACKET]) -> usize {
        let aux = self.aux.get(..AUX).unwrap_or(self.aux);
        let fixed = [self.kind as u32, self.stage, self.errno.cast_unsigned()];
        let bytes = fixed.iter().flat_map(|word| word.to_ne_bytes()).chain(aux.iter().copied());
        for (place, byte) in out.iter_mut().zip(bytes) {
            *place = byte;
        }
        FIXED + aux.len()
    }

    /// Reads a packet.
    pub fn decode(packet: &'a [u8]) -> Option<Report<'a>> {
        let (fixed, aux) = packet.split_at_checked(FIXED)?;
        let mut words =
            fixed.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_ne_bytes));
        let kind = match words.next()? {
            1 => Kind::Terminal,
            2 => Kind::Ready,
            3 => Kind::Failed,
            4 => Kind::Unsupported,
            5 => Kind::Waiting,
            6 => Kind::NotBorn,
            _ => return None,
        };
        let stage = words.next()?;
        let errno = words.next()?.cast_signed();
        (aux.len() <= AUX).then_some(Report { kind, stage, errno, aux })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_socket_and_its_text_is_cut() {
        let long = [b'x'; AUX + 50];
        for aux in [&b""[..], b"/bin/sh", &long] {
            let report = Report { kind: Kind::Failed, stage: 7, errno: -2, aux };
            let mut packet = [0; PACKET];
            let length = report.encode(&mut packet);
            let back = Report::decode(&packet[..length]).unwrap();
            assert_eq!((back.kind, back.stage, back.errno), (Kind::Failed, 7, -2));
            assert_eq!(back.aux, &aux[..aux.len().min(AUX)]);
        }
        assert!(Report::decode(&[0; FIXED - 1]).is_none());
        assert!(Report::decode(&[0; FIXED]).is_none(), "there is no kind 0");
    }
}
