// SPDX-License-Identifier: Apache-2.0
//! The script, and what it leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use wedge_oci::{Bundle, Options, Runtime};
use wedge_reaper::Reaper;

/// A bundle, and a script as runtime that finds the bundle in $B, its log in $L, its subcommand
/// in $C and all its arguments in the file "args".
pub(crate) struct Fake {
    dir: tempfile::TempDir,
    pub(crate) reaper: Reaper,
    pub(crate) options: Options,
}

impl Fake {
    pub(crate) fn script(&self, body: &str) {
        let dir = self.dir.path().display();
        let head = format!(
            "#!/bin/sh\nB={dir}/bundle L=$4\nprintf '%s\\n' \"$@\" > {dir}/args\n\
             for word; do case $word in create|start|exec|kill|delete|pause|resume|ps|update) C=$word; \
             break;; esac; done\n\
             error() {{ printf '{{\"level\":\"error\",\"msg\":\"%s\"}}\\n' \"$1\" >> $L; }}\n"
        );
        // Written beside and renamed: a script that is open for writing cannot be executed.
        let path = self.dir.path().join("runtime");
        fs::write(path.with_extension("new"), format!("{head}{body}\n")).unwrap();
        fs::set_permissions(path.with_extension("new"), PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn bundle(&self) -> Bundle {
        Bundle::new(self.dir.path().join("bundle"))
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::new(self.reaper.clone(), self.bundle(), "ns", "c1", &self.options)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The arguments of the last call, with the changing paths made the same.
    pub(crate) fn args(&self) -> String {
        let args = fs::read_to_string(self.path("args")).unwrap();
        let args = args.replace(self.dir.path().to_str().unwrap(), "");
        let plain = |word: &str| match word {
            _ if word.starts_with("/bundle/log-") => "LOG".to_owned(),
            _ if word.starts_with("/bundle/process-") => "PROCESS".to_owned(),
            _ if word.ends_with("/pty.sock") => "SOCKET".to_owned(),
            _ => word.to_owned(),
        };
        args.lines().map(plain).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("bundle")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

pub(crate) fn run(script: &str, test: impl AsyncFnOnce(&mut Fake)) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("bundle")).unwrap();
    let binary_name = dir.path().join("runtime").to_str().unwrap().to_owned();
    let root = "/r".to_owned();
    let options = Options { binary_name, root, ..Options::default() };
    let mut fake = Fake { dir, reaper: Reaper::new(), options };
    fake.script(script);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reaper = fake.reaper.clone();
        tokio::select! {
            () = test(&mut fake) => {}
            ended = reaper.run() => unreachable!("the reaper ended: {ended:?}"),
        }
    });
}
