//! Ports that stand in for one upstream each, as people have them on their mirrors; images that are not there, and images
//! that are sent late.

use std::time::Duration;

use anyhow::Result;
use lab_oci::registry::RegistryError;

use super::fixture::{ask_with, get, image, serve};

#[tokio::test]
async fn a_port_of_one_upstream_needs_no_ns() -> Result<()> {
    let layout = tempfile::tempdir()?;
    image(layout.path(), "quay.io/team/app:v1", b"layer")?;
    let mut registry = serve(layout.path()).await?;
    // A port that was free a moment ago.
    let own = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    registry.also_at(own.port(), Some("quay.io")).await?;
    for (at, path, status) in [
        (own, "/v2/team/app/manifests/v1", 200),
        (own, "/v2/team/app/manifests/v1?ns=quay.io", 200),
        (own, "/v2/team/app/manifests/v1?ns=docker.io", 404),
        (registry.address(), "/v2/team/app/manifests/v1", 404),
        (registry.address(), "/v2/team/app/manifests/v1?ns=quay.io", 200),
    ] {
        assert_eq!(ask_with(at, "GET", path, None).await?.status, status, "{at} {path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_reason() -> Result<()> {
    let layout = tempfile::tempdir()?;
    image(layout.path(), "quay.io/team/app:v1", b"layer")?;
    let mut registry = serve(layout.path()).await?;
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = other.local_addr()?.port();
    let error = registry.also_at(port, Some("quay.io")).await.expect_err("taken");
    assert!(matches!(error, RegistryError::FixedPort { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("open port {port} ")) && text.contains("ddress already in use"), "{text}");
    Ok(())
}

#[tokio::test]
async fn an_image_that_is_asked_for_and_not_there_is_known_at_once() -> Result<()> {
    let layout = tempfile::tempdir()?;
    let there = image(layout.path(), "registry.k8s.io/pause:3.10", b"layer")?;
    let registry = serve(layout.path()).await?;
    let mut missing = registry.missing();
    let at = |reference: &str| format!("/v2/pause/manifests/{reference}?ns=registry.k8s.io");
    for reference in ["3.10", "3.10.1", &there.layer.to_string()] {
        ask_with(registry.address(), "GET", &at(reference), None).await?;
    }
    let missing: Vec<_> = missing.borrow_and_update().iter().cloned().collect();
    assert_eq!(missing, ["registry.k8s.io/pause:3.10.1"]);
    Ok(())
}

#[tokio::test]
async fn an_image_that_is_held_back_is_sent_when_it_is_released_and_no_other_waits() -> Result<()> {
    let layout = tempfile::tempdir()?;
    let held = image(layout.path(), "registry.k8s.io/kube-scheduler:v1", b"one")?;
    image(layout.path(), "registry.k8s.io/kube-apiserver:v1", b"two")?;
    let registry = serve(layout.path()).await?;
    let repository = "registry.k8s.io/kube-scheduler".to_owned();
    registry.hold([repository.clone()]);
    let at = |name: &str, what: &str| format!("/v2/{name}/{what}?ns=registry.k8s.io");
    let other = get(&registry, &at("kube-apiserver", "manifests/v1")).await?;
    let blob = get(&registry, &at("kube-scheduler", &format!("blobs/{}", held.layer))).await?;
    assert_eq!((other.status, blob.status), (200, 200));

    for reference in ["v1".to_owned(), held.manifest.to_string()] {
        registry.hold([repository.clone()]);
        let path = at("kube-scheduler", &format!("manifests/{reference}"));
        let mut asked = Box::pin(get(&registry, &path));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut asked).await;
        assert!(early.is_err(), "{reference} did not wait");
        registry.release(&[repository.clone()].into());
        assert_eq!(asked.await?.status, 200);
    }
    Ok(())
}
