// SPDX-License-Identifier: Apache-2.0
//! Checkpoint and restore with real CRIU where it works, and the runtime's own words where it does
//! not; `criu check` decides which of both a test expects. In the VM of `make test-vm` it has to work.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use wedge_integration::protos::api::Status;
use wedge_integration::protos::shim::oci::CheckpointOptions;
use wedge_integration::rpc::{Code, assert_refused};
use wedge_integration::{Bundle, Cmd, Fifos, Lab, Process, ShimProcess, Spec, Stdio};

/// Counts the lines it reads: what it has counted is only in its memory.
const COUNT: &str = "i=0; while read line; do i=$((i+1)); echo \"count $i\"; done";

/// A container that counts, and the other ends of its streams.
struct Counter {
    bundle: Bundle,
    fifos: Fifos,
    terminal: bool,
}

impl Counter {
    fn new(lab: &Lab, name: &str, terminal: bool) -> Result<Counter> {
        let fifos = if terminal { lab.terminal(name)? } else { lab.fifos(name)? };
        Ok(Counter { bundle: lab.bundle(name, &Counter::spec(terminal))?, fifos, terminal })
    }

    fn spec(terminal: bool) -> Spec {
        let spec = Spec::new(["sh", "-c", COUNT]);
        if terminal { spec.terminal() } else { spec }
    }

    /// One like it, to be restored: CRIU puts processes back into the cgroup they were in.
    fn successor(&self, lab: &Lab) -> Result<Counter> {
        let successor = Counter::new(lab, "restored", self.terminal)?;
        let cgroup = format!("/{}/{}", lab.namespace(), self.id());
        let spec = Counter::spec(self.terminal).root(&lab.dir().join("rootfs")).cgroup(&cgroup);
        successor.bundle.write_config(&spec)?;
        Ok(successor)
    }

    fn id(&self) -> &str {
        self.bundle.id()
    }

    fn run(&self, shim: &ShimProcess) -> Result<()> {
        shim.create(&self.bundle, self.fifos.stdio())?;
        shim.start(self.id(), "")?;
        Ok(())
    }

    /// Prepares the container to be made from `images`; there is no process yet.
    fn create_from(&self, shim: &ShimProcess, images: &str) -> Result<()> {
        let mut request = shim.create_request(&self.bundle, self.fifos.stdio());
        images.clone_into(&mut request.checkpoint);
        assert_eq!(shim.create_with(&request)?, 0);
        let state = shim.state(self.id(), "")?;
        assert_eq!((state.status.enum_value(), state.pid), (Ok(Status::CREATED), 0));
        Ok(())
    }

    fn counts(&mut self, number: u32) -> Result<()> {
        self.fifos.write(b"\n")?;
        self.fifos.stdout.wait_text(&format!("count {number}"))
    }

    fn assert_running(&self, shim: &ShimProcess) -> Result<()> {
        let state = shim.state(self.id(), "")?;
        assert_eq!(state.status.enum_value(), Ok(Status::RUNNING));
        assert!(state.pid > 0);
        Ok(())
    }

    /// Kills it from outside and deletes it; all of its life was as of any other container.
    fn end(&self, lab: &Lab, shim: &ShimProcess) -> Result<()> {
        shim.kill(self.id(), "", 9, false)?;
        assert_eq!(shim.wait(self.id(), "")?.status, 137);
        assert_eq!(shim.delete(self.id(), "")?.status, 137);
        let story = lab.events().log().story_until(self.id(), "delete")?;
        assert_eq!(story.first().map(String::as_str), Some("create"));
        assert_eq!(story.get(1).map(String::as_str), Some("start"));
        assert_eq!(story.split_at(story.len() - 2).1, ["exit 137", "delete 137"]);
        Ok(())
    }
}

/// What was saved, and where.
struct Saved {
    images: PathBuf,
    /// What the runtime says by itself when it cannot save; `None`: it can.
    refusal: Option<String>,
}

/// Saves a container through the shim, which says what the runtime would say.
fn save(lab: &Lab, shim: &ShimProcess, counter: &Counter, exit: bool) -> Result<Saved> {
    let images = lab.dir().join("images");
    let refusal = (!criu_works()?).then(|| refusal(lab, counter)).transpose()?;
    let options = CheckpointOptions { exit, ..CheckpointOptions::default() };
    let saved = shim.checkpoint(counter.id(), &images, &options);
    match &refusal {
        None => saved.with_context(|| log_of_criu(counter))?,
        Some(words) => {
            let log = counter.bundle.dir().join("criu-dump.log");
            let failed = "runc did not terminate successfully: exit status 1";
            let text = format!("{failed}: {words} path= {}", log.display());
            assert_refused(saved, Code::UNKNOWN, &text);
        }
    }
    // CRIU's own directory was a temporary one.
    assert!(!counter.bundle.dir().join("work/criu-work").exists());
    Ok(Saved { images, refusal })
}

fn log_of_criu(counter: &Counter) -> String {
    let log = counter.bundle.text("criu-dump.log");
    let words = log.lines().filter(|line| line.contains("Error") || line.contains("Warn"));
    words.collect::<Vec<_>>().join("\n")
}

#[expect(clippy::print_stdout, reason = "which of both was tested")]
fn criu_works() -> Result<bool> {
    let check = Cmd::new("criu").arg("check").output()?;
    let works = check.code == 0;
    println!("criu check: {}", if works { "it works here" } else { "it fails here" });
    // Nowhere else is it sure that a container is saved at all.
    ensure!(works || env::var_os("WEDGE_TEST_VM").is_none(), "criu check fails in the VM: {check}");
    Ok(works)
}

/// The first line of what runc says to a checkpoint of the container, which it cannot do here.
#[expect(clippy::print_stdout, reason = "what the shim has to repeat")]
fn refusal(lab: &Lab, counter: &Counter) -> Result<String> {
    let root = format!("/run/containerd/runc/{}", lab.namespace());
    let dir = lab.dir().join("refused");
    let out = Cmd::new("runc")
        .args(["--root", &root, "--log-format=json", "--log"])
        .arg(lab.dir().join("refused.log"))
        .args(["checkpoint", "--leave-running", "--image-path"])
        .arg(dir.join("images"))
        .arg("--work-path")
        .arg(dir.join("work"))
        .arg(counter.id())
        .output()?;
    ensure!(out.code == 1, "criu check fails, and yet: {out}");
    println!("runc: {}", out.error_text());
    Ok(out.error_text().lines().next().context("not a word")?.to_owned())
}

fn saved_and_restored(terminal: bool, exit: bool) -> Result<()> {
    let lab = Lab::new()?;
    let mut counter = Counter::new(&lab, "saved", terminal)?;
    let shim = lab.start(&counter.bundle)?;
    counter.run(&shim)?;
    (1..=3).try_for_each(|number| counter.counts(number))?;
    let saved = save(&lab, &shim, &counter, exit)?;
    if exit && saved.refusal.is_none() {
        assert_eq!(shim.wait(counter.id(), "")?.status, 137);
        assert_eq!(shim.delete(counter.id(), "")?.status, 137);
        let story = lab.events().log().story_until(counter.id(), "delete")?;
        assert_eq!(story, ["create", "start", "exit 137", "delete 137"]);
    } else {
        // Nothing has happened to it.
        counter.assert_running(&shim)?;
        counter.counts(4)?;
        counter.end(&lab, &shim)?;
    }
    if saved.refusal.is_none() {
        goes_on(&lab, &shim, &counter, &saved)?;
    }
    shim.shutdown()?;
    lab.finish()
}

/// Another container is made of what was saved, and goes on at 4.
fn goes_on(lab: &Lab, shim: &ShimProcess, counter: &Counter, saved: &Saved) -> Result<()> {
    let mut restored = counter.successor(lab)?;
    restored.create_from(shim, &saved.images.to_string_lossy())?;
    let pid = shim.start(restored.id(), "")?;
    restored.assert_running(shim)?;
    assert_eq!(shim.state(restored.id(), "")?.pid, pid);
    (4..=5).try_for_each(|number| restored.counts(number))?;
    assert!(!restored.fifos.stdout.text().contains("count 3"));
    let exec = Process::new(["sh", "-c", "exit 5"]);
    shim.exec(restored.id(), "e", &exec, &Stdio::null())?;
    shim.start(restored.id(), "e")?;
    assert_eq!(shim.wait(restored.id(), "e")?.status, 5);
    shim.delete(restored.id(), "e")?;
    assert!(shim.pids(restored.id())?.processes.iter().any(|process| process.pid == pid));
    assert!(!shim.stats(restored.id())?.stats.value.is_empty());
    restored.end(lab, shim)
}

#[test]
fn a_container_is_saved_and_goes_on_where_it_was() -> Result<()> {
    saved_and_restored(false, true)
}

#[test]
fn a_container_on_a_terminal_is_saved_and_goes_on_where_it_was() -> Result<()> {
    saved_and_restored(true, true)
}

#[test]
fn a_container_that_was_saved_runs_on_if_it_is_to() -> Result<()> {
    saved_and_restored(false, false)
}

/// containerd #7672: it also failed with a terminal, for another reason.
#[test]
fn what_cannot_be_restored_can_be_deleted_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let images = lab.dir().join("images");
    fs::create_dir(&images)?;
    let first = Counter::new(&lab, "first", false)?;
    let shim = lab.start(&first.bundle)?;
    for (counter, terminal) in [(first, false), (Counter::new(&lab, "second", true)?, true)] {
        counter.create_from(&shim, &images.to_string_lossy())?;
        let failed = shim.start(counter.id(), "").unwrap_err();
        assert_eq!(failed.code(), Some(Code::UNKNOWN), "terminal: {terminal}");
        let text = failed.to_string();
        assert!(text.contains("OCI runtime restore failed: "), "{text}");
        let state = shim.state(counter.id(), "")?;
        assert_eq!((state.status.enum_value(), state.pid), (Ok(Status::CREATED), 0));
        shim.delete(counter.id(), "")?;
        let story = lab.events().log().story_until(counter.id(), "delete")?;
        assert_eq!(story, ["create", "delete 0"]);
    }
    shim.shutdown()?;
    lab.finish()
}
