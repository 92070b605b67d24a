// SPDX-License-Identifier: Apache-2.0
//! What an idle shim costs a node, against the Go shim in the same run.
#![forbid(unsafe_code)]

use std::fs;

use anyhow::Result;
use wedge_integration::proc::{FdKind, Memory};
use wedge_integration::{Lab, Process, ShimUnderTest, Spec, Stdio, payload};

/// Why none of this runs for the Go shim.
const REFERENCE: &str = "it is what ours is compared with";

#[expect(clippy::print_stdout, reason = "the figures are what one runs this for")]
fn report(text: &str) {
    println!("{text}");
}

/// A shim with one running container: its memory at first and after 50 execs.
fn memory(shim: &ShimUnderTest) -> Result<[Memory; 2]> {
    let lab = Lab::with_copy_of(shim)?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "pause"]))?;
    let shim = lab.start(&bundle)?;
    shim.create(&bundle, &Stdio::null())?;
    shim.start(bundle.id(), "")?;
    let first = shim.proc().memory()?;
    for number in 0..50 {
        let exec = format!("e{number}");
        shim.exec(bundle.id(), &exec, &Process::new(["true"]), &Stdio::null())?;
        shim.start(bundle.id(), &exec)?;
        shim.wait(bundle.id(), &exec)?;
        shim.delete(bundle.id(), &exec)?;
    }
    let (used, threads, fds) = (shim.proc().memory()?, shim.proc().threads()?, shim.proc().fds()?);
    report(&format!("{:?}: {threads} threads, {} descriptors", lab.shim(), fds.len()));
    if !lab.shim().is_go() {
        assert!(threads <= 3 && fds.count(FdKind::Inotify) == 0, "{threads} threads\n{fds}");
    }
    shim.kill(bundle.id(), "", 9, false)?;
    shim.wait(bundle.id(), "")?;
    shim.delete(bundle.id(), "")?;
    shim.shutdown()?;
    lab.finish()?;
    Ok([first, used])
}

#[test]
fn an_idle_shim_takes_a_quarter_of_the_go_shims_memory() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    let ours = memory(&ShimUnderTest::from_env()?)?;
    let go = memory(&ShimUnderTest::go()?)?;
    for (when, (ours, go)) in ["at first", "after 50 execs"].iter().zip(ours.iter().zip(&go)) {
        for (what, ours, go) in
            [("PSS", ours.pss, go.pss), ("Private_Dirty", ours.private_dirty, go.private_dirty)]
        {
            let tenths = go * 10 / ours;
            let times = format!("{}.{}", tenths / 10, tenths % 10);
            println!("{what} {when}: ours {ours} KiB, Go {go} KiB, {times} times as much");
            assert!(ours * 4 <= go, "{what} {when}: ours {ours} KiB, Go {go} KiB");
        }
    }
    Ok(())
}

#[test]
fn the_binary_is_small() -> Result<()> {
    if ShimUnderTest::skips_go(REFERENCE)? {
        return Ok(());
    }
    let size = |shim: ShimUnderTest| Ok::<u64, anyhow::Error>(fs::metadata(shim.path())?.len());
    let (ours, go) = (size(ShimUnderTest::from_env()?)?, size(ShimUnderTest::go()?)?);
    println!("ours {} KiB, Go {} KiB", ours >> 10, go >> 10);
    assert!(ours * 2 <= go, "ours {ours}, Go {go}");
    Ok(())
}
