// SPDX-License-Identifier: Apache-2.0
//! Execs under AppArmor: the profile is on, or the exec fails.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wedge_integration::apparmor::Profile;
use wedge_integration::proc::Proc;
use wedge_integration::rpc::{Code, RpcError};
use wedge_integration::{Cmd, Lab, Process, Ran, Rig, Spec, Stdio, payload, wait};

use crate::assert_vm;

fn load(lab: &Lab) -> Result<Profile> {
    assert_vm();
    Profile::load(lab.namespace())
}

/// A bench whose execs are made in one of the ways of docs/configuration.md.
fn lab(exec: &str) -> Result<Lab> {
    let lab = Lab::new()?;
    lab.configure(&format!("exec = \"{exec}\"\n"))?;
    Ok(lab)
}

fn pause() -> Spec {
    Spec::new([payload::PATH, "pause"])
}

fn confined(process: Process, profile: &str) -> Process {
    process.set("apparmorProfile", profile)
}

fn counted(rig: &Rig, exec: &str, native: usize, fallbacks: usize) -> Result<()> {
    let state = rig.lab.state(&rig.bundle)?;
    let text = format!("; exec {exec}, {native} native, {fallbacks} by the OCI runtime");
    ensure!(state.contains(&text), "expected {text:?} in {state}");
    Ok(())
}

#[test]
fn an_exec_has_the_profile_it_asks_for() -> Result<()> {
    const SCRIPT: &str = "cat /proc/self/attr/current /proc/self/attr/apparmor/current
        echo a >/dev/shm/of-$(id -u) && cat /dev/shm/of-$(id -u)
        echo a >/dev/shm/denied";
    let ways = [("native", 4), ("runtime", 0)].map(|(exec, native)| -> Result<Vec<Ran>> {
        let lab = lab(exec)?;
        let profile = load(&lab)?;
        let spec = pause().set("/process/apparmorProfile", profile.name());
        let rig = Rig::telling(lab, &spec)?;
        rig.run()?;
        let script = || Process::new(["sh", "-c", SCRIPT]);
        let user = json!({ "uid": 1000, "gid": 1000 });
        let denied = format!("{0}{0}a\n", profile.label());
        let mut all = Vec::new();
        for (id, process) in [
            ("root", confined(script(), profile.name())),
            ("may-gain", confined(script(), profile.name()).set("noNewPrivileges", false)),
            ("user", confined(script(), profile.name()).set("user", user)),
            // The container's is not the exec's, as with runc.
            ("none", script()),
        ] {
            let ran = rig.run_exec(id, &process)??;
            if id != "none" {
                assert_eq!((ran.status, ran.stdout.as_str()), (1, denied.as_str()), "{ran:?}");
                ensure!(ran.stderr.contains("denied: Permission denied"), "{ran:?}");
            }
            let stdout = ran.stdout.replace(profile.name(), "NAME");
            all.push(Ran { pid: 0, stdout, ..ran });
        }
        counted(&rig, exec, native, 0)?;
        rig.end()?;
        profile.unload()?;
        Ok(all)
    });
    let [native, runtime] = ways;
    assert_eq!(native?, runtime?);
    Ok(())
}

#[test]
fn without_its_profile_an_exec_fails() -> Result<()> {
    assert_vm();
    for (exec, attribute) in
        [("auto", "/proc/thread-self/attr/apparmor/exec"), ("runtime", "/attr/apparmor/exec")]
    {
        let rig = Rig::telling(lab(exec)?, &pause())?;
        rig.run()?;
        for id in ["e1", "e2"] {
            let process = confined(Process::new(["true"]), "wedge-not-loaded");
            let refused = rig.run_exec(id, &process)?;
            let Err(RpcError::Status { code: Code::UNKNOWN, message }) = refused else {
                anyhow::bail!("{refused:?}");
            };
            let start = "OCI runtime exec failed: exec failed: unable to start container process: ";
            let end = format!("{attribute}: no such file or directory");
            let said = message.starts_with(&format!("{start}apparmor failed to apply profile: "));
            ensure!(said && message.ends_with(&end), "{message}");
        }
        counted(&rig, exec, 0, 0)?;
        rig.end()?;
    }
    Ok(())
}

/// CVE-2019-16884, CVE-2025-52881: a container that shows files of its own where the attributes are.
#[test]
fn a_faked_proc_changes_nothing_about_the_profile() -> Result<()> {
    let lab = lab("auto")?;
    let profile = load(&lab)?;
    let rig = Rig::telling(lab, &pause())?;
    let init = Proc(rig.run()?);
    for (number, fake) in [
        "mount -t tmpfs tmpfs /proc && mkdir -p /proc/self/attr/apparmor /proc/thread-self &&
         ln -s ../self/attr /proc/thread-self/attr &&
         touch /proc/self/attr/exec /proc/self/attr/apparmor/exec",
        "umount /proc && mount -o remount,bind,ro /proc",
        "umount /proc",
    ]
    .into_iter()
    .enumerate()
    {
        in_mounts(init, fake)?;
        assert_eq!(label_of_exec(&rig, &format!("e{number}"), &profile)?, profile.label());
    }
    counted(&rig, "auto", 3, 0)?;
    rig.end()?;
    profile.unload()
}

/// Runs `script` in the mount namespace of `process`.
fn in_mounts(process: Proc, script: &str) -> Result<()> {
    let pid = process.0.to_string();
    let enter =
        Cmd::new("nsenter").args(["--mount", "--pid", "--target", &pid, "/bin/sh", "-c", script]);
    enter.env("PATH", "/bin").output()?.assert_ok();
    Ok(())
}

/// The label of an exec that asks for `profile`, as the host sees it.
fn label_of_exec(rig: &Rig, exec: &str, profile: &Profile) -> Result<String> {
    let args = [payload::PATH, "pause"];
    let process = confined(Process::new(args), profile.name());
    rig.shim.exec(rig.id(), exec, &process, &Stdio::null())?;
    let process = Proc(rig.shim.start(rig.id(), exec)?);
    // execve closes what we notice it by before it changes the label, and that before this.
    wait::until("it is the program", || {
        ensure!(process.args()? == args, "it is not yet");
        Ok(())
    })?;
    let label = fs::read_to_string(process.path("attr/current")).context("its label")?;
    rig.shim.kill(rig.id(), exec, 9, false)?;
    rig.shim.wait(rig.id(), exec)?;
    rig.shim.delete(rig.id(), exec)?;
    Ok(label)
}

/// A user namespace may make no procfs where it has none (`mount_too_revealing` of the kernel). There
/// the OCI runtime is asked, which needs one.
#[test]
fn in_a_user_namespace_the_profile_is_on_or_the_exec_fails() -> Result<()> {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let own = ["pid", "ipc", "uts", "mount", "network", "user"].map(|kind| json!({ "type": kind }));
    let lab = lab("auto")?;
    let profile = load(&lab)?;
    let spec = pause()
        .set("/linux/namespaces", json!(own))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .set("/linux/maskedPaths", json!(["/proc/timer_list", "/proc/acpi"]));
    let rig = Rig::telling(lab, &spec)?;
    let init = Proc(rig.run()?);
    assert_eq!(label_of_exec(&rig, "masked", &profile)?, profile.label());
    in_mounts(init, "umount /proc/timer_list; umount /proc/acpi; umount /proc")?;
    let process = confined(Process::new(["true"]), profile.name());
    let refused = rig.run_exec("none", &process)?;
    ensure!(matches!(refused, Err(RpcError::Status { code: Code::UNKNOWN, .. })), "{refused:?}");
    counted(&rig, "auto", 1, 1)?;
    rig.end()?;
    profile.unload()
}
