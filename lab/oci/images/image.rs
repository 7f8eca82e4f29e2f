//! An image: its layers and the properties in its config.

use std::{collections::BTreeMap, path::Path};

use lab_model::Digest;
use oci_client::manifest::{ImageIndexEntry, OciImageManifest, OciManifest};
use serde::Deserialize;

use super::{
    content::ImageFiles,
    error::OciError,
    layout::{INDEX, REF_NAME, blob_name},
};

/// Maximum nesting depth of indexes.
pub(super) const NESTING: usize = 3;

/// An image for linux/arm64, in any storage form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of the manifest. In an archive without a manifest, the digest of the config.
    pub digest: Digest,
    /// The build time in the image, if any (RFC 3339).
    pub created: Option<String>,
    /// The architecture in the config, if any.
    pub architecture: Option<String>,
    /// The operating system in the config, if any.
    pub os: Option<String>,
    /// The media type of the config; artefacts that are no images have others.
    pub config_type: Option<String>,
    /// What a container of the image starts.
    pub command: Command,
    pub(crate) layers: Vec<ImageLayer>,
}

/// What a container starts (OCI image specification v1.1, config.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Command {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    /// The environment, as `NAME=VALUE`.
    pub env: Option<Vec<String>>,
    pub working_dir: Option<String>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageLayer {
    /// The file name of the layer.
    pub(crate) name: String,
    /// The digest that verifies the layer: of the packed file or of its unpacked content.
    pub(crate) proof: Proof,
    /// The size of the packed file, if the manifest says it.
    pub(crate) size: Option<u64>,
}

/// A digest and the data it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The digest of the packed file.
    Packed(Digest),
    /// The digest of the tar archive in the file.
    Unpacked(Digest),
}

/// The parsed part of a config. Artifacts may have an empty config.
#[derive(Debug, Default, Deserialize)]
struct ImageConfig {
    created: Option<String>,
    architecture: Option<String>,
    os: Option<String>,
    #[serde(default)]
    config: Option<Command>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// An image in the `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Image {
    /// Opens an image layout or archive. Unpacks a compressed archive into `scratch`.
    ///
    /// # Errors
    /// Returns an error if it is not an image for arm64 or is damaged.
    pub(crate) fn open(path: &Path, scratch: &Path) -> Result<(Self, ImageFiles), OciError> {
        let content =
            if path.is_dir() { ImageFiles::directory(path) } else { ImageFiles::archive(path, scratch)? };
        match Self::within(&content)? {
            Some(image) => Ok((image, content)),
            None => Err(content.damaged(
                INDEX,
                "it contains neither that file nor manifest.json: it is not an archive of an image",
            )),
        }
    }

    /// Returns the image of a layout or archive, if `content` is an image.
    ///
    /// Public for the fuzz targets alone.
    #[doc(hidden)]
    pub fn within(content: &ImageFiles) -> Result<Option<Self>, OciError> {
        if content.has(INDEX) {
            let manifest: OciManifest = content.json(INDEX, None)?;
            return match manifest {
                OciManifest::ImageIndex(index) => {
                    Self::of_entries(content, index.manifests, NESTING).map(Some)
                }
                OciManifest::Image(_) => Err(content.damaged(INDEX, "it is not an image index")),
            };
        }
        if content.has("manifest.json") {
            return Self::saved(content).map(Some);
        }
        Ok(None)
    }

    /// Finds the image of a manifest or index digest in the blobs of `content`.
    pub(crate) fn of_digest(content: &ImageFiles, digest: &Digest) -> Result<Self, OciError> {
        Self::of_manifest(content, digest, NESTING)
    }

    fn of_manifest(content: &ImageFiles, digest: &Digest, nesting: usize) -> Result<Self, OciError> {
        let manifest: OciManifest = content.json(&blob_name(digest), Some(digest))?;
        match manifest {
            OciManifest::Image(manifest) => Self::of(content, digest.clone(), &manifest),
            OciManifest::ImageIndex(index) => Self::of_entries(content, index.manifests, nesting),
        }
    }

    fn of_entries(
        content: &ImageFiles,
        entries: Vec<ImageIndexEntry>,
        nesting: usize,
    ) -> Result<Self, OciError> {
        let entry = for_arm64(&content.name, entries)?;
        let digest = parsed(content, &entry.digest)?;
        if nesting == 0 {
            return Err(content.damaged(&entry.digest, "image indexes nested too deeply"));
        }
        Self::of_manifest(content, &digest, nesting - 1)
    }

    fn of(content: &ImageFiles, digest: Digest, manifest: &OciImageManifest) -> Result<Self, OciError> {
        let config_digest = parsed(content, &manifest.config.digest)?;
        let config = content.text(&blob_name(&config_digest), Some(&config_digest))?;
        let config: ImageConfig = serde_json::from_slice(&config).unwrap_or_default();
        let layers = manifest.layers.iter().map(|layer| {
            let digest = parsed(content, &layer.digest)?;
            let size = u64::try_from(layer.size).ok();
            Ok(ImageLayer { name: blob_name(&digest), proof: Proof::Packed(digest), size })
        });
        let layers = layers.collect::<Result<_, OciError>>()?;
        Ok(config.image(digest, Some(manifest.config.media_type.clone()), layers))
    }

    fn saved(content: &ImageFiles) -> Result<Self, OciError> {
        let mut saved: Vec<SavedImage> = content.json("manifest.json", None)?;
        let image = match (saved.pop(), saved.len()) {
            (Some(image), 0) => image,
            (None, _) => return Err(content.damaged("manifest.json", "it lists no image")),
            (Some(last), _) => {
                saved.push(last);
                let names: Vec<_> =
                    saved.into_iter().flat_map(|image| image.repo_tags.unwrap_or_default()).collect();
                return Err(OciError::Several { within: content.name.clone(), names: names.join(", ") });
            }
        };
        let config: ImageConfig = content.json(&image.config, None)?;
        let digest = Digest::of_reader(content.open(&image.config)?)
            .map_err(|error| content.damaged(&image.config, error))?;
        let ids = config.rootfs.diff_ids.clone();
        if ids.len() != image.layers.len() {
            let why = format!("it has {} layers and its config {}", image.layers.len(), ids.len());
            return Err(content.damaged("manifest.json", why));
        }
        let layers = image.layers.into_iter().zip(ids).map(|(name, id)| {
            Ok(ImageLayer { name, proof: Proof::Unpacked(parsed(content, &id)?), size: None })
        });
        let layers = layers.collect::<Result<_, OciError>>()?;
        Ok(config.image(digest, None, layers))
    }
}

impl ImageConfig {
    fn image(self, digest: Digest, config_type: Option<String>, layers: Vec<ImageLayer>) -> Image {
        let Self { created, architecture, os, config, rootfs: _ } = self;
        let command = config.unwrap_or_default();
        Image { digest, created, architecture, os, config_type, command, layers }
    }
}

/// Returns the only index entry that is for linux/arm64 or has no platform.
pub(super) fn for_arm64(within: &str, entries: Vec<ImageIndexEntry>) -> Result<ImageIndexEntry, OciError> {
    let platform = |entry: &ImageIndexEntry| {
        let platform = entry.platform.as_ref()?;
        Some(format!("{}/{}", platform.os, platform.architecture))
    };
    let fits = |entry: &&ImageIndexEntry| platform(entry).is_none_or(|platform| platform == "linux/arm64");
    let mut fitting: Vec<_> = entries.iter().filter(fits).cloned().collect();
    let name = |entry: &ImageIndexEntry| {
        let none = BTreeMap::new();
        let annotations = entry.annotations.as_ref().unwrap_or(&none);
        annotations.get(REF_NAME).unwrap_or(&entry.digest).clone()
    };
    match (fitting.pop(), fitting.len()) {
        (Some(entry), 0) => Ok(entry),
        (None, _) => {
            let platforms: Vec<_> = entries.iter().filter_map(platform).collect();
            let platforms = if platforms.is_empty() { "nothing".to_owned() } else { platforms.join(", ") };
            Err(OciError::Platform { within: within.to_owned(), platforms })
        }
        (Some(last), _) => {
            fitting.push(last);
            let names = fitting.iter().map(name).collect::<Vec<_>>().join(", ");
            Err(OciError::Several { within: within.to_owned(), names })
        }
    }
}

fn parsed(content: &ImageFiles, digest: &str) -> Result<Digest, OciError> {
    Digest::parse(digest).ok_or_else(|| content.damaged(digest, "it is not a sha256 digest"))
}
