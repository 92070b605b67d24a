// SPDX-License-Identifier: Apache-2.0
//! The helper dies at every stage.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wedge_setns_wire::Stage;

use crate::seccomp;
use crate::support::{Bench, START, Setup};

/// The first is 0, which means none; some need AppArmor; the others name what has already failed.
const NOT_REACHED: [Stage; 7] = [
    Stage::Plan,
    Stage::AppArmorOpen,
    Stage::AppArmor,
    Stage::ProgramStat,
    Stage::ProgramIsDirectory,
    Stage::ProgramAccess,
    Stage::ProgramRelative,
];

/// What a death at `stage` looks like: a text, or an exit code once success has been reported.
fn expected(stage: Stage, held: bool) -> Result<u32, String> {
    if matches!(stage, Stage::Seccomp | Stage::LastCapabilities) {
        Ok(137)
    } else if held && stage > Stage::Go {
        // It has asked for its limits, so that the shim knows who it is.
        Err(format!("{START}procReady not received: signal: killed"))
    } else {
        Err(format!("{START}procReady not received: it was killed"))
    }
}

/// Kills the helper of `process` at every stage; the stages it reaches.
async fn stages_of(bench: &Bench<'_>, process: &Value, held: bool) -> BTreeSet<Stage> {
    let mut reached = BTreeSet::new();
    for stage in Stage::ALL {
        bench.kill_at(*stage);
        let outcome = bench.exec(process).await;
        bench.go_through();
        match outcome {
            Ok(done) if done.code == 0 => continue,
            Ok(done) => assert_eq!(Ok(done.code), expected(*stage, held), "{stage:?}"),
            // Before this, everything is done and nothing said.
            Err(failure) if *stage == Stage::LastCapabilities => {
                assert_eq!(failure.to_string(), expected(Stage::Execute, held).unwrap_err());
            }
            Err(failure) => {
                assert_eq!(Err(failure.to_string()), expected(*stage, held), "{stage:?}");
            }
        }
        reached.insert(*stage);
        bench.assert_nothing_left().await;
    }
    assert_eq!(bench.exec(process).await.unwrap().code, 0, "and then it works");
    reached
}

#[test]
fn a_death_at_any_stage_is_an_error_and_leaves_nothing() {
    let mut setup = Setup::new();
    setup.config["process"]["oomScoreAdj"] = json!(500);
    setup.config["process"]["user"]["umask"] = json!(0o77);
    setup.config["linux"]["seccomp"] = seccomp::containerds();
    setup.state["personality"] = json!({"domain": 8});
    setup.run(async |bench| {
        let mut process = bench.process(&["true"]);
        process["execCPUAffinity"] = json!({"initial": "0"});
        let mut reached = stages_of(bench, &process, false).await;
        assert!(reached.contains(&Stage::LastCapabilities));

        process["execCPUAffinity"]["final"] = json!("0");
        process["noNewPrivileges"] = json!(true);
        process["terminal"] = json!(true);
        process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 5});
        reached.extend(stages_of(bench, &process, false).await);
        let rest: BTreeSet<_> =
            NOT_REACHED.into_iter().chain([Stage::NamespaceRoot, Stage::Go]).collect();
        let all: BTreeSet<_> = Stage::ALL.iter().copied().collect();
        assert_eq!(all.difference(&reached).copied().collect::<BTreeSet<_>>(), rest);
    });
}

#[test]
fn likewise_in_a_user_namespace() {
    Setup::in_user_namespace().run(async |bench| {
        let mut process = bench.process(&["true"]);
        process["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
        let reached = stages_of(bench, &process, true).await;
        assert!(reached.contains(&Stage::NamespaceRoot) && reached.contains(&Stage::Go));
    });
}
