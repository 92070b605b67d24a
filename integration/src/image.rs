// SPDX-License-Identifier: Apache-2.0
//! OCI image layouts, as tars for `ctr images import`: no registry is needed.

use std::fs;
use std::path::Path;

use crate::Cmd;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What an image runs when a container does not say.
#[derive(Debug, Default)]
pub struct Config<'a> {
    /// The command.
    pub command: &'a [&'a str],
    /// Variables, as `NAME=value`.
    pub environment: &'a [&'a str],
}

/// Makes the tar `name.tar` in `dir` of an image with one layer, the tree at `rootfs`.
///
/// # Errors
/// A file operation fails, or `tar` or `sha256sum` does.
pub fn build(dir: &Path, name: &str, rootfs: &Path, config: &Config<'_>) -> Result<()> {
    let layout = dir.join(format!("{}.layout", file_name(name)));
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let layer = dir.join("layer.tar");
    tar(rootfs, &layer)?;
    let layer = Blob::store(&layout, &fs::read(&layer)?)?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": config.command, "Env": config.environment},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    });
    let config = Blob::store(&layout, &serde_json::to_vec(&config)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
    });
    let manifest = Blob::store(&layout, &serde_json::to_vec(&manifest)?)?;
    let mut descriptor = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    if let Some(descriptor) = descriptor.as_object_mut() {
        descriptor.insert("annotations".into(), json!({"io.containerd.image.name": name}));
    }
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar(&layout, &dir.join(format!("{}.tar", file_name(name))))
}

/// `name` without what a path cannot have.
pub fn file_name(name: &str) -> String {
    name.replace(['/', ':'], "-")
}

fn tar(tree: &Path, target: &Path) -> Result<()> {
    let tar = Cmd::new("tar").arg("--create").arg("--file").arg(target).arg("--directory");
    tar.arg(tree).args(["--owner=0", "--group=0", "."]).output()?.assert_ok();
    Ok(())
}

struct Blob {
    digest: String,
    size: usize,
}

impl Blob {
    fn store(layout: &Path, bytes: &[u8]) -> Result<Blob> {
        // Ten times as fast as a hash that is compiled for debugging.
        let sum = Cmd::new("sha256sum").stdin(bytes).output()?;
        let text = sum.assert_ok().text();
        let hash = text.split_whitespace().next().context("sha256sum is silent")?;
        fs::write(layout.join("blobs/sha256").join(hash), bytes)?;
        Ok(Blob { digest: format!("sha256:{hash}"), size: bytes.len() })
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.size})
    }
}
