//! The registry against a real HTTP client: what containerd asks when it pulls.

use std::path::Path;

use anyhow::Result;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use lab::{
    assets::Digest,
    registry::{Registry, Store},
};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// An OCI image layout with one image, `registry.example/app:v1`; returns manifest and layer digests.
fn layout(directory: &Path, layer: &[u8]) -> Result<(String, String)> {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let put = |content: &[u8]| -> Result<String> {
        let digest = Digest::of_bytes(content);
        std::fs::write(blobs.join(digest.hex()), content)?;
        Ok(digest.to_string())
    };
    let layer_digest = put(layer)?;
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "layers": [{ "digest": layer_digest, "size": layer.len() }] });
    let manifest_digest = put(manifest.to_string().as_bytes())?;
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": MANIFEST_TYPE, "digest": manifest_digest, "size": 1,
        "annotations": { "org.opencontainers.image.ref.name": "registry.example/app:v1" } }] });
    std::fs::write(directory.join("index.json"), index.to_string())?;
    Ok((manifest_digest, layer_digest))
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

async fn ask(registry: &Registry, method: &str, path: &str, range: Option<&str>) -> Result<Answer> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let mut request =
        http::Request::builder().method(method).uri(format!("http://{}{path}", registry.address()));
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let response = client.request(request.body(Empty::new())?).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes().to_vec();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_digest_whole_and_in_ranges() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let layer: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let (manifest_digest, layer_digest) = layout(directory.path(), &layer)?;
    let registry = Registry::start(Store::open(&[directory.path().to_owned()])?).await?;

    assert_eq!(ask(&registry, "GET", "/v2/", None).await?.status, 200);

    let by_tag = ask(&registry, "GET", "/v2/app/manifests/v1?ns=registry.example", None).await?;
    assert_eq!(by_tag.status, 200);
    assert_eq!(by_tag.headers["content-type"], MANIFEST_TYPE);
    assert_eq!(by_tag.headers["docker-content-digest"], manifest_digest.as_str());

    let by_digest = format!("/v2/app/manifests/{manifest_digest}?ns=registry.example");
    assert_eq!(ask(&registry, "GET", &by_digest, None).await?.body, by_tag.body);

    let head = ask(&registry, "HEAD", "/v2/app/manifests/v1?ns=registry.example", None).await?;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], by_tag.body.len().to_string().as_str());

    let blob = format!("/v2/app/blobs/{layer_digest}?ns=registry.example");
    assert_eq!(ask(&registry, "GET", &blob, None).await?.body, layer);
    let part = ask(&registry, "GET", &blob, Some("bytes=100-199")).await?;
    assert_eq!((part.status, part.body.as_slice()), (206, &layer[100..200]));
    assert_eq!(ask(&registry, "GET", &blob, Some("bytes=99999999-")).await?.status, 416);
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_no_path_leaves_the_layout() -> Result<()> {
    let directory = tempfile::tempdir()?;
    layout(directory.path(), b"layer")?;
    let registry = Registry::start(Store::open(&[directory.path().to_owned()])?).await?;
    for path in [
        "/v2/app/manifests/v2?ns=registry.example",
        "/v2/app/manifests/v1?ns=docker.io",
        "/v2/app/blobs/sha256:../../../index.json",
        "/v2/app/blobs/sha256:..%2F..%2Findex.json",
        "/v2/app/tags/list",
    ] {
        assert_eq!(ask(&registry, "GET", path, None).await?.status, 404, "{path}");
    }
    Ok(())
}
