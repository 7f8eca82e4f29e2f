//! Readers of the release gate.

use std::path::Path;

use lab_gate::{
    fuzzed::{manifest_mentions, mentions, verify_statement},
    release::{Release, ReleaseTag},
};
use lab_image::{
    KernelFacts, KernelModule, RuntimeConfig, Trust, built_in_aliases, compatible_of, containerd_major,
    device_tree_devices, go_modules, listed_modules, split_signature,
};
use lab_oci::containers::{LayerFacts, Script};

/// A kernel module: signature, section and fields; and the certificates of a kernel in the same bytes.
pub fn module(data: &[u8]) {
    let keys = KernelFacts::of(data).keys;
    if let Ok(module) = KernelModule::read("usr/lib/modules/6/a.ko", data, &keys)
        && let Trust::Valid { key } = &module.trust
    {
        assert!(!key.is_empty(), "a valid signature without a key");
    }
    if let Ok((content, signature)) = split_signature(data) {
        assert!(content.len() <= data.len(), "more content than there is");
        assert!(signature.is_none() || content.len() < data.len(), "a signature without bytes");
    }
    let _ = listed_modules(data);
    for alias in built_in_aliases(data).keys() {
        let _ = compatible_of(alias);
    }
}

/// A device tree or an overlay.
pub fn device_tree(data: &[u8]) {
    if let Ok(devices) = device_tree_devices(data) {
        assert!(devices.iter().all(|device| !device.is_empty()), "a device without a name");
    }
}

/// A containerd program, and a configuration of containerd.
pub fn containerd(data: &[u8]) {
    let _ = go_modules(data);
    let _ = containerd_major(data);
    if let Ok(config) = RuntimeConfig::parse(data) {
        config.handlers.iter().for_each(|handler| drop(handler.shim()));
    }
}

/// An unpacked layer of a container image.
pub fn container_layer(data: &[u8]) {
    let _ = Script::parse(data);
    if let Ok(facts) = LayerFacts::read(data) {
        let leads_out = |path: &String| path.split('/').any(|part| part == "..");
        assert!(!facts.entries.keys().any(leads_out), "a path leads out");
    }
}

/// A release file, and a tag.
pub fn release(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(tag) = ReleaseTag::parse(&text) {
        assert_eq!(ReleaseTag::parse(&tag.to_string()), Some(tag), "a tag that is not what it says");
    }
    let _ = Release::parse("release.yaml", &text, Path::new("/nonexistent"), &["age"]);
}

/// A document, a manifest, and a signed statement.
pub fn texts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for mention in mentions(&text).into_iter().chain(manifest_mentions("a.yaml", &text)) {
        assert!(mention.position.line > 0 && mention.position.column > 0, "a place that is none");
    }
    verify_statement(data);
}
