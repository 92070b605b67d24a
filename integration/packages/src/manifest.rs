// SPDX-License-Identifier: Apache-2.0
//! Kubernetes manifests, checked by the types of its published API.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The documents of a YAML file, without those that are empty.
///
/// # Errors
/// It is no YAML.
pub fn documents_in(yaml: &str) -> Result<Vec<Value>> {
    let all = serde_yaml_ng::Deserializer::from_str(yaml).map(Value::deserialize);
    let all = all.collect::<Result<Vec<Value>, _>>().with_context(|| yaml.to_owned())?;
    Ok(all.into_iter().filter(|document| !document.is_null()).collect())
}

/// Checks a manifest: a type that is known, every field of it known to that and of the right type.
///
/// # Errors
/// It is not so.
pub fn check(manifest: &Value) -> Result<()> {
    let text = |key: &str| manifest.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("v1", "Namespace") => typed::<Namespace>(manifest),
        ("v1", "Pod") => typed::<Pod>(manifest),
        ("v1", "ServiceAccount") => typed::<ServiceAccount>(manifest),
        ("apps/v1", "DaemonSet") => typed::<DaemonSet>(manifest),
        ("batch/v1", "Job") => typed::<Job>(manifest),
        ("node.k8s.io/v1", "RuntimeClass") => typed::<RuntimeClass>(manifest),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => typed::<ClusterRole>(manifest),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            typed::<ClusterRoleBinding>(manifest)
        }
        ("rbac.authorization.k8s.io/v1", "Role") => typed::<Role>(manifest),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => typed::<RoleBinding>(manifest),
        other => bail!("a manifest of unknown type: {other:?}"),
    }
}

/// What the type does not know is not in what it writes.
fn typed<T: DeserializeOwned + Serialize>(manifest: &Value) -> Result<()> {
    let known: T = serde_json::from_value(manifest.clone()).context("a field of a wrong type")?;
    let back = serde_json::to_value(known)?;
    ensure!(back == *manifest, "fields that are not known:\n{manifest:#}\nof which are:\n{back:#}");
    Ok(())
}

/// Fills in a template of the chart. It may use values and the release's namespace, and quote them:
/// Helm is not here to ask, so nothing else is allowed.
///
/// # Errors
/// It uses another thing, or a value that there is not.
pub fn render(template: &str, values: &Value, namespace: &str) -> Result<String> {
    let mut done = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").context("an action without end")?;
        let (path, quoted) = match action.trim().split_once('|') {
            None => (action.trim(), false),
            Some((path, "quote" | " quote")) => (path.trim(), true),
            Some(_) => bail!("a function that is not known: {action}"),
        };
        let value = match path.strip_prefix(".Values.") {
            Some(path) => {
                let pointer = format!("/{}", path.replace('.', "/"));
                let value = values.pointer(&pointer).and_then(Value::as_str);
                value.with_context(|| format!("no text: {path}"))?
            }
            None if path == ".Release.Namespace" => namespace,
            None => bail!("not a value: {action}"),
        };
        done.push_str(before);
        done.push_str(&if quoted { format!("{value:?}") } else { value.to_owned() });
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}
