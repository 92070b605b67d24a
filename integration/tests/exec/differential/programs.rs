// SPDX-License-Identifier: Apache-2.0
//! Which program is run, and what is said when there is none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use wedge_integration::Process;

use super::{Case, as_user, compare, skipped, without};
use crate::pair::Pair;

fn run<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Process {
    Process::new(args)
}

fn found() -> Vec<Case> {
    let path = |value: &str| run(["script", "x"]).set("env", json!([format!("PATH={value}")]));
    let many = (0..2000).map(|number| number.to_string());
    vec![
        ("echo", run(["echo", "a", "", "b c"])),
        ("exit code", run(["sh", "-c", "exit 42"])),
        ("signal", run(["sh", "-c", "kill -TERM $$"])),
        ("script", run(["/script", "x"])),
        ("relative", run(["./script", "x"])),
        ("in a directory of cwd", run(["bin/echo", "x"])),
        ("found by dot", path(".")),
        ("found by empty", path(":/bin")),
        ("found in the root", path("/lost:/")),
        ("many arguments", run(["echo".to_owned()].into_iter().chain(many))),
        ("a long argument", run(["echo".to_owned(), "x".repeat(200_000)])),
        ("interpreter missing", run(["/lost"])),
        ("no program", run(["/garbage"])),
    ]
}

fn not_found() -> Vec<Case> {
    vec![
        ("not in PATH", run(["no-such-program"])),
        ("quoted", run(["a\"b\\c\u{1}é\n"])),
        ("empty name", run([""])),
        ("dot", run(["."])),
        ("dots", run([".."])),
        ("no PATH", run(["echo"]).set("env", json!(["A=b"]))),
        ("no arguments", run([""; 0])),
        ("arguments absent", without(run(["echo"]), "args")),
        ("missing", run(["/bin/nofoo"])),
        ("below a file", run(["/etc/passwd/x"])),
        ("not executable", run(["/plain"])),
        ("not executable by a user", as_user(run(["/only-root"]))),
        ("in a closed directory", as_user(run(["/closed/x"]))),
        ("cwd closed", as_user(run(["pwd"])).set("cwd", "/closed")),
        ("directory", run(["/tmp"])),
    ]
}

fn make(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[test]
fn programs() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec())?;
    let root = pair.lab.dir().join("rootfs");
    make(&root.join("plain"), "#!/bin/sh\necho ran\n", 0o644)?;
    make(&root.join("script"), "#!/bin/sh\necho ran \"$0\" \"$@\"\n", 0o755)?;
    make(&root.join("lost"), "#!/nonexistent\n", 0o755)?;
    make(&root.join("garbage"), "\u{1}\u{2}", 0o755)?;
    make(&root.join("only-root"), "#!/bin/sh\necho ran\n", 0o700)?;
    fs::create_dir(root.join("closed"))?;
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700))?;
    compare(&pair, [found(), not_found()].concat())?;
    pair.end()
}

/// Homes are looked up in the container's own file, whatever that is.
#[test]
fn homes() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let pair = Pair::new(&Pair::spec())?;
    let passwd = pair.lab.dir().join("rootfs/etc/passwd");
    let home = |uid: u32| {
        let env = run(["env"]).set("user", json!({ "uid": uid, "gid": 0 }));
        env.set("env", json!(["PATH=/bin"]))
    };
    let long = format!("long:x:7:7:{}:/long:\n", "x".repeat(5000));
    for text in [
        "root:x:0:0:root:/root:/bin/sh\nroot:x:0:0::/second:\n",
        "# a comment\n\n:::::\nuser:x:1000:1000::/home\nlast:x:7:7::/last:/bin/sh",
        "a:x:0x7:7::/hex:\nb:x:+7:7::/plus:\nc:x: 7:7::/space:\nd:x:007:7::/zeros:\n",
        "empty:x:7:7:::/bin/sh\nuser:x:1000\n",
        "user:x:1000:1000::/a:b:c:d\nuser:x:7:7:: /x y :\n",
        &long,
        "",
    ] {
        fs::write(&passwd, text)?;
        let cases = [("home of root", 0), ("home of 7", 7), ("home of 1000", 1000)];
        compare(&pair, cases.map(|(name, uid)| (name, home(uid))).to_vec())?;
    }
    fs::write(&passwd, "user:x:7:7::/x\0y:\n")?;
    compare(&pair, vec![("home with NUL", home(7))])?;
    fs::remove_file(&passwd)?;
    compare(&pair, vec![("no passwd", home(0))])?;
    fs::create_dir(&passwd)?;
    compare(&pair, vec![("passwd a directory", home(0))])?;
    pair.end()
}
