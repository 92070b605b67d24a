// SPDX-License-Identifier: Apache-2.0
//! Runtimes, clients and containerd die, hang, or are none of ours: nothing is left half done.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use protobuf::well_known_types::any::Any;
use serde_json::json;
use wedge_integration::fake_runtime::{Gate, Step};
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::protos::api::{DeleteRequest, StartRequest, Status};
use wedge_integration::rpc::{Client, Code, assert_refused};
use wedge_integration::{
    Bundle, Cmd, Env, FakeRuntime, Lab, Process, RpcError, ShimProcess, ShimUnderTest, Spec, Stdio,
    TASK_V2, TASK_V3, helper, payload, wait,
};

#[test]
fn a_runtime_killed_before_it_created_leaves_nothing() -> Result<()> {
    a_runtime_killed_in_create(FakeRuntime::hold_before, |_| true)
}

#[test]
fn a_runtime_killed_when_it_had_created_leaves_nothing() -> Result<()> {
    a_runtime_killed_in_create(FakeRuntime::hold_after, |state| state.join("state.json").exists())
}

#[test]
fn a_runtime_killed_in_exec_leaves_no_process() -> Result<()> {
    if ShimUnderTest::skips_go("the process runs on, unknown to the shim")? {
        return Ok(());
    }
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    let (shim, fake, id) = (lab.start(&bundle)?, lab.fake(&bundle), bundle.id());
    shim.create(&bundle, &Stdio::null())?;
    let init = Proc(shim.start(id, "")?);
    shim.exec(id, "e", &Process::new([payload::PATH, "pause"]), &Stdio::null())?;
    let gate = fake.hold_after("exec")?;
    thread::scope(|scope| {
        let start = scope.spawn(|| shim.start(id, "e"));
        wait::until("the exec runs", || Ok(fs::metadata(bundle.dir().join("e.pid"))?))?;
        Proc(fake.wait_call("exec")?.pid).signal(Signal::SIGKILL)?;
        start.join().unwrap().unwrap_err();
        anyhow::Ok(())
    })?;
    wait::until("only the init is left", || {
        let children = shim.proc().children();
        ensure!(children == [init], "{children:?}");
        Ok(())
    })?;
    drop(gate);
    fake.script("exec", Step::default())?;
    shim.start(id, "e")?;
    shim.kill(id, "e", 9, false)?;
    assert_eq!(shim.wait(id, "e")?.status, 137);
    shim.kill(id, "", 9, false)?;
    assert_eq!(shim.wait(id, "")?.status, 137);
    shim.delete(id, "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn a_runc_killed_in_a_hook_leaves_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let busy = lab.dir().join("busy");
    fs::write(&busy, "")?;
    let hook = json!([{
        "path": helper("wedge-payload")?,
        "args": ["wedge-payload", "hold", &busy, "20000"],
    }]);
    let spec = Spec::new(["sleep", "1000"]).set("/hooks", json!({ "createRuntime": hook }));
    let bundle = lab.bundle("c", &spec)?;
    let shim = lab.start(&bundle)?;
    thread::scope(|scope| {
        let create = scope.spawn(|| shim.create(&bundle, &Stdio::null()));
        let runc = wait::until("the hook runs", || {
            let runc = shim.proc().children();
            let holds = |p: Proc| p.args().is_ok_and(|args| args.iter().any(|arg| arg == "hold"));
            let found = runc.into_iter().find(|p| p.children().into_iter().any(holds));
            found.context("no hook")
        })?;
        runc.signal(Signal::SIGKILL)?;
        fs::remove_file(&busy)?;
        create.join().unwrap().unwrap_err();
        anyhow::Ok(())
    })?;
    shim.shutdown()?;
    wait_gone(shim.proc())?;
    lab.delete(&bundle)?;
    // runc saves its state after its hooks, so its own delete does not know of the cgroups.
    let root = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&root)?.flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root]) {
        let cgroup = hierarchy.join(lab.namespace()).join(bundle.id());
        wait::until("the cgroup is removed", || {
            // Who was in it when runc was killed has to leave.
            let removed = if cgroup.exists() { fs::remove_dir(&cgroup) } else { Ok(()) };
            removed.with_context(|| cgroup.display().to_string())
        })?;
    }
    lab.finish()
}

/// Each operation goes on when its client has gone, and ends as if it had waited.
#[test]
fn a_client_that_goes_away_leaves_no_half_done_work() -> Result<()> {
    if ShimUnderTest::skips_go("it kills the runtime when the client goes")? {
        return Ok(());
    }
    let lab = Lab::with_fake_runtime()?;
    for hold in [FakeRuntime::hold_before, FakeRuntime::hold_after] {
        let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
        let (shim, id, log) = (lab.start(&bundle)?, bundle.id(), lab.events().log());
        let create = shim.create_request(&bundle, &Stdio::null());
        send_and_leave(&lab, &bundle, "create", hold, |c| c.send(TASK_V2, "Create", &create))?;
        log.wait(id, "create")?;
        let state = wait::until("it is created", || Ok(shim.state(id, "")?))?;
        assert_eq!(state.status.enum_value(), Ok(Status::CREATED));
        let start = StartRequest { id: id.to_owned(), ..StartRequest::default() };
        send_and_leave(&lab, &bundle, "start", hold, |c| c.send(TASK_V2, "Start", &start))?;
        log.wait(id, "start")?;
        assert_eq!(shim.state(id, "")?.status.enum_value(), Ok(Status::RUNNING));
        shim.kill(id, "", 9, false)?;
        shim.wait(id, "")?;
        let delete = DeleteRequest { id: id.to_owned(), ..DeleteRequest::default() };
        send_and_leave(&lab, &bundle, "delete", hold, |c| c.send(TASK_V2, "Delete", &delete))?;
        log.wait(id, "delete")?;
        assert_eq!(log.story(id), ["create", "start", "exit 137", "delete 137"]);
        assert_eq!(shim.state(id, "").unwrap_err().code(), Some(Code::NOT_FOUND));
        shim.shutdown()?;
    }
    lab.finish()
}

/// GHSA-36xw-fx78-c5r4, containerd #12785.
#[test]
fn strangers_are_turned_away() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new(["true"]))?;
    let program = lab.dir().join("payload");
    fs::copy(helper("wedge-payload")?, &program)?;
    let (dir, socket) = (lab.dir().join("s"), lab.dir().join("s/shim"));
    if lab.shim().is_go() {
        // It does not make the directory, and leaves the modes to the umask.
        fs::create_dir(&dir)?;
    }
    let before = umask(Mode::empty());
    let server = lab.invoke(&bundle, &["-socket", &socket.to_string_lossy()], "").spawn()?;
    let shim = wait::until("it serves", || ShimProcess::connect(&socket, Any::default()))?;
    umask(before);
    if !lab.shim().is_go() {
        assert_eq!((mode(&dir)?, mode(&socket)?), (0o700, 0o600));
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    for ids in [["--reuid=65534", "--regid=65534"], ["--reuid=0", "--regid=65534"]] {
        let connect = Cmd::new("setpriv").args(ids).arg("--clear-groups").arg(&program);
        let out = connect.arg("connect").arg(&socket).output()?;
        out.assert_ok().assert_stdout("");
    }
    assert_eq!(shim.reconnect()?.proc(), shim.proc());
    shim.shutdown()?;
    server.wait()?.assert_ok();
    lab.finish()
}

#[test]
fn the_socket_is_private_whatever_the_umask() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new(["true"]))?;
    let before = umask(Mode::empty());
    let shim = lab.start(&bundle);
    umask(before);
    let shim = shim?;
    assert_eq!(mode(shim.socket())?, 0o600);
    let dir = mode(shim.socket().parent().context("no parent")?)?;
    assert_eq!(dir & 0o077, 0, "{dir:o}");
    shim.shutdown()?;
    lab.finish()
}

/// containerd 2.x falls back to the older service on this code (containerd #11761).
#[test]
fn an_unknown_service_is_unimplemented() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new(["true"]))?;
    let shim = lab.start(&bundle)?;
    for service in ["containerd.runtime.sandbox.v1.Sandbox", "no.such.Service"] {
        let text = format!("service {service}");
        assert_refused(shim.raw(service, "Create", &[]), Code::UNIMPLEMENTED, &text);
    }
    assert_refused(shim.raw(TASK_V2, "Nothing", &[]), Code::UNIMPLEMENTED, "method Nothing");
    let shim = shim.speaking(TASK_V3);
    assert_eq!(shim.connect_task("").is_ok(), !lab.shim().is_go());
    shim.speaking(TASK_V2).shutdown()?;
    lab.finish()
}

/// containerd #3177, #4412.
#[test]
fn exits_reach_a_containerd_that_hung_for_a_while() -> Result<()> {
    let env = Env::new()?;
    let events = env.events()?;
    let container = env.container("c")?.start(["sleep", "1000"])?;
    let (shim, init) = (container.shim()?, container.init()?);
    events.wait(container.id(), "start")?;
    env.daemon().signal(Signal::SIGSTOP)?;
    init.signal(Signal::SIGKILL)?;
    let begun = Instant::now();
    wait_gone(init)?;
    wait::until("containerd has hung for ten seconds", || {
        ensure!(begun.elapsed() > Duration::from_secs(10), "{:?}", begun.elapsed());
        Ok(())
    })?;
    env.daemon().signal(Signal::SIGCONT)?;
    assert_eq!(events.wait(container.id(), "exit 137")?.pid, init.0);
    assert!(shim.is_alive());
    assert_eq!(container.delete()?, 137);
    let mut story = events.story_until(container.id(), "delete")?;
    println!("{story:?}");
    // It has copies of what it did not answer, in connections that it takes up in any order.
    let exits: Vec<usize> = (0..story.len()).filter(|&at| story[at] == "exit 137").collect();
    for &repeated in exits.iter().skip(1).rev() {
        story.remove(repeated);
    }
    assert_eq!(story, ["create", "start", "exit 137", "delete 137"]);
    env.finish()
}

fn a_runtime_killed_in_create(
    hold: impl Fn(&FakeRuntime, &str) -> Result<Gate>,
    is_held: impl Fn(&Path) -> bool,
) -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    let (shim, fake, state) = (lab.start(&bundle)?, lab.fake(&bundle), state_dir(&lab, &bundle));
    let _gate = hold(&fake, "create")?;
    thread::scope(|scope| {
        let create = scope.spawn(|| shim.create(&bundle, &Stdio::null()));
        let runtime = Proc(fake.wait_call("create")?.pid);
        wait::until("it is held", || is_held(&state).then_some(()).context("not yet"))?;
        runtime.signal(Signal::SIGKILL)?;
        let created = create.join().map_err(|_| anyhow!("create panicked"))?;
        let error = created.err().context("it succeeded")?.to_string();
        assert!(error.contains("OCI runtime create failed"), "{error}");
        anyhow::Ok(())
    })?;
    let delete = shim.delete(bundle.id(), "");
    assert_refused(delete, Code::NOT_FOUND, "container not created: not found");
    // Not even before containerd has called `delete`.
    assert!(lab.shim().is_go() || (!state.exists() && shim.proc().children().is_empty()));
    shim.shutdown()?;
    wait_gone(shim.proc())?;
    lab.delete(&bundle)?;
    assert!(!state.exists());
    lab.finish()
}

/// Where the fake runtime keeps a container's state.
fn state_dir(lab: &Lab, bundle: &Bundle) -> PathBuf {
    lab.dir().join("runtime").join(lab.namespace()).join(bundle.id())
}

/// Sends a request that its runtime command holds up, and closes the connection meanwhile.
fn send_and_leave<T>(
    lab: &Lab,
    bundle: &Bundle,
    command: &str,
    hold: impl Fn(&FakeRuntime, &str) -> Result<Gate>,
    send: impl FnOnce(&Client) -> Result<T, RpcError>,
) -> Result<()> {
    let gate = hold(&lab.fake(bundle), command)?;
    let client = Client::connect(&lab.socket(bundle.id()))?;
    send(&client)?;
    lab.fake(bundle).wait_call(command)?;
    drop(client);
    gate.open()
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}
