//! Container images of the sizes of a platform's, for measurements of the release gate.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use lab_model::Digest;
use lab_oci::images::{Descriptor, Layout};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::step::{RecipeError, file};

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// How many images share a base layer.
const SHARE: u16 = 5;
/// The layers of an image of its own.
const LAYERS: u16 = 3;
/// The number of files of a layer, and of the programs among them.
const FILES: u32 = 400;
const PROGRAMS: u32 = 20;

/// Returns the name of an image.
fn name(number: u16) -> String {
    format!("docker.io/platform/component-{number}:v1.5.1-1.13.5-4")
}

/// Creates a layout below `directory`, unless it exists. It has `images` arm64 images of about `mib` MiB each, packed with
/// gzip. Five images share a base layer; each has three layers of its own, with programs, texts and a wrapper script as
/// entrypoint. Returns the layout and the names of the images.
///
/// # Errors
/// Returns an error if the layout cannot be written.
pub fn platform_layout(
    directory: &Path,
    images: u16,
    mib: u16,
) -> Result<(PathBuf, Vec<String>), RecipeError> {
    let names = (0..images).map(name).collect();
    let layout = directory.join(format!("{images}-images-of-{mib}-mib"));
    if layout.is_dir() {
        return Ok((layout, names));
    }
    fs::create_dir_all(directory).map_err(file("create", directory))?;
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(directory)
        .map_err(file("write in", directory))?;
    let (made, noise) = (Layout::new(partial.path()), Noise::new());
    let size = (u64::from(mib) << 20) / u64::from(LAYERS + 1);
    let mut listed = Vec::new();
    let mut base: Option<Descriptor> = None;
    for number in 0..images {
        let pack = |layer: u16| packed(&made, &noise, number, layer, size).map_err(file("pack", &layout));
        let shared = match base.take().filter(|_| number % SHARE != 0) {
            Some(shared) => shared,
            None => pack(0)?,
        };
        let mut layers = vec![shared.clone()];
        for layer in 1..=LAYERS {
            layers.push(pack(layer)?);
        }
        base = Some(shared);
        let config = json!({
            "architecture": "arm64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": { "Entrypoint": ["/start.sh"] },
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        listed.push(made.put_image(&config, &layers)?.named(name(number)));
    }
    made.write_index(&listed)?;
    lab_image::keep_directory(partial, &layout).map_err(file("create", &layout))?;
    Ok((layout, names))
}

/// Packs a layer of about `size` bytes: noise, as in programs, and text, which compresses.
fn packed(layout: &Layout, noise: &Noise, number: u16, layer: u16, size: u64) -> io::Result<Descriptor> {
    let mut partial = layout.begin().map_err(io::Error::other)?;
    let text = "a line of a configuration file, a script or a licence\n".repeat(64);
    let each = usize::try_from(size).unwrap_or(usize::MAX) / FILES as usize;
    let mut archive =
        tar::Builder::new(GzEncoder::new(io::BufWriter::new(&mut partial), Compression::fast()));
    for index in 0..FILES {
        let is_program = index % (FILES / PROGRAMS) == 0;
        let length = if is_program { each * (FILES / PROGRAMS) as usize / 2 } else { each };
        let mut content = if is_program { program_head() } else { Vec::new() };
        let seed = (u64::from(number) << 32) | (u64::from(layer) << 16) | u64::from(index);
        noise.add(seed, length * 2 / 3, &mut content);
        content.resize(content.len() + length, 0);
        let at = content.len() - length;
        content[at..]
            .chunks_mut(text.len())
            .for_each(|part| part.copy_from_slice(&text.as_bytes()[..part.len()]));
        let mode = if is_program { 0o755 } else { 0o644 };
        add(&mut archive, &format!("usr/lib/part-{layer}/file-{index}"), mode, &content)?;
    }
    if layer == 0 {
        add(&mut archive, "bin/sh", 0o755, &program_head())?;
    }
    if layer == LAYERS {
        let start = format!("#!/bin/sh\nexec /usr/lib/part-{layer}/file-0 \"$@\"\n");
        add(&mut archive, "start.sh", 0o755, start.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()?;
    let digest = Digest::of_reader(fs::File::open(partial.path())?)?;
    let packed = partial.as_file().metadata()?.len();
    layout.keep(partial, &digest).map_err(io::Error::other)?;
    Ok(Descriptor::new(LAYER_TYPE, &digest, packed))
}

/// The header of a program for arm64 (System V ABI, "ELF Header").
fn program_head() -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    head.extend([2, 0, 183, 0, 1, 0, 0, 0]);
    head.resize(64, 0);
    head
}

/// Bytes that do not compress, of which each file takes another part.
struct Noise(Vec<u8>);

impl Noise {
    fn new() -> Self {
        let mut bytes = vec![0; 8 << 20];
        StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Adds `length` bytes, another part for each seed.
    fn add(&self, seed: u64, length: usize, to: &mut Vec<u8>) {
        // A multiplier of Knuth's spreads the seeds over the noise.
        let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let mut at = usize::try_from(spread).unwrap_or(0) % self.0.len();
        let mut left = length;
        while left > 0 {
            let part = left.min(self.0.len() - at);
            to.extend_from_slice(&self.0[at..at + part]);
            (at, left) = (0, left - part);
        }
    }
}

fn add(archive: &mut tar::Builder<impl Write>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_share_their_base_and_have_about_the_size_that_is_asked_for() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (layout, names) = platform_layout(directory.path(), 3, 4).expect("layout");
        assert_eq!(names.len(), 3);
        let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("blobs").flatten();
        let sizes: Vec<_> = blobs.map(|entry| entry.metadata().expect("metadata").len()).collect();
        // One base layer, nine own layers, one config, three manifests.
        assert_eq!(sizes.len(), 14);
        let total = sizes.iter().sum::<u64>() >> 20;
        assert!((5..=12).contains(&total), "{total} MiB");
    }
}
