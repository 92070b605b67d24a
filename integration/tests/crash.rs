// SPDX-License-Identifier: Apache-2.0
//! The shim is killed: containerd's cleaning up, and the action `delete` it does it with.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::protos::api::Mount;
use wedge_integration::{
    Bundle, Container, Env, Lab, Rig, ShimUnderTest, Spec, Stdio, payload, wait,
};

#[test]
fn containerd_cleans_up_after_a_killed_shim() -> Result<()> {
    let env = Env::new()?;
    let events = env.events()?;
    let container = env.container("c")?.start(["sh", "-c", "sleep 1000 & wait"])?;
    container.exec_cmd(&["--detach"], ["sleep", "1000"]).output()?.assert_ok();
    let init = container.init()?;
    kill_shim_of(&env, &[&container])?;
    assert_eq!(events.wait(container.id(), "exit 137")?.pid, init.0);
    let exec = ["exec-added exec1", "exec-started exec1"];
    let expected = [&["create", "start"][..], &exec, &["exit 137", "delete 137"]].concat();
    assert_eq!(events.story_until(container.id(), "delete")?, expected);
    env.finish()
}

#[test]
fn containerd_cleans_up_a_pod_after_its_shim_was_killed() -> Result<()> {
    let env = Env::new()?;
    let pause = Spec::new([payload::PATH, "pause"]).pod(&env.pod("pod")?);
    let first = env.container("first")?.config(&pause)?.start([""; 0])?;
    let second = env.container("second")?.config(&pause)?.start([""; 0])?;
    kill_shim_of(&env, &[&first, &second])?;
    env.finish()
}

/// A frozen process does not even die: the runtime has to thaw it.
#[test]
fn containerd_cleans_up_a_paused_container_after_its_shim_was_killed() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("c")?.start(["sleep", "1000"])?;
    container.pause()?.assert_ok();
    kill_shim_of(&env, &[&container])?;
    env.finish()
}

/// containerd #11043, and whatever else may be missing after a crash.
#[test]
fn delete_works_with_files_missing() -> Result<()> {
    if ShimUnderTest::skips_go("1.6 fails without the file `runtime` or a pid")? {
        return Ok(());
    }
    const FILES: [&str; 4] = ["options.json", "config.json", "runtime", "init.pid"];
    let lab = Lab::new()?;
    for missing in FILES.chunks(1).chain([&FILES[..]]) {
        let (bundle, init) = orphan(&lab)?;
        for name in missing {
            fs::remove_file(bundle.dir().join(name)).with_context(|| (*name).to_owned())?;
        }
        let pid = if missing.contains(&"init.pid") { 0 } else { init.0 };
        assert_deleted(&lab, &bundle, pid)?;
        wait_gone(init)?;
    }
    lab.finish()
}

/// containerd #4327.
#[test]
fn delete_uses_the_runtime_root_of_the_task() -> Result<()> {
    let mut lab = Lab::new()?;
    let root = lab.dir().join("other");
    lab.options_mut().root = root.to_string_lossy().into_owned();
    let (bundle, init) = orphan(&lab)?;
    let state = root.join(lab.namespace()).join(bundle.id());
    assert!(state.exists());
    assert_deleted(&lab, &bundle, init.0)?;
    wait_gone(init)?;
    assert!(!state.exists());
    lab.finish()
}

#[test]
fn delete_unmounts_the_root_file_system() -> Result<()> {
    let lab = Lab::new()?;
    let bundle = lab.bundle("c", &Spec::new(["sleep", "1000"]))?;
    let cgroup = format!("/{}/{}", lab.namespace(), bundle.id());
    bundle.write_config(&Spec::new(["sleep", "1000"]).cgroup(&cgroup))?;
    let shim = lab.start(&bundle)?;
    let mut request = shim.create_request(&bundle, &Stdio::null());
    let source = lab.dir().join("rootfs").to_string_lossy().into_owned();
    let options = vec!["rbind".to_owned(), "ro".to_owned()];
    let mount = Mount { type_: "bind".to_owned(), source, options, ..Mount::default() };
    request.rootfs.push(mount);
    shim.create_with(&request)?;
    let init = Proc(shim.start(bundle.id(), "")?);
    assert!(bundle.dir().join("rootfs/bin").exists());
    kill_shim(shim.proc())?;
    assert_deleted(&lab, &bundle, init.0)?;
    wait_gone(init)?;
    assert!(!bundle.dir().join("rootfs/bin").exists());
    lab.finish()
}

/// runc waits for an init that does not die at once, and only then removes its own state: killed by
/// the end of the action it would leave that, and a mount that is busy meanwhile stays mounted.
#[test]
fn delete_answers_in_time_and_lets_a_slow_runtime_go_on() -> Result<()> {
    if ShimUnderTest::skips_go("it waits as long as containerd lets it, and kills its runtime")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let init = Proc(rig.run()?);
    let rootfs = rig.bundle.dir().join("rootfs");
    fs::create_dir_all(&rootfs)?;
    let nothing = None::<&str>;
    mount(Some("tmpfs"), &rootfs, Some("tmpfs"), MsFlags::empty(), nothing)?;
    let busy = File::create(rootfs.join("busy"))?;
    let gate = rig.script().hold_before("delete")?;
    kill_shim(rig.shim.proc())?;
    let (response, out) = rig.lab.delete(&rig.bundle)?;
    assert_eq!((response.pid, response.exit_status), (init.0, 137));
    let said = out.error_text();
    ensure!(said.contains("in time, the runtime goes on"), "{said}");
    ensure!(!rootfs.join("busy").exists(), "it is mounted still: {said}");
    ensure!(init.is_alive(), "the runtime had not begun");
    drop(busy);
    gate.open()?;
    wait_gone(init)?;
    rig.lab.finish()
}

/// An upgrade in either direction while containers run: each reads what the other wrote.
#[test]
fn each_shim_deletes_what_the_other_has_started() -> Result<()> {
    if ShimUnderTest::skips_go("it drives both shims, in a run about ours")? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    let (ours, go) = (lab.shim().clone(), ShimUnderTest::go()?);
    let other = lab.dir().join("other").to_string_lossy().into_owned();
    // What options.json leaves out is the default. The file `runtime` Go of 1.6 cannot miss.
    for (starts, deletes, root, without_runtime) in [
        (&ours, &go, other.as_str(), false),
        (&ours, &go, "", false),
        (&go, &ours, &other, false),
        (&go, &ours, "", false),
        (&go, &ours, &other, true),
        (&go, &ours, "", true),
    ] {
        lab.options_mut().root = root.to_owned();
        install(&lab, starts.path())?;
        let (bundle, init) = orphan(&lab)?;
        let options: Value = serde_json::from_str(&bundle.text("options.json"))?;
        let written = options.as_object().context("an object")?.keys();
        assert_eq!(
            written.collect::<Vec<_>>(),
            if root.is_empty() { [].as_slice() } else { &["root"] }
        );
        if without_runtime {
            fs::remove_file(bundle.dir().join("runtime"))?;
        }
        let state = Path::new(if root.is_empty() { "/run/containerd/runc" } else { root });
        let state = state.join(lab.namespace()).join(bundle.id());
        assert!(state.exists());
        install(&lab, deletes.path())?;
        let (response, _) = lab.delete(&bundle)?;
        assert_eq!((response.pid, response.exit_status), (init.0, 137));
        wait_gone(init)?;
        assert!(!state.exists());
        // The Go shim leaves it.
        let left = fs::remove_file(lab.socket(bundle.id())).is_ok();
        assert_eq!(left, deletes.is_go());
    }
    lab.finish()
}

/// Starts a container and kills its shim.
fn orphan(lab: &Lab) -> Result<(Bundle, Proc)> {
    let bundle = lab.bundle("c", &Spec::new(["sleep", "1000"]))?;
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    let init = Proc(shim.start(bundle.id(), "")?);
    kill_shim(shim.proc())?;
    assert!(init.is_alive());
    Ok((bundle, init))
}

fn kill_shim(shim: Proc) -> Result<()> {
    shim.signal(Signal::SIGKILL)?;
    wait_gone(shim)
}

/// Kills the shim of these containers and waits until containerd has cleaned up.
fn kill_shim_of(env: &Env, containers: &[&Container]) -> Result<()> {
    let inits = containers.iter().map(|c| c.init()).collect::<Result<Vec<_>>>()?;
    let first = containers.first().context("no container")?;
    let address = fs::read_to_string(first.bundle().join("address"))?;
    first.shim()?.signal(Signal::SIGKILL)?;
    wait::until("the tasks are gone", || {
        let tasks = env.ctr().tasks()?;
        ensure!(tasks.is_empty(), "{tasks:?}");
        Ok(())
    })?;
    inits.into_iter().try_for_each(wait_gone)?;
    for container in containers {
        wait::until("the bundle is gone", || {
            ensure!(!container.bundle().exists(), "{:?}", container.bundle());
            Ok(())
        })?;
        env.ctr().cmd(["container", "delete", container.id()]).output()?.assert_ok();
    }
    if env.shim().is_go() {
        // It leaves its socket (containerd #10192).
        fs::remove_file(address.trim_start_matches("unix://"))?;
    }
    Ok(())
}

/// `delete` answers as it should, says nothing, and removes the socket.
fn assert_deleted(lab: &Lab, bundle: &Bundle, pid: u32) -> Result<()> {
    let (response, out) = lab.delete(bundle)?;
    assert_eq!((response.pid, response.exit_status), (pid, 137));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let age = now.saturating_sub(response.exited_at.seconds.try_into()?);
    assert!(age <= 10, "{response}");
    let socket = lab.socket(bundle.id());
    if lab.shim().is_go() {
        // It leaves the socket, and logs to standard error (containerd #10192).
        return Ok(fs::remove_file(socket)?);
    }
    assert!(out.stderr.is_empty(), "{out}");
    assert!(!socket.exists());
    Ok(())
}

/// Puts another shim in place of the one under test.
fn install(lab: &Lab, shim: &Path) -> Result<()> {
    let link = lab.dir().join("bin/containerd-shim-runc-v2");
    fs::remove_file(&link)?;
    Ok(symlink(shim, link)?)
}
