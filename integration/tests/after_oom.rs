// SPDX-License-Identifier: Apache-2.0
//! After the OOM killer has struck in a container, everything else goes on: its mounts, its running
//! execs, the other containers of its pod (kata-containers #8040), and nothing of the shim is in
//! the cgroup that ran out of memory (I12).
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use nix::mount::{MsFlags, mount, umount};
use wedge_integration::proc::Proc;
use wedge_integration::{Bundle, Fifos, Lab, Process, ShimProcess, Spec, Stdio, payload};

const TIMES: usize = 10;
const LIMIT: u64 = 32 << 20;

/// Where the host's directory, a file system mounted in it, and a tmpfs are, in both containers.
const FILES: [&str; 5] =
    ["/host/file", "/host/below/file", "/host-ro/file", "/host-ro/below/file", "/scratch/file"];

/// A pod whose containers have a directory of the host, read-write and read-only.
struct Pod {
    lab: Lab,
    shim: ShimProcess,
    shell: Bundle,
    sibling: Bundle,
}

impl Pod {
    fn new(host: &Path, lab: Lab) -> Result<Pod> {
        let pod = lab.pod("pod")?;
        let spec = |args: &[&str]| {
            Spec::new(args)
                .pod(&pod)
                .mount("bind", host, "/host", &["rbind", "rw"])
                .mount("bind", host, "/host-ro", &["rbind", "ro"])
                .mount("tmpfs", Path::new("tmpfs"), "/scratch", &["size=65536k"])
        };
        let script = format!("echo >/scratch/file; exec {} pause", payload::PATH);
        let sibling = lab.bundle("sibling", &spec(&["sh", "-c", &script]))?;
        let shell = lab.bundle("shell", &spec(&["sh"]).memory_limit(LIMIT))?;
        let shim = lab.start(&sibling)?;
        Ok(Pod { lab, shim, shell, sibling })
    }

    /// Reads and writes everything from a new exec.
    fn visit(&self, bundle: &Bundle, exec: &str) -> Result<()> {
        let fifos = self.lab.fifos(&format!("{}-{exec}", bundle.id()))?;
        let script = format!("set -e; {}", look(exec));
        let process = Process::new(["sh", "-c", &script]);
        self.shim.exec(bundle.id(), exec, &process, fifos.stdio())?;
        self.shim.start(bundle.id(), exec)?;
        let status = self.shim.wait(bundle.id(), exec)?.status;
        self.shim.delete(bundle.id(), exec)?;
        let (stdout, stderr) = (fifos.stdout.finish()?, fifos.stderr.finish()?);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        ensure!(status == 0, "{}: {status}\n{}{}", bundle.id(), text(&stdout), text(&stderr));
        Ok(())
    }

    /// Each kill was reported, of the shell only.
    fn check_and_end(&self) -> Result<()> {
        for (bundle, kills) in [(&self.shell, TIMES), (&self.sibling, 0)] {
            self.shim.kill(bundle.id(), "", 9, false)?;
            self.shim.wait(bundle.id(), "")?;
            self.shim.delete(bundle.id(), "")?;
            let story = self.lab.events().log().story_until(bundle.id(), "delete")?;
            let ooms = story.iter().filter(|event| *event == "oom").count();
            ensure!(ooms == kills, "{story:?}");
        }
        Ok(())
    }

    /// Nothing of ours is in the cgroup that runs out of memory.
    fn is_apart(&self, init: Proc) -> Result<()> {
        let theirs = memory_cgroup(init)?;
        ensure!(theirs.contains(self.shell.id()), "{theirs}");
        for process in self.shim.proc().children() {
            let Ok(cgroup) = memory_cgroup(process) else { continue };
            let program = fs::read_link(process.path("exe")).unwrap_or_default();
            let payload = program.starts_with("/bin") || program.as_os_str().is_empty();
            ensure!(cgroup != theirs || payload, "{process:?} {program:?} is in {cgroup}");
        }
        ensure!(memory_cgroup(self.shim.proc())? != theirs);
        Ok(())
    }
}

/// Shell commands that read all files, list their directories and write where that is possible.
fn look(name: &str) -> String {
    let files = FILES.join(" ");
    format!(
        "cat {files}; ls /host /host/below /host-ro /host-ro/below /scratch; \
         echo x >/host/by-{name}; echo x >/scratch/by-{name}; ! touch /host-ro/refused"
    )
}

fn memory_cgroup(process: Proc) -> Result<String> {
    let cgroups = process.cgroups()?;
    let line = cgroups.lines().find(|line| line.contains(":memory:"));
    Ok(line.or(cgroups.lines().last()).unwrap_or_default().to_owned())
}

/// A directory with another file system mounted in it.
fn prepare(host: &Path) -> Result<()> {
    let below = host.join("below");
    fs::create_dir_all(&below)?;
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    fs::write(host.join("file"), "of the host\n")?;
    Ok(fs::write(below.join("file"), "below\n")?)
}

/// What a shell in the container shows after each time one of its children was killed.
fn starve(shell: &mut Fifos, round: usize) -> Result<()> {
    let command = format!(
        "{} alloc 200; echo killed $?; {}; echo seen {round} $?\n",
        payload::PATH,
        look(&format!("shell-{round}"))
    );
    shell.write(command.as_bytes())?;
    shell.stdout.wait_text(&format!("seen {round} 0\n"))?;
    let text = shell.stdout.text();
    ensure!(text.matches("killed 137\n").count() == round, "{text}");
    let errors = shell.stderr.text();
    // What the kernel says of a mount that is read-only, and nothing else.
    let refused = |line: &str| line.contains("/host-ro/refused: Read-only file system");
    ensure!(errors.lines().all(|line| refused(line) || line == "Killed"), "{errors}");
    ensure!(text.matches("of the host\n").count() == 2 * round, "{text}");
    Ok(())
}

#[test]
fn mounts_execs_and_siblings_go_on_after_an_oom() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.dir().join("host");
    prepare(&host)?;
    let pod = Pod::new(&host, lab)?;
    pod.shim.create(&pod.sibling, &Stdio::null())?;
    pod.shim.start(pod.sibling.id(), "")?;
    let mut shell = pod.lab.fifos("shell")?;
    let init = Proc(pod.shim.create(&pod.shell, shell.stdio())?);
    pod.shim.start(pod.shell.id(), "")?;
    shell.write(b"echo >/scratch/file\n")?;
    let mut running = pod.lab.fifos("running")?;
    pod.shim.exec(pod.shell.id(), "running", &Process::new(["cat"]), running.stdio())?;
    pod.shim.start(pod.shell.id(), "running")?;
    for round in 1..=TIMES {
        starve(&mut shell, round)?;
        running.write(format!("{round}\n").as_bytes())?;
        running.stdout.wait_text(&format!("{round}\n"))?;
        pod.visit(&pod.shell, &format!("exec-{round}"))?;
        pod.visit(&pod.sibling, &format!("sibling-{round}"))?;
        ensure!(host.join(format!("by-shell-{round}")).exists(), "round {round}");
        pod.is_apart(init)?;
    }
    pod.check_and_end()?;
    umount(&host.join("below"))?;
    pod.shim.shutdown()?;
    pod.lab.finish()
}
