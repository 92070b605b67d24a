// SPDX-License-Identifier: Apache-2.0
//! Kubernetes manifests and the chart, as the published schemas and Helm see them (`kubernetes.py`).

use anyhow::{Result, ensure};
use serde_json::Value;
use wedge_integration::{Cmd, Output};

use crate::{documents_in, root};

const CHART: &str = "dist/helm/wedge";

/// Checks manifests by the strict schemas of Kubernetes' versions: their kind is known, so is every
/// field, it has the right type, and none is missing.
///
/// # Errors
/// It is not so; the message has a line for each mistake.
pub fn check(manifests: &[Value]) -> Result<()> {
    asked(["check"], &Value::from(manifests)).map(drop)
}

/// The manifests that Helm makes of the chart, with `values` beside its own.
///
/// # Errors
/// Helm refuses.
pub fn render(values: &Value, namespace: &str) -> Result<Vec<Value>> {
    documents_in(&asked(["render", CHART, namespace], values)?.text())
}

/// What `helm lint --strict` says of the chart.
///
/// # Errors
/// It warns of something.
pub fn lint(values: &Value) -> Result<()> {
    asked(["lint", CHART], values).map(drop)
}

fn asked<const N: usize>(args: [&str; N], input: &Value) -> Result<Output> {
    let script = Cmd::new("/usr/bin/python3").dir(&root());
    let script = script.arg("integration/packages/kubernetes.py").args(args);
    let out = script.stdin(input.to_string()).output()?;
    ensure!(out.code == 0, "{}\n{input:#}", out.error_text());
    Ok(out)
}
