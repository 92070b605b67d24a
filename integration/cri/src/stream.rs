// SPDX-License-Identifier: Apache-2.0
//! The streams of containerd's streaming server, over WebSocket: channels in frames, the first
//! byte of which says whose it is (`v4.channel.k8s.io`).

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};
use wedge_integration::wait;

use crate::NetNs;

/// The channels of execs and attachments.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// How long a stream may be silent.
const LIMIT: Duration = Duration::from_secs(20);

/// An exec, an attachment or forwarded ports.
#[derive(Debug)]
pub struct Stream {
    socket: WebSocket<TcpStream>,
    stdout: String,
    stderr: String,
}

/// How an exec or an attachment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// All of standard output, or of the terminal.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
    /// The exit code, when the server told one.
    pub code: Option<i32>,
}

impl Stream {
    /// Connects to a URL that the CRI has returned.
    pub(crate) fn open(netns: &NetNs, url: &str) -> Result<Stream> {
        let address = url.strip_prefix("http://").context("an URL of another scheme")?;
        let (host, _) = address.split_once('/').context("an URL without path")?;
        let tcp = netns.connect(host.parse()?)?;
        tcp.set_read_timeout(Some(wait::scaled(LIMIT)))?;
        let mut request = format!("ws://{address}").into_client_request()?;
        let protocol = HeaderValue::from_static("v4.channel.k8s.io");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (socket, _) = tungstenite::client(request, tcp)?;
        Ok(Stream { socket, stdout: String::new(), stderr: String::new() })
    }

    /// Forwards one port: channel 0 is its data, channel 1 its errors. Each begins with the number
    /// of the port.
    ///
    /// # Errors
    /// The streaming server refuses.
    pub fn forward(netns: &NetNs, url: &str, port: u16) -> Result<Stream> {
        let mut stream = Stream::open(netns, &format!("{url}?port={port}"))?;
        for expected in [0, 1] {
            let (channel, bytes) = stream.next_frame()?.context("no number of a port")?;
            ensure!(channel == expected && bytes == port.to_le_bytes(), "{channel}: {bytes:?}");
        }
        Ok(stream)
    }

    /// Writes to a channel.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        let mut frame = vec![channel];
        frame.extend_from_slice(bytes);
        Ok(self.socket.send(Message::binary(frame))?)
    }

    /// Types text into standard input.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.send(STDIN, text.as_bytes())
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn resize(&mut self, width: u16, height: u16) -> Result<()> {
        let size = format!(r#"{{"Width":{width},"Height":{height}}}"#);
        self.send(RESIZE, size.as_bytes())
    }

    /// The next frame that is not empty, with its channel; none at the end.
    ///
    /// # Errors
    /// The connection is lost, or silent for too long.
    pub fn next_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        loop {
            match self.socket.read() {
                Ok(Message::Binary(frame)) => match frame.split_first() {
                    Some((&channel, bytes)) if !bytes.is_empty() => {
                        return Ok(Some((channel, bytes.to_vec())));
                    }
                    // The first frame of each channel is empty.
                    _ => {}
                },
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => {
                    return Ok(None);
                }
                Ok(other) => bail!("a message of another kind: {other:?}"),
                // Go's server closes without a word.
                Err(tungstenite::Error::Protocol(_)) => return Ok(None),
                Err(error) => return Err(error).context("reading a stream"),
            }
        }
    }

    /// Reads until standard output contains `text`.
    ///
    /// # Errors
    /// It ends before.
    pub fn wait_stdout(&mut self, text: &str) -> Result<()> {
        while !self.stdout.contains(text) {
            let frame = self.next_frame()?;
            let (channel, bytes) = frame.with_context(|| format!("the end: {self:?}"))?;
            ensure!(channel != ERROR, "the end: {}", String::from_utf8_lossy(&bytes));
            self.keep(channel, &bytes);
        }
        Ok(())
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// It does not end, or the server reports another failure than that of the command.
    pub fn end(mut self) -> Result<End> {
        let mut code = None;
        while let Some((channel, bytes)) = self.next_frame()? {
            if channel == ERROR {
                code = Some(exit_code(&serde_json::from_slice(&bytes)?)?);
            }
            self.keep(channel, &bytes);
        }
        Ok(End { stdout: self.stdout, stderr: self.stderr, code })
    }

    fn keep(&mut self, channel: u8, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        match channel {
            STDOUT => self.stdout.push_str(&text),
            STDERR => self.stderr.push_str(&text),
            _ => {}
        }
    }
}

/// The exit code in a `Status` of Kubernetes.
fn exit_code(status: &Value) -> Result<i32> {
    if status.pointer("/status").is_some_and(|text| text == "Success") {
        return Ok(0);
    }
    let at = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let reasons = (at("/reason"), at("/details/causes/0/reason"));
    ensure!(reasons == ("NonZeroExitCode", "ExitCode"), "{status}");
    at("/details/causes/0/message").parse().with_context(|| format!("{status}"))
}
