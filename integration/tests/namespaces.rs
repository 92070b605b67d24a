// SPDX-License-Identifier: Apache-2.0
//! I11: after Delete has answered, neither the shim nor a child of it holds anything of the
//! container. The kernel is asked: a veth pair goes with the network namespace of its inner end.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::proc::Proc;
use wedge_integration::{
    Bundle, Cmd, Lab, Process, Running, ShimProcess, ShimUnderTest, Spec, Stdio, payload, rounds,
    wait,
};

const MEMORY: u64 = 32 << 20;
/// Execs in flight.
const EXECS: usize = 10;

/// How a container ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// While execs start and others run.
    Execs,
    Exits,
    Killed,
    OutOfMemory,
    Paused,
    /// With processes in sessions of their own.
    Daemons,
    /// The same without a pid namespace that would end with init.
    DaemonsOnHost,
}

const ENDS: [End; 7] = [
    End::Execs,
    End::Exits,
    End::Killed,
    End::OutOfMemory,
    End::Paused,
    End::Daemons,
    End::DaemonsOnHost,
];

impl End {
    fn spec(self, privileged: bool) -> Spec {
        let daemon = "/bin/wedge-payload daemon wedge-payload pause >/dev/null";
        let command = match self {
            End::Exits => "exit 137".to_owned(),
            End::OutOfMemory => format!("exec {} alloc 200", payload::PATH),
            End::Daemons | End::DaemonsOnHost => {
                format!("{daemon}; {daemon}; touch /run/ready; exec {} pause", payload::PATH)
            }
            End::Killed | End::Paused | End::Execs => format!("exec {} pause", payload::PATH),
        };
        // One more reference, from a mount of the container's own.
        let mount = "touch /run/net && mount --bind /proc/self/ns/net /run/net &&";
        let script = if privileged { format!("{mount} {command}") } else { command };
        let spec = Spec::new(["/bin/sh", "-c", &script]);
        let limited = matches!(self, End::OutOfMemory);
        let spec = if limited { spec.memory_limit(MEMORY) } else { spec };
        let spec = if privileged { spec.privileged() } else { spec };
        if matches!(self, End::DaemonsOnHost) { spec.host_pid() } else { spec }
    }
}

/// A network namespace that stands for the host's.
struct Outside(Running);

impl Outside {
    fn new() -> Result<Outside> {
        let outside = Cmd::new("unshare").args(["--net", "sleep", "10000"]);
        let outside = Outside(outside.limit(Duration::from_secs(10_000)).spawn()?);
        let ours = fs::read_link("/proc/self/ns/net")?;
        wait::until("it has a network namespace", || {
            let theirs = fs::read_link(Proc(outside.0.pid()).path("ns/net"))?;
            ensure!(theirs != ours, "{theirs:?}");
            Ok(outside.0.pid())
        })?;
        Ok(outside)
    }

    /// Connects the network namespace of `init` with this one.
    fn connect(&self, name: &str, init: Proc) -> Result<()> {
        let (outside, init) = (self.0.pid().to_string(), init.0.to_string());
        let enter = Cmd::new("nsenter").args(["--net", "--target", &outside]);
        let pair = ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0"];
        enter.args(pair).args(["netns", &init]).output()?.assert_ok();
        ensure!(self.has(name)?, "no {name}");
        Ok(())
    }

    fn has(&self, name: &str) -> Result<bool> {
        let interfaces = fs::read_to_string(Proc(self.0.pid()).path("net/dev"))?;
        Ok(interfaces.lines().any(|line| line.trim_start().starts_with(&format!("{name}:"))))
    }
}

struct Bench {
    lab: Lab,
    shim: ShimProcess,
    log: Bundle,
    outside: Outside,
}

impl Bench {
    fn new() -> Result<Bench> {
        let lab = Lab::new()?;
        // Its log and its working directory are the shim's; no container is ever made of it.
        let log = lab.bundle("shim", &Spec::new(["true"]))?;
        let shim = lab.start(&log)?;
        Ok(Bench { lab, shim, log, outside: Outside::new()? })
    }

    fn finish(self) -> Result<()> {
        self.shim.shutdown()?;
        self.lab.finish()
    }

    /// The life of a container.
    fn live(&self, number: usize, end: End, privileged: bool) -> Result<()> {
        let bundle = self.lab.bundle("c", &end.spec(privileged))?;
        let (id, veth) = (bundle.id(), format!("veth{number}"));
        let before = self.shim.proc().holdings()?;
        let init = Proc(self.shim.create(&bundle, &Stdio::null())?);
        self.outside.connect(&veth, init)?;
        let ours = self.shim.proc().namespaces()?;
        let theirs: BTreeSet<String> = init.namespaces()?.difference(&ours).cloned().collect();
        ensure!(theirs.iter().any(|name| name.starts_with("net:")), "{theirs:?}");
        self.shim.start(id, "")?;
        self.end(&bundle, init, end)?;
        assert_eq!(self.shim.wait(id, "")?.status, 137);
        self.shim.delete(id, "")?;
        // Now, not in a moment. What comes then is up to the kernel, which waits for readers (RCU).
        let held = self.held(&bundle, &theirs)?;
        ensure!(held.is_empty(), "held: {held:#?}");
        wait::until("the veth pair is gone", || {
            ensure!(!self.outside.has(&veth)?, "{theirs:?}: {:#?}", holders(&theirs));
            Ok(())
        })?;
        // But for what the first execs make once.
        wait::until("the shim holds what it did before", || {
            let now = self.shim.proc().holdings()?;
            ensure!(number == 0 || now == before, "{before:?}, now {now:?}");
            Ok(())
        })
    }

    fn end(&self, bundle: &Bundle, init: Proc, end: End) -> Result<()> {
        let (id, kill) = (bundle.id(), || self.shim.kill(bundle.id(), "", 9, false));
        match end {
            End::Exits | End::OutOfMemory => {}
            End::Killed => kill()?,
            End::Paused => {
                self.shim.pause(id)?;
                kill()?;
            }
            End::Daemons | End::DaemonsOnHost => {
                wait::until("its daemons run", || Ok(fs::metadata(init.path("root/run/ready"))?))?;
                kill()?;
            }
            End::Execs => thread::scope(|scope| {
                for number in 0..EXECS {
                    scope.spawn(move || self.exec_until_refused(id, number));
                }
                wait::until("execs run", || {
                    let all = self.shim.pids(id)?.processes.len();
                    ensure!(all > EXECS, "{all} processes");
                    Ok(())
                })?;
                anyhow::Ok(kill()?)
            })?,
        }
        Ok(())
    }

    /// Execs that stay, until init is gone.
    fn exec_until_refused(&self, id: &str, thread: usize) {
        for number in 0.. {
            let exec = format!("e{thread}-{number}");
            let process = Process::new([payload::PATH, "pause"]);
            let added = self.shim.exec(id, &exec, &process, &Stdio::null());
            if added.and_then(|()| self.shim.start(id, &exec)).is_err() {
                return;
            }
        }
    }

    /// What the shim and its children hold of a container.
    fn held(&self, bundle: &Bundle, namespaces: &BTreeSet<String>) -> Result<Vec<String>> {
        let mut held = Self::held_by(self.shim.proc(), bundle, namespaces)?;
        for child in self.shim.proc().children() {
            match Self::held_by(child, bundle, namespaces) {
                Ok(more) => held.extend(more),
                // A process of the container that has ended while this looked: it is in no
                // namespace any more, reaped or not.
                Err(_) if fs::read_link(child.path("ns/mnt")).is_err() => {}
                Err(err) => return Err(err),
            }
        }
        Ok(held)
    }

    fn held_by(
        process: Proc,
        bundle: &Bundle,
        namespaces: &BTreeSet<String>,
    ) -> Result<Vec<String>> {
        let all = process.namespaces()?;
        let inside = all.intersection(namespaces).map(|name| format!("{process:?} is in {name}"));
        let mut held: Vec<String> = inside.collect();
        let fds = process.fds()?;
        let theirs =
            |target: &&String| namespaces.contains(*target) || target.contains(bundle.id());
        held.extend(fds.0.values().filter(theirs).map(|fd| format!("{process:?} has {fd}")));
        let mounts = process.mounts()?;
        let theirs = mounts.lines().filter(|line| line.contains(bundle.id()));
        held.extend(theirs.map(|line| format!("{process:?} has the mount {line}")));
        Ok(held)
    }
}

/// Who on this machine is in one of the namespaces, or has it open or mounted.
fn holders(namespaces: &BTreeSet<String>) -> Vec<String> {
    let mut holders = Vec::new();
    for process in Proc::all() {
        let (Ok(all), Ok(fds)) = (process.namespaces(), process.fds()) else { continue };
        let mounts = process.mounts().unwrap_or_default();
        let open = fds.0.into_values().filter(|target| namespaces.contains(target));
        let mounted = namespaces.iter().filter(|name| mounts.contains(*name)).cloned();
        let all = all.intersection(namespaces).cloned().chain(open).chain(mounted);
        let all: Vec<String> = all.collect();
        if !all.is_empty() {
            holders.push(format!("{process:?} {:?}: {all:?}", process.args().unwrap_or_default()));
        }
    }
    holders
}

#[test]
fn i11_nothing_of_a_container_is_held_after_delete() -> Result<()> {
    if ShimUnderTest::skips_go("containerd 1.6 keeps eventfds open")? {
        return Ok(());
    }
    let bench = Bench::new()?;
    for number in 0..rounds(4 * ENDS.len()) {
        let end = *ENDS.get(number % ENDS.len()).context("an end")?;
        let privileged = number / ENDS.len() % 2 == 1;
        let lived = bench.live(number, end, privileged);
        lived.with_context(|| format!("{number}: {end:?}, privileged: {privileged}"))?;
    }
    bench.finish()
}

/// Moves a process into the root of every hierarchy.
fn leave_cgroups(process: Proc) -> Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(top)?.flatten().map(|entry| entry.path());
    let roots = match top.join("cgroup.procs").exists() {
        true => vec![top.to_path_buf()],
        false => controllers.filter(|root| root.join("cgroup.procs").exists()).collect(),
    };
    for procs in roots.iter().map(|root| root.join("cgroup.procs")) {
        fs::write(&procs, process.0.to_string()).with_context(|| format!("{procs:?}"))?;
    }
    Ok(())
}

/// A process that is out of reach of the OCI runtime, and of a pid namespace, becomes a child of
/// the shim, which says so.
#[test]
fn who_keeps_a_namespace_is_named() -> Result<()> {
    if ShimUnderTest::skips_go("it names nobody")? {
        return Ok(());
    }
    let bench = Bench::new()?;
    let bundle = bench.lab.bundle("c", &End::DaemonsOnHost.spec(false))?;
    let id = bundle.id();
    let init = Proc(bench.shim.create(&bundle, &Stdio::null())?);
    bench.outside.connect("veth0", init)?;
    let ours = bench.shim.proc().namespaces()?;
    let theirs = init.namespaces()?.difference(&ours).cloned().collect();
    bench.shim.start(id, "")?;
    wait::until("its daemons run", || Ok(fs::metadata(init.path("root/run/ready"))?))?;
    let daemon =
        *bench.shim.proc().children().iter().find(|child| **child != init).context("one")?;
    leave_cgroups(daemon)?;
    bench.shim.kill(id, "", 9, false)?;
    bench.shim.wait(id, "")?;
    bench.shim.delete(id, "")?;
    let net = fs::read_link(daemon.path("ns/net"))?;
    let pid = format!("pid={}", daemon.0);
    wait::until("the shim says so", || {
        let log = bench.log.log().text();
        let mut lines = log.lines().filter(|line| line.contains("outlives its container"));
        let line = lines.next().context(log.clone())?;
        ensure!(line.contains(&pid) && line.contains(&*net.to_string_lossy()), "{line}");
        ensure!(lines.next().is_none(), "{log}");
        Ok(())
    })?;
    assert!(bench.outside.has("veth0")?);
    assert!(!bench.held(&bundle, &theirs)?.is_empty());
    assert_eq!(holders(&theirs).len(), 1, "{:?}", holders(&theirs));
    daemon.signal(Signal::SIGKILL)?;
    wait::until("the veth pair is gone", || {
        ensure!(!bench.outside.has("veth0")?, "{:?}", holders(&theirs));
        Ok(())
    })?;
    bench.finish()
}
