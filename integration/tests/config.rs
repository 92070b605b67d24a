// SPDX-License-Identifier: Apache-2.0
//! The operator's configuration (docs/configuration.md): what it changes, and what a wrong one does.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::proc::wait_gone;
use wedge_integration::{Env, Lab, Rig, ShimUnderTest, Spec, Stdio, payload, wait};

/// For what no default could explain: each default is five seconds at least.
const SOON: Duration = Duration::from_secs(4);

fn skipped() -> Result<bool> {
    ShimUnderTest::skips_go("it has no configuration")
}

/// A program in a directory that everybody can write to, made by somebody else than root.
fn planted_logger(env: &Env) -> Result<PathBuf> {
    let open = env.dir().join("open");
    fs::create_dir(&open)?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777))?;
    let path = open.join("logger");
    let script = "#!/bin/sh\nprintf x >&5; exec 5>&-; exec /bin/cat <&3 >$0.$CONTAINER_ID\n";
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::chown(&path, Some(1000), None)?;
    Ok(path)
}

#[test]
fn a_wider_logger_policy_holds_for_the_shims_started_with_it() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let env = Env::new()?;
    let logger = planted_logger(&env)?;
    let flag = format!("--log-uri=binary://{}", logger.display());
    let refused = "is refused: ";
    env.container("narrow")?.flags([&flag]).run(["true"])?.assert_error(refused);

    let open = logger.parent().unwrap_or(&logger).display();
    env.configure(&format!("[logger]\nallowed_directories = [\"{open}\"]\n"))?;
    let launch = env.container("wide")?.flags([&flag]);
    let written = PathBuf::from(format!("{}.{}", logger.display(), launch.id()));
    let container = launch.start(["sh", "-c", "echo out; exec sleep 1000"])?;
    wait::until("the logger has read a line", || {
        ensure!(fs::read_to_string(&written)? == "out\n", "not yet");
        Ok(())
    })?;

    // What a shim was started with it keeps; a new one gets what is there now.
    env.configure("")?;
    let exec = ["task", "exec", "--exec-id=e", &flag, container.id(), "echo", "again"];
    env.ctr().cmd(exec).output()?.assert_ok();
    env.container("narrow")?.flags([&flag]).run(["true"])?.assert_error(refused);
    container.remove()?;
    env.finish()
}

#[test]
fn a_wrong_configuration_fails_the_start_and_leaves_nothing() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let env = Env::new()?;
    env.configure("# first\nexec = \"auto\"\n[logger]\nallow = true\n")?;
    let path = env.scratch().config();
    let text = format!("{}:4: logger.allow: unknown key", path.display());
    let out = env.run(["true"])?;
    out.assert_error(&format!("start failed: io.containerd.runc.v2: {text}: exit status 1"));
    env.configure("")?;
    let drop_ins = path.with_file_name("conf.d");
    fs::create_dir(&drop_ins)?;
    fs::write(drop_ins.join("10-x.toml"), "timeouts.output_drain = 3\n")?;
    let text = format!("{}/10-x.toml:1: timeouts.output_drain: ", drop_ins.display());
    env.run(["true"])?.assert_error(&text);
    fs::set_permissions(drop_ins.join("10-x.toml"), fs::Permissions::from_mode(0o646))?;
    env.run(["true"])?.assert_error("is refused: it is writable by others than root");
    fs::remove_dir_all(&drop_ins)?;
    env.run(["echo", "fine"])?.assert_ok().assert_stdout("fine\n");
    env.finish()
}

/// A container must be cleaned up, whatever was done to the configuration meanwhile.
#[test]
fn delete_needs_no_configuration() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let rig = Rig::runc()?;
    rig.run()?;
    rig.shim.proc().signal(Signal::SIGKILL)?;
    wait_gone(rig.shim.proc())?;
    rig.lab.configure("nonsense")?;
    let (answer, _) = rig.lab.delete(&rig.bundle)?;
    assert_eq!(answer.exit_status, 137);
    rig.lab.finish()
}

fn configured(lab: Lab, text: &str) -> Result<Rig> {
    lab.configure(text)?;
    Rig::on(lab, &Spec::new([payload::PATH, "pause"]))
}

#[test]
fn a_runtime_command_is_killed_when_its_time_is_over() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let lab = Lab::with_fake_runtime()?;
    let rig = configured(lab, "timeouts.runtime_command = \"3s\"")?;
    rig.run()?;
    let gate = rig.script().hold_before("pause")?;
    let text = "did not end within 3s and was killed";
    let said = rig.shim.pause(rig.id()).err().map(|err| err.to_string()).unwrap_or_default();
    ensure!(said.ends_with(text), "{said:?}");
    gate.open()?;
    rig.end()
}

#[test]
fn output_is_waited_for_as_long_as_is_configured() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let rig = configured(Lab::new()?, "timeouts.output_drain = \"100ms\"")?;
    rig.run()?;
    let fifos = rig.lab.fifos("exec")?;
    // The one that stays behind holds the output open.
    let process = wedge_integration::Process::new(["sh", "-c", "sleep 1000 & exit 3"]);
    rig.shim.exec(rig.id(), "e", &process, fifos.stdio())?;
    rig.shim.start(rig.id(), "e")?;
    assert_eq!(rig.shim.wait(rig.id(), "e")?.status, 3);
    let begun = Instant::now();
    rig.shim.delete(rig.id(), "e")?;
    ensure!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    rig.end()
}

#[test]
fn events_hold_up_the_end_of_a_shim_as_long_as_is_configured() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let mut lab = Lab::with_fake_runtime()?;
    lab.configure("timeouts.event_drain = \"100ms\"")?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    let shim = lab.start(&bundle)?;
    lab.events_mut().stop();
    shim.create(&bundle, &Stdio::null())?;
    shim.delete(bundle.id(), "")?;
    let begun = Instant::now();
    shim.shutdown()?;
    wait_gone(shim.proc())?;
    ensure!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    lab.finish()
}
