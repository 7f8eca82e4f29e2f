//! What clients ask of the lab's registry, and what it reads to answer.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use lab_model::Digest;
use lab_oci::{
    images::index_of,
    registry::{
        Store,
        fuzzed::{Part, ServedManifest, Target, Wanted},
    },
};

/// How long the content is of which ranges are asked for.
const LENGTHS: [u64; 3] = [0, 100, u64::MAX];

/// A request, in lines: the path below `/v2/`, the `Range`, the query's `n`.
pub fn request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let (path, range) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if let Ok(path) = std::str::from_utf8(path) {
        target(path);
    }
    let Ok(range) = HeaderValue::from_bytes(range) else {
        return;
    };
    let headers = HeaderMap::from_iter([(header::RANGE, range)]);
    for length in LENGTHS {
        for method in [Method::GET, Method::HEAD] {
            let part = Part::of(&method, &headers, length);
            assert!(method == Method::GET || part == Part::Whole, "HEAD has no ranges");
            if let Some((start, end)) = part.bounds(length) {
                assert!(start <= end && end <= length, "{part:?} is outside of {length} bytes");
                assert!(part == Part::Whole || start < end, "an empty range");
            }
        }
    }
}

/// What a path asks for is within the registry, and is the same when it is written again.
fn target(path: &str) {
    let Ok(target) = Target::parse(path) else {
        return;
    };
    let again = match &target {
        Target::Blob { repository, digest } => format!("{}/blobs/{digest}", checked(repository)),
        Target::Manifest { repository, reference: Wanted::Tag(tag) } => {
            assert!(!tag.contains(['/', '%']) && !tag.starts_with('.'), "{tag} is a path");
            format!("{}/manifests/{tag}", checked(repository))
        }
        Target::Manifest { repository, reference: Wanted::Digest(digest) } => {
            format!("{}/manifests/{digest}", checked(repository))
        }
        Target::Tags { repository } => format!("{}/tags/list", checked(repository)),
        // The repository does not matter.
        Target::Referrers { digest } => {
            assert!(path.ends_with(&format!("/referrers/{digest}")));
            return;
        }
    };
    assert_eq!(again, path);
}

fn checked(repository: &str) -> &str {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(char::is_uppercase);
    assert!(repository.split('/').all(plain), "{repository} leads out");
    repository
}

/// The index of a mirror, a zero, and a manifest that it lists.
pub fn mirror(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (index, manifest) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let subject = Digest::of_bytes(index);
    if let Some(manifest) = ServedManifest::parse(manifest) {
        assert!(!manifest.refers_to(&subject) || data.len() > 64, "a subject out of nothing");
        let descriptor = manifest.descriptor(&subject, data.len());
        assert_eq!(descriptor["mediaType"], manifest.media_type());
        assert_eq!(index_of(&[descriptor])["manifests"][0]["size"], data.len());
    }
    let layout = tempfile::tempdir().expect("a directory");
    std::fs::write(layout.path().join("index.json"), index).expect("write");
    let Ok(mut store) = Store::open(&[layout.path().to_owned()]) else {
        return;
    };
    store.look_in(layout.path().to_owned());
    for reference in store.references() {
        let digest = store.manifest(reference).expect("a name without a manifest");
        assert_eq!(store.files(digest).count(), 0, "a file out of nothing");
        let repository = reference.rsplit_once([':', '@']).map_or(reference, |(name, _)| name);
        let _ = store.tags(repository);
    }
    assert!(store.upstreams().len() <= store.listed().count());
}
