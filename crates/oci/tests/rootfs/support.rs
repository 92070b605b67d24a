// SPDX-License-Identifier: Apache-2.0
//! A place for mounts that leaves nothing behind, whatever a test does.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount as mount_call, umount2};
use wedge_oci::Mount;
use wedge_reaper::Reaper;

/// A directory whose mounts go with it.
pub(crate) struct Dir(pub(crate) tempfile::TempDir);

impl Dir {
    pub(crate) fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    /// A directory in it, with a file named "file".
    pub(crate) fn source(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), name).unwrap();
        path
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.path().join("rootfs")
    }

    /// The mount options of each mount at or below it, by mount point.
    pub(crate) fn mounts(&self) -> Vec<(String, String)> {
        let list = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let fields = list.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let prefix = self.0.path().to_str().unwrap();
        fields
            .filter(|fields| fields[4].starts_with(prefix))
            .map(|fields| (fields[4][prefix.len()..].to_owned(), fields[5].to_owned()))
            .collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        for (point, _) in self.mounts().into_iter().rev() {
            let point = format!("{}{}", self.0.path().display(), point.replace("\\040", " "));
            if let Err(err) = umount2(point.as_str(), MntFlags::MNT_DETACH) {
                println!("{point} stays mounted: {err}");
            }
        }
    }
}

pub(crate) fn mount(fs_type: &str, source: &Path, target: &str, options: &[&str]) -> Mount {
    Mount {
        fs_type: fs_type.to_owned(),
        source: source.to_str().unwrap().to_owned(),
        target: target.to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    }
}

pub(crate) fn tmpfs(target: &str, options: &[&str]) -> Mount {
    mount("tmpfs", Path::new("tmpfs"), target, options)
}

const INSIDE: &str = "WEDGE_TEST_INSIDE";

/// Runs `test` in a process with a mount namespace and a `/tmp` of its own, and with a reaper.
/// Afterwards there must be the mounts and children there were before, and `/tmp` must be empty.
pub(crate) fn run(test: impl AsyncFnOnce(Reaper, Dir)) {
    if env::var_os(INSIDE).is_none() {
        return run_inside(thread::current().name().unwrap());
    }
    let none = None::<&str>;
    mount_call(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    wedge_sys::set_subreaper().unwrap();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reaper = Reaper::new();
        let checked = async {
            test(reaper.clone(), Dir::new()).await;
            until("children stay", || reaper.counts() == (0, 0, 0) && children().is_empty()).await;
        };
        tokio::select! {
            () = checked => {}
            ended = reaper.clone().run() => unreachable!("the reaper ended: {ended:?}"),
        }
    });
    // Copies of mounts of other tests go when their mount points do.
    let after = mounts();
    let stay: Vec<_> = after.lines().filter(|line| !before.contains(line)).collect();
    assert_eq!(stay, Vec::<&str>::new());
    let left: Vec<_> = fs::read_dir("/tmp").unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// Runs this program again for one test.
#[expect(clippy::disallowed_methods, reason = "there is no reaper out here")]
fn run_inside(test: &str) {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    print!("{}", printed.concat());
    assert!(output.status.success() && printed[0].contains("1 passed"), "see above");
}

fn children() -> String {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks.map(|task| fs::read_to_string(task.join("children")).unwrap_or_default()).collect()
}

/// Waits until `done`, ten seconds at most.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
