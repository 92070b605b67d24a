// SPDX-License-Identifier: Apache-2.0
//! Which exits belong to whom: pure bookkeeping, no I/O.
//!
//! Time is counted in reaped children. An expectation remembers the count at which it was opened
//! and can claim only exits after it, so an exit of an earlier process that had the same pid is
//! never attributed to the new one; and an exit is handed out at most once.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::exit::Exit;

/// What a claim found.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The process had already been reaped.
    Exited(Exit),
    /// The process has not been reaped: its exit will be delivered under this pid.
    Pending,
}

#[derive(Debug)]
struct Unclaimed {
    at: u64,
    exit: Exit,
}

/// Claimed pids of living children, and exits that nobody has claimed yet. `W` is whatever the
/// owner wants to be handed when a claimed child ends.
#[derive(Debug)]
pub struct Ledger<W> {
    reaped: u64,
    next_expectation: u64,
    /// Open expectations, by number: the count of reaped children when each was opened.
    open: BTreeMap<u64, u64>,
    claimed: HashMap<u32, W>,
    unclaimed: VecDeque<Unclaimed>,
}

impl<W> Default for Ledger<W> {
    fn default() -> Self {
        Ledger {
            reaped: 0,
            next_expectation: 0,
            open: BTreeMap::new(),
            claimed: HashMap::new(),
            unclaimed: VecDeque::new(),
        }
    }
}

impl<W> Ledger<W> {
    /// Opens an expectation: from now on unclaimed exits are kept for it. Returns its number.
    pub fn expect(&mut self) -> u64 {
        let number = self.next_expectation;
        self.next_expectation += 1;
        self.open.insert(number, self.reaped);
        number
    }

    /// Closes an expectation and forgets exits that no open one can claim.
    pub fn close(&mut self, expectation: u64) {
        self.open.remove(&expectation);
        let Some(oldest) = self.open.values().min().copied() else {
            self.unclaimed = VecDeque::new();
            return;
        };
        while self.unclaimed.front().is_some_and(|kept| kept.at <= oldest) {
            self.unclaimed.pop_front();
        }
    }

    /// Claims `pid` for an expectation and closes it. With [`Claim::Pending`], `watcher` is kept
    /// and comes back from [`Ledger::exited`].
    pub fn claim(&mut self, expectation: u64, pid: u32, watcher: W) -> Claim {
        let since = self.open.get(&expectation).copied().unwrap_or(self.reaped);
        // The latest one: an earlier exit with this pid was somebody else, whose pid was reused.
        let found = self.unclaimed.iter().rposition(|kept| kept.at > since && kept.exit.pid == pid);
        let claim = match found.and_then(|index| self.unclaimed.remove(index)) {
            Some(kept) => Claim::Exited(kept.exit),
            None => {
                self.claimed.insert(pid, watcher);
                Claim::Pending
            }
        };
        self.close(expectation);
        claim
    }

    /// Records a child that this process has just spawned and therefore nobody has reaped.
    pub fn spawned(&mut self, pid: u32, watcher: W) {
        self.claimed.insert(pid, watcher);
    }

    /// Records an exit. Returns the watcher that claimed the pid; otherwise the exit is kept while
    /// any expectation is open, and forgotten when none is (an orphan of some container).
    pub fn exited(&mut self, exit: Exit) -> Option<W> {
        self.reaped += 1;
        if let Some(watcher) = self.claimed.remove(&exit.pid) {
            return Some(watcher);
        }
        if !self.open.is_empty() {
            self.unclaimed.push_back(Unclaimed { at: self.reaped, exit });
        }
        None
    }

    /// Forgets a claim, for a process that turned out not to exist.
    pub fn disown(&mut self, pid: u32) -> Option<W> {
        self.claimed.remove(&pid)
    }

    /// Entries held: claims, unclaimed exits and open expectations. For leak tests and dumps.
    pub fn len(&self) -> (usize, usize, usize) {
        (self.claimed.len(), self.unclaimed.len(), self.open.len())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitStatus;
    use proptest::prelude::*;
    use std::time::SystemTime;
    use wedge_sys::Ended;

    fn exit(pid: u32, code: i32) -> Exit {
        Exit { pid, status: ExitStatus::from(Ended::Exited(code)), at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn an_exit_before_the_claim_is_kept() {
        let mut ledger = Ledger::default();
        let expectation = ledger.expect();
        assert_eq!(ledger.exited(exit(7, 3)), None::<&str>);
        assert_eq!(ledger.claim(expectation, 7, "init"), Claim::Exited(exit(7, 3)));
        assert!(ledger.is_empty());
    }

    #[test]
    fn an_exit_after_the_claim_goes_to_the_claimant() {
        let mut ledger = Ledger::default();
        let expectation = ledger.expect();
        assert_eq!(ledger.claim(expectation, 7, "init"), Claim::Pending);
        assert_eq!(ledger.exited(exit(7, 3)), Some("init"));
        assert!(ledger.is_empty());
    }

    #[test]
    fn an_earlier_process_with_the_same_pid_is_not_claimed() {
        let mut ledger = Ledger::default();
        let other = ledger.expect();
        ledger.exited(exit(7, 1));
        let expectation = ledger.expect();
        assert_eq!(ledger.claim(expectation, 7, "new"), Claim::Pending);
        ledger.close(other);
        assert_eq!(ledger.exited(exit(7, 2)), Some("new"));
    }

    #[test]
    fn exits_nobody_expects_are_forgotten() {
        let mut ledger: Ledger<()> = Ledger::default();
        for pid in 1..1000 {
            ledger.exited(exit(pid, 0));
        }
        assert!(ledger.is_empty());
        let expectation = ledger.expect();
        ledger.exited(exit(1, 0));
        ledger.close(expectation);
        assert!(ledger.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Expect,
        Fork,
        Exit(usize),
        Claim(usize),
        Abandon(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Expect),
            Just(Step::Fork),
            any::<usize>().prop_map(Step::Exit),
            any::<usize>().prop_map(Step::Claim),
            any::<usize>().prop_map(Step::Abandon),
        ]
    }

    proptest! {
        /// I2: a claimed process gives its exit exactly once, whatever the order of events. The pid
        /// of a claimed process is reused as soon as it is free.
        #[test]
        fn every_claimed_exit_is_delivered_exactly_once(
            steps in proptest::collection::vec(step(), 0..200),
        ) {
            let mut ledger: Ledger<u64> = Ledger::default();
            let mut expectations: Vec<u64> = Vec::new();
            // Processes forked under an expectation: (expectation, pid, serial, exited, claimed).
            let mut forked: Vec<(u64, u32, u64, bool, bool)> = Vec::new();
            let mut got: Vec<u64> = Vec::new();
            let mut serial = 0;
            for step in steps {
                match step {
                    Step::Expect => expectations.push(ledger.expect()),
                    Step::Fork => {
                        let Some(&owner) = expectations.last() else { continue };
                        if forked.iter().any(|process| process.0 == owner) { continue }
                        let mut pid = 1;
                        while forked.iter().any(|p| p.1 == pid && !(p.3 && p.4)) { pid += 1 }
                        serial += 1;
                        forked.push((owner, pid, serial, false, false));
                    }
                    Step::Exit(n) => {
                        let alive: Vec<usize> =
                            (0..forked.len()).filter(|&i| !forked[i].3).collect();
                        if alive.is_empty() { continue }
                        let index = alive[n % alive.len()];
                        forked[index].3 = true;
                        let watcher = ledger.exited(exit(forked[index].1, 0));
                        prop_assert_eq!(watcher.is_some(), forked[index].4);
                        if let Some(watcher) = watcher {
                            prop_assert_eq!(watcher, forked[index].2);
                            got.push(watcher);
                        }
                    }
                    Step::Claim(n) => {
                        let open: Vec<usize> = (0..forked.len())
                            .filter(|&i| !forked[i].4 && expectations.contains(&forked[i].0))
                            .collect();
                        if open.is_empty() { continue }
                        let index = open[n % open.len()];
                        let (owner, pid, serial, exited, _) = forked[index];
                        forked[index].4 = true;
                        expectations.retain(|&e| e != owner);
                        match ledger.claim(owner, pid, serial) {
                            Claim::Exited(_) => { prop_assert!(exited); got.push(serial) }
                            Claim::Pending => prop_assert!(!exited),
                        }
                    }
                    Step::Abandon(n) => {
                        if expectations.is_empty() { continue }
                        let owner = expectations.remove(n % expectations.len());
                        ledger.close(owner);
                    }
                }
            }
            let mut once = got.clone();
            once.dedup();
            prop_assert_eq!(got.len(), once.len());
            for owner in expectations { ledger.close(owner) }
            prop_assert_eq!(ledger.len().1, 0);
            prop_assert_eq!(ledger.len().2, 0);
        }
    }
}
