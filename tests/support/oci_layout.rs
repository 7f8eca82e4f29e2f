//! OCI image layouts for a registry of the test's own.

use std::{fs, path::Path};

use anyhow::Result;
use lab_model::Digest;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Adds an arm64 image, FROM scratch, with `files` to the OCI image layout `layout`.
pub fn add(layout: &Path, name: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let put = |content: &[u8], media_type: &str| -> Result<Value> {
        let digest = Digest::of_bytes(content);
        fs::write(blobs.join(digest.hex()), content)?;
        Ok(json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() }))
    };
    let mut layer = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        layer.append_data(&mut header, path, &content[..])?;
    }
    let config =
        json!({ "architecture": "arm64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?;
    let layer = put(&layer.into_inner()?, "application/vnd.oci.image.layer.v1.tar")?;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let mut entry = put(manifest.to_string().as_bytes(), MANIFEST)?;
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("docker.io/{name}") });
    let index = layout.join("index.json");
    let mut value: Value = match fs::read(&index) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(_) => json!({ "schemaVersion": 2, "manifests": [] }),
    };
    value["manifests"].as_array_mut().expect("a list").push(entry);
    Ok(fs::write(index, value.to_string())?)
}
