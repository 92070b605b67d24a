// SPDX-License-Identifier: Apache-2.0
//! What a container uses, and its limits. Under cgroup v1 or v2, whichever the machine has.
#![forbid(unsafe_code)]

mod cgroup;
mod counters;
mod rows;

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wedge_integration::fake_runtime::Step;
use wedge_integration::proc::Proc;
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Env, Lab, Rig, RpcError, ShimUnderTest, Spec, Stdio, payload, wait};

use cgroup::Cgroup;
use counters::Metrics;

const MIB: u64 = 1 << 20;

/// An init that does nothing, so that its counters stand still.
fn idle() -> Spec {
    Spec::new([payload::PATH, "pause"])
}

/// The share of a processor is used up by a single time slice, also on a machine that is busy.
fn limited() -> Spec {
    let cpu = json!({ "quota": 2000, "period": 10_000 });
    let spec = idle().memory_limit(64 * MIB).set("/linux/resources/cpu", cpu);
    spec.set("/linux/resources/pids", json!({ "limit": 25 }))
}

/// Runs the container and waits until its init has become the program it is to be.
fn run_settled(rig: &Rig) -> Result<u32> {
    let pid = rig.run()?;
    wait::until("the init is the payload", || {
        let args = Proc(pid).args()?;
        ensure!(args.get(1).is_some_and(|arg| arg == "pause"), "{args:?}");
        Ok(pid)
    })
}

fn metrics(rig: &Rig) -> Result<Metrics> {
    Metrics::decode(&rig.shim.stats(rig.id())?)
}

/// Waits until what the shim says is what the files say, before and after.
fn assert_same(rig: &Rig, cgroup: &Cgroup) -> Result<Metrics> {
    wait::until("stats are those of the files", || {
        let before = cgroup.files();
        let seen = metrics(rig)?;
        ensure!(before == cgroup.files(), "the counters are changing");
        let differences = seen.differences(cgroup);
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        Ok(seen)
    })
}

#[test]
fn every_counter_is_that_of_its_file_with_and_without_limits() -> Result<()> {
    for (spec, limits) in [(idle(), None), (limited(), Some((64 * MIB, 25)))] {
        let rig = Rig::on(Lab::new()?, &spec)?;
        let cgroup = Cgroup::of(rig.create()?)?;
        let created = assert_same(&rig, &cgroup)?;
        rig.shim.start(rig.id(), "")?;
        let running = assert_same(&rig, &cgroup)?;
        for seen in [created, running] {
            let expected = limits.unwrap_or(seen.no_limits());
            assert_eq!((seen.memory_limit(), seen.pids_limit()), expected);
            assert!(seen.pids() >= 1 && seen.memory() > 0 && seen.cpu() > 0);
        }
        rig.end()?;
    }
    Ok(())
}

#[test]
fn counters_grow_with_what_the_container_does() -> Result<()> {
    let rig = Rig::on(Lab::new()?, &limited())?;
    let cgroup = Cgroup::of(rig.run()?)?;
    let before = wait::until("runc's threads are gone", || {
        let seen = assert_same(&rig, &cgroup)?;
        ensure!(seen.pids() == 1, "{} tasks", seen.pids());
        Ok(seen)
    })?;
    rig.exec("busy", ["sh", "-c", "while :; do :; done"])?;
    wait::until("the exec has been counted, and held back", || {
        let seen = metrics(&rig)?;
        ensure!(seen.pids() == 2, "{} tasks", seen.pids());
        ensure!(seen.cpu() > before.cpu() + 10_000_000, "{} ns", seen.cpu());
        ensure!(seen.throttled() > before.throttled(), "never throttled");
        Ok(())
    })?;
    // More than the limit: the kernel kills it.
    let greedy = ["dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"];
    rig.exec("greedy", greedy)?;
    assert_eq!(rig.shim.wait(rig.id(), "greedy")?.status, 137);
    let seen = metrics(&rig)?;
    assert_eq!((seen.oom_kills(), seen.memory_peak() > 60 * MIB), (1, true));
    rig.shim.kill(rig.id(), "", 9, true)?;
    for exec in ["busy", "greedy"] {
        rig.shim.wait(rig.id(), exec)?;
        rig.shim.delete(rig.id(), exec)?;
    }
    rig.end()
}

/// containerd #11069, #7517: the Go shim of 1.6 had no cgroup of an init that was quick.
#[test]
fn there_are_counters_as_long_as_there_is_a_task() -> Result<()> {
    let rig = Rig::on(Lab::new()?, &Spec::new(["true"]))?;
    let absent = "container not created: not found";
    assert_refused(rig.shim.stats(rig.id()), Code::NOT_FOUND, absent);
    let cgroup = Cgroup::of(rig.create()?)?;
    rig.shim.start(rig.id(), "")?;
    metrics(&rig)?;
    rig.shim.wait(rig.id(), "")?;
    let exited = assert_same(&rig, &cgroup)?;
    assert_eq!(exited.pids(), 0);
    assert!(exited.cpu() > 0);
    // Somebody cleans up behind our back.
    cgroup.remove()?;
    let gone = metrics(&rig)?;
    assert_eq!((gone.cpu(), gone.memory(), gone.pids()), (0, 0, 0));
    assert!(gone.differences(&cgroup).is_empty(), "what is missing is 0");
    rig.shim.delete(rig.id(), "")?;
    assert_refused(rig.shim.stats(rig.id()), Code::NOT_FOUND, absent);
    rig.close()
}

#[test]
fn asking_leaves_nothing_behind_and_holds_no_cgroup() -> Result<()> {
    let rig = Rig::runc()?;
    let cgroup = Cgroup::of(run_settled(&rig)?)?;
    let before = rig.footprint()?;
    for _ in 0..200 {
        metrics(&rig)?;
    }
    rig.unchanged_since(&before)?;
    rig.shim.kill(rig.id(), "", 9, true)?;
    rig.shim.wait(rig.id(), "")?;
    rig.shim.delete(rig.id(), "")?;
    assert!(cgroup.is_gone());
    rig.close()
}

/// A container that is still to be restored has no process, and so no cgroup.
#[test]
fn without_a_cgroup_there_are_no_stats() -> Result<()> {
    let lab = Lab::with_fake_runtime()?;
    let bundle = lab.bundle("c", &idle())?;
    let shim = lab.start(&bundle)?;
    let mut request = shim.create_request(&bundle, &Stdio::null());
    request.checkpoint = lab.dir().join("checkpoint").to_string_lossy().into_owned();
    assert_eq!(shim.create_with(&request)?, 0);
    let text = "cgroup does not exist: not found";
    assert_refused(shim.stats(bundle.id()), Code::NOT_FOUND, text);
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()
}

#[test]
fn ctr_shows_the_metrics() -> Result<()> {
    let env = Env::new()?;
    let container = env.container("c")?.memory_limit(64 * MIB).start(["sleep", "99"])?;
    let json = container.metrics()?;
    let limit = ["/memory/usage/limit", "/memory/usage_limit"].map(|path| json.pointer(path));
    let limit: Vec<&Value> = limit.into_iter().flatten().collect();
    assert_eq!(limit, [&json!(64 * MIB)], "{json}");
    let table = env.ctr().cmd(["task", "metrics", container.id()]).output()?;
    let table = table.assert_ok().text();
    assert!(table.contains(&(64 * MIB).to_string()), "{table}");
    container.remove()?;
    env.finish()
}

/// What runc remembers of the container.
fn runc_config(rig: &Rig, pointer: &str) -> Result<Value> {
    let dir = Path::new("/run/containerd/runc").join(rig.lab.namespace()).join(rig.id());
    let state: Value = serde_json::from_slice(&fs::read(dir.join("state.json"))?)?;
    Ok(state.pointer(pointer).cloned().unwrap_or_default())
}

/// Sets limits of `mib` and `tasks`, and sees them in the cgroup, in the stats and in runc.
fn assert_updates(rig: &Rig, cgroup: &Cgroup, mib: u64, tasks: u64) -> Result<()> {
    let resources = json!({ "memory": { "limit": mib * MIB }, "pids": { "limit": tasks } });
    rig.shim.update(rig.id(), &resources.to_string())?;
    assert_eq!((cgroup.memory_limit()?, cgroup.pids_limit()?), (mib * MIB, tasks));
    let seen = metrics(rig)?;
    assert_eq!((seen.memory_limit(), seen.pids_limit()), (mib * MIB, tasks));
    assert_eq!(runc_config(rig, "/config/cgroups/memory")?, json!(mib * MIB));
    assert_eq!(runc_config(rig, "/config/cgroups/pids_limit")?, json!(tasks));
    Ok(())
}

#[test]
fn an_update_changes_limits_in_every_state_but_stopped() -> Result<()> {
    let rig = Rig::on(Lab::new()?, &limited())?;
    let resources = "{\"pids\":{\"limit\":9}}";
    let update = |rig: &Rig| rig.shim.update(rig.id(), resources);
    assert_refused(update(&rig), Code::NOT_FOUND, "container not created: not found");
    let cgroup = Cgroup::of(rig.create()?)?;
    assert_updates(&rig, &cgroup, 48, 20)?;
    rig.shim.start(rig.id(), "")?;
    assert_updates(&rig, &cgroup, 32, 15)?;
    rig.shim.pause(rig.id())?;
    assert_updates(&rig, &cgroup, 40, 16)?;
    rig.shim.resume(rig.id())?;
    // What an update does not name stays.
    update(&rig)?;
    assert_eq!((cgroup.memory_limit()?, cgroup.pids_limit()?), (40 * MIB, 9));
    assert_same(&rig, &cgroup)?;
    rig.shim.kill(rig.id(), "", 9, true)?;
    rig.shim.wait(rig.id(), "")?;
    rig.refuses(Code::UNKNOWN, "cannot update a stopped container", |_| update(&rig))?;
    rig.retire()
}

#[test]
fn an_updated_limit_holds() -> Result<()> {
    let rig = Rig::on(Lab::new()?, &limited())?;
    rig.run()?;
    let half = ["dd", "if=/dev/zero", "of=/dev/null", "bs=32M", "count=1"];
    rig.exec("before", half)?;
    assert_eq!(rig.shim.wait(rig.id(), "before")?.status, 0);
    let resources = json!({ "memory": { "limit": 16 * MIB } });
    rig.shim.update(rig.id(), &resources.to_string())?;
    rig.exec("after", half)?;
    assert_eq!(rig.shim.wait(rig.id(), "after")?.status, 137);
    for exec in ["before", "after"] {
        rig.shim.delete(rig.id(), exec)?;
    }
    rig.end()
}

#[test]
fn resources_reach_the_runtime_and_its_words_the_client() -> Result<()> {
    let rig = Rig::fake()?;
    run_settled(&rig)?;
    let resources =
        json!({ "cpu": { "shares": 512 }, "memory": { "limit": 9_223_372_036_854_771_712_u64 } });
    rig.shim.update(rig.id(), &resources.to_string())?;
    let given: Value = serde_json::from_str(&rig.bundle.text("fake-runtime.update"))?;
    assert_eq!(given, resources);
    let before = rig.footprint()?;
    rig.script().script("update", Step::failing("device or resource busy"))?;
    match rig.shim.update(rig.id(), "{}") {
        Err(RpcError::Status { code: Code::UNKNOWN, message }) => {
            let end = "did not terminate successfully: exit status 1: \
                       fake runtime: device or resource busy";
            assert!(message.trim_end().ends_with(end), "{message}");
        }
        other => panic!("{other:?}"),
    }
    rig.unchanged_since(&before)?;
    rig.end()
}

#[test]
fn resources_that_are_not_an_object_are_an_invalid_argument() -> Result<()> {
    if ShimUnderTest::skips_go("it has no class for them")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    run_settled(&rig)?;
    let before = rig.footprint()?;
    for resources in ["", "[]", "{", "memory"] {
        let error = rig.shim.update(rig.id(), resources).unwrap_err();
        assert_eq!(error.code(), Some(Code::INVALID_ARGUMENT), "{resources}: {error}");
    }
    assert_eq!(rig.script().commands()?, ["create", "start"]);
    rig.unchanged_since(&before)?;
    rig.end()
}
