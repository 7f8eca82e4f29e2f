//! Inputs of the targets of the release gate.

use std::io;

use lab_image_fixtures::{SigningKey, containerd, device_tree, elf, kernel_with, module};

const RELEASE: &str = "release: v1.5.1-1.13.5-4\nregistry: ghcr.io/you\nroles: { compute: { extensions: [drbd] } }\nboards: { cm4: { deviceTrees: [a.dtb] } }\n\
    nodes: [{ role: compute, board: cm4, raw: ./x }]\ncontainers: { images: [ghcr.io/you/a:v1] }\naccept: [{ rule: age, where: a, because: b }]\n";
const MANIFEST: &str = "image: { registry: ghcr.io, repository: you/a, tag: v1 }\n---\n- ghcr.io/you/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n- IMAGE_DIGEST_X\n";
const STATEMENT: &str = "{\"payloadType\":\"application/vnd.in-toto+json\",\"payload\":\"e30=\",\"signatures\":[{\"sig\":\"AA==\"}]}";

/// Writes one input: its target, a name and the bytes.
type Write<'a> = dyn Fn(&str, &str, &[u8]) -> io::Result<()> + 'a;

/// Writes one input after the other.
pub fn write(write: &Write<'_>) -> io::Result<()> {
    let key = SigningKey::new("key");
    let plain = module("a", "6.12 SMP aarch64", &["b"], &["of:N*T*Cc,d"]);
    write("module", "plain", &plain)?;
    write("module", "signed", &key.sign(&plain))?;
    write("module", "kernel", &kernel_with("6.12", &[&key]))?;
    write("device_tree", "two", &device_tree(&[("a", "b,c", "okay"), ("d", "e", "")]))?;
    write("containerd", "program", &containerd("/v2"))?;
    write("containerd", "config", super::PART)?;
    let mut layer = tar::Builder::new(Vec::new());
    for (path, content) in
        [("bin/a", elf(62)), ("start.sh", b"#!/bin/sh\nexec /bin/a\n".to_vec()), (".wh.b", Vec::new())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        layer.append_data(&mut header, path, &content[..])?;
    }
    write("container_layer", "three", &layer.into_inner()?)?;
    write("release", "whole", RELEASE.as_bytes())?;
    write("release", "tag", b"v1.5.1-1.13.5-4-rpi5")?;
    write("texts", "manifest", MANIFEST.as_bytes())?;
    write("texts", "statement", STATEMENT.as_bytes())
}
