// SPDX-License-Identifier: Apache-2.0
//! `-debug-socket`: the state of the shim for who asks by HTTP, as SIGUSR1 logs it.
//!
//! A shim of containerd's that was built with profiling serves Go's profiles here. The one that is
//! text and asked for when a shim hangs, `/debug/pprof/goroutine`, is this one's state; of the
//! others there is nothing to tell.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::socket::{self, Bound, SocketFile};

/// How long one client may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The pause after a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_secs(1);

/// As much of a request as is read.
const REQUEST_LIMIT: usize = 4096;

/// Listens at `path`, mode 0600. Without it the shim works as well, so a failure is only logged.
pub(crate) fn open(path: &Path) -> Option<(UnixListener, SocketFile)> {
    bind(path)
        .inspect_err(|err| log::warn!("failed to serve the debug socket: {}", err.chain()))
        .ok()
}

fn bind(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    let failed = |source| Error::File { action: "listen on", path: path.to_owned(), source };
    let Bound::Fresh(socket) = socket::take(path)? else {
        return Err(failed(io::ErrorKind::AddrInUse.into()));
    };
    let (listener, file) = socket.into_parts();
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((UnixListener::from_std(listener).map_err(failed)?, file))
}

/// Answers one client after the other, for ever.
pub(crate) async fn serve(listener: UnixListener, state: impl Fn() -> String) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match timeout(LIMIT, talk(stream, &state)).await {
                Ok(Ok(())) => {}
                Ok(Err(err)) => log::debug!("a client of the debug socket went away: {err}"),
                Err(_) => log::debug!("a client of the debug socket was too slow"),
            },
            Err(err) => {
                log::warn!("failed to accept on the debug socket: {err}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn talk(mut stream: UnixStream, state: impl Fn() -> String) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_LIMIT {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    stream.write_all(answer(&request, state).as_bytes()).await?;
    stream.shutdown().await
}

fn answer(request: &[u8], state: impl Fn() -> String) -> String {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        ("GET", "/debug/pprof/goroutine") => ("200 OK", state() + "\n"),
        ("GET", _) => (
            "404 Not Found",
            "this shim has no Go profiles, only its state: GET /debug/pprof/goroutine\n".to_owned(),
        ),
        _ => ("405 Method Not Allowed", "only GET is served\n".to_owned()),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_state_is_told() {
        let table = [
            ("GET /debug/pprof/goroutine?debug=2 HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "state\n"),
            ("GET /debug/pprof/goroutine HTTP/1.0\r\n\r\n", "200 OK", "state\n"),
            ("GET /debug/pprof/heap HTTP/1.1\r\n\r\n", "404 Not Found", "goroutine\n"),
            ("POST /debug/pprof/goroutine HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "served\n"),
            ("", "405 Method Not Allowed", "served\n"),
        ];
        for (request, status, end) in table {
            let answer = answer(request.as_bytes(), || "state".to_owned());
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
            assert!(body.ends_with(end), "{answer}");
        }
    }
}
