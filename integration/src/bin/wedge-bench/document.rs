// SPDX-License-Identifier: Apache-2.0
//! docs/performance.md, whose tables are between two marks, and its picture.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::picture;
use crate::print::{figure, ratio};
use crate::report::{Report, Row, Table, Unit};

const BEGIN: &str = "<!-- begin: `make performance` writes what follows -->";
const END: &str = "<!-- end of what `make performance` writes -->";

/// Puts the runs of `files` into `dir`; what somebody has written around the tables stays.
pub(crate) fn write(dir: &Path, files: &[PathBuf]) -> Result<()> {
    let mut report = Report::default();
    for file in files {
        report.merge(Report::read(file)?);
    }
    let page = dir.join("performance.md");
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let text = replace(&text, &tables(&report))
        .with_context(|| format!("{} lacks {BEGIN:?} and {END:?}", page.display()))?;
    fs::write(&page, text)?;
    fs::write(dir.join("performance.svg"), picture::draw(&report))?;
    Ok(())
}

/// The text with other words between the marks.
fn replace(text: &str, between: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{between}\n{END}{after}"))
}

fn tables(report: &Report) -> String {
    let mut text = String::from("| | |\n|---|---|\n");
    for (name, value) in &report.machine {
        writeln!(text, "| {name} | {value} |").ok();
    }
    for table in &report.tables {
        let cgroup = &table.cgroup;
        writeln!(text, "\n### {}, cgroup {cgroup}\n", capitalised(&table.title)).ok();
        if !table.rows.is_empty() {
            text.push_str(&markdown(table));
        }
        for note in &table.notes {
            writeln!(text, "\n{}.", capitalised(note)).ok();
        }
    }
    text
}

fn markdown(table: &Table) -> String {
    let has_floor = table.rows.iter().any(|row| row.floor.is_some());
    let pairs = table.pairs();
    let mut head = vec![String::new()];
    head.extend(table.lanes.iter().map(|lane| lane.name()));
    head.extend(has_floor.then(|| "floor".to_owned()));
    let versus = |(ours, _): &(usize, usize)| {
        let lane = table.lanes.get(*ours)?;
        Some(format!("{}: better by", lane.name()))
    };
    head.extend(pairs.iter().filter_map(versus));
    head.extend(has_floor.then(|| "Wedge: floors".to_owned()));
    let mut text = line(&head);
    text.push_str(&line(&vec!["---".to_owned(); head.len()]));
    for row in table.rows.iter().filter(|row| row.unit != Unit::Execs) {
        text.push_str(&line(&cells(row, &pairs, has_floor)));
    }
    text
}

fn cells(row: &Row, pairs: &[(usize, usize)], has_floor: bool) -> Vec<String> {
    let unit = row.unit.name();
    let name = if unit.is_empty() { row.name.clone() } else { format!("{}, {unit}", row.name) };
    let mut cells = vec![name];
    cells.extend(row.cells.iter().map(|cell| figure(row.unit, cell)));
    let floor = row.floor.as_ref().map(|floor| figure(row.unit, floor));
    cells.extend(has_floor.then(|| floor.unwrap_or_default()));
    let better = |(ours, theirs): &(usize, usize)| {
        let better = row.better(*ours, *theirs).filter(|_| row.unit != Unit::Count);
        better.map(ratio).unwrap_or_default()
    };
    cells.extend(pairs.iter().map(better));
    cells.extend(has_floor.then(|| row.above_floor(0).map(ratio).unwrap_or_default()));
    cells
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Lane, Runtime, Shim};
    use crate::samples::Samples;

    #[test]
    fn what_is_around_the_marks_stays() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace(&text, "new").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(replace("no marks", "new"), None);
    }

    #[test]
    fn a_table_has_ratios_and_the_floor() {
        let lanes = [Shim::Wedge, Shim::Go].map(|shim| Lane::new(shim, Runtime::Runc));
        let mut table = Table::new("exec", "exec", lanes.to_vec());
        let cells = vec![Samples::one(0.5), Samples::one(10.0)];
        let row = Row::new("whole", Unit::Milliseconds, cells).floor(Samples::one(0.25));
        table.rows.push(row);
        let expected = "|  | Wedge + runc | Go shim + runc | floor | Wedge + runc: better by | Wedge: floors |\n\
            | --- | --- | --- | --- | --- | --- |\n\
            | whole, ms | 0.50 | 10.0 | 0.25 | 20× | 2.0× |\n";
        assert_eq!(markdown(&table), expected);
    }
}
