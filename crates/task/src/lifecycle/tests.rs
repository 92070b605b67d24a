// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;
use std::time::SystemTime;
use wedge_reaper::ExitStatus;

const OK: &str = "ok";
const OPS: [Op; 9] = [
    Op::Start,
    Op::Delete,
    Op::Pause,
    Op::Resume,
    Op::Update,
    Op::Checkpoint,
    Op::Exec,
    Op::Kill,
    Op::Resize,
];

fn exit() -> Exit {
    Exit { pid: 7, status: ExitStatus::KILLED, at: SystemTime::UNIX_EPOCH }
}

fn text(result: Result<(), Denied>) -> String {
    match result {
        Ok(()) => OK.to_owned(),
        Err(Denied::NotFound(text)) => format!("{text}: not found"),
        Err(Denied::Precondition(text)) => format!("{text}: failed precondition"),
        Err(Denied::State(text)) => text,
    }
}

fn finish(lifecycle: &mut Lifecycle, op: Op) {
    lifecycle.begin(op).unwrap();
    assert_eq!(lifecycle.commit(), None);
}

/// A process in each of containerd's five states.
fn states(kind: Kind) -> Vec<(&'static str, Lifecycle)> {
    let created = || match kind {
        Kind::Init => {
            let mut init = Lifecycle::creating();
            assert_eq!(init.commit(), None);
            init
        }
        Kind::Exec => Lifecycle::added(),
    };
    let running = || {
        let mut process = created();
        finish(&mut process, Op::Start);
        process
    };
    let mut paused = running();
    if kind == Kind::Init {
        finish(&mut paused, Op::Pause);
    }
    let stopped = || {
        let mut process = running();
        assert_eq!(process.exited(exit()), Seen::Now);
        assert!(process.stopped(exit()));
        process
    };
    let mut deleted = stopped();
    finish(&mut deleted, Op::Delete);
    let mut states = vec![("created", created()), ("running", running())];
    if kind == Kind::Init {
        states.push(("paused", paused));
    }
    states.extend([("stopped", stopped()), ("deleted", deleted)]);
    states
}

/// The whole matrix on one screen: containerd's init_state.go.
#[test]
fn init_state_times_operation() {
    #[rustfmt::skip]
    let table: [(Op, [&str; 5]); 8] = [
        (Op::Start, [OK, "cannot start a running process", "cannot start a paused process",
            "cannot start a stopped process", "cannot start a deleted process"]),
        (Op::Delete, [OK, "cannot delete a running process", "cannot delete a paused process", OK,
            "cannot delete a deleted process: not found"]),
        (Op::Pause, ["cannot pause task in created state", OK, "cannot pause a paused container",
            "cannot pause a stopped container", "cannot pause a deleted process"]),
        (Op::Resume, ["cannot resume task in created state", "cannot resume a running process", OK,
            "cannot resume a stopped container", "cannot resume a deleted process"]),
        (Op::Update, [OK, OK, OK, "cannot update a stopped container",
            "cannot update a deleted process"]),
        (Op::Checkpoint, ["cannot checkpoint a task in created state", OK, OK,
            "cannot checkpoint a stopped container", "cannot checkpoint a deleted process"]),
        (Op::Exec, [OK, OK, "cannot exec in a paused state", "cannot exec in a stopped state",
            "cannot exec in a deleted state"]),
        (Op::Kill, [OK, OK, OK, OK, "cannot kill a deleted process: not found"]),
    ];
    for (op, row) in table {
        for ((name, lifecycle), expected) in states(Kind::Init).into_iter().zip(row) {
            assert_eq!(text(lifecycle.check(op)), expected, "{op:?} of a {name} init");
        }
    }
}

#[test]
fn an_init_to_be_restored_takes_no_exec_yet() {
    let mut init = Lifecycle::creating();
    init.checkpointed();
    assert_eq!(init.commit(), None);
    assert_eq!(text(init.check(Op::Exec)), "cannot exec in a created state");
    finish(&mut init, Op::Start);
    assert_eq!(text(init.check(Op::Exec)), OK);
}

/// containerd's exec_state.go.
#[test]
fn exec_state_times_operation() {
    let table: [(Op, [&str; 4]); 4] = [
        (
            Op::Start,
            [
                OK,
                "cannot start a running process",
                "cannot start a stopped process",
                "cannot start a deleted process",
            ],
        ),
        (
            Op::Delete,
            [
                OK,
                "cannot delete a running process",
                OK,
                "cannot delete a deleted process: not found",
            ],
        ),
        (
            Op::Kill,
            [
                "process not created: failed precondition",
                OK,
                "process already finished: not found",
                "cannot kill a deleted process: not found",
            ],
        ),
        (
            Op::Resize,
            [OK, OK, "cannot resize a stopped container", "cannot resize a deleted process"],
        ),
    ];
    for (op, row) in table {
        for ((name, lifecycle), expected) in states(Kind::Exec).into_iter().zip(row) {
            assert_eq!(text(lifecycle.check(op)), expected, "{op:?} of a {name} exec");
        }
    }
}

#[test]
fn an_exit_during_a_start_comes_back_from_commit() {
    let mut exec = Lifecycle::added();
    exec.begin(Op::Start).unwrap();
    assert_eq!(exec.exited(exit()), Seen::Held);
    assert_eq!(exec.status(), Status::Created);
    assert_eq!(exec.commit(), Some(exit()));
    assert_eq!(exec.status(), Status::Running);
    assert!(exec.stopped(exit()));
    assert_eq!(exec.exit(), Some(exit()));
}

#[test]
fn a_failed_start_leaves_the_state_as_it_was() {
    let mut exec = Lifecycle::added();
    exec.begin(Op::Start).unwrap();
    assert_eq!(exec.abort(), None);
    assert_eq!(exec.status(), Status::Created);
    exec.begin(Op::Start).unwrap();
}

#[test]
fn a_created_init_that_dies_while_it_is_deleted_is_seen_once() {
    let mut init = Lifecycle::creating();
    assert_eq!(init.commit(), None);
    init.begin(Op::Delete).unwrap();
    assert_eq!(init.exited(exit()), Seen::Now);
    assert_eq!(init.exited(exit()), Seen::Known);
    assert!(init.stopped(exit()));
    assert!(!init.stopped(exit()));
    assert_eq!(init.commit(), None);
    assert_eq!(init.exit(), Some(exit()));
}

/// Who has frozen a container whose init ended meanwhile thaws it; nobody finds it paused.
#[test]
fn nothing_is_paused_by_an_operation_that_its_end_has_overtaken() {
    for (op, from) in [(Op::Pause, "running"), (Op::Resume, "paused")] {
        for (succeeds, published) in [(true, true), (true, false), (false, true), (false, false)] {
            let state = states(Kind::Init).into_iter().find(|(name, _)| *name == from);
            let (_, mut init) = state.unwrap();
            init.begin(op).unwrap();
            assert!(!init.paused() && !init.ended());
            assert_eq!(init.exited(exit()), Seen::Now);
            assert!(!published || init.stopped(exit()));
            let held = if succeeds { init.commit() } else { init.abort() };
            assert_eq!(held, None);
            assert!(!init.paused() && init.ended(), "{op:?}");
            let status = if published { Status::Stopped } else { Status::Running };
            assert_eq!(init.status(), status, "{op:?}");
        }
    }
}

proptest! {
    /// Whatever the order of operations and of the exit: the exit is handed out exactly once, not
    /// while a start is under way, and a stopped process never becomes anything but deleted.
    #[test]
    fn one_exit_whatever_happens(
        init in any::<bool>(),
        steps in proptest::collection::vec((0..5_u8, 0..OPS.len()), 0..40),
    ) {
        let mut process = if init { Lifecycle::creating() } else { Lifecycle::added() };
        let (mut pending, mut alive, mut published) = (init, true, 0);
        for (step, op) in steps {
            let starting = matches!(process.state, State::Starting { .. } | State::Creating { .. });
            match step {
                0 if !pending => {
                    let op = OPS[op];
                    let begun = process.begin(op).is_ok();
                    pending = begun && matches!(op, Op::Start | Op::Pause | Op::Resume | Op::Delete);
                }
                1 | 2 if pending => {
                    pending = false;
                    let early = if step == 1 { process.commit() } else { process.abort() };
                    prop_assert!(early.is_none() || !alive);
                    if early.is_some() {
                        published += 1;
                        prop_assert!(process.stopped(exit()));
                    }
                }
                3 if alive => {
                    alive = false;
                    let seen = process.exited(exit());
                    prop_assert_eq!(seen == Seen::Held, starting);
                    if seen == Seen::Now {
                        published += 1;
                        process.stopped(exit());
                    }
                }
                _ => {}
            }
            prop_assert!(published <= 1);
        }
        if pending && process.commit().is_some() {
            published += 1;
        }
        let deleted = matches!(process.state, State::Deleted { .. });
        prop_assert!(alive || published == 1 || deleted);
    }
}
