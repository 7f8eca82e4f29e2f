//! The checks of the OCI distribution specification v1.1 that apply to a registry that is only read.
//! Each names the endpoint as the specification's table "Endpoints" numbers them.

use anyhow::Result;
use serde_json::{Value, json};

use super::fixture::{Image, MANIFEST_TYPE, ask, ask_with, get, image, list, manifest, put, serve};

fn layer() -> Vec<u8> {
    (0..75_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A layout with `docker.io/team/app:v1`, served.
async fn app() -> Result<(tempfile::TempDir, Image, lab_oci::registry::Registry)> {
    let layout = tempfile::tempdir()?;
    let image = image(layout.path(), "docker.io/team/app:v1", &layer())?;
    let registry = serve(layout.path()).await?;
    Ok((layout, image, registry))
}

#[tokio::test]
async fn end_1_tells_that_this_is_a_registry() -> Result<()> {
    let (_layout, _, registry) = app().await?;
    assert_eq!(get(&registry, "/v2/").await?.status, 200);
    assert_eq!(ask(&registry, "HEAD", "/v2/").await?.status, 200);
    assert_eq!(get(&registry, "/v1/").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn end_2_gives_a_blob_and_what_head_tells_of_it() -> Result<()> {
    let (_layout, image, registry) = app().await?;
    let path = format!("/v2/team/app/blobs/{}", image.layer);
    let whole = get(&registry, &path).await?;
    assert_eq!((whole.status, whole.body == layer()), (200, true));
    let head = ask(&registry, "HEAD", &path).await?;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for answer in [&whole, &head] {
        assert_eq!(answer.header("docker-content-digest"), image.layer.to_string());
        assert_eq!(answer.header("content-length"), "300000");
        assert_eq!(answer.header("content-type"), "application/octet-stream");
    }
    Ok(())
}

#[tokio::test]
async fn end_2_gives_ranges_of_a_blob_and_416_outside_of_it() -> Result<()> {
    let (_layout, image, registry) = app().await?;
    let path = format!("/v2/team/app/blobs/{}", image.layer);
    let at = registry.address();
    for (range, content, of) in [
        ("bytes=100-199", &layer()[100..200], "bytes 100-199/300000"),
        ("bytes=299990-", &layer()[299_990..], "bytes 299990-299999/300000"),
        ("bytes=-5", &layer()[299_995..], "bytes 299995-299999/300000"),
    ] {
        let part = ask_with(at, "GET", &path, Some(("range", range))).await?;
        assert_eq!((part.status, part.body.as_slice()), (206, content), "{range}");
        assert_eq!(part.header("content-range"), of);
    }
    let outside = ask_with(at, "GET", &path, Some(("range", "bytes=300000-"))).await?;
    assert_eq!((outside.status, outside.header("content-range")), (416, "bytes */300000"));
    // RFC 9110, section 14.2: ranges are of GET only.
    let head = ask_with(at, "HEAD", &path, Some(("range", "bytes=0-9"))).await?;
    assert_eq!((head.status, head.header("content-length")), (200, "300000"));
    Ok(())
}

#[tokio::test]
async fn end_3_gives_a_manifest_by_tag_and_by_digest_as_the_type_that_it_is() -> Result<()> {
    let layout = tempfile::tempdir()?;
    let typed = manifest(layout.path(), b"layer")?;
    let mut silent = manifest(layout.path(), b"other")?;
    silent.as_object_mut().expect("a mapping").remove("mediaType");
    let mut docker = manifest(layout.path(), b"third")?;
    docker["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] });
    let of = |value: &Value| value["mediaType"].as_str().unwrap_or(MANIFEST_TYPE).to_owned();
    let mut listed = Vec::new();
    for (tag, value) in [("typed", &typed), ("silent", &silent), ("docker", &docker), ("index", &index)] {
        let digest = list(layout.path(), value, Some(&format!("docker.io/app:{tag}")))?;
        listed.push((tag, digest, of(value), value.to_string()));
    }
    let registry = serve(layout.path()).await?;
    for (tag, digest, media_type, text) in listed {
        for reference in [tag.to_owned(), digest.to_string()] {
            let path = format!("/v2/app/manifests/{reference}");
            let whole = get(&registry, &path).await?;
            assert_eq!((whole.status, String::from_utf8(whole.body.clone())?), (200, text.clone()), "{path}");
            let head = ask(&registry, "HEAD", &path).await?;
            assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
            for answer in [&whole, &head] {
                assert_eq!(answer.header("content-type"), media_type, "{path}");
                assert_eq!(answer.header("docker-content-digest"), digest.to_string(), "{path}");
                assert_eq!(answer.header("content-length"), text.len().to_string(), "{path}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_404_with_the_code_that_says_why() -> Result<()> {
    let (layout, image, registry) = app().await?;
    let nowhere = format!("sha256:{}", "0".repeat(64));
    let upper = image.layer.to_string().to_uppercase().replace("SHA256", "sha256");
    fs_outside(layout.path())?;
    for (path, error) in [
        // end-2
        (format!("team/app/blobs/{nowhere}"), (404, "BLOB_UNKNOWN")),
        ("team/app/blobs/sha256:00".to_owned(), (404, "DIGEST_INVALID")),
        (format!("team/app/blobs/{upper}"), (404, "DIGEST_INVALID")),
        ("team/app/blobs/latest".to_owned(), (404, "DIGEST_INVALID")),
        (format!("Team/app/blobs/{}", image.layer), (404, "NAME_INVALID")),
        // end-3
        ("team/app/manifests/v2".to_owned(), (404, "MANIFEST_UNKNOWN")),
        ("team/app/manifests/v1?ns=quay.io".to_owned(), (404, "MANIFEST_UNKNOWN")),
        ("team/other/manifests/v1".to_owned(), (404, "MANIFEST_UNKNOWN")),
        (format!("team/app/manifests/{nowhere}"), (404, "MANIFEST_UNKNOWN")),
        ("team/app/manifests/.v1".to_owned(), (404, "MANIFEST_UNKNOWN")),
        ("team/app/manifests/sha256:zz".to_owned(), (404, "DIGEST_INVALID")),
        ("team//app/manifests/v1".to_owned(), (404, "NAME_INVALID")),
        // A layer and a config are no manifests, though their digests are there.
        (format!("team/app/manifests/{}", image.layer), (404, "MANIFEST_UNKNOWN")),
        (format!("team/app/manifests/{}", image.config), (404, "MANIFEST_UNKNOWN")),
        // end-8a, end-12a
        ("team/other/tags/list".to_owned(), (404, "NAME_UNKNOWN")),
        ("team/app/referrers/sha256:zz".to_owned(), (400, "DIGEST_INVALID")),
        // Out of the layout.
        ("team/app/blobs/sha256:../../../outside".to_owned(), (404, "UNSUPPORTED")),
        ("team/app/blobs/sha256:..%2F..%2F..%2Foutside".to_owned(), (404, "UNSUPPORTED")),
        ("_catalog".to_owned(), (404, "UNSUPPORTED")),
    ] {
        let answer = get(&registry, &format!("/v2/{path}")).await?;
        let (status, code) = answer.error();
        assert_eq!((status, code.as_str()), error, "{path}");
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        let head = ask(&registry, "HEAD", &format!("/v2/{path}")).await?;
        assert_eq!((head.status, head.body.len()), (error.0, 0), "{path}");
    }
    Ok(())
}

/// A file that a path could lead to.
fn fs_outside(layout: &std::path::Path) -> Result<()> {
    Ok(std::fs::write(layout.join("outside"), "secret")?)
}

#[tokio::test]
async fn end_8_lists_tags_in_order_whole_and_in_parts() -> Result<()> {
    let layout = tempfile::tempdir()?;
    for (tag, layer) in [("v2", "1"), ("Beta", "2"), ("alpha", "3"), ("v10", "4")] {
        image(layout.path(), &format!("quay.io/team/app:{tag}"), layer.as_bytes())?;
    }
    image(layout.path(), "quay.io/team/app-more:other", b"5")?;
    image(layout.path(), "docker.io/team/app:elsewhere", b"6")?;
    let registry = serve(layout.path()).await?;
    for (query, tags) in [
        ("", json!(["alpha", "Beta", "v10", "v2"])),
        ("&n=2", json!(["alpha", "Beta"])),
        ("&n=2&last=Beta", json!(["v10", "v2"])),
        ("&last=b", json!(["Beta", "v10", "v2"])),
        ("&n=9", json!(["alpha", "Beta", "v10", "v2"])),
        ("&n=0", json!([])),
        ("&last=v2", json!([])),
    ] {
        let answer = get(&registry, &format!("/v2/team/app/tags/list?ns=quay.io{query}")).await?;
        assert_eq!(answer.json(), json!({ "name": "team/app", "tags": tags }), "{query}");
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.header("link"), "none");
    }
    assert_eq!(get(&registry, "/v2/team/app/tags/list?ns=quay.io&n=two").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn end_12_lists_what_refers_to_an_image_and_of_which_type_it_is() -> Result<()> {
    let layout = tempfile::tempdir()?;
    let app = image(layout.path(), "docker.io/app:v1", b"layer")?;
    let mut signature = manifest(layout.path(), b"signature")?;
    signature["subject"] =
        json!({ "mediaType": MANIFEST_TYPE, "digest": app.manifest.to_string(), "size": 1 });
    signature["artifactType"] = "application/vnd.example.signature".into();
    signature["annotations"] = json!({ "made": "here" });
    let signature_digest = list(layout.path(), &signature, None)?;
    // Of another image.
    signature["subject"]["digest"] = put(layout.path(), b"x")?.to_string().into();
    list(layout.path(), &signature, None)?;
    let registry = serve(layout.path()).await?;
    let entry = json!({
        "mediaType": MANIFEST_TYPE,
        "digest": signature_digest.to_string(),
        "size": std::fs::metadata(layout.path().join("blobs/sha256").join(signature_digest.hex()))?.len(),
        "artifactType": "application/vnd.example.signature",
        "annotations": { "made": "here" },
    });
    let referrers = format!("/v2/app/referrers/{}", app.manifest);
    for (path, entries, filters) in [
        (referrers.clone(), json!([entry]), "none"),
        (
            format!("{referrers}?artifactType=application/vnd.example.signature"),
            json!([entry]),
            "artifactType",
        ),
        (format!("{referrers}?artifactType=other"), json!([]), "artifactType"),
        // "If no referrers exist, an empty list": also of what is not there.
        (format!("/v2/app/referrers/{}", app.layer), json!([]), "none"),
    ] {
        let answer = get(&registry, &path).await?;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), "application/vnd.oci.image.index.v1+json", "{path}");
        assert_eq!(answer.json()["manifests"], entries, "{path}");
        assert_eq!(answer.header("oci-filters-applied"), filters, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn whatever_would_change_the_registry_is_405_unsupported() -> Result<()> {
    let (_layout, image, registry) = app().await?;
    let blob = format!("/v2/team/app/blobs/{}", image.layer);
    let tagged = "/v2/team/app/manifests/v1".to_owned();
    for (endpoint, method, path) in [
        ("end-4a", "POST", "/v2/team/app/blobs/uploads/".to_owned()),
        ("end-4b", "POST", format!("/v2/team/app/blobs/uploads/?digest={}", image.layer)),
        ("end-5", "PATCH", "/v2/team/app/blobs/uploads/1".to_owned()),
        ("end-6", "PUT", format!("/v2/team/app/blobs/uploads/1?digest={}", image.layer)),
        ("end-7", "PUT", tagged.clone()),
        ("end-9", "DELETE", tagged.clone()),
        ("end-10", "DELETE", blob.clone()),
        ("end-11", "POST", format!("/v2/team/app/blobs/uploads/?mount={}&from=team/other", image.layer)),
        ("end-1", "POST", "/v2/".to_owned()),
    ] {
        let answer = ask(&registry, method, &path).await?;
        assert_eq!(answer.error(), (405, "UNSUPPORTED".to_owned()), "{endpoint}");
        assert_eq!(answer.header("allow"), "GET, HEAD", "{endpoint}");
    }
    for path in [&blob, &tagged] {
        assert_eq!(get(&registry, path).await?.status, 200, "{path} is gone");
    }
    Ok(())
}
