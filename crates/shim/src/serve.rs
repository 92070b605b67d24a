// SPDX-License-Identifier: Apache-2.0
//! The shim itself: wiring, signals, shutdown.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wedge_reaper::Reaper;
use wedge_task::{EventSink, Sandbox, Stamped};

use crate::args::{Flags, Program};
use crate::confine;
use crate::error::Error;
use crate::logger::Logger;
use crate::publisher::Publisher;
use crate::server::Server;
use crate::socket::{self, Bound, Socket, SocketFile};
use crate::start::current_bundle;

/// The descriptor under which `start` passes the listening socket.
pub(crate) const LISTENER: RawFd = 3;

/// How long events that are queued at shutdown may take to reach containerd.
const DRAIN: Duration = Duration::from_secs(5);

/// How long answers that are under way at shutdown may take, that to Shutdown above all.
const LAST_REPLIES: Duration = Duration::from_millis(100);

/// Serves the task API until told to shut down.
///
/// # Errors
/// When there is no socket to serve, or the process cannot be set up.
pub fn serve(program: &Program, flags: &Flags) -> Result<(), Error> {
    // The socket first: should descriptor 3 be free, nothing of ours may be found there.
    let socket = take_socket(flags);
    let bundle = current_bundle()?;
    Logger::to_fifo(&bundle.log_fifo(), program.runtime(), &flags.namespace).install(flags.debug);
    let system = |action| move |source| Error::System { action, source };
    wedge_sys::ignore_sigpipe().map_err(system("ignore SIGPIPE"))?;
    confine::become_subreaper()?;
    if let Err(err) = wedge_sys::close_on_exec_from(3) {
        log::debug!("inherited descriptors stay inheritable: {err}");
    }
    let runtime = runtime()?;
    let result = runtime.block_on(async { Shim::new(flags, socket?)?.run().await });
    // A blocked pool thread must not hold up the exit.
    runtime.shutdown_background();
    result
}

/// One thread for everything; a few more for umount and the like, gone when idle.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(|source| Error::System { action: "start the event loop", source })
}

fn take_socket(flags: &Flags) -> Result<Socket, Error> {
    let Some(path) = &flags.socket else {
        return wedge_sys::take_inherited(LISTENER)
            .and_then(Socket::adopt)
            .map_err(|source| Error::System { action: "take over the inherited socket", source });
    };
    match socket::take(path)? {
        Bound::Fresh(socket) => Ok(socket),
        Bound::Live => Err(Error::File {
            action: "listen on",
            path: path.clone(),
            source: io::ErrorKind::AddrInUse.into(),
        }),
    }
}

/// The parts of a running shim.
struct Shim<'a> {
    flags: &'a Flags,
    listener: UnixListener,
    file: SocketFile,
    sandbox: Arc<Sandbox>,
    /// Runs until the process ends: the reaper.
    background: JoinSet<io::Result<()>>,
    events: Events,
    signals: Signals,
}

impl<'a> Shim<'a> {
    fn new(flags: &'a Flags, socket: Socket) -> Result<Shim<'a>, Error> {
        let system = |action| move |source| Error::System { action, source };
        let signals = Signals::new().map_err(system("handle signals"))?;
        let (listener, file) = socket.into_parts();
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener))
            .map_err(system("listen"))?;
        let reaper = Reaper::new();
        let mut background = JoinSet::new();
        background.spawn(reaper.clone().run());
        let (sink, events) = EventSink::channel();
        let address = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
        let publisher = Publisher::new(address, flags.namespace.clone());
        let events = Events::publish(publisher, events);
        let sandbox = Sandbox::new(flags.namespace.clone(), reaper, sink);
        Ok(Shim { flags, listener, file, sandbox, background, events, signals })
    }

    async fn run(mut self) -> Result<(), Error> {
        log::info!(id = self.flags.id; "serving tasks");
        let server = Server::new(Arc::clone(&self.sandbox)).serve(self.listener);
        let mut server = std::pin::pin!(server);
        let mut serving = true;
        loop {
            let reason = tokio::select! {
                () = &mut server => {
                    serving = false;
                    "the server ended"
                }
                () = self.sandbox.closed() => "asked to",
                _ = self.signals.terminate.recv() => "SIGTERM",
                _ = self.signals.interrupt.recv() => "SIGINT",
                _ = self.background.join_next() => "the reaper ended",
                _ = self.signals.dump.recv() => {
                    dump(&self.sandbox);
                    continue;
                }
            };
            log::info!(id = self.flags.id; "shutting down: {reason}");
            break;
        }
        // First of all, so that no new task is sent here: its address must lead nowhere.
        remove_files(self.flags, &self.file);
        // Whatever is still under way is answered while the last events are delivered.
        let replies = async {
            if serving && timeout(LAST_REPLIES, &mut server).await.is_ok() {
                log::error!("the server ended");
            }
        };
        let (drained, ()) = tokio::join!(timeout(DRAIN, self.events.finish()), replies);
        if drained.is_err() {
            log::warn!("shim shutdown timeout: events are lost");
        }
        Ok(())
    }
}

/// The socket, by the path it is bound to, and the debug socket we were told of.
fn remove_files(flags: &Flags, file: &SocketFile) {
    if let Err(err) = file.remove() {
        log::warn!("failed to remove the socket: {}", err.chain());
    }
    if let Some(path) = &flags.debug_socket
        && let Err(err) = socket::remove_stale(path)
    {
        log::warn!("failed to remove the debug socket: {}", err.chain());
    }
}

/// The words around it are those of containerd's own shim, which operators look for.
fn dump(sandbox: &Sandbox) {
    log::info!("=== BEGIN goroutine stack dump ===");
    for line in sandbox.dump().lines() {
        log::info!("{line}");
    }
    log::info!("=== END goroutine stack dump ===");
}

/// The way of events to the publisher, which can be closed although containers go on: what is
/// queued then is delivered, and nothing is taken any more.
struct Events {
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

impl Events {
    fn publish(publisher: Publisher, events: mpsc::UnboundedReceiver<Stamped>) -> Events {
        let (stop, stopped) = oneshot::channel();
        let (to_publisher, queue) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(relay(events, to_publisher, stopped));
        tasks.spawn(publisher.run(queue));
        Events { stop, tasks }
    }

    /// Resolves when everything that happened so far was delivered or given up.
    async fn finish(mut self) {
        // Fails when the relay has ended already, which comes to the same.
        self.stop.send(()).unwrap_or_default();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn relay(
    mut events: mpsc::UnboundedReceiver<Stamped>,
    to_publisher: mpsc::UnboundedSender<Stamped>,
    stopped: oneshot::Receiver<()>,
) {
    let mut stopped = std::pin::pin!(stopped);
    let mut open = true;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = &mut stopped, if open => {
                open = false;
                events.close();
                continue;
            }
        };
        let Some(event) = event else { return };
        if to_publisher.send(event).is_err() {
            return;
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    dump: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            dump: signal(SignalKind::user_defined1())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wedge_task::Event;

    #[test]
    fn events_queued_at_shutdown_are_passed_on_and_later_ones_are_not() {
        runtime().unwrap().block_on(async {
            let (sink, events) = EventSink::channel();
            let (to_publisher, mut queue) = mpsc::unbounded_channel();
            let (stop, stopped) = oneshot::channel();
            for number in 0..3 {
                sink.send(Event::Paused { container_id: number.to_string() });
            }
            stop.send(()).unwrap();
            // The sink lives on, as it does in a task whose container runs.
            relay(events, to_publisher, stopped).await;
            sink.send(Event::Paused { container_id: "late".to_owned() });
            let mut passed = Vec::new();
            while let Some(stamped) = queue.recv().await {
                if let Event::Paused { container_id } = stamped.event {
                    passed.push(container_id);
                }
            }
            assert_eq!(passed, ["0", "1", "2"]);
        });
    }
}
