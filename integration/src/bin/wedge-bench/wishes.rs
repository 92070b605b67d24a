// SPDX-License-Identifier: Apache-2.0
//! What was asked for.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::{SECTIONS, Section};

pub(crate) const USAGE: &str = "usage: wedge-bench [flags]
  --only A,B      these sections only: exec, lifecycle, ctr, parallel, stdout, memory, growth,
                  counts, size
  --rounds N      execs of each kind (200); containers are a fifth of it
  --json FILE     writes what was measured there, for --document
  --as-mounted    with the cgroups of this machine only
  --unified       with cgroup v2 only, in a mount namespace of its own if the machine has v1;
                  without both: one after the other where they differ
  --against PATH  another shim in place of containerd's
  --pause N       milliseconds between two execs (0)
  --long          memory after 100,000 execs, not 3,000
  --alone         only Wedge's own exec path, for profilers; implies --only exec
or: wedge-bench --document DIR FILE...
                  makes DIR/performance.md and DIR/performance.svg of JSON files";

/// How one part of a run is told that there is another.
pub(crate) const PARTLY: &str = "--partly";

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) only: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) json: Option<PathBuf>,
    pub(crate) cgroups: Cgroups,
    /// Leave what does not depend on cgroups to the other part of the run. Not for users.
    pub(crate) partly: bool,
    pub(crate) against: Option<PathBuf>,
    pub(crate) pause: u64,
    pub(crate) long: bool,
    pub(crate) alone: bool,
    pub(crate) document: Option<(PathBuf, Vec<PathBuf>)>,
}

/// Which cgroups to measure with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cgroups {
    AsMounted,
    Unified,
    Both,
}

impl Wishes {
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Wishes> {
        let mut wishes = Wishes {
            only: Vec::new(),
            rounds: 200,
            json: None,
            cgroups: Cgroups::Both,
            partly: false,
            against: None,
            pause: 0,
            long: false,
            alone: false,
            document: None,
        };
        let mut words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            wishes.take(&word, &mut words)?;
        }
        let known = |name: &String| SECTIONS.iter().any(|section| section.name == name);
        ensure!(wishes.only.iter().all(known), USAGE);
        Ok(wishes)
    }

    fn take(&mut self, word: &str, words: &mut impl Iterator<Item = String>) -> Result<()> {
        let mut value = || words.next().context(USAGE);
        match word {
            "--only" => self.only = value()?.split(',').map(str::to_owned).collect(),
            "--rounds" => self.rounds = value()?.parse().context(USAGE)?,
            "--pause" => self.pause = value()?.parse().context(USAGE)?,
            "--against" => self.against = Some(value()?.into()),
            "--json" => self.json = Some(value()?.into()),
            "--as-mounted" => self.cgroups = Cgroups::AsMounted,
            "--unified" => self.cgroups = Cgroups::Unified,
            PARTLY => self.partly = true,
            "--long" => self.long = true,
            "--alone" => {
                self.alone = true;
                self.only = vec!["exec".to_owned()];
            }
            "--document" => {
                let dir = value()?.into();
                let files: Vec<PathBuf> = words.map(PathBuf::from).collect();
                ensure!(!files.is_empty(), USAGE);
                self.document = Some((dir, files));
            }
            _ => bail!(USAGE),
        }
        Ok(())
    }

    /// Whether a section is wanted.
    pub(crate) fn want(&self, section: &Section) -> bool {
        let asked = self.only.is_empty() || self.only.iter().any(|name| name == section.name);
        asked && (section.v1 || !self.partly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Wishes> {
        Wishes::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_are_read() {
        let wishes = read("--only exec,memory --rounds 7 --json a.json --unified").unwrap();
        assert_eq!((wishes.rounds, wishes.cgroups), (7, Cgroups::Unified));
        let wanted: Vec<_> = SECTIONS.iter().filter(|one| wishes.want(one)).collect();
        assert_eq!(wanted.iter().map(|one| one.name).collect::<Vec<_>>(), ["exec", "memory"]);
        let document = read("--document docs a.json b.json").unwrap().document.unwrap();
        assert_eq!(document, ("docs".into(), vec!["a.json".into(), "b.json".into()]));
        for wrong in ["--only nothing", "--rounds", "--rounds x", "--document docs", "more"] {
            assert_eq!(read(wrong).unwrap_err().to_string(), USAGE, "{wrong}");
        }
    }

    #[test]
    fn one_of_two_parts_leaves_much_to_the_other() {
        let wishes = read("--only exec,memory --partly").unwrap();
        let wanted: Vec<_> = SECTIONS.iter().filter(|one| wishes.want(one)).collect();
        assert_eq!(wanted.iter().map(|one| one.name).collect::<Vec<_>>(), ["exec"]);
    }
}
