// SPDX-License-Identifier: Apache-2.0
//! The manifests: by the published types of Kubernetes' API, and the chart beside the base.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wedge_package_tests::{check, documents_in, render, root};

const BASE: &str = "dist/kubernetes/base";
const CHART: &str = "dist/helm/wedge";

pub(crate) fn base() -> Result<Vec<Value>> {
    let dir = root().join(BASE);
    let yaml = fs::read_to_string(dir.join("kustomization.yaml"))?;
    let kustomization = documents_in(&yaml)?.pop().context("empty")?;
    let keys: BTreeSet<&str> =
        kustomization.as_object().context("no map")?.keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["apiVersion", "kind", "resources"]));
    let mut all = Vec::new();
    let resources = kustomization.get("resources").and_then(Value::as_array).context("none")?;
    for resource in resources {
        let file = dir.join(resource.as_str().context("no name")?);
        all.extend(documents_in(&fs::read_to_string(file)?)?);
    }
    let files = fs::read_dir(&dir)?.count();
    assert_eq!(files, resources.len() + 1, "each file is a resource");
    Ok(all)
}

fn values() -> Result<Value> {
    let yaml = fs::read_to_string(root().join(CHART).join("values.yaml"))?;
    documents_in(&yaml)?.pop().context("empty")
}

fn templates() -> Result<String> {
    let mut all = String::new();
    for entry in fs::read_dir(root().join(CHART).join("templates"))? {
        all.push_str("---\n");
        all.push_str(&fs::read_to_string(entry?.path())?);
    }
    Ok(all)
}

#[test]
fn every_manifest_is_of_the_api() -> Result<()> {
    for manifest in base()? {
        check(&manifest)?;
    }
    let rendered = documents_in(&render(&templates()?, &values()?, "somewhere")?)?;
    assert_eq!(rendered.len(), 8);
    for manifest in rendered {
        check(&manifest)?;
    }
    // That unknown fields are found at all.
    let mut wrong = base()?.pop().context("none")?;
    wrong.as_object_mut().context("no map")?.insert("handlers".into(), json!("wedge"));
    check(&wrong).expect_err("a field that is not known");
    Ok(())
}

#[test]
fn the_chart_is_the_base() -> Result<()> {
    is_the_base(documents_in(&render(&templates()?, &values()?, "wedge-system")?)?)
}

/// The chart makes what the base is, with more to choose from.
pub(crate) fn is_the_base(mut rendered: Vec<Value>) -> Result<()> {
    for manifest in &mut rendered {
        let pointer = "/spec/template/spec/containers/0/env";
        if let Some(env) = manifest.pointer_mut(pointer).and_then(Value::as_array_mut) {
            env.truncate(3);
        }
    }
    for expected in base()? {
        if expected.get("kind").is_some_and(|kind| kind == "Namespace") {
            continue;
        }
        ensure!(rendered.contains(&expected), "not in the chart:\n{expected:#}\n{rendered:#?}");
    }
    Ok(())
}

#[test]
fn every_value_of_the_chart_is_used() -> Result<()> {
    let templates = templates()?;
    let values = values()?;
    for (key, value) in values.as_object().context("no map")? {
        match value.as_object() {
            None => ensure!(templates.contains(&format!(".Values.{key} ")), "{key}"),
            Some(parts) => {
                for part in parts.keys() {
                    ensure!(templates.contains(&format!(".Values.{key}.{part} ")), "{key}.{part}");
                }
            }
        }
    }
    Ok(())
}

/// One version everywhere.
#[test]
fn the_versions_agree() -> Result<()> {
    let cargo: toml::Table = fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
    let version =
        cargo.get("workspace").and_then(|w| w.get("package")).and_then(|p| p.get("version"));
    let version = version.and_then(toml::Value::as_str).context("no version")?;
    let chart = fs::read_to_string(root().join(CHART).join("Chart.yaml"))?;
    let chart = documents_in(&chart)?.pop().context("empty")?;
    for key in ["version", "appVersion"] {
        assert_eq!(chart.get(key).and_then(Value::as_str), Some(version), "{key}");
    }
    let image = format!("wedge-installer:{version}");
    assert_eq!(values()?.get("image").and_then(Value::as_str), Some(image.as_str()));
    ensure!(serde_json::to_string(&base()?)?.contains(&image), "the base has another image");
    Ok(())
}
