// SPDX-License-Identifier: Apache-2.0
//! The shim itself: wiring, signals, shutdown.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wedge_reaper::{Reaper, Signals};
use wedge_task::{EventSink, Sandbox, Stamped};

use crate::args::{Flags, Program};
use crate::config::Config;
use crate::confine;
use crate::debug;
use crate::error::Error;
use crate::logger::Logger;
use crate::memory;
use crate::publisher::{Feed, Publisher};
use crate::server::Server;
use crate::socket::{self, Bound, Socket, SocketFile};
use crate::start::current_bundle;

/// The descriptor under which `start` passes the listening socket.
pub(crate) const LISTENER: RawFd = 3;

/// What a shim that serves handles. `start` has them blocked until it does.
pub(crate) const HANDLED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1];

/// How long answers that are under way at shutdown may take, that to Shutdown above all.
const LAST_REPLIES: Duration = Duration::from_millis(100);

/// Serves the task API until told to shut down.
///
/// # Errors
/// When there is no socket to serve, or the process cannot be set up.
pub fn serve(program: &Program, flags: &Flags) -> Result<(), Error> {
    memory::keep_to_ourselves();
    // The socket first: should descriptor 3 be free, nothing of ours may be found there.
    let socket = take_socket(flags);
    let bundle = current_bundle()?;
    Logger::to_fifo(&bundle.log_fifo(), program.runtime(), &flags.namespace).install(flags.debug);
    let config = Config::of_server(flags)?;
    let system = |action| move |source| Error::System { action, source };
    wedge_sys::ignore_sigpipe().map_err(system("ignore SIGPIPE"))?;
    confine::become_subreaper()?;
    if let Err(err) = wedge_sys::close_on_exec_from(3) {
        log::debug!("inherited descriptors stay inheritable: {err}");
    }
    if let Err(err) = wedge_sys::raise_descriptor_limit() {
        log::warn!("no more descriptors than by default: {err}");
    }
    let runtime = runtime()?;
    let result = runtime.block_on(async { Shim::new(flags, config, socket?)?.run().await });
    // A blocked pool thread must not hold up the exit.
    runtime.shutdown_background();
    result
}

/// One thread for everything; more for umount, log files and the like, gone when idle: enough of them
/// that some which hang, on a network, do not hold up the others.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(32)
        // The buffer for 1024 is three pages.
        .max_io_events_per_tick(64)
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
    state: Arc<State>,
    event_drain: Duration,
    listener: UnixListener,
    file: SocketFile,
    sandbox: Arc<Sandbox>,
    /// Run until the process ends: the reaper, and who answers on the debug socket.
    background: JoinSet<io::Result<()>>,
    debug_file: Option<SocketFile>,
    events: Events,
    signals: Signals,
}

impl<'a> Shim<'a> {
    fn new(flags: &'a Flags, config: Config, socket: Socket) -> Result<Shim<'a>, Error> {
        let system = |action| move |source| Error::System { action, source };
        let signals = Signals::new(HANDLED.map(|signal| signal as i32));
        let signals = signals.map_err(system("handle signals"))?;
        let unblocked = HANDLED.into_iter().collect::<SigSet>().thread_unblock();
        unblocked.map_err(|err| system("handle signals")(err.into()))?;
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
        let settings = config.changes();
        let sandbox = Sandbox::new(flags.namespace.clone(), reaper, sink, config.task);
        let state = Arc::new(State { sandbox: Arc::clone(&sandbox), settings });
        let debug_file = flags.debug_socket.as_deref().and_then(debug::open).map(|debug| {
            let ((listener, file), state) = (debug, Arc::clone(&state));
            background.spawn(debug::serve(listener, move || state.to_string()));
            file
        });
        let event_drain = config.event_drain;
        Ok(Shim {
            flags,
            state,
            event_drain,
            listener,
            file,
            sandbox,
            background,
            debug_file,
            events,
            signals,
        })
    }

    fn server(&mut self) -> Server {
        let server = Server::new(Arc::clone(&self.sandbox));
        let rest = server.rest();
        self.background.spawn(async move { match rest.watch(memory::release).await {} });
        server
    }

    async fn run(mut self) -> Result<(), Error> {
        log::info!(id = self.flags.id; "serving tasks");
        for setting in &self.state.settings {
            log::info!(id = self.flags.id; "configured: {setting}");
        }
        let server = self.server();
        let mut server = std::pin::pin!(server.serve(self.listener));
        let mut serving = true;
        loop {
            let reason = tokio::select! {
                () = &mut server => {
                    serving = false;
                    "the server ended"
                }
                () = self.sandbox.closed() => "asked to",
                signal = self.signals.recv() => match to_end(signal) {
                    Some(name) => name,
                    None => {
                        dump(&self.state);
                        continue;
                    }
                },
                _ = self.background.join_next() => "the reaper ended",
            };
            log::info!(id = self.flags.id; "shutting down: {reason}");
            break;
        }
        // First of all, so that no new task is sent here: its address must lead nowhere.
        remove_files([Some(&self.file), self.debug_file.as_ref()]);
        // Whatever is still under way is answered while the last events are delivered.
        let replies = async {
            if serving && timeout(LAST_REPLIES, &mut server).await.is_ok() {
                log::error!("the server ended");
            }
        };
        let (drained, ()) = tokio::join!(timeout(self.event_drain, self.events.finish()), replies);
        if drained.is_err() {
            log::warn!("shim shutdown timeout: events are lost");
        }
        Ok(())
    }
}

/// What an operator may want to know of a running shim.
struct State {
    sandbox: Arc<Sandbox>,
    /// Those that are not the default.
    settings: Vec<String>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sandbox.dump())?;
        self.settings.iter().try_for_each(|setting| write!(f, "\nconfigured: {setting}"))
    }
}

/// The name of a signal that ends us; the one other that is handled does not.
fn to_end(signal: i32) -> Option<&'static str> {
    match signal {
        libc::SIGTERM => Some("SIGTERM"),
        libc::SIGINT => Some("SIGINT"),
        _ => None,
    }
}

/// The sockets, by the paths they are bound to.
fn remove_files(files: [Option<&SocketFile>; 2]) {
    for file in files.into_iter().flatten() {
        if let Err(err) = file.remove() {
            log::warn!("failed to remove a socket: {}", err.chain());
        }
    }
}

/// The words around it are those of containerd's own shim, which operators look for.
fn dump(state: &State) {
    log::info!("=== BEGIN goroutine stack dump ===");
    for line in state.to_string().lines() {
        log::info!("{line}");
    }
    log::info!("=== END goroutine stack dump ===");
}

/// The publisher, and what tells it that no more is wanted than has happened.
struct Events {
    close: oneshot::Sender<()>,
    publisher: JoinSet<()>,
}

impl Events {
    fn publish(publisher: Publisher, events: mpsc::UnboundedReceiver<Stamped>) -> Events {
        let (feed, close) = Feed::new(events);
        let mut tasks = JoinSet::new();
        tasks.spawn(publisher.run(feed));
        Events { close, publisher: tasks }
    }

    /// Resolves when everything that happened so far was delivered or given up.
    async fn finish(mut self) {
        // Dropping it closes them too.
        drop(self.close);
        while self.publisher.join_next().await.is_some() {}
    }
}
