// SPDX-License-Identifier: Apache-2.0
//! The script of the DaemonSet, on a node that is a directory and with an API that is a socket.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wedge_integration::{Cmd, Running, Scratch, wait};
use wedge_package_tests::{files, package, root};

const IMPORTS: &str = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
const DROPIN: &str = "etc/containerd/conf.d/50-wedge.toml";
const BINARY: &str = "usr/local/bin/containerd-shim-wedge-v2";

/// A node, as the installer sees it.
struct Node {
    scratch: Scratch,
    host: PathBuf,
}

impl Node {
    /// `config` is containerd's; none, and there is no file.
    fn new(config: Option<&str>) -> Result<Node> {
        let scratch = Scratch::new()?;
        let (host, payload) = (scratch.dir().join("host"), scratch.dir().join("payload"));
        for dir in ["etc/containerd", "run/systemd/system", "proc", "usr/local/bin"] {
            fs::create_dir_all(host.join(dir))?;
        }
        fs::create_dir(&payload)?;
        let tar =
            Cmd::new("tar").arg("--directory").arg(&payload).args(["--strip-components", "1"]);
        tar.args(["--extract", "--file"]).arg(package(".tar.gz")?).output()?.assert_ok();
        if let Some(config) = config {
            fs::write(host.join("etc/containerd/config.toml"), config)?;
        }
        // A file: the words of an argument in a manifest are not those of a shell.
        let restart = format!("echo >> {}/restarted\n", scratch.dir().display());
        fs::write(scratch.dir().join("restart"), restart)?;
        Ok(Node { scratch, host })
    }

    fn script(&self, action: &str) -> Cmd {
        Cmd::new(root().join("dist/kubernetes/installer/install.sh"))
            .arg(action)
            .env("HOST", &self.host)
            .env("PAYLOAD", self.scratch.dir().join("payload"))
            .env("RESTART", format!("sh {}/restart", self.scratch.dir().display()))
            .env("DRAIN_SECONDS", "0")
    }

    fn restarts(&self) -> usize {
        let text = fs::read_to_string(self.scratch.dir().join("restarted"));
        text.unwrap_or_default().lines().count()
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.host.join(path)).with_context(|| path.to_owned())
    }

    /// What is there, with the contents.
    fn state(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let all = files(&self.host)?.into_iter();
        all.map(|file| Ok((file.clone(), fs::read(self.host.join(&file))?))).collect()
    }
}

#[test]
fn a_node_is_installed_and_restored() -> Result<()> {
    let node = Node::new(Some(IMPORTS))?;
    let before = node.state()?;
    node.script("install").output()?.assert_ok();
    assert_eq!(node.restarts(), 1);
    let made: Vec<String> =
        files(&node.host)?.into_iter().filter(|file| !before.contains_key(file)).collect();
    assert_eq!(made, [DROPIN, "etc/wedge/options.toml", BINARY]);
    ensure!(node.read("etc/wedge/options.toml")?.ends_with("SystemdCgroup = true\n"), "no systemd");
    let version = Cmd::new(node.host.join(BINARY)).arg("-v").output()?;
    ensure!(version.assert_ok().text().contains("Version:"), "{version}");
    // containerd reads it, and knows the handler.
    let config = node.scratch.dir().join("config.toml");
    let imports = format!("version = 2\nimports = [\"{}\"]\n", node.host.join(DROPIN).display());
    fs::write(&config, imports)?;
    let dump = Cmd::new("containerd").arg("--config").arg(&config).args(["config", "dump"]);
    let dump = dump.output()?.assert_ok().text().parse::<toml::Table>()?;
    let handler = dump.get("plugins").and_then(|plugins| {
        plugins.get("io.containerd.grpc.v1.cri")?.get("containerd")?.get("runtimes")?.get("wedge")
    });
    let handler = handler.context("no handler")?;
    let of = |key: &str| handler.get(key).and_then(toml::Value::as_str);
    assert_eq!(of("runtime_type"), Some("io.containerd.wedge.v2"));
    // Once more changes nothing; containerd goes on.
    node.script("install").output()?.assert_ok();
    assert_eq!(node.restarts(), 1);
    node.script("uninstall").output()?.assert_ok();
    assert_eq!(node.restarts(), 2);
    assert_eq!(node.state()?, before);
    ensure!(!node.host.join("etc/wedge").exists(), "an empty directory");
    node.script("uninstall").output()?.assert_ok();
    assert_eq!(node.restarts(), 2);
    node.scratch.finish()
}

#[test]
fn a_configuration_without_imports_is_left_alone() -> Result<()> {
    let lines = "imports = [\"/etc/containerd/conf.d/*.toml\"]";
    let others =
        "imports = [\"/etc/containerd/one.toml\"]\n[plugins.\"x\"]\n  imports = [\"/no/*.toml\"]\n";
    let versions = "imports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    for (config, said) in [
        (Some("version = 2\n[plugins]\n"), lines),
        (Some(&*format!("version = 2\n# {lines}\n")), lines),
        (Some(&*format!("version = 2\n{others}")), lines),
        (Some(versions), "has version \"\""),
        (Some(&*format!("version = 4\n{versions}")), "has version \"4\""),
        (None, lines),
    ] {
        let node = Node::new(config)?;
        let before = node.state()?;
        node.script("install").output()?.assert_error(said);
        assert_eq!(node.state()?, before, "{config:?}");
        assert_eq!(node.restarts(), 0);
        node.scratch.finish()?;
    }
    Ok(())
}

#[test]
fn drop_ins_are_of_the_version_that_is_there() -> Result<()> {
    let several = "# first\nimports = [\n  \"/etc/containerd/one.toml\", # mine\n  '/etc/c.d/*.toml',\n]\nversion = 3\n\n[plugins]\n";
    let node = Node::new(Some(several))?;
    fs::remove_dir_all(node.host.join("run/systemd"))?;
    node.script("install").output()?.assert_ok();
    let dropin = node.read("etc/c.d/50-wedge.toml")?;
    ensure!(
        dropin.contains("version = 3") && dropin.contains("io.containerd.cri.v1.runtime"),
        "{dropin}"
    );
    ensure!(node.read("etc/wedge/options.toml")?.ends_with("SystemdCgroup = false\n"), "systemd");
    node.script("uninstall").output()?.assert_ok();
    assert_eq!(node.read("etc/containerd/config.toml")?, several);
    node.scratch.finish()?;

    let node = Node::new(None)?;
    let told = node.script("install").env("DROPIN_DIR", "/etc/containerd/conf.d");
    told.env("CONFIG_VERSION", "3").env("SYSTEMD_CGROUP", "false").output()?.assert_ok();
    ensure!(node.read(DROPIN)?.contains("version = 3"), "another version");
    ensure!(node.read("etc/wedge/options.toml")?.ends_with("SystemdCgroup = false\n"), "systemd");
    node.scratch.finish()
}

#[test]
fn what_the_operator_has_made_stays() -> Result<()> {
    let node = Node::new(Some(IMPORTS))?;
    for file in
        ["etc/wedge/options.toml", "etc/wedge/config.toml", "etc/containerd/conf.d/10-x.toml"]
    {
        fs::create_dir_all(node.host.join(file).parent().context("no parent")?)?;
        fs::write(node.host.join(file), "# mine\n")?;
    }
    let before = node.state()?;
    node.script("install").output()?.assert_ok();
    assert_eq!(node.read("etc/wedge/options.toml")?, "# mine\n");
    node.script("uninstall").output()?.assert_ok();
    assert_eq!(node.state()?, before);
    node.scratch.finish()
}

#[test]
fn the_binary_stays_for_pods_that_run() -> Result<()> {
    let node = Node::new(Some(IMPORTS))?;
    node.script("install").output()?.assert_ok();
    fs::create_dir(node.host.join("proc/77"))?;
    symlink(format!("/{BINARY}"), node.host.join("proc/77/exe"))?;
    node.script("uninstall").output()?.assert_error("1 pods still run with Wedge");
    ensure!(node.host.join(BINARY).exists(), "the binary is gone");
    ensure!(!node.host.join(DROPIN).exists(), "new pods are still taken");
    fs::remove_dir_all(node.host.join("proc/77"))?;
    node.script("uninstall").output()?.assert_ok();
    ensure!(!node.host.join(BINARY).exists(), "the binary is there");
    node.scratch.finish()
}

/// The API: says whether the DaemonSet is there, and remembers what it was asked.
struct Api {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Api {
    /// Answers GET with the statuses, the last of them for ever; everything else with 200.
    fn serve(statuses: &[&'static str]) -> Result<Api> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, mut statuses) = (Arc::clone(&asked), VecDeque::from(statuses.to_vec()));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok((line, body)) = request(&stream) else { continue };
                let get = line.starts_with("GET");
                let answer = match (get, statuses.len()) {
                    (false, _) => Some("200 OK\r\n\r\n{}"),
                    (true, 1) => statuses.front().copied(),
                    (true, _) => statuses.pop_front(),
                };
                let answer = answer.unwrap_or_default();
                locked(&log).push(format!("{line} {body}"));
                (&stream).write_all(format!("HTTP/1.1 {answer}").as_bytes()).ok();
            }
        });
        Ok(Api { port, asked })
    }

    fn asked(&self) -> Vec<String> {
        locked(&self.asked).clone()
    }
}

fn locked(asked: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

fn request(stream: &TcpStream) -> Result<(String, String)> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length, mut allowed) = (String::new(), 0, false);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let header = line.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        allowed |= header == "authorization: bearer secret";
        if let Some(text) = header.strip_prefix("content-length: ") {
            length = text.parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    ensure!(allowed, "no token");
    let what = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Ok((what, String::from_utf8(body)?))
}

impl Node {
    fn in_cluster(&self, action: &str, api: &Api) -> Result<Cmd> {
        let account = self.scratch.dir().join("account");
        fs::create_dir_all(&account)?;
        fs::write(account.join("token"), "secret")?;
        fs::copy("/etc/ssl/certs/ca-certificates.crt", account.join("ca.crt"))?;
        let cmd = self.script(action).env("API", format!("http://127.0.0.1:{}", api.port));
        let cmd = cmd.env("ACCOUNT", &account).env("NODE_NAME", "node-1");
        Ok(cmd.env("NAMESPACE", "wedge-system").env("DAEMONSET", "wedge-installer"))
    }
}

const LABEL: &str =
    "PATCH /api/v1/nodes/node-1 {\"metadata\":{\"labels\":{\"wedge.example/installed\":\"true\"}}}";
const UNLABEL: &str =
    "PATCH /api/v1/nodes/node-1 {\"metadata\":{\"labels\":{\"wedge.example/installed\":null}}}";
const DAEMONSET: &str = "/apis/apps/v1/namespaces/wedge-system/daemonsets/wedge-installer";

fn started(node: &Node, api: &Api) -> Result<Running> {
    let running = node.in_cluster("run", api)?.spawn()?;
    wait::until("the node has its label", || {
        ensure!(api.asked() == [LABEL], "{:?}", api.asked());
        Ok(())
    })?;
    ensure!(node.host.join(BINARY).exists(), "a label, and no binary");
    Ok(running)
}

#[test]
fn a_pod_that_is_replaced_leaves_the_node_as_it_is() -> Result<()> {
    let node = Node::new(Some(IMPORTS))?;
    let api = Api::serve(&["200 OK\r\n\r\n{\"metadata\":{\"name\":\"wedge-installer\"}}"])?;
    let running = started(&node, &api)?;
    let installed = node.state()?;
    running.signal(Signal::SIGTERM)?;
    running.wait()?.assert_ok();
    assert_eq!(api.asked(), [LABEL.to_owned(), format!("GET {DAEMONSET} ")]);
    assert_eq!(node.state()?, installed);
    node.scratch.finish()
}

#[test]
fn a_daemonset_that_is_deleted_takes_all_away() -> Result<()> {
    for gone in [
        "404 Not Found\r\n\r\n{}",
        "200 OK\r\n\r\n{\"metadata\":{\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"}}",
    ] {
        let node = Node::new(Some(IMPORTS))?;
        let before = node.state()?;
        let api = Api::serve(&[gone])?;
        let running = started(&node, &api)?;
        running.signal(Signal::SIGTERM)?;
        running.wait()?.assert_ok();
        let asked = [LABEL.to_owned(), format!("GET {DAEMONSET} "), UNLABEL.to_owned()];
        assert_eq!(api.asked(), asked);
        assert_eq!(node.state()?, before);
        node.scratch.finish()?;
    }
    Ok(())
}

/// When it cannot be known whether it is to be undone, it is not.
#[test]
fn an_api_that_refuses_leaves_the_node_as_it_is() -> Result<()> {
    let node = Node::new(Some(IMPORTS))?;
    let api = Api::serve(&["403 Forbidden\r\n\r\n{}"])?;
    let running = started(&node, &api)?;
    let installed = node.state()?;
    running.signal(Signal::SIGTERM)?;
    running.wait()?.assert_error("asking for the DaemonSet: 403");
    assert_eq!(node.state()?, installed);
    node.scratch.finish()
}

#[test]
fn retiring_waits_for_the_pods() -> Result<()> {
    let node = Node::new(Some(IMPORTS))?;
    let there = "200 OK\r\n\r\n{}";
    let api = Api::serve(&[there, "404 Not Found\r\n\r\n{}"])?;
    node.in_cluster("retire", &api)?.output()?.assert_ok();
    let get = format!("GET {DAEMONSET} ");
    let delete = format!("DELETE {DAEMONSET}?propagationPolicy=Foreground ");
    assert_eq!(api.asked(), [delete, get.clone(), get]);
    node.scratch.finish()
}

/// Files of the payload that the script names are in it: what `COPY` in the Dockerfile takes.
#[test]
fn the_image_has_what_the_script_installs() -> Result<()> {
    let dir = root().join("dist/kubernetes/installer");
    let dockerfile = fs::read_to_string(dir.join("Dockerfile"))?;
    let listing = Cmd::new("tar").args(["--list", "--file"]).arg(package(".tar.gz")?).output()?;
    for line in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let source = line.split(' ').next().context("an empty COPY")?;
        let packed = listing.text().lines().any(|path| path.split('/').nth(1) == Some(source));
        ensure!(packed || Path::new(&dir).join(source).exists(), "no {source}");
    }
    Ok(())
}
