//! An image of a known size, for measurements of image delivery.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use lab_model::{Digest, workloads::ECHO_IMAGE};
use lab_oci::{
    images::{CONFIG_TYPE, LAYER_TYPE, Layout, MANIFEST_TYPE},
    registry::Store,
};
use rand::{SeedableRng, TryRngCore, rngs::StdRng};
use serde_json::Value;

use super::step::{RecipeError, file};

/// Returns the reference of an image with `mib` MiB.
pub fn padding_image(mib: u16) -> String {
    format!("lab.local/padding:{mib}")
}

/// Creates a layout below `directory`, unless it exists. The layout contains the echo server's image from
/// the layout `workloads`, and an additional incompressible layer of `mib` MiB. All layers stay
/// uncompressed, as in all workload images, so that measurements cover the transfer and not gunzip.
///
/// # Errors
/// Returns an error if the workload images do not exist, or if the layout cannot be written.
pub fn padding_layout(workloads: &Path, directory: &Path, mib: u16) -> Result<PathBuf, RecipeError> {
    let layout = directory.join(mib.to_string());
    if layout.is_dir() {
        return Ok(layout);
    }
    fs::create_dir_all(directory).map_err(file("create", directory))?;
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(directory)
        .map_err(file("write in", directory))?;
    let (mut manifest, mut config) = echo(workloads)?;
    let made = Layout::new(partial.path());
    let layer = made.put(LAYER_TYPE, &layer(mib).map_err(file("pack", &layout))?)?;
    append(&mut config["rootfs"]["diff_ids"], Value::from(layer.digest.clone()));
    append(&mut config["history"], serde_json::json!({ "created_by": "lab bench images" }));
    append(&mut manifest["layers"], serde_json::json!(layer));
    let config = made.put(CONFIG_TYPE, config.to_string().as_bytes())?;
    manifest["config"]["digest"] = config.digest.into();
    manifest["config"]["size"] = config.size.into();
    let image = made.put(MANIFEST_TYPE, manifest.to_string().as_bytes())?;
    made.write_index(&[image.named(padding_image(mib))])?;
    lab_image::keep_directory(partial, &layout).map_err(file("create", &layout))?;
    Ok(layout)
}

fn append(list: &mut Value, entry: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(entry);
    }
}

/// Returns the manifest and config of the echo server's image.
fn echo(workloads: &Path) -> Result<(Value, Value), RecipeError> {
    let missing = |what: &str| {
        RecipeError::Missing(format!(
            "{} has no {what} of {ECHO_IMAGE}; run: make images",
            workloads.display()
        ))
    };
    let store =
        Store::open(&[workloads.to_owned()]).map_err(|error| RecipeError::Missing(error.to_string()))?;
    let read = |digest: &Digest, what: &str| {
        let path = store.files(digest).find(|path| path.is_file()).ok_or_else(|| missing(what))?;
        let text = fs::read(&path).map_err(file("read", &path))?;
        serde_json::from_slice::<Value>(&text).map_err(|_| missing(what))
    };
    let manifest = read(store.manifest(ECHO_IMAGE).ok_or_else(|| missing("manifest"))?, "manifest")?;
    let config = manifest["config"]["digest"].as_str().and_then(Digest::parse);
    let config = read(&config.ok_or_else(|| missing("config"))?, "config")?;
    Ok((manifest, config))
}

/// Creates a layer with one file of deterministic noise.
fn layer(mib: u16) -> io::Result<Vec<u8>> {
    let size = u64::from(mib) << 20;
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    let mut archive = tar::Builder::new(Vec::new());
    let mut noise = StdRng::seed_from_u64(size);
    archive.append_data(&mut header, "padding", noise.read_adapter().take(size))?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_has_the_size_that_is_asked_for_and_does_not_compress() {
        let layer = layer(1).expect("layer");
        assert!(layer.len() > 1 << 20 && layer.len() < (1 << 20) + 4096, "{}", layer.len());
        assert!(zstd::encode_all(&layer[..], 1).expect("encode").len() > 1 << 20);
        assert_eq!(layer, super::layer(1).expect("again"), "the same each time");
    }
}
