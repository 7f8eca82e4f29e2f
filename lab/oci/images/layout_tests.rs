//! Tests that written layouts can be read, and that an index preserves unknown fields.

use super::*;

fn layout() -> (tempfile::TempDir, Layout) {
    let directory = tempfile::tempdir().expect("tempdir");
    let layout = Layout::new(directory.path().join("layout"));
    (directory, layout)
}

#[test]
fn an_image_is_found_by_its_name_with_all_its_parts() {
    let (_directory, layout) = layout();
    assert!(!layout.exists());
    let layer = layout.put(LAYER_TYPE, b"layer").expect("layer");
    let image = layout.put_image(&json!({ "os": "linux" }), std::slice::from_ref(&layer)).expect("image");
    layout.write_index(&[image.clone().for_architecture("arm64").named("lab.local/app:v1")]).expect("index");
    assert!(layout.exists());
    let images = layout.images().expect("images");
    assert_eq!(images.iter().map(Descriptor::name).collect::<Vec<_>>(), [Some("lab.local/app:v1")]);
    let manifest = fs::read(layout.blob(&images[0].digest().expect("digest"))).expect("manifest");
    assert_eq!(image.size, Some(manifest.len() as u64));
    let manifest: Value = serde_json::from_slice(&manifest).expect("json");
    assert_eq!(manifest["layers"][0]["digest"], layer.digest);
    assert_eq!(fs::read(layout.blob(&layer.digest().expect("digest"))).expect("blob"), b"layer");
}

#[test]
fn the_bytes_are_those_that_were_always_written() {
    let (_directory, layout) = layout();
    let layer = layout.put(LAYER_TYPE, b"layer").expect("layer");
    let image =
        layout.put_image(&json!({}), &[layer]).expect("image").for_architecture("arm64").named("a/b:c");
    let (manifest, image) = (image.digest().expect("digest"), [image]);
    layout.write_index(&image).expect("index");
    let hex = |content: &[u8]| Digest::of_bytes(content).to_string();
    assert_eq!(
        fs::read_to_string(layout.blob(&manifest)).expect("manifest"),
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":\
             {{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{}\",\"size\":2}},\"layers\":\
             [{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{}\",\"size\":5}}]}}",
            hex(b"{}"),
            hex(b"layer")
        )
    );
    assert_eq!(
        fs::read_to_string(layout.directory().join(INDEX)).expect("index"),
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":\
             [{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{manifest}\",\"size\":{},\
             \"platform\":{{\"architecture\":\"arm64\",\"os\":\"linux\"}},\"annotations\":\
             {{\"org.opencontainers.image.ref.name\":\"a/b:c\"}}}}]}}",
            image[0].size.expect("size")
        )
    );
    let mark = fs::read_to_string(layout.directory().join("oci-layout")).expect("mark");
    assert_eq!(mark, "{\"imageLayoutVersion\":\"1.0.0\"}");
}

#[test]
fn an_image_replaces_one_of_its_name_and_others_keep_what_is_not_known() {
    let (_directory, layout) = layout();
    fs::create_dir_all(layout.directory()).expect("mkdir");
    let other = r#"{"manifests":[{"digest":"sha256:x","artifactType":"a","annotations":{"k":"v"}}]}"#;
    fs::write(layout.directory().join(INDEX), other).expect("write");
    for content in [&b"one"[..], b"two"] {
        let image = layout.put(MANIFEST_TYPE, content).expect("image").named("a/b:c");
        layout.list(image).expect("list");
    }
    let images = layout.images().expect("images");
    assert_eq!(images.len(), 2);
    assert_eq!(images[0].other["artifactType"], "a");
    assert_eq!(images[1].digest(), Some(Digest::of_bytes(b"two")));
}

#[test]
fn a_layout_that_is_not_there_has_no_images_and_a_damaged_one_is_an_error() {
    let (_directory, layout) = layout();
    assert!(matches!(layout.images(), Err(LayoutError::File { action: "read", .. })));
    assert_eq!(layout.images_so_far().expect("none"), []);
    fs::create_dir_all(layout.directory()).expect("mkdir");
    fs::write(layout.directory().join(INDEX), "{").expect("write");
    assert!(matches!(layout.images_so_far(), Err(LayoutError::Index { .. })));
}

#[test]
fn a_blob_is_there_whole_or_not_at_all_and_can_be_forgotten() {
    let (_directory, layout) = layout();
    let digest = Digest::of_bytes(b"blob");
    drop(layout.begin().expect("partial"));
    assert_eq!(fs::read_dir(layout.directory().join("blobs/sha256")).expect("list").count(), 0);
    layout.put(LAYER_TYPE, b"blob").expect("put");
    assert!(layout.has(&digest));
    layout.forget(&digest).expect("forget");
    layout.forget(&digest).expect("forget what is not there");
    assert!(!layout.has(&digest));
}
