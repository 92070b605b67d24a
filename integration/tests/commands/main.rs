// SPDX-License-Identifier: Apache-2.0
//! What the shim does by itself on a container that runc or crun has made (docs/commands.md): which
//! of their commands are started, and that nobody can tell the difference, but by the clock.
#![forbid(unsafe_code)]

mod both;
mod counter;
mod crun;
mod runc;
mod subject;

use anyhow::Result;
use wedge_integration::{ShimUnderTest, Spec, payload};

fn skipped() -> Result<bool> {
    ShimUnderTest::skips_go("it starts the OCI runtime for everything")
}

fn sleeping() -> Spec {
    Spec::new([payload::PATH, "pause"])
}
