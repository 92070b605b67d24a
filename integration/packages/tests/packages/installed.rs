// SPDX-License-Identifier: Apache-2.0
//! Packages, installed into roots of their own, used, and removed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wedge_integration::{Cmd, Env, Output, Scratch, ShimUnderTest};
use wedge_package_tests::{files, package, root};

/// What each of them has to hand on with libraries that are linked statically.
const NOTICES: [&str; 4] = ["LGPL-2.1.txt", "README", "wedge.cdx.json", "LICENSE"];

fn make(dir: &Path, target: &str) -> Result<Output> {
    let destination = format!("DESTDIR={}", dir.display());
    // What was built is taken as it is: cargo is not called.
    let out = Cmd::new("make").dir(&root()).args(["--assume-old=build", target, &destination]);
    out.output()
}

/// Runs a container with a binary by the name of its runtime, as `ctr run` does.
fn runs(binary: &Path) -> Result<()> {
    let shim = ShimUnderTest::Ours(binary.to_path_buf());
    let env = Env::builder().shim(shim).runtime("io.containerd.wedge.v2").start()?;
    env.run(["echo", "hello"])?.assert_ok().assert_stdout("hello\n");
    env.finish()
}

#[test]
fn make_installs_and_uninstalls() -> Result<()> {
    let scratch = Scratch::new()?;
    let dir = scratch.dir().join("root");
    make(&dir, "install")?.assert_ok();
    let installed = files(&dir.join("usr/local"))?;
    for path in ["bin/containerd-shim-wedge-v2", "share/man/man8/containerd-shim-wedge-v2.8"] {
        ensure!(installed.iter().any(|file| file == path), "no {path}: {installed:?}");
    }
    runs(&dir.join("usr/local/bin/containerd-shim-wedge-v2"))?;
    // Twice is as once, and what others have put beside it stays.
    make(&dir, "install")?.assert_ok();
    fs::write(dir.join("usr/local/share/man/man8/other.8"), "")?;
    make(&dir, "uninstall")?.assert_ok();
    make(&dir, "uninstall")?.assert_ok();
    assert_eq!(files(&dir)?, ["usr/local/share/man/man8/other.8"]);
    ensure!(!dir.join("usr/local/share/doc/wedge").exists(), "an empty directory");
    scratch.finish()
}

#[test]
fn the_deb_is_installed_used_and_purged() -> Result<()> {
    let scratch = Scratch::new()?;
    let dir = scratch.dir().join("root");
    for sub in ["info", "updates", "parts"] {
        fs::create_dir_all(dir.join("var/lib/dpkg").join(sub))?;
    }
    for file in ["status", "available"] {
        fs::write(dir.join("var/lib/dpkg").join(file), "")?;
    }
    let dpkg = |args: &[&str]| {
        Cmd::new("dpkg").arg(format!("--root={}", dir.display())).args(args).output()
    };
    let deb = package(".deb")?;
    dpkg(&["--install", deb.to_str().context("a path that is no text")?])?.assert_ok();
    let doc = dir.join("usr/share/doc/containerd-shim-wedge");
    for notice in NOTICES.iter().take(3) {
        ensure!(doc.join("licenses").join(notice).is_file(), "no {notice}");
    }
    ensure!(doc.join("copyright").is_file(), "no copyright");
    let listed = dpkg(&["--status", "containerd-shim-wedge"])?;
    let status = listed.assert_ok().text();
    ensure!(!status.lines().any(|line| line.starts_with("Depends:")), "{status}");
    runs(&dir.join("usr/bin/containerd-shim-wedge-v2"))?;
    // Removed, its configuration stays, changed or not; purged, nothing does.
    fs::write(dir.join("etc/wedge/config.toml"), "# changed\n")?;
    dpkg(&["--remove", "containerd-shim-wedge"])?.assert_ok();
    ensure!(dir.join("etc/wedge/config.toml").is_file(), "the configuration is gone");
    ensure!(!dir.join("usr/bin/containerd-shim-wedge-v2").exists(), "the binary is there");
    dpkg(&["--purge", "containerd-shim-wedge"])?.assert_ok();
    let left = files(&dir)?;
    let left: Vec<&String> = left.iter().filter(|file| !file.starts_with("var/l")).collect();
    assert_eq!(left, Vec::<&String>::new());
    ensure!(
        !dir.join("etc/wedge").exists() && !dir.join("usr/share/wedge").exists(),
        "directories"
    );
    scratch.finish()
}

#[test]
fn the_rpm_is_installed_used_and_erased() -> Result<()> {
    let scratch = Scratch::new()?;
    let dir = scratch.dir().join("root");
    fs::create_dir(&dir)?;
    let rpm = |args: &[&str]| {
        // Debian's asks to be sure.
        let flags = ["--root", dir.to_str().context("a path that is no text")?, "--force-debian"];
        Cmd::new("rpm").args(flags).args(args).output()
    };
    let path = package(".rpm")?;
    rpm(&["--install", path.to_str().context("a path that is no text")?])?.assert_ok();
    for notice in NOTICES {
        let licenses = dir.join("usr/share/doc/containerd-shim-wedge/licenses");
        ensure!(licenses.join(notice).is_file(), "no {notice}");
    }
    rpm(&["--verify", "containerd-shim-wedge"])?.assert_ok().assert_stdout("");
    let config = rpm(&["--query", "--configfiles", "containerd-shim-wedge"])?;
    config.assert_stdout("/etc/wedge/config.toml\n/etc/wedge/options.toml\n");
    runs(&dir.join("usr/bin/containerd-shim-wedge-v2"))?;
    rpm(&["--erase", "containerd-shim-wedge"])?.assert_ok();
    let left = files(&dir)?;
    let left: Vec<&String> = left.iter().filter(|file| !is_of_rpm(file)).collect();
    assert_eq!(left, Vec::<&String>::new());
    scratch.finish()
}

/// Its own data base.
fn is_of_rpm(file: &str) -> bool {
    ["var/lib/rpm/", "root/.rpmdb/", "usr/lib/sysimage/rpm/"]
        .iter()
        .any(|dir| file.starts_with(dir))
}

#[test]
fn the_tarball_comes_out_the_same_and_is_used() -> Result<()> {
    let scratch = Scratch::new()?;
    let tarball = package(".tar.gz")?;
    let name = tarball.file_name().context("no name")?;
    for (umask, dir) in [("022", "one"), ("077", "two")] {
        let script = format!("umask {umask}; exec dist/tarball.sh \"$0\" \"$1\"");
        let out = scratch.dir().join(dir);
        let run = Cmd::new("sh").dir(&root()).args(["-c", &script, "x86_64-unknown-linux-gnu"]);
        run.arg(&out).env("SOURCE_DATE_EPOCH", "1700000000").output()?.assert_ok();
        Cmd::new("sha256sum").dir(&out).args(["--check", "SHA256SUMS"]).output()?.assert_ok();
    }
    let made = |dir: &str| scratch.dir().join(dir).join(name);
    Cmd::new("cmp").arg(made("one")).arg(made("two")).output()?.assert_ok();
    let dist = tarball.parent().context("no directory")?;
    let sums =
        Cmd::new("sha256sum").dir(dist).args(["--check", "--strict", "SHA256SUMS"]).output()?;
    assert_eq!(sums.assert_ok().text().lines().count(), 4, "deb, rpm, tarball, bill of materials");
    let prefix = scratch.dir().join("prefix");
    fs::create_dir(&prefix)?;
    let tar = Cmd::new("tar").arg("--directory").arg(&prefix).args(["--strip-components", "1"]);
    tar.args(["--extract", "--file"]).arg(&tarball).output()?.assert_ok();
    for notice in NOTICES {
        ensure!(prefix.join("share/doc/wedge/licenses").join(notice).is_file(), "no {notice}");
    }
    runs(&prefix.join("bin/containerd-shim-wedge-v2"))?;
    scratch.finish()
}

/// In the whole of Debian, as `apt install ./containerd-shim-wedge.deb` does it: half a minute and
/// the network, so with `WEDGE_LONG` only, as in `make test-apt`.
#[test]
fn the_deb_is_installed_by_apt_in_a_new_debian() -> Result<()> {
    if std::env::var_os("WEDGE_LONG").is_none() {
        eprintln!("SKIP, without WEDGE_LONG: debootstrap");
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let dir = scratch.dir().join("debian");
    let limit = std::time::Duration::from_secs(280);
    let bootstrap = Cmd::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(&dir);
    bootstrap.limit(limit).output()?.assert_ok();
    fs::copy(package(".deb")?, dir.join("root/wedge.deb"))?;
    let chroot = |line: &str| {
        let command = Cmd::new("chroot").arg(&dir).args(["sh", "-ec", line]);
        command.env("DEBIAN_FRONTEND", "noninteractive").limit(limit).output()
    };
    let before = files(&dir.join("usr"))?;
    chroot("apt-get install -y --no-install-recommends /root/wedge.deb")?.assert_ok();
    chroot("containerd-shim-wedge-v2 -v")?.assert_ok();
    runs(&dir.join("usr/bin/containerd-shim-wedge-v2"))?;
    chroot("apt-get purge -y containerd-shim-wedge")?.assert_ok();
    assert_eq!(files(&dir.join("usr"))?, before);
    ensure!(!dir.join("etc/wedge").exists(), "the configuration is there");
    fs::remove_dir_all(&dir)?;
    scratch.finish()
}

#[test]
fn the_bill_of_materials_names_what_is_linked() -> Result<()> {
    let sbom: Value = serde_json::from_slice(&fs::read(package("wedge.cdx.json")?)?)?;
    assert_eq!(sbom.get("bomFormat").and_then(Value::as_str), Some("CycloneDX"));
    let components = sbom.get("components").and_then(Value::as_array).context("no components")?;
    let text = |part: &Value, key: &str| {
        part.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let named: Vec<String> = components.iter().map(|part| text(part, "name")).collect();
    let target = ["--target", "x86_64-unknown-linux-gnu", "--edges", "normal,no-proc-macro"];
    let tree = Cmd::new("cargo").dir(&root()).args(["tree", "--locked", "--offline", "--prefix"]);
    let tree =
        tree.args(["none", "--package", "containerd-shim-wedge-v2"]).args(target).output()?;
    let crates = tree.assert_ok().text();
    for name in crates.lines().filter_map(|line| line.split(' ').next()).skip(1) {
        ensure!(named.iter().any(|known| known == name), "{name} is not in it");
    }
    // The C libraries, with the versions they have here.
    let notice = fs::read_to_string(root().join("dist/licenses/README"))?;
    for (library, package) in [("libseccomp", "libseccomp-dev"), ("glibc", "libc6-dev")] {
        let query = Cmd::new("dpkg-query").args(["--show", "--showformat=${Version}", package]);
        let version = query.output()?.assert_ok().text();
        let part = components
            .iter()
            .find(|part| text(part, "purl").contains("pkg:deb") && text(part, "name") == library);
        assert_eq!(text(part.with_context(|| format!("no {library}"))?, "version"), version);
        ensure!(notice.contains(library), "the notice does not name {library}");
    }
    Ok(())
}
