// SPDX-License-Identifier: Apache-2.0
//! Tables for a terminal.

use std::fmt::Write as _;

use crate::report::{Row, Table, Unit};
use crate::samples::{Ratio, Samples};

/// How wide a figure with its spread is.
const WIDTH: usize = 22;

/// The table as text: medians with quartiles, the floor, and how ours compares.
pub(crate) fn text(table: &Table) -> String {
    let mut text = format!("\n{} (cgroup {})\n", table.title, table.cgroup);
    let mut head = format!("{:42}", "median (quartiles)");
    for lane in &table.lanes {
        head.push_str(&format!("{:>WIDTH$}", lane.name()));
    }
    if has_floor(table) {
        head.push_str(&format!("{:>WIDTH$}", "floor"));
    }
    writeln!(text, "{head}").ok();
    let shown = || table.rows.iter().filter(|row| row.unit != Unit::Execs);
    shown().for_each(|row| line(&mut text, table, row));
    let verdict = |row: &Row| {
        let verdicts = verdicts(table, row);
        let counted = row.unit == Unit::Count || verdicts.is_empty();
        (!counted).then(|| format!("  {:40}{}", row.name, verdicts.join("   ")))
    };
    let verdicts: Vec<String> = shown().filter_map(verdict).collect();
    if !verdicts.is_empty() {
        writeln!(text, "Wedge is better by (eighths of the run: from – to)").ok();
        writeln!(text, "{}", verdicts.join("\n")).ok();
    }
    for note in &table.notes {
        writeln!(text, "  NOTE: {note}").ok();
    }
    text
}

fn has_floor(table: &Table) -> bool {
    table.rows.iter().any(|row| row.floor.is_some())
}

fn line(text: &mut String, table: &Table, row: &Row) {
    let name = format!("{} {}", row.name, row.unit.name());
    let mut line = format!("{name:42}");
    for cell in &row.cells {
        line.push_str(&format!("{:>WIDTH$}", figure(row.unit, cell)));
    }
    if has_floor(table) {
        let floor = row.floor.as_ref().map(|floor| figure(row.unit, floor)).unwrap_or_default();
        line.push_str(&format!("{floor:>WIDTH$}"));
    }
    writeln!(text, "{}", line.trim_end()).ok();
}

fn verdicts(table: &Table, row: &Row) -> Vec<String> {
    let pair = |(ours, theirs): (usize, usize)| {
        let lane = table.lanes.get(ours)?;
        Some(format!("{}: {}", lane.name(), ratio(row.better(ours, theirs)?)))
    };
    let mut all: Vec<String> = table.pairs().into_iter().filter_map(pair).collect();
    if let Some(floor) = row.above_floor(0) {
        all.push(format!("{} floor", ratio(floor)));
    }
    all
}

/// `12.3× (11.8–13.0)`
pub(crate) fn ratio(ratio: Ratio) -> String {
    let show =
        |value: f64| if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    let spread = ratio.spread.map(|(from, to)| format!(" ({}–{})", show(from), show(to)));
    format!("{}×{}", show(ratio.value), spread.unwrap_or_default())
}

/// `0.61 (0.58–0.70)`
pub(crate) fn figure(unit: Unit, samples: &Samples) -> String {
    let at = |percent| samples.percentile(percent).map(|value| unit.show(value));
    match (at(50), at(25), at(75)) {
        (Some(median), Some(low), Some(high)) if samples.len() > 1 && low != high => {
            format!("{median} ({low}–{high})")
        }
        (Some(median), ..) => median,
        (None, ..) => "–".to_owned(),
    }
}
