// SPDX-License-Identifier: Apache-2.0
//! README and docs: each block of code is of a kind that is known here, and is run or read by whom it
//! is for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wedge_integration::image::{self, Config};
use wedge_integration::{Cmd, Env, Scratch};
use wedge_package_tests::{Block, blocks, check, documents, documents_in, root};

use crate::commands::Commands;

/// How blocks begin that are not for anybody to type.
const SAID: [&str; 6] =
    ["ctr: ", "OCI runtime exec failed", "msg=", "unable to retrieve", "1 containers;", "c1: "];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Commands,
    Containerd,
    Imports,
    Wedge,
    Options,
    Manifest,
    Json,
    Rust,
    Diagram,
    Said,
}

fn kind(block: &Block) -> Result<Kind> {
    let first = block.text.lines().next().context("an empty block")?;
    let word = first.split(' ').next().unwrap_or_default();
    Ok(match block.language.as_str() {
        "rust" => Kind::Rust,
        "json" => Kind::Json,
        "" if block.text.contains(['─', '│', '▶']) => Kind::Diagram,
        "" if first.starts_with("apiVersion:") => Kind::Manifest,
        "" if first.starts_with("[plugins.") => Kind::Containerd,
        "" if first.starts_with("imports =") => Kind::Imports,
        "" if matches!(first, "[logger]" | "[timeouts]" | "[bootstrap]") => Kind::Wedge,
        "" if first.starts_with("SystemdCgroup =") => Kind::Options,
        "" if SAID.iter().any(|said| first.starts_with(said)) => Kind::Said,
        "" if Commands::knows(word) => Kind::Commands,
        _ => bail!("a block of no kind: {block}"),
    })
}

fn all(wanted: Kind) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    for file in documents()? {
        for block in blocks(&file)? {
            if kind(&block)? == wanted {
                found.push(block);
            }
        }
    }
    ensure!(!found.is_empty(), "no blocks of {wanted:?}: are they found at all?");
    Ok(found)
}

/// An [`Env`] with the image that the documents name.
pub(crate) fn env() -> Result<Env> {
    let env = Env::builder().runtime("io.containerd.wedge.v2").start()?;
    // The rootfs of other tests has a link to a program that may be linked and unlinked meanwhile.
    let images = env.dir().join("images");
    fs::create_dir_all(&images)?;
    let payload = env.rootfs().join("bin/wedge-payload");
    fs::copy(&payload, images.join("payload"))?;
    fs::rename(images.join("payload"), &payload)?;
    let name = "docker.io/library/busybox:latest";
    image::build(&images, name, &env.rootfs(), &Config { command: &["sh"], environment: &[] })?;
    let tar = images.join(format!("{}.tar", image::file_name(name)));
    env.ctr().cmd(["images", "import", &tar.to_string_lossy()]).output()?.assert_ok();
    Ok(env)
}

#[test]
fn the_bugs_that_were_real_are_counted() -> Result<()> {
    let text = fs::read_to_string(root().join("docs/testing.md"))?;
    let (_, rest) = text.split_once("\n## Bugs that were real\n").context("no such section")?;
    let (section, _) = rest.split_once("\n## ").context("no end")?;
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let none = rows.iter().filter(|row| row.contains("| none: ")).count();
    let said = format!("Of the {} rows {none} have no test", rows.len());
    ensure!(section.contains(&said), "it does not say: {said}");
    Ok(())
}

#[test]
fn commands_do_what_they_say() -> Result<()> {
    let mut commands = Commands::new()?;
    for block in all(Kind::Commands)? {
        for line in block.text.lines().filter(|line| !line.is_empty()) {
            let line = line.split("  #").next().unwrap_or(line).trim_end();
            commands.run(line).with_context(|| format!("{line}\nin {block}"))?;
        }
    }
    commands.finish()
}

#[test]
fn containerd_reads_its_configurations() -> Result<()> {
    let scratch = Scratch::new()?;
    let dist = root().join("dist/containerd");
    for block in all(Kind::Containerd)? {
        let table: toml::Table = block.text.parse().with_context(|| block.to_string())?;
        let version = if block.text.contains("io.containerd.cri.v1.runtime") { 3 } else { 2 };
        let file = fs::read_to_string(dist.join(format!("wedge-v{version}.toml")))?;
        let mut shipped: toml::Table = file.parse()?;
        assert_eq!(shipped.remove("version"), Some(toml::Value::Integer(version)));
        assert_eq!(table, shipped, "{block}is not what is shipped");
        if version == 2 {
            let text = format!("version = 2\n{}", block.text);
            let shown = dump(scratch.dir(), &text)?;
            ensure!(shown.contains("ConfigPath = \"/etc/wedge/options.toml\""), "{shown}");
        }
    }
    for block in all(Kind::Imports)? {
        let drop_in = scratch.dir().join("conf.d");
        fs::create_dir_all(&drop_in)?;
        fs::copy(dist.join("wedge-v2.toml"), drop_in.join("50-wedge.toml"))?;
        let there = drop_in.to_string_lossy();
        let text = format!("version = 2\n{}", block.text.replace("/etc/containerd/conf.d", &there));
        let shown = dump(scratch.dir(), &text)?;
        ensure!(shown.contains("runtime_type = \"io.containerd.wedge.v2\""), "{shown}");
    }
    scratch.finish()
}

fn dump(dir: &Path, config: &str) -> Result<String> {
    fs::write(dir.join("config.toml"), config)?;
    let dump = Cmd::new("containerd").arg("--config").arg(dir.join("config.toml"));
    Ok(dump.args(["config", "dump"]).output()?.assert_ok().text())
}

#[test]
fn shims_read_their_configurations() -> Result<()> {
    let env = Env::builder().runtime("io.containerd.wedge.v2").start()?;
    let mut texts: Vec<(String, String)> =
        all(Kind::Wedge)?.into_iter().map(|block| (block.to_string(), block.text)).collect();
    let example = fs::read_to_string(root().join("dist/config.toml"))?;
    let active: String = example.lines().map(|line| activated(line) + "\n").collect();
    texts.push(("dist/config.toml, with every key".to_owned(), active));
    for (what, text) in texts {
        env.configure(&text)?;
        let out = env.run(["echo", "hello"])?;
        ensure!((out.code, &*out.text()) == (0, "hello\n"), "{what}: {out}");
    }
    // That a wrong one would be seen.
    env.configure("[logger]\nallow = true\n")?;
    env.run(["true"])?.assert_error("logger.allow: unknown key: exit status 1: unknown");
    env.configure("")?;
    env.finish()
}

/// `# key = value` as `key = value`; a sentence stays a comment.
fn activated(line: &str) -> String {
    let setting = line
        .strip_prefix("# ")
        .filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')));
    setting.unwrap_or(line).to_owned()
}

#[test]
fn runtime_options_are_read_from_their_file() -> Result<()> {
    let env = Env::builder().runtime("io.containerd.wedge.v2").start()?;
    let shipped = fs::read_to_string(root().join("dist/options.toml"))?;
    let keys = shipped.lines().filter(|line| activated(line) != *line).count();
    assert_eq!(keys, 10, "one of the options is missing");
    // One of them shows that the file is read; those that the machine has not are left out.
    let state = env.dir().join("state-of-runc");
    let all = shipped.lines().map(activated).filter(|line| !line.contains("Root ="));
    let mut texts = vec![shipped.clone(), all.collect::<Vec<_>>().join("\n")];
    for block in self::all(Kind::Options)? {
        let known = shipped.lines().any(|line| {
            let key = block.text.split(" = ").next().unwrap_or_default();
            activated(line).starts_with(&format!("{key} = "))
        });
        ensure!(known, "{block}names no option");
        // systemd is not everywhere.
        texts.push(block.text.replace("true", "false"));
    }
    for text in texts {
        let file = env.dir().join("options.toml");
        fs::write(&file, format!("{text}\nRoot = \"{}\"\n", state.display()))?;
        let flag = format!("--runtime-config-path={}", file.display());
        let container = env.container("options")?.flags([flag]).start(["sleep", "1000"])?;
        let there = state.join(env.namespace()).join(container.id());
        ensure!(there.is_dir(), "the options were not read:\n{text}");
        container.remove()?;
    }
    env.finish()
}

#[test]
fn manifests_are_of_the_api() -> Result<()> {
    let base = fs::read_to_string(root().join("dist/kubernetes/base/runtimeclass.yaml"))?;
    let base = documents_in(&base)?.pop().context("empty")?;
    for block in all(Kind::Manifest)? {
        for manifest in documents_in(&block.text)? {
            check(&manifest).with_context(|| block.to_string())?;
            let is_class = manifest.get("kind").and_then(Value::as_str) == Some("RuntimeClass");
            let (short, same) = (manifest.get("overhead").is_none(), manifest == base);
            ensure!(!is_class || short || same, "{block}is not what is shipped");
        }
    }
    for block in all(Kind::Json)? {
        let text = format!("{{{}}}", block.text);
        serde_json::from_str::<Value>(&text).with_context(|| block.to_string())?;
    }
    Ok(())
}

/// Texts that programs say, and headings of troubleshooting, are in one of these programs.
#[test]
fn what_programs_are_quoted_with_they_say() -> Result<()> {
    let shim = wedge_integration::ShimUnderTest::from_env()?;
    let mut programs = Vec::new();
    for path in [shim.path(), Path::new("/usr/bin/containerd"), Path::new("/usr/bin/ctr")] {
        programs.push(String::from_utf8_lossy(&fs::read(path)?).into_owned());
    }
    let runc = Cmd::new("sh").args(["-c", "command -v runc"]).output()?.text();
    programs.push(String::from_utf8_lossy(&fs::read(runc.trim())?).into_owned());
    let page = fs::read_to_string(root().join("docs/troubleshooting.md"))?;
    let headings = page.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    let mut quoted: Vec<String> = headings.map(str::to_owned).collect();
    ensure!(quoted.len() >= 8, "{quoted:?}");
    quoted.extend(all(Kind::Said)?.iter().flat_map(|block| block.text.lines().map(str::to_owned)));
    // A later containerd's.
    quoted.retain(|line| line != "failed to validate OCI runtime features");
    for line in quoted.iter().filter(|line| !line.is_empty()) {
        let parts = line.split(|c: char| !(c.is_ascii_alphabetic() || " -'".contains(c)));
        let mut parts: Vec<&str> = parts.map(str::trim).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        let long = parts.iter().filter(|part| part.len() >= 8).count().max(1);
        let said = |part: &&str| part.len() >= 6 && programs.iter().any(|all| all.contains(part));
        ensure!(parts.iter().take(long).any(said), "no part of {line:?} is in a program");
    }
    Ok(())
}
