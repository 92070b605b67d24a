// SPDX-License-Identifier: Apache-2.0
//! Init's exit is the last exit of its task (invariant I4), and no exec starts after it (I5).
//! Pure: counts, no I/O.

use wedge_reaper::Exit;

/// Counts the execs that are starting or running, and holds init's exit until none is.
#[derive(Debug, Default)]
pub struct ExitGate {
    execs: usize,
    closed: bool,
    held: Option<Exit>,
}

impl ExitGate {
    /// Init has ended: no exec begins any more.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// An exec is about to start. Refused (`false`) once init has ended.
    #[must_use]
    pub fn exec_begins(&mut self) -> bool {
        if self.closed {
            return false;
        }
        self.execs += 1;
        true
    }

    /// An exec's start failed, or its exit was published. Returns init's exit when that was
    /// waiting for this one.
    #[must_use = "init's exit must be published"]
    pub fn exec_ended(&mut self) -> Option<Exit> {
        self.execs = self.execs.saturating_sub(1);
        if self.execs == 0 { self.held.take() } else { None }
    }

    /// Init's exit may be told. Returns it when no exec is left, else holds it.
    #[must_use = "init's exit must be published"]
    pub fn release_init(&mut self, exit: Exit) -> Option<Exit> {
        self.close();
        if self.execs == 0 {
            return Some(exit);
        }
        self.held = Some(exit);
        None
    }

    /// The execs took too long to follow init (one in uninterruptible sleep, say): returns init's
    /// exit if it is still held.
    #[must_use = "init's exit must be published"]
    pub fn give_up(&mut self) -> Option<Exit> {
        self.held.take()
    }

    /// How many execs are starting or running.
    pub fn execs(&self) -> usize {
        self.execs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::SystemTime;
    use wedge_reaper::ExitStatus;

    fn exit() -> Exit {
        Exit { pid: 1, status: ExitStatus::KILLED, at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn without_execs_init_passes() {
        assert_eq!(ExitGate::default().release_init(exit()), Some(exit()));
    }

    #[test]
    fn init_waits_for_the_last_exec_and_no_exec_follows() {
        let mut gate = ExitGate::default();
        assert!(gate.exec_begins());
        assert!(gate.exec_begins());
        assert_eq!(gate.release_init(exit()), None);
        assert!(!gate.exec_begins());
        assert_eq!(gate.exec_ended(), None);
        assert_eq!(gate.exec_ended(), Some(exit()));
        assert_eq!(gate.give_up(), None);
    }

    #[test]
    fn giving_up_releases_init_once() {
        let mut gate = ExitGate::default();
        assert!(gate.exec_begins());
        assert_eq!(gate.release_init(exit()), None);
        assert_eq!(gate.give_up(), Some(exit()));
        assert_eq!(gate.exec_ended(), None);
    }

    /// Its output may be waited for meanwhile.
    #[test]
    fn between_its_end_and_its_exit_init_lets_no_exec_in_and_is_not_told() {
        let mut gate = ExitGate::default();
        assert!(gate.exec_begins());
        gate.close();
        assert!(!gate.exec_begins());
        assert_eq!(gate.exec_ended(), None);
        assert_eq!(gate.release_init(exit()), Some(exit()));
    }

    proptest! {
        #[test]
        fn init_comes_last_and_once(steps in proptest::collection::vec(0..5_u8, 0..60)) {
            let mut gate = ExitGate::default();
            let (mut running, mut closed, mut ended, mut published) = (0_usize, false, false, 0);
            for step in steps {
                match step {
                    0 => {
                        let begun = gate.exec_begins();
                        prop_assert_eq!(begun, !closed);
                        running += usize::from(begun);
                    }
                    1 if running > 0 => {
                        running -= 1;
                        if gate.exec_ended().is_some() {
                            prop_assert_eq!(running, 0);
                            published += 1;
                        }
                    }
                    2 if !ended => {
                        (closed, ended) = (true, true);
                        let passed = gate.release_init(exit());
                        prop_assert_eq!(passed.is_some(), running == 0);
                        published += usize::from(passed.is_some());
                    }
                    3 => published += usize::from(gate.give_up().is_some()),
                    4 => {
                        closed = true;
                        gate.close();
                    }
                    _ => {}
                }
                prop_assert!(published <= 1);
                prop_assert!(!(ended && running == 0) || published == 1);
            }
        }
    }
}
