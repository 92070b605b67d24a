// SPDX-License-Identifier: Apache-2.0
//! An exec is where the init is.

use std::fs;

use serde_json::json;

use crate::support::{Bench, Process, Setup, until};

const KINDS: [&str; 8] = ["user", "ipc", "uts", "net", "pid", "mnt", "cgroup", "time"];

fn namespaces(process: &Process) -> Vec<String> {
    let link = |kind: &str| fs::read_link(process.path("ns").join(kind)).unwrap();
    KINDS.iter().map(|kind| link(kind).to_str().unwrap().to_owned()).collect()
}

fn cgroups(process: &Process) -> String {
    fs::read_to_string(process.path("cgroup")).unwrap()
}

async fn assert_joins(bench: &Bench<'_>) {
    let (_, process) = bench.waiting(bench.process(&[])).await;
    assert_eq!(namespaces(&process), namespaces(&bench.init));
    assert_eq!(cgroups(&process), cgroups(&bench.init));
    assert_eq!(
        fs::read_link(process.path("root")).unwrap(),
        fs::read_link(bench.init.path("root")).unwrap()
    );
    bench.signal(&process, 9);
}

#[test]
fn four_namespaces() {
    Setup::new().run(assert_joins_of_few);
}

async fn assert_joins_of_few(bench: &Bench<'_>) {
    assert_joins(bench).await;
    let own = namespaces(&Process::read(std::process::id()).unwrap());
    let theirs = namespaces(&bench.init);
    let shared: Vec<_> =
        KINDS.iter().zip(own.iter().zip(&theirs)).filter(|(_, (a, b))| a == b).collect();
    assert_eq!(shared.len(), 4, "user, net, cgroup and time: {shared:?}");
}

#[test]
fn every_namespace_of_this_runc() {
    let mut setup = Setup::in_user_namespace();
    setup.add_namespace(json!({"type": "network"}));
    setup.add_namespace(json!({"type": "cgroup"}));
    setup.run(assert_joins);
}

#[test]
fn a_user_namespace_with_the_network_of_the_host() {
    Setup::in_user_namespace().run(assert_joins);
}

#[test]
fn what_the_init_has_unshared_since() {
    let mut setup = Setup::new();
    let capabilities = json!(["CAP_SYS_ADMIN"]);
    for set in ["bounding", "effective", "permitted"] {
        setup.config["process"]["capabilities"][set] = capabilities.clone();
    }
    setup.config["process"]["args"] =
        json!(["unshare", "-u", "sh", "-c", "hostname inner; exec sleep 1000"]);
    setup.run(async |bench| {
        until("the init has another name", || {
            Process::read(bench.init.pid).filter(|init| init.name == "sleep")
        })
        .await;
        assert_eq!(bench.output(&bench.process(&["hostname"])).await, "inner\n");
        assert_joins(bench).await;
    });
}

#[test]
fn another_containers_pid_namespace() {
    let (sandbox, mut setup) = (Setup::new(), Setup::new());
    crate::support::on_reaper(async |reaper| {
        let pause = sandbox.make(reaper).await;
        let namespaces = setup.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces[0] = json!({"type": "pid", "path": format!("/proc/{pause}/ns/pid")});
        let init = setup.make(reaper).await;
        let bench = setup.bench(reaper, init).await;
        assert_joins(&bench).await;
        assert_eq!(bench.sh("readlink /proc/1/exe").await, "/bin/busybox\n");

        // With the init of a pid namespace everybody in it dies.
        wedge_sys::PidFd::open(pause).unwrap().send_signal(9).unwrap();
        until("they are gone", || Process::read(init).is_none().then_some(())).await;
        let error = bench.error(&bench.process(&["true"])).await;
        let text = "OCI runtime exec failed: exec failed: cannot exec in a stopped container";
        assert_eq!(error, text);
    });
}

#[test]
fn a_container_that_was_not_started_yet() {
    let mut setup = Setup::new();
    setup.started = false;
    setup.run(async |bench| {
        assert_eq!(bench.sh("pwd; readlink /proc/$$/exe").await, "/\n/bin/busybox\n");
        assert_eq!(Process::read(bench.init.pid).unwrap().name, bench.init.name);
        assert!(bench.setup.state_dir().join("exec.fifo").exists(), "it was started");
    });
}

#[test]
fn a_terminal() {
    let setup = Setup::new();
    setup.run(async |bench| {
        let mut process =
            bench.process(&["sh", "-c", "tty; stty size; stat -c '%u %g' $(tty); sleep 1000"]);
        process["terminal"] = json!(true);
        process["consoleSize"] = json!({"height": 10, "width": 110});
        process["user"] = json!({"uid": 1000, "gid": 1000});
        let started = bench.start(&process, wedge_setns::Stdio::default()).await.unwrap();
        let console = fs::File::from(started.console.unwrap());
        let mut text = String::new();
        until("it has said everything", || {
            use std::io::Read;
            let mut bytes = [0; 512];
            let count = (&console).read(&mut bytes).unwrap();
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            text.ends_with("5\r\n").then_some(())
        })
        .await;
        assert_eq!(text, "/dev/pts/0\r\n10 110\r\n1000 5\r\n");
        let process = Process::read(started.pid).unwrap();
        assert_ne!(process.field(7), "0", "it is its controlling terminal");
        // Whoever holds its other end goes, and everybody gets SIGHUP.
        drop(console);
        let mut exit = started.exit;
        assert_eq!(exit.wait().await.status.code(), 129);
    });
}
