//! OCI image layouts for a registry of the test's own.

use std::path::Path;

use anyhow::Result;
use lab_oci::images::{LAYER_TYPE, Layout};
use serde_json::json;

/// Adds an arm64 image, FROM scratch, with `files` to the OCI image layout `layout`.
pub fn add(layout: &Path, name: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
    let layout = Layout::new(layout);
    let mut layer = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        layer.append_data(&mut header, path, &content[..])?;
    }
    let layer = layout.put(LAYER_TYPE, &layer.into_inner()?)?;
    let config =
        json!({ "architecture": "arm64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let image = layout.put_image(&config, &[layer])?;
    Ok(layout.list(image.named(format!("docker.io/{name}")))?)
}
