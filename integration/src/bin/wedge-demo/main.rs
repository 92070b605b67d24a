// SPDX-License-Identifier: Apache-2.0
//! `make demo`: containers through Wedge with a containerd of its own, every result checked.
#![forbid(unsafe_code)]

mod interrupt;
mod screen;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use wedge_integration::proc::{Memory, Proc};
use wedge_integration::{Cmd, CtrEvents, Env, Event, Output, ShimUnderTest, wait};

use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::screen::{Screen, Shell};

const RUNTIME: &str = "io.containerd.wedge.v2";
/// How a container is run here: a directory as its root, FIFOs in the demo's own place.
const ROOTFS: [&str; 4] = ["--fifo-dir", "$PWD/fifo", "--rootfs", "rootfs"];

#[expect(clippy::print_stderr, reason = "a program's last words")]
fn main() -> ExitCode {
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("demo: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match demo(&interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt.is_hit() => {
            interrupt.ended();
            eprintln!("{INTERRUPTED}");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("\ndemo: FAILED, not as expected: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(interrupt: &Interrupt) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "containers need root");
    let (begun, screen) = (Instant::now(), Screen::new());
    let env = Env::builder().runtime(RUNTIME).start()?;
    ensure!(!env.shim().is_go(), "unset SHIM_UNDER_TEST");
    interrupt.covers(env.scratch())?;
    scenes(&env, &screen)?;
    screen.heading("Nothing left behind")?;
    env.finish()?;
    screen.line("  containerd stopped: no process, mount, cgroup, runc state or socket is left")?;
    let seconds = begun.elapsed().as_secs_f64();
    screen.line(&format!("\nEverything as expected, in {seconds:.1} seconds."))
}

fn scenes(env: &Env, screen: &Screen) -> Result<()> {
    for id in ["hello", "web", "hog", "term", "idle-wedge", "idle-go"] {
        env.note(id);
    }
    introduce(env, screen)?;
    let (events, shell) = (env.events()?, Shell { screen, env });
    hello(&shell)?;
    exec_and_kill(&shell)?;
    out_of_memory(&shell)?;
    terminal(&shell)?;
    screen.heading("What containerd was told, in this order")?;
    screen.events(&told(&events)?)?;
    compare(&shell)
}

fn introduce(env: &Env, screen: &Screen) -> Result<()> {
    let shim = Cmd::new(env.shim().path()).arg("-v").output()?;
    let [containerd, runc] = ["containerd", "runc"].map(|name| Cmd::new(name).arg("--version"));
    let word = |out: Output, number: usize| {
        let text = out.text();
        text.split_whitespace().nth(number).map(str::to_owned).context("no version")
    };
    let (containerd, runc) = (word(containerd.output()?, 2)?, word(runc.output()?, 2)?);
    let (wedge, revision) = (word(shim.clone(), 2)?, word(shim, 4)?);
    screen.line(&format!(
        "Wedge {wedge} ({revision}) runs containers for containerd {containerd} with runc {runc}"
    ))?;
    let (dir, namespace) = (env.dir().display(), env.namespace());
    screen.line(
        "\nThis containerd is the demo's own, and so are its files. Here is how to reach it:",
    )?;
    screen.line(&format!("  $ cd {dir}"))?;
    screen.line(&format!(
        "  $ export CONTAINERD_ADDRESS=$PWD/c.sock CONTAINERD_NAMESPACE={namespace}"
    ))
}

/// `run --runtime R flags… --fifo-dir … --rootfs rootfs id command…`
fn run<'a>(runtime: &'a str, flags: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--runtime", runtime][..], flags, &ROOTFS, command].concat()
}

/// The pause is for `ctr` 1.6, which stops reading as soon as the init has ended.
fn hello(shell: &Shell<'_>) -> Result<()> {
    shell.screen.heading("Run a container")?;
    let command = ["hello", "/bin/sh", "-c", "echo Hello there; sleep 0.2"];
    let out = shell.ctr(&run(RUNTIME, &["--rm"], &command), 0)?;
    ensure!(out.text() == "Hello there\n", "{out}");
    Ok(())
}

fn exec_and_kill(shell: &Shell<'_>) -> Result<()> {
    shell.screen.heading("Execute a command in a container that runs")?;
    shell.ctr(&run(RUNTIME, &["--detach"], &["web", "/bin/sleep", "1000"]), 0)?;
    let script = "ps -o pid,args; exit 3";
    let exec = ["task", "exec", "--fifo-dir", "$PWD/fifo", "--exec-id", "look", "web"];
    let out = shell.ctr(&[&exec[..], &["/bin/sh", "-c", script]].concat(), 3)?;
    ensure!(out.text().contains("/bin/sleep 1000"), "{out}");

    shell.screen.heading("Kill it")?;
    shell.ctr(&["task", "kill", "--signal", "KILL", "web"], 0)?;
    stopped(shell.env, "web")?;
    let out = shell.ctr(&["task", "delete", "web"], 0)?;
    ensure!(out.error_text().contains("non-zero exit code 137"), "{out}");
    ensure!(shell.quiet(&["container", "delete", "web"])?.code == 0, "deleting the container");
    Ok(())
}

fn stopped(env: &Env, id: &str) -> Result<()> {
    wait::until(&format!("{id} has stopped"), || {
        let tasks = env.ctr().tasks()?;
        ensure!(tasks.iter().any(|task| task.id == id && task.status == "STOPPED"), "{tasks:?}");
        Ok(())
    })
}

fn out_of_memory(shell: &Shell<'_>) -> Result<()> {
    shell.screen.heading("Run out of memory: 16 MiB, for a program that wants 200")?;
    let limit = ["--rm", "--memory-limit", "16777216"];
    shell.ctr(&run(RUNTIME, &limit, &["hog", "/bin/wedge-payload", "alloc", "200"]), 137)?;
    Ok(())
}

fn terminal(shell: &Shell<'_>) -> Result<()> {
    shell.screen.heading("Use a terminal")?;
    // The size comes with a request of its own, when the process runs already.
    let script = "tty; until stty size | grep .; do sleep 0.1; done 2>/dev/null; sleep 0.2";
    let command = ["term", "/bin/sh", "-c", script];
    let out = shell.ctr(&run(RUNTIME, &["--rm", "--tty"], &command), 0)?;
    ensure!(out.text() == "/dev/pts/0\r\n24 80\r\n", "{out}");
    Ok(())
}

/// Waits for the last event; checks each container's story.
fn told(events: &CtrEvents) -> Result<Vec<Event>> {
    let stories: [(&str, &[&str]); 4] = [
        ("hello", &["create", "start", "exit 0", "delete 0"]),
        (
            "web",
            &[
                "create",
                "start",
                "exec-added look",
                "exec-started look",
                "exit look 3",
                "exit 137",
                "delete 137",
            ],
        ),
        ("hog", &["create", "start", "oom", "exit 137", "delete 137"]),
        ("term", &["create", "start", "exit 0", "delete 0"]),
    ];
    for (id, expected) in stories {
        let story = events.story_until(id, "delete")?;
        ensure!(story == expected, "events of {id}: {story:?}, expected {expected:?}");
    }
    Ok(events.all().into_iter().filter(|event| event.topic.starts_with("/tasks/")).collect())
}

fn compare(shell: &Shell<'_>) -> Result<()> {
    shell.screen.heading("Memory of an idle shim: one container each, one exec done")?;
    let go = ShimUnderTest::go()?;
    let go_path = go.path().to_str().context("not UTF-8")?;
    let (ours, threads) = idle(shell, "idle-wedge", RUNTIME)?;
    let (theirs, go_threads) = idle(shell, "idle-go", go_path)?;
    shell.screen.line("                                      PSS    private dirty    threads")?;
    let mib = |kib: u64| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
    for (name, memory, threads) in
        [("Wedge", ours, threads), ("containerd-shim-runc-v2 (Go)", theirs, go_threads)]
    {
        let (pss, dirty) = (mib(memory.pss), mib(memory.private_dirty));
        shell.screen.line(&format!("    {name:28}  {pss:>9}  {dirty:>13}  {threads:>9}"))?;
    }
    ensure!(ours.pss < theirs.pss && ours.private_dirty < theirs.private_dirty, "no smaller");
    ensure!(threads == 1, "{threads} threads in an idle shim");
    Ok(())
}

/// Runs a container with one exec, measures its shim, and removes it.
fn idle(shell: &Shell<'_>, id: &str, runtime: &str) -> Result<(Memory, usize)> {
    let exec = ["task", "exec", "--fifo-dir", "$PWD/fifo", "--exec-id", "one", id, "/bin/true"];
    for args in [run(runtime, &["--detach"], &[id, "/bin/sleep", "1000"]), exec.to_vec()] {
        let out = shell.quiet(&args)?;
        ensure!(out.code == 0, "{out}");
    }
    let shim = Proc::shim(shell.env.namespace(), id)?;
    // The pages of a binary that was just built count as dirty until they are on the disk.
    nix::unistd::sync();
    let measured = (shim.memory()?, shim.threads()?);
    shell.quiet(&["task", "kill", "--signal", "KILL", id])?;
    stopped(shell.env, id)?;
    shell.quiet(&["task", "delete", id])?;
    shell.quiet(&["container", "delete", id])?;
    Ok(measured)
}
