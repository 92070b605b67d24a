// SPDX-License-Identifier: Apache-2.0
//! `make bench`: what containers and execs cost with Wedge and with containerd's Go shim, each with
//! runc and crun, and what the kernel alone takes for the same (`wedge-floor`), in one run.
#![forbid(unsafe_code)]

mod counts;
mod ctr;
mod document;
mod exec;
mod growth;
mod interrupt;
mod lane;
mod lifecycle;
mod machine;
mod memory;
mod outlet;
mod parallel;
mod picture;
mod print;
mod report;
mod samples;
mod size;
mod stdout;
mod surroundings;
mod wishes;
mod world;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::interrupt::Interrupt;
use crate::report::{Report, Table};
use crate::wishes::{Cgroups, PARTLY, Wishes};
use crate::world::World;

/// A part of the benchmark.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    run: fn(&World, &Wishes) -> Result<Vec<Table>>,
    /// Whether it is measured with the cgroups of v1 too: how a process enters those is slow.
    pub(crate) v1: bool,
}

const fn section(
    name: &'static str,
    run: fn(&World, &Wishes) -> Result<Vec<Table>>,
    v1: bool,
) -> Section {
    Section { name, run, v1 }
}

/// In the order they run.
pub(crate) const SECTIONS: [Section; 9] = [
    section("exec", exec::run, true),
    section("lifecycle", lifecycle::run, true),
    section("ctr", ctr::run, false),
    section("parallel", parallel::run, false),
    section("stdout", stdout::run, false),
    section("memory", memory::run, false),
    section("growth", growth::run, false),
    section("counts", counts::run, true),
    section("size", size::run, false),
];

#[expect(clippy::print_stderr, reason = "a program's last words")]
fn main() -> ExitCode {
    match Wishes::read(std::env::args_os().skip(1)).and_then(|wishes| run(&wishes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wishes: &Wishes) -> Result<()> {
    if let Some((dir, files)) = &wishes.document {
        return document::write(dir, files);
    }
    ensure!(nix::unistd::geteuid().is_root(), "containers need root");
    surroundings::settle()?;
    match wishes.cgroups {
        Cgroups::Both if !surroundings::is_unified() => both(wishes),
        Cgroups::Both | Cgroups::AsMounted => measure(wishes, false),
        Cgroups::Unified => measure(wishes, true),
    }
}

/// Once for each kind of cgroups, in a process of its own: mounting is for life.
#[expect(clippy::disallowed_methods, reason = "it has no reaper")]
fn both(wishes: &Wishes) -> Result<()> {
    interrupt::leave_to_child()?;
    let mut report = Report::default();
    for flags in [&["--as-mounted", PARTLY][..], &["--unified"]] {
        let file = std::env::temp_dir().join(format!("wedge-bench-{}.json", std::process::id()));
        let mut part = Command::new(std::env::current_exe()?);
        part.args(std::env::args_os().skip(1)).args(flags).arg("--json").arg(&file);
        ensure!(part.status()?.success(), "{flags:?}: not finished");
        report.merge(Report::read(&file)?);
        std::fs::remove_file(file)?;
    }
    wishes.json.as_deref().map_or(Ok(()), |file| write(&report, file))
}

fn measure(wishes: &Wishes, unified: bool) -> Result<()> {
    let foreign = unified && !surroundings::is_unified();
    if !SECTIONS.iter().any(|section| wishes.want(section)) {
        return wishes.json.as_deref().map_or(Ok(()), |file| Report::default().write(file));
    }
    surroundings::enter(unified)?;
    let interrupt = Interrupt::watch(world::dir())?;
    let report = interrupt.unless_hit(sections(wishes, foreign))?;
    wishes.json.as_deref().map_or(Ok(()), |file| write(&report, file))
}

#[expect(clippy::print_stdout, reason = "the result")]
fn sections(wishes: &Wishes, foreign: bool) -> Result<Report> {
    let world = World::new(wishes.against.clone())?;
    let mut report = Report { machine: machine::facts(&world)?, tables: Vec::new() };
    report.machine.iter().for_each(|(name, value)| println!("{name}: {value}"));
    for section in SECTIONS.iter().filter(|section| wishes.want(section)) {
        let mut tables = (section.run)(&world, wishes).context(section.name)?;
        for table in &mut tables {
            world.cgroup().clone_into(&mut table.cgroup);
            if foreign {
                table.cgroup.push_str(", no controllers");
            }
            println!("{}", print::text(table));
        }
        report.tables.extend(tables);
    }
    Ok(report)
}

#[expect(clippy::print_stdout, reason = "where to look")]
fn write(report: &Report, file: &Path) -> Result<()> {
    report.write(file)?;
    println!("written to {}", file.display());
    Ok(())
}
