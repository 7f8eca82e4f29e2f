//! What the mirror lacks comes from the registry that it stands in for. The upstreams are registries
//! of their own labs on other ports, and a registry that returns wrong content.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context, Result};
use futures::future::join_all;
use lab_model::{
    Digest,
    events::{Recorder, Subscription},
};
use lab_oci::{
    images::{Mirror, PullThrough, Reference},
    registry::{Registry, RegistryOptions, Store},
};

use super::{
    fixture::{Image, ask_with, get, image, notes, serve},
    integrity::flip,
};

/// A registry with an empty store that fetches into a mirror.
struct Fetching {
    registry: Registry,
    fetches: PullThrough,
    events: Subscription,
    mirror: tempfile::TempDir,
}

impl Fetching {
    /// Fetches from `upstream`.
    async fn start(upstream: SocketAddr) -> Result<Self> {
        let mirror = tempfile::tempdir()?;
        let fetches = PullThrough::new(Mirror::new(mirror.path()), []).reaching_any_host();
        fetches.allow([upstream.to_string(), "word".to_owned()]);
        Self::of(mirror, fetches).await
    }

    async fn of(mirror: tempfile::TempDir, fetches: PullThrough) -> Result<Self> {
        let recorder = Recorder::new();
        let events = recorder.subscribe();
        let options =
            RegistryOptions { store: Store::default(), pull_through: Some(fetches.clone()), recorder };
        Ok(Self { registry: Registry::start(options).await?, fetches, events, mirror })
    }

    /// Waits until all of an image is in the mirror.
    async fn completed(&self, upstream: SocketAddr, image: &Image) -> Result<()> {
        let reference: Reference = format!("{upstream}/app:v1").parse()?;
        self.fetches.rest(reference, image.manifest.clone()).await.map_err(anyhow::Error::msg)?;
        Ok(())
    }
}

/// The files of a mirror's blobs.
fn blobs(mirror: &Path) -> usize {
    fs::read_dir(mirror.join("blobs/sha256")).map_or(0, Iterator::count)
}

async fn upstream() -> Result<(tempfile::TempDir, Image, Registry)> {
    let layout = tempfile::tempdir()?;
    let app = image(layout.path(), "docker.io/app:v1", &[3; 200_000])?;
    let registry = serve(layout.path()).await?;
    Ok((layout, app, registry))
}

/// Where its manifest, config and layer are asked for.
fn paths(upstream: SocketAddr, app: &Image) -> [String; 3] {
    let parts = ["manifests/v1".to_owned(), format!("blobs/{}", app.config), format!("blobs/{}", app.layer)];
    parts.map(|part| format!("/v2/app/{part}?ns={upstream}"))
}

#[tokio::test]
async fn an_image_is_fetched_once_kept_and_served_when_its_registry_is_gone() -> Result<()> {
    let (_layout, app, upstream) = upstream().await?;
    let at = upstream.address();
    let fetching = Fetching::start(at).await?;
    let [manifest, config, layer] = paths(at, &app);
    let first = get(&fetching.registry, &manifest).await?;
    assert_eq!(
        (first.status, first.header("docker-content-digest")),
        (200, app.manifest.to_string().as_str())
    );
    assert_eq!(get(&fetching.registry, &layer).await?.body, [3; 200_000]);
    fetching.completed(at, &app).await?;
    assert_eq!(upstream.bytes_served(), app.size, "something was fetched twice");
    drop(upstream);

    for path in [&manifest, &config, &layer] {
        assert_eq!(get(&fetching.registry, path).await?.status, 200, "{path}");
    }
    // And from the mirror alone, in another run.
    let store = Store::open(&[fetching.mirror.path().to_owned()])?;
    assert_eq!(store.references().collect::<Vec<_>>(), [format!("{at}/app:v1")]);
    let later = Registry::start(store).await?;
    for path in [&manifest, &config, &layer] {
        assert_eq!(get(&later, path).await?.status, 200, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_fetched_without_being_asked_for() -> Result<()> {
    let (_layout, app, upstream) = upstream().await?;
    let registry = Registry::start(Store::default()).await?;
    for path in paths(upstream.address(), &app) {
        assert_eq!(get(&registry, &path).await?.status, 404, "{path}");
    }
    assert_eq!(upstream.bytes_served(), 0);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_nothing_names_or_that_is_private_is_not_asked() -> Result<()> {
    let (_layout, app, upstream) = upstream().await?;
    let at = upstream.address();
    let unnamed = tempfile::tempdir()?;
    let unnamed_fetches = PullThrough::new(Mirror::new(unnamed.path()), []).reaching_any_host();
    let private = tempfile::tempdir()?;
    let private_fetches = PullThrough::new(Mirror::new(private.path()), [at.to_string()]);
    for (mirror, fetches, why) in [
        (unnamed, unnamed_fetches, "no machine config and no scenario of this run names the registry"),
        (private, private_fetches, "is not on the public internet"),
    ] {
        let fetching = Fetching::of(mirror, fetches).await?;
        for path in paths(at, &app) {
            let answer = get(&fetching.registry, &path).await?;
            assert_eq!(answer.error(), (403, "DENIED".to_owned()), "{path}");
            assert!(answer.message().contains(why), "{}", answer.message());
        }
    }
    assert_eq!(upstream.bytes_served(), 0);
    Ok(())
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_fetch() -> Result<()> {
    let (_layout, app, upstream) = upstream().await?;
    let at = upstream.address();
    let fetching = Fetching::start(at).await?;
    let [manifest, config, layer] = paths(at, &app);
    let asked = [&manifest, &layer, &config].into_iter().cycle().take(24);
    for answer in join_all(asked.map(|path| get(&fetching.registry, path))).await {
        assert_eq!(answer?.status, 200);
    }
    fetching.completed(at, &app).await?;
    assert_eq!(upstream.bytes_served(), app.size);
    assert_eq!(blobs(fetching.mirror.path()), 3);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_named_with_the_cause_to_client_and_person() -> Result<()> {
    let (_layout, app, upstream) = upstream().await?;
    let at = upstream.address();
    drop(upstream);
    let mut fetching = Fetching::start(at).await?;
    for path in paths(at, &app) {
        let answer = get(&fetching.registry, &path).await?;
        assert_eq!(answer.error(), (502, "UNKNOWN".to_owned()), "{path}");
        let message = answer.message();
        assert!(
            message.contains(&format!("fetching it from {at} failed: it could not be reached")),
            "{message}"
        );
        assert!(message.contains("onnection refused"), "{message}");
        let told = notes(&mut fetching.events);
        assert!(told.iter().any(|note| note.ends_with(&message)), "{told:?}");
    }
    assert_eq!(blobs(fetching.mirror.path()), 0);
    Ok(())
}

#[tokio::test]
async fn what_the_upstream_lacks_is_404_and_said() -> Result<()> {
    let (_layout, _, upstream) = upstream().await?;
    let at = upstream.address();
    let fetching = Fetching::start(at).await?;
    let answer = get(&fetching.registry, &format!("/v2/app/manifests/v2?ns={at}")).await?;
    assert_eq!(answer.error(), (404, "MANIFEST_UNKNOWN".to_owned()));
    assert!(answer.message().contains(&format!("the registry has no {at}/app:v2")), "{}", answer.message());
    let nowhere = Digest::of_bytes(b"nowhere");
    let answer = get(&fetching.registry, &format!("/v2/app/blobs/{nowhere}?ns={at}")).await?;
    assert_eq!(answer.error(), (404, "BLOB_UNKNOWN".to_owned()));
    // A name that is no host's leads nowhere, and least of all to Docker Hub.
    let answer = get(&fetching.registry, "/v2/app/manifests/v2?ns=word").await?;
    assert_eq!(answer.error(), (404, "NAME_INVALID".to_owned()));
    Ok(())
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_neither_served_nor_kept() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let router = axum::Router::new().fallback(|| async { r#"{"schemaVersion":2,"manifests":[]}"# });
    let liar = tokio::spawn(async move { axum::serve(listener, router).await });
    let fetching = Fetching::start(at).await?;
    let wanted = Digest::of_bytes(b"wanted");
    for kind in ["blobs", "manifests"] {
        let answer = get(&fetching.registry, &format!("/v2/app/{kind}/{wanted}?ns={at}")).await?;
        assert_eq!(answer.error(), (502, "UNKNOWN".to_owned()), "{kind}");
        let message = answer.message();
        assert!(message.contains(&wanted.to_string()) && message.contains(&at.to_string()), "{message}");
    }
    assert_eq!(blobs(fetching.mirror.path()), 0, "something was kept");
    // The same bytes under their own digest are taken.
    let own = Digest::of_bytes(br#"{"schemaVersion":2,"manifests":[]}"#);
    let answer = get(&fetching.registry, &format!("/v2/app/blobs/{own}?ns={at}")).await?;
    assert_eq!(answer.status, 200, "{}", answer.message());
    liar.abort();
    Ok(())
}

#[tokio::test]
async fn what_is_damaged_in_the_mirror_is_fetched_again() -> Result<()> {
    let (_layout, app, upstream) = upstream().await?;
    let at = upstream.address();
    let fetching = Fetching::start(at).await?;
    let [manifest, _, layer] = paths(at, &app);
    get(&fetching.registry, &manifest).await?;
    fetching.completed(at, &app).await?;
    for (digest, path) in [(&app.layer, &layer), (&app.manifest, &manifest)] {
        flip(fetching.mirror.path(), digest)?;
        let head = ask_with(fetching.registry.address(), "HEAD", path, None).await?;
        assert_eq!(head.status, 200, "{path}");
        let file = fetching.mirror.path().join("blobs/sha256").join(digest.hex());
        assert_eq!(Digest::of_bytes(&fs::read(file).context("the mirror's file")?), *digest);
    }
    Ok(())
}
