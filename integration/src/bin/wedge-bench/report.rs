// SPDX-License-Identifier: Apache-2.0
//! What a run found: printed, written as JSON, and read again to make docs/performance.md.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::lane::Lane;
use crate::samples::{Ratio, Samples};

/// One run, or several put together.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What it ran on, and what ran: a name and a value each.
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) tables: Vec<Table>,
}

/// What belongs together: measured in turn, by the same lanes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    /// The name of its section (`--only`).
    pub(crate) section: String,
    pub(crate) title: String,
    /// How the machine's cgroups were mounted.
    pub(crate) cgroup: String,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) rows: Vec<Row>,
    /// What a reader has to know, and what could not be measured.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// One for each lane; empty where there is nothing to measure.
    pub(crate) cells: Vec<Samples>,
    /// The kernel's share alone.
    pub(crate) floor: Option<Samples>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Milliseconds,
    /// CPU seconds for each GiB.
    SecondsPerGib,
    PerSecond,
    MegabytesPerSecond,
    Kibibytes,
    /// Of memory, for each exec.
    Bytes,
    Count,
    /// How many execs were done: where points of a plot are.
    Execs,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::SecondsPerGib => "s/GiB",
            Unit::PerSecond => "/s",
            Unit::MegabytesPerSecond => "MB/s",
            Unit::Kibibytes => "KiB",
            Unit::Bytes => "B",
            Unit::Count => "",
            Unit::Execs => "execs",
        }
    }

    fn more_is_better(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::MegabytesPerSecond)
    }

    /// As many digits as one can rely on.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Unit::Milliseconds | Unit::SecondsPerGib if value < 10.0 => format!("{value:.2}"),
            Unit::Milliseconds | Unit::SecondsPerGib | Unit::Bytes => format!("{value:.1}"),
            Unit::PerSecond
            | Unit::MegabytesPerSecond
            | Unit::Kibibytes
            | Unit::Count
            | Unit::Execs => format!("{value:.0}"),
        }
    }
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: Unit, cells: Vec<Samples>) -> Row {
        Row { name: name.into(), unit, cells, floor: None }
    }

    #[must_use]
    pub(crate) fn floor(mut self, floor: Samples) -> Row {
        self.floor = Some(floor).filter(|floor| !floor.is_empty());
        self
    }

    /// How many times better the first cell is than the second.
    pub(crate) fn better(&self, ours: usize, theirs: usize) -> Option<Ratio> {
        if self.unit == Unit::Execs {
            return None;
        }
        let (ours, theirs) = (self.cells.get(ours)?, self.cells.get(theirs)?);
        match self.unit.more_is_better() {
            true => Ratio::of(ours, theirs),
            false => Ratio::of(theirs, ours),
        }
    }

    /// How many times worse a cell is than the floor.
    pub(crate) fn above_floor(&self, cell: usize) -> Option<Ratio> {
        let (cell, floor) = (self.cells.get(cell)?, self.floor.as_ref()?);
        match self.unit.more_is_better() {
            true => Ratio::of(floor, cell),
            false => Ratio::of(cell, floor),
        }
    }
}

impl Table {
    pub(crate) fn new(section: &str, title: impl Into<String>, lanes: Vec<Lane>) -> Table {
        Table {
            section: section.to_owned(),
            title: title.into(),
            cgroup: String::new(),
            lanes,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Which lanes to compare: each of ours with the Go shim's on the same runtime.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let theirs = |ours: &Lane| {
            self.lanes.iter().position(|lane| lane.is_go() && lane.runtime == ours.runtime)
        };
        let ours = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_go());
        ours.filter_map(|(index, lane)| Some((index, theirs(lane)?))).collect()
    }
}

impl Report {
    pub(crate) fn read(path: &Path) -> Result<Report> {
        let text = fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec(self)?).with_context(|| path.display().to_string())
    }

    /// Adds what another run found.
    pub(crate) fn merge(&mut self, other: Report) {
        for fact in other.machine {
            if !self.machine.contains(&fact) {
                self.machine.push(fact);
            }
        }
        self.tables.extend(other.tables);
    }
}
