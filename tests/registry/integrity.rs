//! Content that is not what its digest says is not served as if it were.

use std::{fs, path::Path};

use anyhow::Result;
use lab_model::{Digest, events::Recorder};
use lab_oci::registry::{Registry, RegistryOptions, Store};

use super::fixture::{ask, get, image, notes};

/// Changes one byte of a blob, and nothing else of its file.
pub fn flip(layout: &Path, digest: &Digest) -> Result<()> {
    let path = layout.join("blobs/sha256").join(digest.hex());
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(fs::write(path, bytes)?)
}

#[tokio::test]
async fn a_flipped_byte_is_refused_named_and_told_once_also_after_the_content_was_served() -> Result<()> {
    let layout = tempfile::tempdir()?;
    let app = image(layout.path(), "docker.io/app:v1", &[7; 100_000])?;
    let recorder = Recorder::new();
    let mut events = recorder.subscribe();
    let options = RegistryOptions { recorder, ..Store::open(&[layout.path().to_owned()])?.into() };
    let registry = Registry::start(options).await?;
    let path = format!("/v2/app/blobs/{}", app.layer);
    assert_eq!(get(&registry, &path).await?.body, [7; 100_000]);
    assert_eq!(notes(&mut events), [""; 0]);

    flip(layout.path(), &app.layer)?;
    for _ in 0..2 {
        let answer = get(&registry, &path).await?;
        assert_eq!(answer.error(), (500, "UNKNOWN".to_owned()));
        let message = answer.message();
        assert!(message.contains(&app.layer.hex()) && message.contains("is damaged"), "{message}");
        assert!(message.contains("lab mirror pull"), "{message}");
    }
    assert_eq!(ask(&registry, "HEAD", &path).await?.status, 500);
    let told = notes(&mut events);
    assert_eq!(told.len(), 1, "{told:?}");
    let file = layout.path().join("blobs/sha256").join(app.layer.hex());
    assert!(told[0].contains(&file.display().to_string()) && told[0].contains("is damaged"), "{told:?}");
    // The rest of the image is as it was, and so is the layer when its byte is turned back.
    assert_eq!(get(&registry, "/v2/app/manifests/v1").await?.status, 200);
    assert_eq!(get(&registry, &format!("/v2/app/blobs/{}", app.config)).await?.status, 200);
    flip(layout.path(), &app.layer)?;
    assert_eq!(get(&registry, &path).await?.body, [7; 100_000]);
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_refused_is_told_once_and_one_that_is_answered_is_not() -> Result<()> {
    let layout = tempfile::tempdir()?;
    image(layout.path(), "docker.io/app:v1", b"layer")?;
    let recorder = Recorder::new();
    let mut events = recorder.subscribe();
    let options = RegistryOptions { recorder, ..Store::open(&[layout.path().to_owned()])?.into() };
    let registry = Registry::start(options).await?;
    assert_eq!(get(&registry, "/v2/app/manifests/v1").await?.status, 200);
    assert_eq!(notes(&mut events), [""; 0]);
    for (path, told) in [
        ("/v2/app/manifests/v2", "docker.io/app:v2 is not in the mirror"),
        ("/v2/App/manifests/v1", "\"App\" is not a repository name"),
        ("/v2/app/blobs/sha256:1", "\"sha256:1\" is not a digest"),
        ("/v2/other/tags/list", "this registry has no image of docker.io/other"),
    ] {
        for _ in 0..2 {
            assert_eq!(get(&registry, path).await?.status, 404, "{path}");
        }
        let notes = notes(&mut events);
        assert!(notes.len() == 1 && notes[0].contains(told), "{path}: {notes:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_damaged_manifest_is_refused_by_tag_and_by_digest() -> Result<()> {
    let layout = tempfile::tempdir()?;
    let app = image(layout.path(), "docker.io/app:v1", b"layer")?;
    flip(layout.path(), &app.manifest)?;
    let registry = super::fixture::serve(layout.path()).await?;
    for reference in ["v1", &app.manifest.to_string()] {
        let answer = get(&registry, &format!("/v2/app/manifests/{reference}")).await?;
        assert_eq!(answer.status, 500, "{reference}");
        assert!(answer.message().contains("is damaged"), "{}", answer.message());
    }
    Ok(())
}

#[tokio::test]
async fn a_whole_copy_in_another_layout_is_served_in_place_of_a_damaged_one() -> Result<()> {
    let layouts = [tempfile::tempdir()?, tempfile::tempdir()?];
    let paths = layouts.each_ref().map(|layout| layout.path().to_owned());
    let app = image(&paths[0], "docker.io/app:v1", b"layer")?;
    image(&paths[1], "docker.io/app:v1", b"layer")?;
    flip(&paths[0], &app.layer)?;
    let registry = Registry::start(Store::open(&paths)?).await?;
    assert_eq!(get(&registry, &format!("/v2/app/blobs/{}", app.layer)).await?.body, b"layer");
    Ok(())
}
