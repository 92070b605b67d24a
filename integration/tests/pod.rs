// SPDX-License-Identifier: Apache-2.0
//! Several containers in one shim: they share its life and nothing else.
#![forbid(unsafe_code)]

use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::{
    Bundle, Env, Lab, Process, RpcError, ShimProcess, ShimUnderTest, Spec, Stdio, in_parallel,
    payload, wait,
};

const GROUP_ANNOTATIONS: [&str; 2] =
    ["io.kubernetes.cri.sandbox-id", "io.containerd.runc.v2.group"];

/// What a container goes through in a life that may get stuck at each step.
const LIFE: [&str; 5] = ["create", "start", "exec", "kill", "delete"];

/// How long a shim stays for the daemon's Shutdown, when one came while it had containers.
const LINGER: Duration = Duration::from_secs(10);

/// How long containerd waits for the answer to a State.
const STATE: Duration = Duration::from_secs(2);

/// The steps that hang State, Kill and the exits of all containers of a Go shim of 1.6.
const GO_HANGS: [&str; 3] = ["create", "start", "exec"];

#[test]
fn a_group_has_one_shim_and_one_address() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    for annotation in GROUP_ANNOTATIONS {
        let group = lab.pod("group")?;
        let spec = Spec::new(["true"]).annotation(annotation, &group);
        let (first, second) = (lab.bundle("first", &spec)?, lab.bundle("second", &spec)?);
        let start = lab.invoke(&first, &[], "start").output()?;
        let again = lab.invoke(&second, &[], "start").output()?;
        assert_eq!(start.text(), format!("unix://{}", lab.socket(&group).display()));
        assert_eq!(again.assert_ok().text(), start.text());
        assert_eq!((first.text("address"), second.text("address")), (start.text(), start.text()));
        assert_eq!(shims(&lab, &[first, second]).len(), 1);
        lab.attach(&again)?.shutdown()?;
    }
    lab.finish()
}

/// containerd #13483.
#[test]
fn a_hanging_create_delays_no_sibling() -> Result<()> {
    a_hanging("create")
}

#[test]
fn a_hanging_start_delays_no_sibling() -> Result<()> {
    a_hanging("start")
}

/// containerd #8557.
#[test]
fn a_hanging_exec_delays_no_sibling() -> Result<()> {
    a_hanging("exec")
}

#[test]
fn a_hanging_kill_delays_no_sibling() -> Result<()> {
    a_hanging("kill")
}

#[test]
fn a_hanging_delete_delays_no_sibling() -> Result<()> {
    a_hanging("delete")
}

/// containerd #6080, #10636, #3125.
#[test]
fn a_hanging_exec_delays_no_kill_of_its_own_container() -> Result<()> {
    if ShimUnderTest::skips_go("Kill waits for the lock that Start holds")? {
        return Ok(());
    }
    let pod = Pod::new()?;
    let (shim, id) = (&pod.shim, pod.stuck.id());
    ["create", "start"].into_iter().try_for_each(|step| pod.live(step))?;
    let gate = pod.lab.fake(&pod.stuck).hold_before("exec")?;
    shim.exec(id, "e", &Process::new(["true"]), &Stdio::null())?;
    thread::scope(|scope| {
        let exec = scope.spawn(|| shim.start(id, "e"));
        pod.lab.fake(&pod.stuck).wait_call("exec")?;
        let init = Proc(shim.state(id, "")?.pid);
        shim.kill(id, "", 9, false)?;
        wait_gone(init)?;
        shim.state(id, "e")?;
        ensure!(!exec.is_finished());
        gate.open()?;
        exec.join().unwrap().unwrap_err();
        Ok(())
    })?;
    assert_eq!(shim.wait(id, "")?.status, 137);
    pod.live("delete")?;
    pod.finish()
}

#[test]
fn deleting_one_container_leaves_the_others() -> Result<()> {
    let env = Env::new()?;
    let pod = env.pod("pod")?;
    let pause = Spec::new([payload::PATH, "pause"]).pod(&pod);
    let names = ["owner", "second", "third"];
    let launch = |name| env.container(name)?.config(&pause)?.start([""; 0]);
    let [owner, second, third] = names.map(launch);
    let (owner, second, third) = (owner?, second?, third?);
    let shim = owner.shim()?;
    for gone in [owner, second] {
        assert_eq!(gone.remove()?, 137);
        assert_eq!(third.task()?.status, "RUNNING");
        assert_eq!(third.init()?.stat()?.parent, shim.0);
        third.exec(["echo", "hi"])?.assert_ok().assert_stdout("hi\n");
    }
    let fourth = env.container("fourth")?.config(&pause)?.start([""; 0])?;
    assert_eq!(fourth.init()?.stat()?.parent, shim.0);
    assert_eq!((third.remove()?, fourth.remove()?), (137, 137));
    wait_gone(shim)?;
    env.finish()
}

#[test]
fn shutdown_with_a_container_left_does_nothing_and_again_without_ends_it() -> Result<()> {
    let pod = Pod::new()?;
    pod.shim.shutdown()?;
    assert_eq!(pod.shim.state(pod.calm.id(), "")?.pid, pod.init.0);
    pod.shim.reconnect()?.kill(pod.calm.id(), "", 9, false)?;
    pod.shim.wait(pod.calm.id(), "")?;
    pod.shim.delete(pod.calm.id(), "")?;
    assert!(pod.shim.proc().is_alive());
    ends_at_once(&pod.shim)?;
    pod.lab.finish()
}

/// containerd 2.0 to 2.3 sends no second Shutdown, when the first came before the last delete.
#[test]
fn a_shim_that_was_told_to_shut_down_ends_after_its_last_container() -> Result<()> {
    if ShimUnderTest::skips_go("it stays until it is told once more")? {
        return Ok(());
    }
    let pod = Pod::new()?;
    pod.shim.shutdown()?;
    pod.shim.kill(pod.calm.id(), "", 9, false)?;
    pod.shim.wait(pod.calm.id(), "")?;
    let begun = Instant::now();
    pod.shim.delete(pod.calm.id(), "")?;
    wait_gone(pod.shim.proc())?;
    assert!(begun.elapsed() >= LINGER, "{:?}", begun.elapsed());
    assert!(!pod.shim.socket().exists());
    pod.lab.finish()
}

/// rust-extensions #337: a blocking read of the FIFO kept the process.
#[test]
fn shutdown_ends_the_process_despite_an_open_stdin() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new(["cat"]))?;
    let shim = lab.start(&bundle)?;
    let mut io = lab.fifos("init")?;
    shim.create(&bundle, io.stdio())?;
    shim.start(bundle.id(), "")?;
    io.write(b"typed\n")?;
    io.stdout.wait_text("typed\n")?;
    shim.kill(bundle.id(), "", 9, false)?;
    shim.wait(bundle.id(), "")?;
    shim.delete(bundle.id(), "")?;
    ends_at_once(&shim)?;
    let story = lab.events().log().story(bundle.id());
    assert_eq!(story, ["create", "start", "exit 137", "delete 137"]);
    lab.finish()
}

#[test]
fn a_shim_without_containers_ends_when_told() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new(["true"]))?;
    ends_at_once(&lab.start(&bundle)?)?;
    ends_at_once(&lab.start(&bundle)?)?;
    lab.finish()
}

/// The Go shim removes the socket of a concurrent start that has bound but not listened yet. Each
/// round also has the socket of a dead shim in the way.
#[test]
fn concurrent_starts_of_a_group_give_one_shim() -> Result<()> {
    const STARTS: usize = 8;
    if ShimUnderTest::skips_go("one of the starts fails, one time in three")? {
        return Ok(());
    }
    let lab = Lab::with_fake_runtime()?;
    for _ in 0..5 {
        let spec = Spec::new(["true"]).pod(&lab.pod("pod")?);
        let bundle = |n| lab.bundle(&format!("c{n}"), &spec);
        let bundles = (0..STARTS).map(bundle).collect::<Result<Vec<_>>>()?;
        let dead = lab.start(&bundles[0])?.proc();
        dead.signal(Signal::SIGKILL)?;
        wait_gone(dead)?;
        let starts =
            in_parallel(STARTS, STARTS, |n| lab.invoke(&bundles[n], &[], "start").output())?;
        for start in &starts {
            assert_eq!(start.assert_ok().text(), starts[0].text());
        }
        let shim = lab.attach(&starts[0])?;
        assert_eq!(shims(&lab, &bundles), [shim.proc()]);
        shim.shutdown()?;
    }
    lab.finish()
}

#[test]
fn a_stale_socket_is_replaced() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new(["true"]))?;
    // Makes the directory, should this be the first shim of the machine.
    ends_at_once(&lab.start(&bundle)?)?;
    drop(UnixListener::bind(lab.socket(bundle.id()))?);
    let killed = lab.start(&bundle)?;
    killed.proc().signal(Signal::SIGKILL)?;
    wait_gone(killed.proc())?;
    assert!(killed.socket().exists());
    let shim = lab.start(&bundle)?;
    assert_ne!(shim.proc(), killed.proc());
    ends_at_once(&shim)?;
    lab.finish()
}

#[test]
fn sigterm_ends_the_shim_and_leaves_its_containers() -> Result<()> {
    let lab = Lab::new()?;
    let spec = Spec::new(["sleep", "1000"]).pod(&lab.pod("pod")?);
    let bundles = [lab.bundle("a", &spec)?, lab.bundle("b", &spec)?];
    let shim = lab.start(&bundles[0])?;
    let create = |bundle: &Bundle| -> Result<Proc> {
        shim.create(bundle, &Stdio::null())?;
        Ok(Proc(shim.start(bundle.id(), "")?))
    };
    let inits = [create(&bundles[0])?, create(&bundles[1])?];
    shim.proc().signal(Signal::SIGTERM)?;
    wait_gone(shim.proc())?;
    assert!(!shim.socket().exists());
    assert_eq!(lab.events().log().story(bundles[1].id()), ["create", "start"]);
    for (bundle, init) in bundles.iter().zip(inits) {
        assert!(init.is_alive());
        assert_eq!(lab.delete(bundle)?.0.pid, init.0);
        wait_gone(init)?;
    }
    lab.finish()
}

#[test]
fn sigusr1_puts_a_dump_into_the_log() -> Result<()> {
    let pod = Pod::new()?;
    pod.shim.proc().signal(Signal::SIGUSR1)?;
    pod.calm.log().wait_text("=== BEGIN goroutine stack dump ===")?;
    pod.calm.log().wait_text("=== END goroutine stack dump ===")?;
    if !pod.lab.shim().is_go() {
        pod.calm.log().wait_text(&format!("{}: Running, pid {}", pod.calm.id(), pod.init.0))?;
    }
    assert_eq!(pod.shim.state(pod.calm.id(), "")?.pid, pod.init.0);
    pod.finish()
}

/// Two containers in one shim: one runs and shall not notice what happens to the other.
struct Pod {
    lab: Lab,
    shim: ShimProcess,
    calm: Bundle,
    init: Proc,
    stuck: Bundle,
}

impl Pod {
    fn new() -> Result<Pod> {
        let lab = Lab::with_fake_runtime()?;
        let spec = Spec::new([payload::PATH, "pause"]).pod(&lab.pod("pod")?);
        let (calm, stuck) = (lab.bundle("calm", &spec)?, lab.bundle("stuck", &spec)?);
        let shim = lab.start(&calm)?;
        lab.start(&stuck)?;
        shim.create(&calm, &Stdio::null())?;
        let init = Proc(shim.start(calm.id(), "")?);
        Ok(Pod { lab, shim, calm, init, stuck })
    }

    /// One step of [`LIFE`] of the other container.
    fn live(&self, step: &str) -> Result<(), RpcError> {
        let (shim, id) = (&self.shim, self.stuck.id());
        match step {
            "create" => shim.create(&self.stuck, &Stdio::null()).map(drop),
            "start" => shim.start(id, "").map(drop),
            "exec" => {
                shim.exec(id, "e", &Process::new(["true"]), &Stdio::null())?;
                shim.start(id, "e").map(drop)
            }
            "kill" => {
                shim.kill(id, "", 9, false)?;
                shim.wait(id, "").map(drop)
            }
            _ => shim.delete(id, "").map(drop),
        }
    }

    /// State, exec, its exit, Wait, Kill and Delete of the calm container, while the other hangs:
    /// its gate is shut until all of this was answered.
    #[expect(clippy::print_stdout, reason = "a figure for who reads the log")]
    fn calm_lives(&self) -> Result<()> {
        let (shim, id) = (&self.shim, self.calm.id());
        let p99 = p99_of_state(shim, id)?;
        println!("State beside a hanging runtime: p99 of 500 is {p99:?}");
        assert!(p99 < wait::scaled(STATE), "{p99:?}");
        shim.exec(id, "e", &Process::new([payload::PATH, "exit", "3"]), &Stdio::null())?;
        shim.start(id, "e")?;
        assert_eq!(shim.wait(id, "e")?.status, 3);
        self.lab.events().log().wait(id, "exit e 3")?;
        assert_eq!(shim.pids(id)?.processes.len(), 1);
        shim.delete(id, "e")?;
        shim.kill(id, "", 9, false)?;
        assert_eq!(shim.wait(id, "")?.status, 137);
        self.lab.events().log().wait(id, "exit 137").map(drop)
    }

    fn finish(self) -> Result<()> {
        if self.init.is_alive() {
            self.shim.kill(self.calm.id(), "", 9, false)?;
        }
        self.shim.wait(self.calm.id(), "")?;
        self.shim.delete(self.calm.id(), "")?;
        self.shim.shutdown()?;
        self.lab.finish()
    }
}

/// Lives one life with `command` held in the runtime until its sibling has done all it can do.
fn a_hanging(command: &str) -> Result<()> {
    if GO_HANGS.contains(&command) && ShimUnderTest::skips_go("its locks are held meanwhile")? {
        return Ok(());
    }
    let pod = Pod::new()?;
    let fake = pod.lab.fake(&pod.stuck);
    for step in LIFE {
        if step != command {
            pod.live(step)?;
            continue;
        }
        let gate = fake.hold_before(command)?;
        thread::scope(|scope| {
            let call = scope.spawn(|| pod.live(command));
            fake.wait_call(command)?;
            pod.calm_lives()?;
            ensure!(!call.is_finished(), "it did not hang");
            gate.open()?;
            call.join().map_err(|_| anyhow!("the call panicked"))?.context(command.to_owned())
        })?;
    }
    pod.finish()
}

fn p99_of_state(shim: &ShimProcess, id: &str) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        shim.state(id, "")?;
        times.push(begun.elapsed());
    }
    times.sort();
    times.into_iter().nth(494).context("500 times")
}

/// Shuts down a shim without containers: it does not linger.
fn ends_at_once(shim: &ShimProcess) -> Result<()> {
    let begun = Instant::now();
    shim.shutdown()?;
    wait_gone(shim.proc())?;
    ensure!(begun.elapsed() < LINGER, "{:?}", begun.elapsed());
    assert!(!shim.socket().exists(), "{:?} is left", shim.socket());
    Ok(())
}

/// The shims that were started for these bundles.
fn shims(lab: &Lab, bundles: &[Bundle]) -> Vec<Proc> {
    bundles.iter().filter_map(|bundle| Proc::shim(lab.namespace(), bundle.id()).ok()).collect()
}
