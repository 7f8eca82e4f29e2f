//! The programs in the workload images: each image is one layer with one program.

use std::{fs, io, path::Path};

use serde_json::Value;

use crate::{
    Inventory, InventoryError,
    go_modules::{Go, programs_below},
};

/// The media type of an uncompressed layer, the only one that the recipe writes.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Adds the modules of the programs in an OCI image layout.
pub fn add(inventory: &mut Inventory, go: &Go, layout: &Path) -> Result<(), InventoryError> {
    let index = json(&layout.join("index.json"))?;
    let unpacked =
        tempfile::tempdir().map_err(InventoryError::file("create a directory in", std::env::temp_dir()))?;
    let images = index["manifests"].as_array().cloned().unwrap_or_default();
    if images.is_empty() {
        return Err(InventoryError::format(layout.display().to_string(), "the index lists no image"));
    }
    for (number, image) in images.iter().enumerate() {
        let manifest = json(&blob(layout, image)?)?;
        for layer in manifest["layers"].as_array().into_iter().flatten() {
            if layer["mediaType"] != LAYER {
                let problem = format!("a layer is {}, and {LAYER} is expected", layer["mediaType"]);
                return Err(InventoryError::format(layout.display().to_string(), problem));
            }
            let path = blob(layout, layer)?;
            let archive = fs::File::open(&path).map_err(InventoryError::file("open", &path))?;
            let to = unpacked.path().join(number.to_string());
            // `unpack` stays below its directory.
            tar::Archive::new(io::BufReader::new(archive))
                .unpack(&to)
                .map_err(InventoryError::file("unpack", &path))?;
        }
    }
    let programs = programs_below(unpacked.path())?;
    if programs.is_empty() {
        return Err(InventoryError::format(layout.display().to_string(), "no image has a Go program"));
    }
    for program in programs {
        let name = program.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        go.add(inventory, &program, &format!("workloads/{name}"))?;
    }
    Ok(())
}

fn json(path: &Path) -> Result<Value, InventoryError> {
    let text = fs::read_to_string(path).map_err(InventoryError::file("read", path))?;
    serde_json::from_str(&text).map_err(|error| InventoryError::format(path.display().to_string(), error))
}

/// The file of a descriptor.
fn blob(layout: &Path, descriptor: &Value) -> Result<std::path::PathBuf, InventoryError> {
    let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    let hex = digest.filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let hex = hex
        .ok_or_else(|| InventoryError::format(layout.display().to_string(), "a descriptor has no digest"))?;
    Ok(layout.join("blobs/sha256").join(hex))
}
