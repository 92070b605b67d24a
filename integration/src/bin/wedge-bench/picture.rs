// SPDX-License-Identifier: Apache-2.0
//! The main figures as SVG: bars for latency and memory, a line for growth.

use std::fmt::Write as _;

use crate::lane::{Lane, Runtime, Shim};
use crate::report::{Report, Row, Table, Unit};
use crate::samples::Samples;

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 24.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 250.0;
const LENGTH: f64 = 500.0;
const BAR: f64 = 15.0;
const GREEN: &str = "#2f9e62";

/// A group of bars: section, title of its table, row, and what it is called here.
const LATENCIES: [(&str, &str, &str, &str); 6] = [
    ("exec", "exec of /bin/true", WHOLE, "an exec, from Exec to Delete"),
    ("exec", PROFILED, WHOLE, "… with the default seccomp profile"),
    ("lifecycle", LIFE, "shim start until connected", "shim start until connected"),
    ("lifecycle", LIFE, "Create + Start", "Create and Start"),
    ("lifecycle", LIFE, "Kill until the exit event", "Kill until the exit event"),
    ("lifecycle", LIFE, "Delete", "Delete"),
];
const MEMORY: [(&str, &str, &str, &str); 3] = [
    ("memory", EACH, "PSS, each, 50 containers", "PSS of each of 50 idle shims"),
    ("memory", POD, "Private_Dirty, 1 container", "Private_Dirty, one container"),
    ("memory", POD, "Private_Dirty, 50 containers", "Private_Dirty, a pod of 50"),
];
const WHOLE: &str = "whole exec: Exec, Start, Wait, Delete";
const PROFILED: &str = "exec of /bin/true, containerd's default seccomp profile";
const LIFE: &str = "life of a container";
const EACH: &str = "idle shims of a container each";
const POD: &str = "an idle shim, its containers in one pod";

/// What there is to draw of a report.
pub(crate) fn draw(report: &Report) -> String {
    let mut canvas = Canvas { body: String::new(), y: 0.0 };
    canvas.heading("Latency: medians; each group of bars has a scale of its own");
    groups(&mut canvas, report, &LATENCIES);
    canvas.heading("Memory of idle shims");
    groups(&mut canvas, report, &MEMORY);
    if let Some(table) = find(report, "growth", |_| true) {
        canvas.heading("Private_Dirty over execs, one after the other");
        growth(&mut canvas, table);
    }
    canvas.finish()
}

fn groups(canvas: &mut Canvas, report: &Report, groups: &[(&str, &str, &str, &str)]) {
    for (section, title, name, label) in groups {
        let table = find(report, section, |table| table.title == *title);
        let row = table.and_then(|table| table.rows.iter().find(|row| row.name == *name));
        if let (Some(table), Some(row)) = (table, row) {
            bars(canvas, table, row, label);
        }
    }
}

/// The last such table, rather one of cgroup v2.
fn find<'a>(
    report: &'a Report,
    section: &str,
    is_it: impl Fn(&Table) -> bool,
) -> Option<&'a Table> {
    let all = || report.tables.iter().filter(|table| table.section == section && is_it(table));
    let unified = all().rfind(|table| table.cgroup.starts_with("v2"));
    unified.or_else(|| all().next_back())
}

fn bars(canvas: &mut Canvas, table: &Table, row: &Row, label: &str) {
    let lanes = table.lanes.iter().zip(&row.cells).filter_map(|(lane, cell)| {
        let value = cell.median().filter(|_| lane.shim != Shim::WedgeRuntimeExec)?;
        Some((lane.name(), value, colour(*lane)))
    });
    let mut bars: Vec<(String, f64, &str)> = lanes.collect();
    let floor = row.floor.as_ref().and_then(Samples::median);
    bars.extend(floor.map(|value| ("the kernel alone".to_owned(), value, GREEN)));
    let longest = bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
    canvas.label(label);
    for (name, value, colour) in bars {
        let text = format!("{} {}", row.unit.show(value), row.unit.name());
        canvas.bar(&name, value / longest, &text, colour);
    }
    canvas.y += 12.0;
}

fn colour(lane: Lane) -> &'static str {
    match (lane.shim, lane.runtime) {
        (Shim::Go, Runtime::Runc) => "#7d8590",
        (Shim::Go, Runtime::Crun) => "#b4bac2",
        (Shim::Wedge | Shim::WedgeRuntimeExec, Runtime::Runc) => "#1b62c4",
        (Shim::Wedge | Shim::WedgeRuntimeExec, Runtime::Crun) => "#7fb0ee",
    }
}

/// A line for each shim, on one scale.
fn growth(canvas: &mut Canvas, table: &Table) {
    const HEIGHT: f64 = 150.0;
    let row = |unit| table.rows.iter().find(|row| row.unit == unit);
    let (Some(execs), Some(memory)) = (row(Unit::Execs), row(Unit::Kibibytes)) else { return };
    let most = |row: &Row| {
        let all = row.cells.iter().flat_map(Samples::values);
        all.copied().fold(f64::MIN_POSITIVE, f64::max)
    };
    let (right, top) = (most(execs), most(memory) * 1.3);
    let bottom = canvas.y + HEIGHT;
    canvas.axes(bottom, HEIGHT, &format!("{right:.0} execs"), &format!("{top:.0} KiB"));
    for ((lane, xs), ys) in table.lanes.iter().zip(&execs.cells).zip(&memory.cells) {
        let mut points = String::new();
        for (x, y) in xs.values().iter().zip(ys.values()) {
            let (x, y) = (LEFT + x / right * LENGTH, bottom - y / top * HEIGHT);
            write!(points, "{x:.1},{y:.1} ").ok();
        }
        let last = ys.values().last().copied().unwrap_or_default();
        let highest = ys.values().iter().copied().fold(0.0, f64::max);
        canvas.line(points.trim_end(), colour(*lane));
        let at = bottom - highest / top * HEIGHT - 6.0;
        canvas.note(LEFT + 8.0, at, &format!("{}: {last:.0} KiB at the end", lane.name()));
    }
    canvas.y = bottom + 30.0;
}

/// The picture so far, and where it goes on.
struct Canvas {
    body: String,
    y: f64,
}

impl Canvas {
    fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" {style}>{text}</text>"#).ok();
    }

    fn heading(&mut self, text: &str) {
        self.y += 24.0;
        self.text(MARGIN, self.y, r#"font-size="16" font-weight="bold""#, text);
        self.y += 20.0;
    }

    fn label(&mut self, text: &str) {
        self.text(MARGIN, self.y + BAR - 3.0, r#"font-weight="bold""#, text);
        self.y += BAR + 6.0;
    }

    fn bar(&mut self, name: &str, share: f64, value: &str, colour: &str) {
        let (y, base) = (self.y, self.y + BAR - 4.0);
        let length = (share * LENGTH).max(1.0);
        self.text(LEFT - 8.0, base, r#"text-anchor="end""#, name);
        let size = format!(r#"width="{length:.1}" height="{BAR}""#);
        writeln!(self.body, r#"<rect x="{LEFT}" y="{y:.1}" {size} fill="{colour}"/>"#).ok();
        self.text(LEFT + length + 6.0, base, "", value);
        self.y += BAR + 3.0;
    }

    fn axes(&mut self, bottom: f64, height: f64, right: &str, top: &str) {
        let (end, from) = (LEFT + LENGTH, bottom - height);
        let path = format!("M{LEFT} {from:.1}V{bottom:.1}H{end}");
        writeln!(self.body, r##"<path d="{path}" fill="none" stroke="#57606a"/>"##).ok();
        self.text(LEFT - 8.0, from + 10.0, r#"text-anchor="end""#, top);
        self.text(LEFT - 8.0, bottom, r#"text-anchor="end""#, "0");
        self.text(end, bottom + 16.0, r#"text-anchor="end""#, right);
    }

    fn line(&mut self, points: &str, colour: &str) {
        let style = format!(r#"fill="none" stroke="{colour}" stroke-width="2""#);
        writeln!(self.body, r#"<polyline points="{points}" {style}/>"#).ok();
    }

    fn note(&mut self, x: f64, y: f64, text: &str) {
        self.text(x, y, "", text);
    }

    /// On white, so that it can be read on a dark page.
    fn finish(self) -> String {
        let height = self.y + MARGIN;
        let size =
            format!(r#"viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}""#);
        let font = r##"font-family="sans-serif" font-size="12" fill="#1f2328""##;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} {font}>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_to_scale() {
        let lanes = [Shim::Wedge, Shim::Go].map(|shim| Lane::new(shim, Runtime::Runc));
        let mut table = Table::new("lifecycle", LIFE, lanes.to_vec());
        let cells = vec![Samples::one(1.0), Samples::one(4.0)];
        table.rows.push(Row::new("Delete", Unit::Milliseconds, cells).floor(Samples::one(0.5)));
        let picture = draw(&Report { machine: Vec::new(), tables: vec![table] });
        for (length, value) in [("125.0", "1.00 ms"), ("500.0", "4.00 ms"), ("62.5", "0.50 ms")] {
            assert!(picture.contains(&format!("width=\"{length}\"")), "{length}: {picture}");
            assert!(picture.contains(&format!(">{value}<")), "{value}: {picture}");
        }
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    }
}
