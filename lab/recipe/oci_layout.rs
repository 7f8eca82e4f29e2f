//! Workload images as an OCI image layout (OCI image specification v1.1).
//!
//! Each image has one uncompressed layer. Guests unpack layers under emulation, so this saves them the
//! decompression. On loopback, the additional bytes are cheap.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lab_oci::images::{LAYER_TYPE, Layout};
use serde_json::json;

use super::step::{RecipeError, file};

/// An image with one static program.
pub(super) struct WorkloadImage {
    /// Full reference, e.g. `registry.k8s.io/pause:3.10`.
    pub(super) reference: String,
    /// The program's path in the image, without a leading slash. Also the entry point.
    pub(super) program: &'static str,
    /// The program on the host.
    pub(super) file: PathBuf,
    /// Other files of the image, as names in its root directory, with their contents.
    pub(super) beside: Vec<(&'static str, String)>,
}

/// Writes the layout with all `images` to the directory `output`.
pub(super) fn write(images: &[WorkloadImage], output: &Path) -> Result<(), RecipeError> {
    let layout = Layout::new(output);
    let mut listed = Vec::new();
    for image in images {
        let layer = layout.put(LAYER_TYPE, &layer(image)?)?;
        let config = json!({
            "architecture": "arm64",
            "os": "linux",
            "config": {
                "Entrypoint": [format!("/{}", image.program)],
                "WorkingDir": "/",
                "User": "65534:65534",
            },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
            "history": [{ "created_by": "lab image build" }],
        });
        let manifest = layout.put_image(&config, &[layer])?;
        listed.push(manifest.for_architecture("arm64").named(&image.reference));
    }
    Ok(layout.write_index(&listed)?)
}

/// Creates the layer: the program and its directories, owned by root, without timestamps.
fn layer(image: &WorkloadImage) -> Result<Vec<u8>, RecipeError> {
    let content = fs::read(&image.file).map_err(file("read", &image.file))?;
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content)
    };
    let mut directory = PathBuf::new();
    for component in Path::new(image.program).parent().into_iter().flat_map(Path::components) {
        directory.push(component);
        add(&format!("{}/", directory.display()), tar::EntryType::Directory, 0o755, &[])
            .map_err(file("pack", &image.file))?;
    }
    add(image.program, tar::EntryType::Regular, 0o755, &content).map_err(file("pack", &image.file))?;
    for (name, text) in &image.beside {
        add(name, tar::EntryType::Regular, 0o644, text.as_bytes()).map_err(file("pack", &image.file))?;
    }
    archive.into_inner().map_err(file("pack", &image.file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_model::Digest;
    use lab_oci::registry::Store;

    #[test]
    fn the_registry_finds_every_image_and_its_blobs() {
        let directory = tempfile::tempdir().expect("tempdir");
        let program = directory.path().join("program");
        fs::write(&program, "ELF").expect("write");
        let images = [WorkloadImage {
            reference: "registry.k8s.io/pause:3.10".into(),
            program: "pause",
            file: program,
            beside: vec![("spin.toml", "spin_manifest_version = 2\n".to_owned())],
        }];
        let layout = directory.path().join("layout");
        write(&images, &layout).expect("layout");
        let store = Store::open(std::slice::from_ref(&layout)).expect("store");
        let blob = |digest: &Digest| store.files(digest).next().expect("blob");
        let manifest = store.manifest("registry.k8s.io/pause:3.10").expect("manifest");
        let text = fs::read(blob(manifest)).expect("read");
        let manifest: serde_json::Value = serde_json::from_slice(&text).expect("json");
        for part in [&manifest["config"], &manifest["layers"][0]] {
            let digest = part["digest"].as_str().and_then(Digest::parse).expect("digest");
            assert_eq!(
                fs::metadata(blob(&digest)).expect("stat").len(),
                part["size"].as_u64().expect("size")
            );
        }
    }
}
