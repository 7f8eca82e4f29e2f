//! Image layouts, and an HTTP client to ask a registry for their content.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result};
use http::HeaderMap;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use lab_model::{
    Digest,
    events::{EventKind, Subscription},
};
use lab_oci::{
    images::{LAYER_TYPE, Layout},
    registry::{Registry, Store},
};
use serde_json::{Value, json};

pub use lab_oci::images::{CONFIG_TYPE, MANIFEST_TYPE};

/// An image in a layout.
pub struct Image {
    pub manifest: Digest,
    pub config: Digest,
    pub layer: Digest,
    /// Bytes of all three.
    pub size: u64,
}

/// Adds a blob to a layout.
pub fn put(layout: &Path, content: &[u8]) -> Result<Digest> {
    Ok(Layout::new(layout).put_blob(content)?)
}

/// Adds a manifest, and lists it under `name` if there is one.
pub fn list(layout: &Path, manifest: &Value, name: Option<&str>) -> Result<Digest> {
    let layout = Layout::new(layout);
    let media_type = manifest["mediaType"].as_str().unwrap_or_default();
    let mut image = layout.put(media_type, manifest.to_string().as_bytes())?;
    let digest = image.digest().context("a digest")?;
    image.media_type = manifest["mediaType"].as_str().map(str::to_owned);
    if let Some(name) = name {
        image = image.named(name);
    }
    layout.list(image)?;
    Ok(digest)
}

/// A manifest of one layer, whose blobs are added.
pub fn manifest(layout: &Path, layer: &[u8]) -> Result<Value> {
    let config =
        json!({ "architecture": "arm64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let layout = Layout::new(layout);
    Ok(json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": layout.put(CONFIG_TYPE, config.to_string().as_bytes())?,
        "layers": [layout.put(LAYER_TYPE, layer)?],
    }))
}

/// Adds an image, with the full reference `name`.
pub fn image(layout: &Path, name: &str, layer: &[u8]) -> Result<Image> {
    let manifest = manifest(layout, layer)?;
    let of = |part: &Value| part["digest"].as_str().and_then(Digest::parse).context("a digest");
    let size = manifest["config"]["size"].as_u64().context("a size")? + layer.len() as u64;
    Ok(Image {
        config: of(&manifest["config"])?,
        layer: of(&manifest["layers"][0])?,
        size: size + manifest.to_string().len() as u64,
        manifest: list(layout, &manifest, Some(name))?,
    })
}

pub async fn serve(layout: &Path) -> Result<Registry> {
    Ok(Registry::start(Store::open(&[layout.to_owned()])?).await?)
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// Status and error code, as the specification has them in the body of an error.
    pub fn error(&self) -> (u16, String) {
        (self.status, self.json()["errors"][0]["code"].as_str().unwrap_or("no code").to_owned())
    }

    /// The message of an error.
    pub fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap_or("no message").to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none")
    }
}

pub async fn ask_with(
    at: SocketAddr,
    method: &str,
    path: &str,
    header: Option<(&str, &str)>,
) -> Result<Answer> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let mut request = http::Request::builder().method(method).uri(format!("http://{at}{path}"));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let (head, body) = client.request(request.body(Empty::new())?).await?.into_parts();
    let body = body.collect().await?.to_bytes().to_vec();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

pub async fn ask(registry: &Registry, method: &str, path: &str) -> Result<Answer> {
    ask_with(registry.address(), method, path, None).await
}

pub async fn get(registry: &Registry, path: &str) -> Result<Answer> {
    ask(registry, "GET", path).await
}

/// The notes that a run's person has got so far.
pub fn notes(events: &mut Subscription) -> Vec<String> {
    let mut texts = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let EventKind::Note { text, .. } = event.kind {
            texts.push(text);
        }
    }
    texts
}
