// SPDX-License-Identifier: Apache-2.0
//! What hundreds of execs, failed execs and restarts leave behind in a shim, its bundles and its
//! temporary directory: nothing.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use protobuf::Message;
use wedge_integration::proc::{FdKind, Holdings};
use wedge_integration::{
    Bundle, Fifos, Lab, Process, ShimProcess, ShimUnderTest, Spec, Stdio, in_parallel, payload,
    rounds, wait,
};

/// Calls at a time.
const THREADS: usize = 4;

/// Whether the container's own commands are runc's or the fake runtime's.
const RUNTIMES: [fn() -> Result<Lab>; 2] = [Lab::new, Lab::with_fake_runtime];

/// A shim with one running container, and a directory of its own for console sockets.
struct Pod<'l> {
    lab: &'l Lab,
    bundle: Bundle,
    shim: ShimProcess,
    /// To tell processes of one test apart.
    processes: AtomicUsize,
}

/// What the shim holds and says of itself, and each file in its bundles and temporary directory with its size.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    shim: Holdings,
    state: String,
    files: BTreeMap<PathBuf, u64>,
}

impl<'l> Pod<'l> {
    fn new(lab: &'l Lab) -> Result<Pod<'l>> {
        let bundle = lab.bundle("pod", &Spec::new([payload::PATH, "pause"]))?;
        let temporary = lab.dir().join("tasks/tmp");
        fs::create_dir(&temporary)?;
        let socket = lab.debug_socket(&bundle);
        let start = lab.invoke(&bundle, &["-debug-socket", &socket.to_string_lossy()], "start");
        let start = start.env("XDG_RUNTIME_DIR", temporary);
        let shim = lab.attach(&start.stdin(lab.options()?.write_to_bytes()?).output()?)?;
        shim.create(&bundle, &Stdio::null())?;
        shim.start(bundle.id(), "")?;
        Ok(Pod { lab, bundle, shim, processes: AtomicUsize::new(0) })
    }

    fn held(&self) -> Result<Held> {
        let mut files = BTreeMap::new();
        list(&self.lab.dir().join("tasks"), &mut files)?;
        // Without the number of execs there were.
        let state = self.lab.state(&self.bundle)?;
        let (reaper, containers) = state.split_once("; exec ").context(state.clone())?;
        let containers = containers.split_once('\n').context(state.clone())?.1;
        let state = format!("{reaper}\n{containers}");
        Ok(Held { shim: self.shim.proc().holdings()?, state, files })
    }

    /// Does `work` a few times, which may leave what is made once, then `total` times more, which
    /// may leave nothing.
    fn leaks_nothing(&self, total: usize, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
        in_parallel(THREADS, 2 * THREADS, |_| work())?;
        // The end of a process is still being dealt with for a moment after its Delete.
        let before = wait::until("nothing changes", || {
            let (first, second) = (self.held()?, self.held()?);
            ensure!(first == second, "{first:?} {second:?}");
            Ok(second)
        })?;
        in_parallel(THREADS, total, |_| work())?;
        wait::until("everything is as before", || {
            let now = self.held()?;
            ensure!(now == before, "before: {before:#?}\nnow: {now:#?}");
            Ok(())
        })?;
        assert_eq!((before.shim.zombies, before.shim.fds.get(&FdKind::Inotify)), (0, None));
        Ok(())
    }

    /// A name and FIFOs for the next process.
    fn next(&self, terminal: bool) -> Result<(String, Fifos)> {
        let name = format!("p{}", self.processes.fetch_add(1, Ordering::Relaxed));
        let fifos = if terminal { self.lab.terminal(&name) } else { self.lab.fifos(&name) };
        Ok((name, fifos?))
    }

    /// An exec that prints something.
    fn exec(&self, terminal: bool) -> Result<()> {
        let (id, (exec, fifos)) = (self.bundle.id(), self.next(terminal)?);
        let process = Process::new([payload::PATH, "print", "1000"]).set("terminal", terminal);
        self.shim.exec(id, &exec, &process, fifos.stdio())?;
        self.shim.start(id, &exec)?;
        assert_eq!(self.shim.wait(id, &exec)?.status, 0);
        self.shim.delete(id, &exec)?;
        assert!(fifos.stdout.finish()?.len() >= 1000);
        Ok(())
    }

    /// An exec of a program that does not exist.
    fn failing_exec(&self, terminal: bool) -> Result<()> {
        let (id, (exec, fifos)) = (self.bundle.id(), self.next(terminal)?);
        let process = Process::new(["/no/such/program"]).set("terminal", terminal);
        self.shim.exec(id, &exec, &process, fifos.stdio())?;
        let start = self.shim.start(id, &exec);
        let refused = start.map_or_else(|error| error.to_string(), |pid| format!("pid {pid}"));
        ensure!(refused.contains("OCI runtime exec failed"), "{refused}");
        Ok(self.shim.delete(id, &exec).map(drop)?)
    }

    /// The life of another container of the shim, which the OOM killer ends.
    fn starve(&self, bundle: &Bundle) -> Result<()> {
        let id = bundle.id();
        self.shim.create(bundle, &Stdio::null())?;
        self.shim.start(id, "")?;
        assert_eq!(self.shim.wait(id, "")?.status, 137);
        self.shim.delete(id, "")?;
        Ok(())
    }

    /// The life of another container of the shim.
    fn life(&self, bundle: &Bundle, terminal: bool) -> Result<()> {
        let (id, (_, fifos)) = (bundle.id(), self.next(terminal)?);
        self.shim.create(bundle, fifos.stdio())?;
        self.shim.start(id, "")?;
        assert_eq!(self.shim.wait(id, "")?.status, 0);
        self.shim.delete(id, "")?;
        assert!(fifos.stdout.finish()?.len() >= 1000);
        Ok(())
    }

    fn end(self) -> Result<()> {
        let id = self.bundle.id();
        self.shim.kill(id, "", 9, false)?;
        self.shim.wait(id, "")?;
        self.shim.delete(id, "")?;
        Ok(self.shim.shutdown()?)
    }
}

/// Lists the files below a directory, except for the fake runtime's own.
fn list(dir: &Path, files: &mut BTreeMap<PathBuf, u64>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("fake-runtime") {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        // A pid may have a digit more than the one before.
        let sized = metadata.is_file() && entry.path().extension() != Some("pid".as_ref());
        files.insert(entry.path(), if sized { metadata.len() } else { 0 });
        if metadata.is_dir() {
            list(&entry.path(), files)?;
        }
    }
    Ok(())
}

#[test]
fn two_hundred_execs_leak_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("containerd 1.6 keeps a FIFO open now and then")? {
        return Ok(());
    }
    for runtime in RUNTIMES {
        let lab = runtime()?;
        let pod = Pod::new(&lab)?;
        pod.leaks_nothing(200, || pod.exec(false))?;
        pod.end()?;
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn fifty_execs_on_terminals_leak_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("containerd 1.6 keeps terminals and FIFOs open")? {
        return Ok(());
    }
    for runtime in RUNTIMES {
        let lab = runtime()?;
        let pod = Pod::new(&lab)?;
        pod.leaks_nothing(50, || pod.exec(true))?;
        pod.end()?;
        lab.finish()?;
    }
    Ok(())
}

/// containerd #8972, #6157: neither the shim nor the bundle grows.
#[test]
fn three_hundred_failing_execs_leak_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("its log.json grows, containerd #8972")? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pod = Pod::new(&lab)?;
    pod.leaks_nothing(250, || pod.failing_exec(false))?;
    pod.leaks_nothing(50, || pod.failing_exec(true))?;
    pod.end()?;
    lab.finish()
}

#[test]
fn a_container_restarted_fifty_times_beside_another_leaks_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("containerd 1.6 keeps eventfds open")? {
        return Ok(());
    }
    for terminal in [false, true] {
        let lab = Lab::new()?;
        let pod = Pod::new(&lab)?;
        let spec = Spec::new([payload::PATH, "print", "1000"]);
        let spec = if terminal { spec.terminal() } else { spec };
        // One at a time: it is the same container.
        let again = Mutex::new(lab.bundle("again", &spec)?);
        pod.leaks_nothing(50, || pod.life(&again.lock().unwrap(), terminal))?;
        pod.end()?;
        lab.finish()?;
    }
    Ok(())
}

/// containerd #3949, #5670: no eventfd, inotify instance or watch stays, whether or not the OOM
/// killer came. 1,000 execs and 300 restarts with `WEDGE_LONG=1`.
#[test]
fn execs_and_starving_restarts_in_a_pod_leak_nothing() -> Result<()> {
    if ShimUnderTest::skips_go("containerd 1.6 keeps eventfds open")? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pod = Pod::new(&lab)?;
    let of_pod = |args: &[&str]| Spec::new(args).pod(pod.bundle.id());
    let hog = of_pod(&[payload::PATH, "alloc", "200"]).memory_limit(16 << 20);
    let hog = Mutex::new(lab.bundle("hog", &hog)?);
    let again = Mutex::new(lab.bundle("again", &of_pod(&[payload::PATH, "print", "1000"]))?);
    let number = AtomicUsize::new(0);
    // Of thirteen, ten are execs, two restarts, and one a restart that ends by an OOM.
    pod.leaks_nothing(rounds(260), || match number.fetch_add(1, Ordering::Relaxed) % 13 {
        0 | 6 => pod.life(&again.lock().unwrap(), false),
        3 => pod.starve(&hog.lock().unwrap()),
        _ => pod.exec(false),
    })?;
    pod.end()?;
    lab.finish()
}
