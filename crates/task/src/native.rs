// SPDX-License-Identifier: Apache-2.0
//! Execs without the OCI runtime: whether they are possible, and what is kept for them.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use wedge_oci::ChildIo;
use wedge_runc::Dialect;
use wedge_setns::{Container, Failure, Host, Place, Started, Stdio, Unsupported};

use crate::commands::unknown;
use crate::error::{Error, Result};
use crate::lock;
use crate::process::Process;
use crate::settings::ExecPath;
use crate::task::Task;

/// A link to the program of this process, also when its file was replaced.
const OURSELVES: &str = "/proc/self/exe";

/// What the containers of a shim share.
#[derive(Debug, Default)]
pub(crate) struct Node {
    host: OnceLock<Host>,
    native: AtomicU64,
    fallbacks: AtomicU64,
}

impl Node {
    /// Made at the first exec: a shim without one pays nothing. Tried again after a failure, which
    /// may have been a lack of descriptors.
    pub(crate) fn host(&self) -> Result<&Host, Unsupported> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let host = Host::new(OURSELVES)?;
        Ok(self.host.get_or_init(|| host))
    }
}

/// For the dump.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(f, "{} native, {} by the OCI runtime", count(&self.native), count(&self.fallbacks))
    }
}

/// A container's facts, or why execs of ours cannot be as the OCI runtime's.
type Facts = Result<Arc<Container>, Unsupported>;

/// What is known of a container.
#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Facts(Arc<Container>),
    Unsupported(Unsupported),
    /// The container is gone (I11); why its execs were the OCI runtime's, for the dump.
    Gone(Option<Unsupported>),
}

/// One container's share.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) node: Arc<Node>,
    known: Mutex<Known>,
    /// Queues the first execs, so that the facts are gathered once.
    gathering: tokio::sync::Mutex<()>,
    /// Why the last exec that went to the OCI runtime did.
    last: Mutex<Option<Unsupported>>,
}

impl Native {
    pub(crate) fn new(node: Arc<Node>) -> Native {
        Native {
            node,
            known: Mutex::default(),
            gathering: Default::default(),
            last: Mutex::default(),
        }
    }

    /// The container may have changed: it is looked at again when that is needed. Waits for a look
    /// under way, which may have seen what was before.
    pub(crate) async fn forget(&self) {
        let _queue = self.gathering.lock().await;
        let mut known = lock(&self.known);
        if !matches!(*known, Known::Gone(_)) {
            *known = Known::Nothing;
        }
    }

    /// The container has ended: lets go of its init and its cgroup.
    pub(crate) fn close(&self) {
        let reason = self.reason();
        *lock(&self.known) = Known::Gone(reason);
    }

    /// Why execs of this container go to the OCI runtime, if that is the container's doing.
    pub(crate) fn reason(&self) -> Option<Unsupported> {
        match &*lock(&self.known) {
            Known::Unsupported(reason) | Known::Gone(Some(reason)) => Some(reason.clone()),
            Known::Nothing | Known::Facts(_) | Known::Gone(None) => None,
        }
    }

    pub(crate) fn count(&self) {
        self.node.native.fetch_add(1, Ordering::Relaxed);
    }

    /// An exec goes to the OCI runtime. The reason is logged when it is another than the last time:
    /// a probe has the same each second.
    fn fall_back(&self, id: &str, reason: Unsupported) {
        self.node.fallbacks.fetch_add(1, Ordering::Relaxed);
        let mut last = lock(&self.last);
        if last.as_ref() != Some(&reason) {
            log::info!(id = id; "an exec is the OCI runtime's: {reason}");
            *last = Some(reason);
        }
    }

    fn look(&self) -> Option<Facts> {
        match &*lock(&self.known) {
            Known::Nothing => None,
            Known::Facts(facts) => Some(Ok(facts.clone())),
            Known::Unsupported(reason) => Some(Err(reason.clone())),
            Known::Gone(_) => Some(Err(gone())),
        }
    }

    /// Keeps what stays true: not that there was no descriptor to be had for a look at it.
    fn keep(&self, loaded: &Facts) {
        let mut known = lock(&self.known);
        if matches!(*known, Known::Nothing) {
            *known = match loaded {
                Ok(facts) => Known::Facts(facts.clone()),
                Err(reason) if reason.is_passing() => Known::Nothing,
                Err(reason) => Known::Unsupported(reason.clone()),
            };
        }
    }
}

fn gone() -> Unsupported {
    Unsupported::new("the container has ended")
}

impl Task {
    /// Starts an exec without the OCI runtime. `None` when that cannot do exactly what the OCI
    /// runtime would; nothing visible has happened then (I9).
    pub(crate) async fn exec_natively(
        &self,
        process: &Process,
        io: &ChildIo,
    ) -> Result<Option<Started>> {
        let facts = match self.facts().await {
            None => return Ok(None),
            Some(Err(reason)) => return self.fall_back(reason),
            Some(Ok(facts)) => facts,
        };
        let host = match self.native.node.host() {
            Ok(host) => host,
            Err(reason) => return self.fall_back(reason),
        };
        let stdio = Stdio {
            stdin: io.stdin.as_ref().map(AsFd::as_fd),
            stdout: io.stdout.as_ref().map(AsFd::as_fd),
            stderr: io.stderr.as_ref().map(AsFd::as_fd),
        };
        let kills = self.kills();
        match facts.exec(host, &self.reaper, &process.spec, stdio).await {
            Ok(started) => {
                self.native.count();
                Ok(Some(started))
            }
            Err(Failure::Unsupported(reason)) => self.fall_back(reason),
            Err(Failure::Refused(reason)) => self.have_it_refused(reason),
            Err(Failure::Failed(err)) if self.kills() > kills => {
                Err(err.possibly_oom_killed().into())
            }
            Err(Failure::Failed(err)) => Err(err.into()),
        }
    }

    /// How many the kernel has killed in the container by now.
    fn kills(&self) -> u64 {
        self.tell_of_kills();
        lock(&self.oom).kills()
    }

    fn fall_back(&self, reason: Unsupported) -> Result<Option<Started>> {
        if self.settings.exec == ExecPath::Native {
            return Err(Error::NotNative { reason });
        }
        self.native.fall_back(&self.id, reason);
        Ok(None)
    }

    /// Only this exec goes to the OCI runtime, whose words are wanted.
    fn have_it_refused(&self, reason: Unsupported) -> Result<Option<Started>> {
        if self.settings.exec == ExecPath::Native {
            return Err(Error::NotNative { reason });
        }
        self.native.node.fallbacks.fetch_add(1, Ordering::Relaxed);
        log::debug!(id = self.id.as_str(); "the OCI runtime is to refuse an exec: {reason}");
        Ok(None)
    }

    /// What native execs need, gathered once. `None` when the operator wants the OCI runtime.
    async fn facts(&self) -> Option<Facts> {
        if self.settings.exec == ExecPath::Runtime {
            return None;
        }
        if let Some(found) = self.native.look() {
            return Some(found);
        }
        let _queue = self.native.gathering.lock().await;
        if let Some(found) = self.native.look() {
            return Some(found);
        }
        let loaded = self.gather().await;
        self.native.keep(&loaded);
        Some(loaded)
    }

    async fn gather(&self) -> Facts {
        let binary = self.runtime.binary();
        let dialect = Dialect::of_binary(binary);
        // A wrapper may do more on an exec. With "native" the operator says it does not.
        if self.settings.exec == ExecPath::Auto && dialect.is_none() {
            return Err(unknown(binary));
        }
        let host = self.native.node.host()?;
        host.prepare(&self.reaper)?;
        let state = self.runtime.root().join(&self.id);
        let place = Place { state: &state, id: &self.id, init: self.init.pid(), dialect };
        Container::load(host, &self.reaper, place).await.map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn looked(loaded: &Facts) -> (Option<String>, Option<String>) {
        let native = Native::new(Arc::default());
        native.keep(loaded);
        let found = native.look().map(|facts| facts.unwrap_err().to_string());
        (found, native.reason().map(|reason| reason.to_string()))
    }

    #[test]
    fn a_lack_of_descriptors_is_nothing_to_remember() {
        let failed = |errno| Unsupported::of("init 7", &io::Error::from_raw_os_error(errno));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN] {
            assert_eq!(looked(&Err(failed(errno))), (None, None), "{errno}");
        }
        for reason in
            [failed(libc::ESRCH), failed(libc::EACCES), Unsupported::new("it is rootless")]
        {
            let text = Some(reason.to_string());
            assert_eq!(looked(&Err(reason)), (text.clone(), text));
        }
    }

    #[test]
    fn who_is_gone_has_the_reason_it_had() {
        let reason = Unsupported::new("it is rootless");
        let (before, after) = (Native::new(Arc::default()), Native::new(Arc::default()));
        before.keep(&Err(reason.clone()));
        before.close();
        assert_eq!(before.reason(), Some(reason.clone()));
        after.close();
        after.keep(&Err(reason));
        assert_eq!(after.reason(), None);
        for native in [before, after] {
            assert_eq!(native.look().unwrap().unwrap_err(), gone());
        }
    }
}
