// SPDX-License-Identifier: Apache-2.0
//! A connection to containerd's event service that has one call at a time.
//!
//! The client of the `ttrpc` crate has a task and a queue for each direction and one more for each
//! answer, which cost an exec with its three events more than the rest of its calls.

use std::io;
use std::time::Duration;

use containerd_shim_protos::api::ForwardRequest;
use protobuf::Message;
use tokio::net::UnixStream;
use ttrpc::proto::{MESSAGE_TYPE_RESPONSE, MessageHeader, Request, Response, Status};

use crate::wire::{Frames, ReadHalf, WriteHalf, split, write_frame};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// A connection.
#[derive(Debug)]
pub(super) struct Channel {
    from: Frames<ReadHalf>,
    to: WriteHalf,
    /// The id of the next call's stream: a client's are odd.
    stream_id: u32,
}

impl Channel {
    pub(super) async fn connect(path: &str) -> io::Result<Channel> {
        let (from, to) = split(UnixStream::connect(path).await?)?;
        Ok(Channel { from: Frames::new(from), to, stream_id: 1 })
    }

    /// Forwards one event, and returns containerd's answer. After an error, or when this was
    /// dropped half-way, the connection is of no more use.
    pub(super) async fn forward(
        &mut self,
        event: &ForwardRequest,
        limit: Duration,
    ) -> io::Result<Status> {
        let request = Request {
            service: SERVICE.to_owned(),
            method: "Forward".to_owned(),
            timeout_nano: i64::try_from(limit.as_nanos()).unwrap_or_default(),
            payload: event.write_to_bytes()?,
            ..Default::default()
        };
        let stream_id = self.stream_id;
        self.stream_id = stream_id.checked_add(2).ok_or(io::ErrorKind::QuotaExceeded)?;
        let header = |length| MessageHeader::new_request(stream_id, length);
        write_frame(&mut self.to, &request, header).await?;
        let frame = self.from.next().await?.ok_or(io::ErrorKind::ConnectionReset)?;
        let is_answer =
            (frame.header.stream_id, frame.header.type_) == (stream_id, MESSAGE_TYPE_RESPONSE);
        let payload = frame.payload.filter(|_| is_answer);
        let payload = payload.ok_or_else(|| io::Error::other("not an answer"))?;
        Ok(Response::parse_from_bytes(&payload)?.status.unwrap_or_default())
    }
}
