// SPDX-License-Identifier: Apache-2.0
//! Man pages: they are well-formed, and tell what there is.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use wedge_integration::{Cmd, ShimUnderTest};
use wedge_package_tests::root;

const PAGES: [&str; 2] = ["docs/man/containerd-shim-wedge-v2.8", "docs/man/wedge-config.toml.5"];

/// The page as a reader sees it.
fn shown(page: &str) -> Result<String> {
    let man = Cmd::new("man").dir(&root()).env("MANWIDTH", "200").env("LC_ALL", "C.UTF-8");
    let out = man.args(["--warnings=w", "--encoding=ascii", "--local-file", page]).output()?;
    out.assert_ok().assert_stderr("");
    Ok(out.text())
}

#[test]
fn the_pages_are_well_formed() -> Result<()> {
    for page in PAGES {
        let text = shown(page)?;
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"] {
            ensure!(text.lines().any(|line| line == section), "{page}: no {section}\n{text}");
        }
    }
    Ok(())
}

#[test]
fn every_flag_has_a_place() -> Result<()> {
    let ShimUnderTest::Ours(shim) = ShimUnderTest::from_env()? else { return Ok(()) };
    let usage = Cmd::new(shim).arg("-h").output()?.error_text();
    let text = shown(PAGES[0])?;
    let flags =
        usage.lines().filter_map(|line| line.strip_prefix("  -")?.split_whitespace().next());
    let flags: Vec<&str> = flags.collect();
    ensure!(flags.len() > 8, "{usage}");
    let is_part = |c: char| c.is_alphanumeric() || c == '-';
    let words: BTreeSet<&str> = text.split(|c| !is_part(c)).collect();
    for flag in flags {
        ensure!(words.contains(&*format!("-{flag}")), "-{flag} is not in the page");
    }
    Ok(())
}

#[test]
fn every_key_has_a_place() -> Result<()> {
    let text = shown(PAGES[1])?;
    let config = fs::read_to_string(root().join("dist/config.toml"))?;
    let keys = config.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(" = "));
    let keys: Vec<(&str, &str)> = keys.filter(|(key, _)| !key.contains(' ')).collect();
    ensure!(keys.len() >= 9, "{keys:?}");
    for (key, value) in keys {
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{key} = ")));
        let line = line.with_context(|| format!("{key} is not in the page\n{text}"))?;
        ensure!(line.contains(value), "{key} has another default than {value}: {line}");
    }
    Ok(())
}
