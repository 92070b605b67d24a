// SPDX-License-Identifier: Apache-2.0
//! What happens to a container while an exec is on its way.

use std::fs;

use serde_json::{Value, json};
use wedge_setns::Stdio;
use wedge_setns_wire::Stage;

use crate::support::{Bench, Process, START, Setup, path_of, until};

const SIGCONT: i32 = 18;
const SIGKILL: i32 = 9;
const STOPPED: &str = "OCI runtime exec failed: exec failed: cannot exec in a stopped container";

/// The error of an exec whose container ends while the helper is at `stage`.
async fn error_when_init_dies_at(bench: &Bench<'_>, stage: Stage) -> String {
    bench.stop_at(stage);
    let process = bench.process(&["true"]);
    let ends = async {
        let helper = bench.stopped().await;
        bench.go_through();
        bench.kill_init().await;
        // A payload went with its pid namespace.
        if Process::read(helper.pid).is_some() {
            bench.signal(&helper, SIGCONT);
        }
    };
    tokio::join!(bench.error(&process), ends).0
}

#[test]
fn an_init_that_dies_while_its_namespaces_are_joined() {
    let dead = "error executing setns process: failed to start a process in the pid namespace, \
                which has no init: cannot allocate memory";
    for (stage, error) in [
        (Stage::Signals, STOPPED.to_owned()),
        (Stage::Namespaces, STOPPED.to_owned()),
        (Stage::Clone, format!("{START}{dead}")),
    ] {
        Setup::new().run(async |bench| {
            assert_eq!(error_when_init_dies_at(bench, stage).await, error, "{stage:?}");
        });
    }
}

#[test]
fn an_init_that_dies_beside_a_process_on_its_way() {
    for stage in [Stage::Session, Stage::Limits, Stage::WorkingDirectory, Stage::Execute] {
        Setup::new().run(async |bench| {
            let text = format!("{START}procReady not received: it was killed");
            assert_eq!(error_when_init_dies_at(bench, stage).await, text, "{stage:?}");
        });
    }
}

#[test]
fn a_caller_that_gives_up_leaves_nothing() {
    Setup::new().run(async |bench| {
        let process = bench.process(&["true"]);
        for stage in [Stage::Signals, Stage::Clone, Stage::Session, Stage::Keyring, Stage::Uid] {
            bench.stop_at(stage);
            tokio::select! {
                outcome = bench.exec(&process) => panic!("{outcome:?}"),
                _ = bench.stopped() => {}
            }
            bench.go_through();
            // Also one that has not said a word yet, and stands still.
            bench.assert_nothing_left().await;
            assert_eq!(bench.output(&process).await, "");
        }
    });
}

#[test]
fn a_container_that_is_paused_meanwhile_goes_on_later() {
    for stage in [Stage::Namespaces, Stage::Session, Stage::Uid] {
        Setup::new().run(async |bench| {
            bench.stop_at(stage);
            let process = bench.process(&["true"]);
            let pause = async {
                let helper = bench.stopped().await;
                bench.go_through();
                // runc and the reaper work meanwhile: nobody blocks here.
                bench.setup.runc(&bench.reaper, &["pause", bench.setup.id()]).await;
                bench.signal(&helper, SIGCONT);
                bench.setup.runc(&bench.reaper, &["resume", bench.setup.id()]).await;
            };
            assert_eq!(tokio::join!(bench.output(&process), pause).0, "", "{stage:?}");
        });
    }
}

#[test]
fn an_exec_takes_room_for_two_processes() {
    Setup::new().run(async |bench| {
        let limit = |pids: u32| {
            fs::write(path_of(bench.setup, "pids.max"), pids.to_string()).unwrap();
        };
        let process = bench.process(&["true"]);
        let full = "error executing setns process: failed to start a process in the container: \
                    resource temporarily unavailable";
        for pids in [1, 2] {
            limit(pids);
            assert_eq!(bench.error(&process).await, format!("{START}{full}"), "{pids}");
            bench.assert_nothing_left().await;
        }
        limit(3);
        assert_eq!(bench.output(&process).await, "");
    });
}

#[test]
fn many_at_once() {
    Setup::new().run(async |bench| {
        let process = |code: u32| bench.process(&["sh", "-c", &format!("exit {code}")]);
        let mut started = Vec::new();
        for code in 0..40 {
            // Every other one fails.
            let wrong = bench.process(&[&format!("missing{code}")]);
            let process = process(code);
            let (good, bad) = tokio::join!(
                bench.start(&process, Stdio::default()),
                bench.start(&wrong, Stdio::default())
            );
            assert!(bad.unwrap_err().to_string().contains("executable file not found"));
            started.push(good.unwrap());
        }
        for (code, mut started) in (0..).zip(started) {
            assert_eq!(started.exit.wait().await.status.code(), code);
        }
    });
}

#[test]
fn a_helper_that_is_killed_by_somebody_else() {
    Setup::new().run(async |bench| {
        let process = bench.process(&["true"]);
        for stage in [Stage::Namespaces, Stage::Uid] {
            bench.stop_at(stage);
            let kill = async {
                bench.signal(&bench.stopped().await, SIGKILL);
                bench.go_through();
            };
            let (error, ()) = tokio::join!(bench.error(&process), kill);
            assert_eq!(error, format!("{START}procReady not received: it was killed"));
        }
    });
}

#[test]
fn limits_are_set_before_the_process_goes_on() {
    let mut setup = Setup::in_user_namespace();
    setup.config["process"]["rlimits"] = json!([]);
    setup.run(async |bench| {
        // The helper itself could not work with these.
        let mut process =
            bench.process(&["grep", "-E", "open files|address space", "/proc/self/limits"]);
        process["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1500},
            {"type": "RLIMIT_AS", "soft": 67_108_864, "hard": 67_108_864},
        ]);
        bench.stop_at(Stage::WorkingDirectory);
        let look = async {
            let helper = bench.stopped().await;
            bench.go_through();
            let limits = fs::read_to_string(helper.path("limits")).unwrap();
            bench.signal(&helper, SIGCONT);
            limits
        };
        let (printed, limits) = tokio::join!(bench.output(&process), look);
        assert_eq!(printed.lines().count(), 2);
        for line in printed.lines() {
            assert!(limits.contains(line), "{line} is not in {limits}");
        }
        let words: Vec<_> = printed.split_whitespace().collect();
        assert!(words.contains(&"1000") && words.contains(&"1500"), "{printed}");
        assert!(words.contains(&"67108864"), "{printed}");
    });
}

/// A process that fails before the shim has heard of it.
fn failing_early(bench: &Bench<'_>) -> (Value, String) {
    let mut process = bench.process(&["true"]);
    process["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 1000});
    (process, format!("{START}error setting scheduler: invalid argument"))
}

/// The kernel reports a message that nobody read before the end of a socket.
#[test]
fn a_helper_that_dies_without_having_listened() {
    let mut setup = Setup::in_user_namespace();
    setup.config["process"]["rlimits"] = json!([]);
    setup.run(async |bench| {
        let mut process = bench.process(&["true"]);
        process["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 7}]);
        bench.stop_at(Stage::Go);
        let die = async {
            // Before it asks for its limits, and then when it has asked.
            let helper = bench.stopped().await;
            bench.signal(&helper, SIGCONT);
            until("the limits were set", || {
                let limits = fs::read_to_string(helper.path("limits")).unwrap();
                let core = limits.lines().find(|line| line.starts_with("Max core file size"));
                core.is_some_and(|line| line.contains(" 7 ")).then_some(())
            })
            .await;
            bench.go_through();
            // The answer follows in the same breath.
            tokio::task::yield_now().await;
            bench.signal(&helper, SIGKILL);
        };
        let (error, ()) = tokio::join!(bench.error(&process), die);
        assert_eq!(error, format!("{START}procReady not received: signal: killed"));
    });
}

#[test]
fn what_a_helper_says_is_heard_though_it_was_reaped() {
    Setup::new().run(async |bench| {
        let (process, text) = failing_early(bench);
        // The nursery sleeps again when it has forked.
        let nursery = Process::read(bench.host.helper_pid().unwrap()).unwrap();
        let slept = || nursery.status("voluntary_ctxt_switches").parse::<u64>().unwrap();
        let before = slept();
        let mut exec = std::pin::pin!(bench.error(&process));
        // It is started, and then nobody listens until the last of it is gone.
        tokio::select! {
            biased;
            error = &mut exec => panic!("{error}"),
            () = std::future::ready(()) => {}
        }
        until("the helper was reaped", || {
            (slept() > before && Process::children().len() == 2).then_some(())
        })
        .await;
        assert_eq!(exec.await, text);
    });
}

#[test]
fn a_nursery_that_was_killed_is_replaced() {
    Setup::new().run(async |bench| {
        let process = bench.process(&["true"]);
        let mut last = bench.host.helper_pid().unwrap();
        for known in [true, false] {
            let helper = Process::read(last).unwrap();
            bench.signal(&helper, SIGKILL);
            if known {
                until("it is gone", || Process::read(last).is_none().then_some(())).await;
            }
            assert_eq!(bench.output(&process).await, "");
            let now = bench.host.helper_pid().unwrap();
            assert_ne!(now, last);
            last = now;
            bench.assert_nothing_left().await;
        }
    });
}

/// Nothing has happened yet: another one does it.
#[test]
fn a_nursery_that_dies_over_a_request_is_no_error() {
    const SIGSTOP: i32 = 19;
    Setup::new().run(async |bench| {
        let helper = Process::read(bench.host.helper_pid().unwrap()).unwrap();
        bench.signal(&helper, SIGSTOP);
        bench.stopped().await;
        let process = bench.process(&["true"]);
        let mut exec = std::pin::pin!(bench.exec(&process));
        tokio::select! {
            biased;
            outcome = &mut exec => panic!("{outcome:?}"),
            () = std::future::ready(()) => {}
        }
        bench.signal(&helper, SIGKILL);
        assert_eq!(exec.await.unwrap().code, 0);
        assert_ne!(bench.host.helper_pid(), Some(helper.pid));
    });
}
