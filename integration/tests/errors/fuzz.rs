// SPDX-License-Identifier: Apache-2.0
//! Random messages, random bytes, and clients that hang up.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use wedge_integration::protos::api::WaitRequest;
use wedge_integration::rpc::RpcError;
use wedge_integration::{Rig, ShimUnderTest, Spec, Stdio, TASK_V2, TASK_V3, payload, wait};

use crate::METHODS;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn bytes(&mut self, limit: u64) -> Vec<u8> {
        let count = self.roll(limit);
        (0..count).map(|_| self.roll(256).to_le_bytes()[0]).collect()
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let sides = u64::try_from(all.len()).unwrap_or(1);
        let index = usize::try_from(self.roll(sides)).unwrap_or_default();
        all.get(index).copied().unwrap_or_default()
    }

    /// A message of a few fields, most of them like those of the task API: field 1 is the
    /// container, most others are text, some are numbers.
    fn message(&mut self, id: &str, texts: &[&str]) -> Vec<u8> {
        let mut message = Vec::new();
        for field in 1..=self.roll(11).to_le_bytes()[0] {
            let text = match self.roll(8) {
                0 | 1 => {
                    message.extend([field << 3, self.roll(70).to_le_bytes()[0]]);
                    continue;
                }
                2 => self.bytes(40),
                _ if field == 1 => id.as_bytes().to_vec(),
                _ => self.pick(texts).as_bytes().to_vec(),
            };
            message.extend([field << 3 | 2, text.len().to_le_bytes()[0]]);
            message.extend(text);
        }
        message
    }
}

#[test]
fn random_messages_do_no_harm() -> Result<()> {
    if ShimUnderTest::skips_go("it panics")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let victim = rig.lab.bundle("victim", &Spec::new([payload::PATH, "pause"]))?;
    rig.story_until("start")?;
    let (before, mut dice) = (rig.footprint()?, Dice(0x5eed));
    for round in 0..2000_u64 {
        if round.is_multiple_of(50) && rig.shim.create(&victim, &Stdio::null()).is_ok() {
            rig.shim.start(victim.id(), "")?;
        }
        let method = METHODS[usize::try_from(round)? % METHODS.len()];
        let service = dice.pick(&[TASK_V2, TASK_V3]);
        let bytes = match dice.roll(4) {
            0 => dice.bytes(100),
            _ => dice.message(victim.id(), &["", "", "e1", "e2", "/", "{\"args\":[\"true\"]}"]),
        };
        // A Wait may have reason to last.
        let limit = Duration::from_millis(if method == "Wait" { 50 } else { 20_000 });
        match rig.shim.raw_within(limit, service, method, &bytes) {
            Ok(_) | Err(RpcError::Status { .. }) => {}
            Err(RpcError::Timeout) if method == "Wait" => {}
            Err(error) => panic!("{round}: {method} {bytes:02x?}: {error}"),
        }
    }
    if rig.shim.state(victim.id(), "").is_ok() {
        rig.shim.kill(victim.id(), "", 9, true).ok();
        rig.shim.wait(victim.id(), "")?;
        rig.shim.delete(victim.id(), "")?;
    }
    rig.unchanged_since(&before)?;
    rig.end()
}

#[test]
fn random_bytes_do_no_harm() -> Result<()> {
    if ShimUnderTest::skips_go("it keeps some of the connections")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let (before, mut dice) = (rig.footprint()?, Dice(0xbad));
    for round in 0..300_u32 {
        let mut stream = UnixStream::connect(rig.shim.socket())?;
        stream.set_read_timeout(Some(wait::LIMIT))?;
        for _ in 0..dice.roll(8) {
            let payload = dice.bytes(200);
            // Half of the frames have a true length and an odd stream; all of the rest is dice.
            let sane = dice.roll(2) == 0;
            let len = if sane {
                u32::try_from(payload.len())?
            } else {
                u32::try_from(dice.roll(1 << 32))?
            };
            let id = u32::try_from(dice.roll(1 << 16))? | u32::from(sane);
            let kind = dice.roll(4).to_le_bytes()[0];
            let flags = dice.roll(16).to_le_bytes()[0];
            let header = [&len.to_be_bytes()[..], &id.to_be_bytes(), &[kind, flags]].concat();
            if stream.write_all(&[header, payload].concat()).is_err() {
                break;
            }
        }
        if round.is_multiple_of(2) {
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new()).context("the shim does not close")?;
        }
    }
    rig.unchanged_since(&before)?;
    assert_eq!(rig.shim.state(rig.id(), "")?.id, rig.id());
    rig.end()
}

/// Requests nobody waits for, from clients that are gone before the answer.
#[test]
fn clients_that_hang_up_do_no_harm() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let before = rig.footprint()?;
    let request = WaitRequest { id: rig.id().to_owned(), ..WaitRequest::default() };
    for _ in 0..50 {
        let shim = rig.shim.reconnect()?;
        for _ in 0..20 {
            shim.client().send(TASK_V2, "Wait", &request)?;
        }
    }
    rig.unchanged_since(&before)?;
    rig.end()
}
