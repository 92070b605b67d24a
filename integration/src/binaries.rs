// SPDX-License-Identifier: Apache-2.0
//! Finds the binaries the tests run.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Where Debian installs the Go shim.
const GO_SHIM: &str = "/usr/bin/containerd-shim-runc-v2";

/// The shim a test run is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShimUnderTest {
    /// Ours: `WEDGE_SHIM`, else the release build in the target directory of this test.
    Ours(PathBuf),
    /// containerd's own, the reference.
    Go(PathBuf),
}

impl ShimUnderTest {
    /// Reads `SHIM_UNDER_TEST` (`ours`, the default, or `go`).
    ///
    /// # Errors
    /// Another value, or the binary does not exist.
    pub fn from_env() -> Result<ShimUnderTest> {
        let shim = match env::var("SHIM_UNDER_TEST").as_deref() {
            Ok("go") => ShimUnderTest::Go(PathBuf::from(GO_SHIM)),
            Ok("ours") | Err(_) => ShimUnderTest::Ours(ours()?),
            Ok(other) => bail!("SHIM_UNDER_TEST={other}: expected \"ours\" or \"go\""),
        };
        shim.checked()
    }

    /// The Go shim, whatever the test run is about: to compare with.
    ///
    /// # Errors
    /// It is not installed.
    pub fn go() -> Result<ShimUnderTest> {
        ShimUnderTest::Go(PathBuf::from(GO_SHIM)).checked()
    }

    fn checked(self) -> Result<ShimUnderTest> {
        let path = self.path();
        ensure!(path.exists(), "{} is missing: build or install it first", path.display());
        Ok(self)
    }

    /// Whether the test run is about the Go shim and this test is not, for a `reason` that is
    /// printed: the test then returns.
    ///
    /// # Errors
    /// Those of [`ShimUnderTest::from_env`].
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub fn skips_go(reason: &str) -> Result<bool> {
        let skips = ShimUnderTest::from_env()?.is_go();
        if skips {
            eprintln!("SKIP, not for the Go shim: {reason}");
        }
        Ok(skips)
    }

    /// The binary.
    pub fn path(&self) -> &Path {
        match self {
            ShimUnderTest::Ours(path) | ShimUnderTest::Go(path) => path,
        }
    }

    /// The same shim as a file of its own, which shares no page with other shims.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn copy_to(&self, path: &Path) -> Result<ShimUnderTest> {
        fs::copy(self.path(), path)
            .with_context(|| format!("copying {}", self.path().display()))?;
        // Pages of a file that was not written back count as dirty.
        fs::File::open(path)?.sync_all()?;
        Ok(match self {
            ShimUnderTest::Ours(_) => ShimUnderTest::Ours(path.to_path_buf()),
            ShimUnderTest::Go(_) => ShimUnderTest::Go(path.to_path_buf()),
        })
    }

    /// Links the shim into a new directory for PATH, by the names containerd derives from the
    /// runtimes `io.containerd.runc.v2` and `io.containerd.wedge.v2`.
    pub(crate) fn link_into(&self, dir: &Path) -> Result<()> {
        fs::create_dir(dir)?;
        for name in ["containerd-shim-runc-v2", "containerd-shim-wedge-v2"] {
            symlink(self.path(), dir.join(name))?;
        }
        Ok(())
    }

    /// Whether this is the Go shim: for behaviour listed in docs/differences.md.
    pub fn is_go(&self) -> bool {
        matches!(self, ShimUnderTest::Go(_))
    }
}

fn ours() -> Result<PathBuf> {
    if let Some(path) = env::var_os("WEDGE_SHIM") {
        return Ok(PathBuf::from(path));
    }
    let profile = profile_dir()?;
    let target = profile.parent().context("the test is not in a target directory")?;
    Ok(target.join("release/containerd-shim-wedge-v2"))
}

/// A helper binary of this package (`wedge-payload`, `wedge-fake-runtime`), in `WEDGE_HELPERS` or
/// beside the test.
///
/// # Errors
/// It was not built.
pub fn helper(name: &str) -> Result<PathBuf> {
    let dir =
        env::var_os("WEDGE_HELPERS").map_or_else(profile_dir, |dir| Ok(PathBuf::from(dir)))?;
    let path = dir.join(name);
    ensure!(path.exists(), "{} is missing: cargo build -p wedge-integration", path.display());
    Ok(path)
}

/// `target/<triple>/<profile>`: tests are in its `deps`, binaries in itself.
fn profile_dir() -> Result<PathBuf> {
    let test = env::current_exe()?;
    let dir = test.parent().context("the test has no directory")?;
    if dir.ends_with("deps") {
        return Ok(dir.parent().context("deps has no parent")?.to_path_buf());
    }
    Ok(dir.to_path_buf())
}
