// SPDX-License-Identifier: Apache-2.0
//! I7: the OOM monitor is armed once, in the first start of init, and goes with the container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use wedge_integration::proc::FdKind;
use wedge_integration::{Lab, Rig, ShimUnderTest, Spec, payload, wait};

/// runc, whose first `start` fails.
fn runc_that_stumbles(lab: &mut Lab) -> Result<()> {
    let (script, stumbled) = (lab.dir().join("runc.sh"), lab.dir().join("stumbled"));
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *' start '*)\n[ -e {0} ] || {{ touch {0}; exit 1; }};;\nesac\n\
         exec runc \"$@\"\n",
        stumbled.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    lab.options_mut().binary_name = script.to_string_lossy().into_owned();
    Ok(())
}

#[test]
fn i7_the_oom_monitor_is_armed_once_and_goes_with_the_container() -> Result<()> {
    if ShimUnderTest::skips_go("other parts of its runtime use eventfds too")? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    runc_that_stumbles(&mut lab)?;
    let rig = Rig::on(lab, &Spec::new([payload::PATH, "pause"]))?;
    // What one monitor holds: in cgroup v1 an eventfd, in v2 two files.
    let (kind, number) = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => (FdKind::Cgroup, 2),
        false => (FdKind::Eventfd, 1),
    };
    let held = || anyhow::Ok(rig.shim.proc().fds()?.count(kind));
    rig.create()?;
    let created = held()?;
    assert!(rig.shim.start(rig.id(), "").is_err());
    let armed = created + number;
    assert_eq!(held()?, armed, "armed in the first start, before init is released");
    rig.shim.start(rig.id(), "")?;
    assert!(rig.shim.start(rig.id(), "").is_err());
    assert_eq!(held()?, armed);
    for number in 0..20 {
        let id = format!("e{number}");
        rig.exec(&id, ["true"])?;
        rig.shim.wait(rig.id(), &id)?;
        assert_eq!(held()?, armed);
    }
    rig.shim.kill(rig.id(), "", 9, false)?;
    rig.shim.wait(rig.id(), "")?;
    wait::until("the monitor is closed", || {
        ensure!(held()? == created, "{:?}", held());
        anyhow::Ok(())
    })?;
    rig.retire()
}
