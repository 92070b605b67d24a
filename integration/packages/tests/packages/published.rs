// SPDX-License-Identifier: Apache-2.0
//! The manifests and the chart as the published schemas of every version of Kubernetes and Helm itself see
//! them. What they ask is from PyPI, so they run by `make manifests`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wedge_package_tests::published::{check, lint, render};

use crate::manifests::{base, is_the_base};

/// Every value another than the chart's own.
fn others() -> Value {
    json!({
        "image": "registry.example/wedge:2",
        "overhead": {"cpu": "10m", "memory": "8Mi"},
        "systemdCgroup": true,
        "binDir": "/opt/bin",
        "containerdConfig": "/etc/containerd/other.toml",
        "dropinDir": "/etc/containerd/conf.d",
        "configVersion": 3,
    })
}

#[test]
fn every_manifest_is_of_the_api() -> Result<()> {
    check(&base()?)?;
    for values in [json!({}), others()] {
        let rendered = render(&values, "somewhere")?;
        assert_eq!(rendered.len(), 8);
        check(&rendered)?;
        lint(&values)?;
    }
    Ok(())
}

/// What the schemas would let pass says nothing above.
#[test]
fn mistakes_in_a_manifest_are_found() -> Result<()> {
    let container = "/spec/template/spec/containers/0";
    for (kind, at, key, value, said) in [
        ("RuntimeClass", "", "handlers", json!("wedge"), "'handlers' was unexpected"),
        ("RuntimeClass", "", "handler", json!(null), "'handler' is a required property"),
        ("RuntimeClass", "/overhead/podFixed", "cpu", json!(["5m"]), "podFixed.cpu"),
        ("DaemonSet", "", "apiVersion", json!("apps/v2"), "no daemonset in apps/v2"),
        ("DaemonSet", container, "volumeMount", json!([]), "'volumeMount' was unexpected"),
        ("DaemonSet", container, "args", json!("run"), "'run' is not of type 'array'"),
        ("DaemonSet", "/spec/template/spec", "hostPID", json!("yes"), "'yes' is not of type"),
        ("ClusterRole", "/rules/0", "verbs", json!(null), "'verbs' is a required property"),
    ] {
        let mut all = base()?;
        let manifest = all.iter_mut().find(|one| one.get("kind").is_some_and(|text| text == kind));
        let place = manifest.context("no such kind")?.pointer_mut(at).context("no such place")?;
        let place = place.as_object_mut().context("no map")?;
        if value.is_null() {
            place.remove(key).context("no such field")?;
        } else {
            place.insert(key.to_owned(), value);
        }
        let error = check(&all).expect_err(said).to_string();
        ensure!(error.contains(said), "{said:?} is not in:\n{error}");
        // An old version and the newest.
        ensure!(error.contains("v1.25.") && error.contains("v1.37."), "{error}");
    }
    Ok(())
}

/// Helm asks the chart's schema.
#[test]
fn values_that_the_installer_would_refuse_are_refused() -> Result<()> {
    for (pointer, value) in [
        ("/systemdCgroup", json!("yes")),
        ("/binDir", json!("bin")),
        ("/configVersion", json!("1")),
        ("/image", json!("")),
        ("/overhead/cpu", json!("5 mm")),
        ("/overhead/disk", json!("1Gi")),
        ("/imagee", json!("x")),
    ] {
        let mut values = others();
        let (at, key) = pointer.rsplit_once('/').context("no pointer")?;
        let place = values.pointer_mut(at).and_then(Value::as_object_mut).context("no map")?;
        place.insert(key.to_owned(), value);
        let error = render(&values, "somewhere").expect_err(pointer).to_string();
        ensure!(error.contains(key), "{pointer} is not in:\n{error}");
    }
    Ok(())
}

#[test]
fn the_chart_is_the_base() -> Result<()> {
    is_the_base(render(&json!({}), "wedge-system")?)
}
