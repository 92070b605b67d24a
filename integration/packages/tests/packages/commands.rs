// SPDX-License-Identifier: Apache-2.0
//! The commands of the documents: how each is run here, on what it does not harm.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wedge_integration::{Cmd, Env, Lab, Rig, Scratch, Spec, payload, wait};
use wedge_package_tests::{documents_in, package, root};

use crate::documents;

/// Those of programs that are not here: a cluster's, a registry's, an init system's.
const NOT_HERE: [&str; 3] = [
    "systemctl restart containerd",
    "journalctl --unit containerd --since -1min",
    "docker build --tag wedge-installer:0.1.0 target/dist/image",
];

const KNOWN: [&str; 19] = [
    "apt-get",
    "containerd",
    "ctr",
    "curl",
    "docker",
    "helm",
    "install",
    "journalctl",
    "kill",
    "kubectl",
    "ln",
    "make",
    "rm",
    "rpm",
    "systemctl",
    "tar",
    "tr",
    "dpkg",
    "sh",
];

/// Where commands are run: a root directory with the files of `make install`, a containerd.
pub(crate) struct Commands {
    env: Env,
    scratch: Scratch,
}

impl Commands {
    pub(crate) fn knows(word: &str) -> bool {
        KNOWN.contains(&word)
    }

    pub(crate) fn new() -> Result<Commands> {
        let commands = Commands { env: documents::env()?, scratch: Scratch::new()? };
        let destination = format!("DESTDIR={}", commands.host().display());
        let make = Cmd::new("make").dir(&root()).args(["--assume-old=build", "install"]);
        make.args(["PREFIX=/usr", &destination]).output()?.assert_ok();
        fs::create_dir_all(commands.host().join("usr/local/bin"))?;
        Ok(commands)
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.env.finish()?;
        self.scratch.finish()
    }

    fn host(&self) -> PathBuf {
        self.scratch.dir().join("host")
    }

    pub(crate) fn run(&mut self, line: &str) -> Result<()> {
        if NOT_HERE.contains(&line) {
            return Ok(());
        }
        let words: Vec<&str> = line.split(' ').collect();
        let (program, args) = words.split_first().context("an empty line")?;
        match (*program, args) {
            ("make", targets) => make(targets),
            ("ctr", args) => {
                let out = self.env.ctr().cmd(args.iter().copied()).output()?;
                ensure!((out.code, &*out.text()) == (0, "hello\n"), "{out}");
                Ok(())
            }
            ("containerd", args) => ran(Cmd::new("containerd").args(args)),
            ("apt-get", ["install", _]) => {
                ran(Cmd::new("apt-get").dir(&root()).arg("--simulate").args(args))
            }
            ("rpm", ["--install", _]) => {
                let host = self.host();
                let rpm = Cmd::new("rpm").dir(&root()).arg("--root").arg(host);
                ran(rpm.args(["--force-debian", "--test"]).args(args))
            }
            ("apt-get", ["purge", name]) | ("rpm", ["--erase", name]) => named(name),
            ("tar" | "install" | "ln" | "rm", args) => self.on_the_host(program, args),
            ("kubectl", args) => kubectl(args),
            ("helm", args) => helm(args),
            ("kill", ["-USR1", "PID"]) => self.asks_a_shim(),
            ("curl", ["--unix-socket", "PATH", url]) => asks_a_socket(url),
            ("tr", _) => self.asks_for_the_path(line),
            _ => bail!("a command that nothing here runs"),
        }
    }

    /// On the root directory instead of the machine's.
    fn on_the_host(&self, program: &str, args: &[&str]) -> Result<()> {
        let host = self.host().to_string_lossy().into_owned();
        let there = |word: &&str| {
            if word.starts_with('/') { format!("{host}{word}") } else { (*word).to_owned() }
        };
        ran(Cmd::new(program).dir(&root()).args(args.iter().map(there)))
    }

    fn asks_for_the_path(&self, line: &str) -> Result<()> {
        let pid = self.env.daemon().proc()?.0.to_string();
        let out = Cmd::new("sh").args(["-c", &line.replace("$(pidof containerd)", &pid)]);
        let out = out.output()?;
        ensure!(out.text().starts_with("PATH="), "{out}");
        Ok(())
    }

    fn asks_a_shim(&self) -> Result<()> {
        let container = self.env.container("asked")?.start(["sleep", "1000"])?;
        let pid = container.shim()?.0.to_string();
        ran(Cmd::new("kill").args(["-USR1", &pid]))?;
        self.env.daemon().wait_log("1 containers;")?;
        container.remove()?;
        Ok(())
    }
}

fn ran(command: Cmd) -> Result<()> {
    let out = command.output()?;
    ensure!(out.code == 0, "{out}");
    Ok(())
}

/// Targets are there; what they do is this test run, or another test's.
fn make(targets: &[&str]) -> Result<()> {
    let goals = targets.iter().filter(|word| !word.is_empty());
    ran(Cmd::new("make").dir(&root()).arg("--dry-run").args(goals))
}

/// The name of the packages.
fn named(name: &str) -> Result<()> {
    let deb = Cmd::new("dpkg-deb").arg("--field").arg(package(".deb")?).arg("Package").output()?;
    let rpm = Cmd::new("rpm").args(["--query", "--queryformat", "%{NAME}", "--package"]);
    let rpm = rpm.arg(package(".rpm")?).output()?;
    ensure!(deb.text().trim() == name && rpm.text() == name, "{deb}{rpm}");
    Ok(())
}

/// Files are there, and names are those in the manifests. There is no cluster.
fn kubectl(args: &[&str]) -> Result<()> {
    let mut base = String::new();
    for entry in fs::read_dir(root().join("dist/kubernetes/base"))? {
        base.push_str("---\n");
        base.push_str(&fs::read_to_string(entry?.path())?);
    }
    let manifests = documents_in(&base)?;
    let is_there = |kind: &str, name: &str| {
        let at = |manifest: &Value, path: &str| {
            manifest.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        manifests
            .iter()
            .any(|manifest| at(manifest, "/kind") == kind && at(manifest, "/metadata/name") == name)
    };
    match args {
        ["apply" | "delete", "--kustomize", directory] => {
            ensure!(root().join(directory).join("kustomization.yaml").is_file(), "no {directory}");
        }
        ["label", "node", "NODE", label] => {
            let (key, value) = label.split_once('=').context("no value")?;
            ensure!(base.contains(&format!("{key}: \"{value}\"")), "no class asks for {label}");
        }
        ["--namespace", space, "delete", "daemonset", name, "--cascade=foreground"] => {
            ensure!(is_there("Namespace", space) && is_there("DaemonSet", name), "{args:?}");
        }
        _ => bail!("a command of kubectl that is not checked"),
    }
    Ok(())
}

fn helm(args: &[&str]) -> Result<()> {
    let (name, chart) = match args {
        ["install", name, chart, "--namespace", _, "--create-namespace"] => (name, *chart),
        ["uninstall", name, "--namespace", _] => (name, "dist/helm/wedge"),
        _ => bail!("a command of helm that is not checked"),
    };
    let text = fs::read_to_string(root().join(chart).join("Chart.yaml"))?;
    let text = documents_in(&text)?.pop().context("empty")?;
    ensure!(text.get("name").and_then(Value::as_str) == Some(name), "{text}");
    Ok(())
}

fn asks_a_socket(url: &str) -> Result<()> {
    let rig = Rig::telling(Lab::new()?, &Spec::new([payload::PATH, "pause"]))?;
    rig.run()?;
    let socket = rig.lab.debug_socket(&rig.bundle);
    wait::until("the shim tells its state", || {
        let curl = Cmd::new("curl").args(["--silent", "--unix-socket"]).arg(&socket).arg(url);
        let out = curl.output()?;
        ensure!(out.code == 0 && out.text().contains("1 containers;"), "{out}");
        Ok(())
    })?;
    rig.end()
}
