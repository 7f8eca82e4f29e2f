//! Images that are for arm64, and images that only say so.

use std::sync::Arc;

use lab_image::ElfHead;
use lab_model::Digest;

use super::{super::script::Script, *};
use crate::images::Command;

const AMD64: u16 = 62;
const ARM64: u16 = 183;

fn program(machine: u16) -> LayerEntry {
    LayerEntry::Program { head: ElfHead { machine, is_program: true }, executable: true }
}

fn script(text: &str) -> LayerEntry {
    LayerEntry::Script(Script::parse(text.as_bytes()).expect("script"))
}

fn link(target: &str) -> LayerEntry {
    LayerEntry::Link(target.to_owned())
}

fn layer(entries: &[(&str, LayerEntry)], removed: &[&str]) -> Arc<LayerFacts> {
    let entries = entries.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone())).collect();
    Arc::new(LayerFacts {
        files: 1,
        entries,
        removed: removed.iter().map(|path| (*path).to_owned()).collect(),
    })
}

fn image(entrypoint: &[&str], layers: Vec<Arc<LayerFacts>>) -> ContainerImage {
    let words = entrypoint.iter().map(|word| (*word).to_owned()).collect();
    ContainerImage {
        digest: Digest::of_bytes(b"index"),
        image: Digest::of_bytes(b"image"),
        platforms: Vec::new(),
        created: None,
        architecture: Some("arm64".into()),
        os: Some("linux".into()),
        config_type: None,
        command: Command { entrypoint: Some(words), ..Command::default() },
        layers,
        bytes: 0,
        read: 0,
    }
}

#[test]
fn an_arm64_image_has_no_foreign_program_and_its_chain_ends_at_a_program() {
    let base = layer(&[("bin", link("usr/bin")), ("usr/bin/sh", program(ARM64))], &[]);
    let app = layer(&[("app", program(ARM64)), ("start.sh", script("#!/bin/sh\nexec /app\n"))], &[]);
    let programs = image(&["/start.sh"], vec![base, app]).programs();
    assert_eq!((programs.kind, programs.native, programs.foreign.len()), (ImageKind::Programs, 2, 0));
    assert_eq!(programs.chain, ["/start.sh", "/usr/bin/sh"]);
    assert!(programs.missing.is_empty());
}

#[test]
fn an_amd64_program_behind_a_wrapper_is_told_with_the_way_to_it() {
    let base = layer(&[("bin/sh", program(ARM64)), ("opt/tool", program(AMD64))], &[]);
    let app = layer(&[("app", program(AMD64)), ("start.sh", script("#!/bin/sh\nexec /app \"$@\"\n"))], &[]);
    let foreign = image(&["/start.sh"], vec![base, app]).programs().foreign;
    let told: Vec<_> = foreign
        .iter()
        .map(|program| (program.path.as_str(), program.layer, program.machine.as_str()))
        .collect();
    assert_eq!(told, [("app", 2, "amd64"), ("opt/tool", 1, "amd64")]);
    assert_eq!(foreign[0].started_by.as_deref(), Some(&["/start.sh".to_owned(), "/app".to_owned()][..]));
    assert_eq!((foreign[1].started_by.as_ref(), foreign[1].in_path), (None, false));
}

#[test]
fn a_name_is_looked_for_in_the_path_and_what_no_layer_has_is_missing() {
    let layers = || vec![layer(&[("usr/local/bin/tool", program(AMD64))], &[])];
    let found = image(&["tool"], layers()).programs();
    assert!(found.foreign[0].in_path && found.foreign[0].started_by.is_some());
    assert_eq!(image(&["other"], layers()).programs().missing, ["other"]);
    let no_shell = layer(&[("start.sh", script("#!/bin/bash\n"))], &[]);
    assert_eq!(image(&["/start.sh"], vec![no_shell]).programs().missing, ["/bin/bash (by /start.sh)"]);
}

#[test]
fn a_whiteout_hides_the_foreign_program_of_a_lower_layer() {
    let lower = layer(&[("opt/old/tool", program(AMD64)), ("app", program(ARM64))], &[]);
    let hidden = image(&["/app"], vec![lower.clone(), layer(&[], &["opt/old"])]).programs();
    assert!(hidden.foreign.is_empty());
    assert_eq!(image(&["/app"], vec![lower, layer(&[], &["opt/other"])]).programs().foreign.len(), 1);
}

#[test]
fn data_artefacts_and_modules_of_webassembly_are_known() {
    let data = image(&[], vec![layer(&[], &[])]);
    assert_eq!(data.programs().kind, ImageKind::Data);
    let mut chart = data.clone();
    chart.config_type = Some("application/vnd.cncf.helm.config.v1+json".into());
    assert_eq!(chart.programs().kind, ImageKind::Artefact);
    let mut wasm = image(&["/"], vec![layer(&[("x.wasm", LayerEntry::Wasm)], &[])]);
    wasm.architecture = Some("wasm".into());
    assert_eq!((wasm.programs().kind, wasm.programs().missing.len()), (ImageKind::Wasm, 0));
}

#[test]
fn circles_of_scripts_and_links_end() {
    let circle =
        layer(&[("a", script("#!/b\n")), ("b", script("#!/a\n")), ("c", link("d")), ("d", link("c"))], &[]);
    assert!(image(&["/a"], vec![circle.clone()]).programs().missing.is_empty());
    assert_eq!(image(&["/c"], vec![circle]).programs().missing, ["/c"]);
}
