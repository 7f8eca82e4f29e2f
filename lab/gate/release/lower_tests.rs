//! Release files, good and wrong.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Release, String> {
    let directory = tempfile::tempdir().expect("tempdir");
    std::fs::write(directory.path().join("README.md"), "x").expect("write");
    Release::parse("r.yaml", text, directory.path(), &["age"]).map_err(|error| error.to_string())
}

const GOOD: &str = "\
release: v1.5.1-1.13.5-4
registry: ghcr.io/you/
roles:
  compute: { extensions: [drbd] }
  spin-hailort: {}
boards:
  rpi5: { deviceTrees: [bcm2712-rpi-5-b.dtb] }
nodes:
  - { role: compute, image: ghcr.io/you/talos:v1, raw: ./out/metal.raw.xz }
  - { role: spin-hailort, board: rpi5, image: ghcr.io/you/talos:v1-rpi5 }
containers: { images: [ghcr.io/you/api:v1] }
documents: ['*.md']
accept:
  - { rule: age, where: api, because: built once }
";

#[test]
fn a_release_has_its_version_roles_boards_and_parts() {
    let release = read(GOOD).expect("release");
    assert_eq!(release.talos, Some(Version::new(1, 13, 5)));
    assert_eq!(release.registry.as_deref(), Some("ghcr.io/you"));
    let names: Vec<_> = release.nodes.iter().map(NodeVariant::name).collect();
    assert_eq!(names, ["compute/metal", "spin-hailort/rpi5"]);
    assert_eq!(release.nodes[0].parts.len(), 2);
    assert_eq!(release.documents[0].path, Path::new("README.md"));
}

#[test]
fn mistakes_have_their_place_and_a_way_out() {
    for (from, to, message) in [
        ("roles:", "rolls:", "r.yaml:3:1: unknown key \"rolls\"; did you mean \"roles\"?"),
        ("role: compute,", "role: computer,", "r.yaml:9:13: no role \"computer\"; did you mean \"compute\"?"),
        ("board: rpi5,", "board: rpi4,", "r.yaml:10:34: no board \"rpi4\"; did you mean \"rpi5\"?"),
        ("'*.md'", "'../*.md'", "r.yaml:12:13: \"../*.md\" leads out of the directory of the release"),
        ("'*.md'", "'*.txt'", "r.yaml:12:13: \"*.txt\" names no files"),
        ("rule: age", "rule: ages", "r.yaml:14:13: no rule \"ages\"; did you mean \"age\"?"),
        ("ghcr.io/you/api:v1", "api", "r.yaml:11:24: \"api\" is not an image"),
    ] {
        let error = read(&GOOD.replacen(from, to, 1)).expect_err(message);
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn a_release_without_images_is_refused() {
    let error = read("release: v1\n").expect_err("nothing to check");
    assert!(error.contains("names no image, so there is nothing to check"), "{error}");
}

proptest! {
    #[test]
    fn any_text_ends_without_a_panic(text in "(release|nodes|role|image|[-:{}\\[\\],*&!|> \n]|[a-z])*") {
        let _ = read(&text);
    }
}
