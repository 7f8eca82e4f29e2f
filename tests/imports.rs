//! The layers of the project hold, and what breaks them is found.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use lab_imports::{Sources, Violation, Workspace, mermaid, text, violations};

/// The root of the project.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A workspace of `lab-model` and `lab-vm`, with these files beside their crate roots.
fn small(model: &str, vm: &str, files: &[(&str, &str)]) -> Workspace {
    let manifest = |name: &str, rest: &str| {
        format!("[package]\nname = \"{name}\"\n[lib]\npath = \"lib.rs\"\n[dependencies]\n{rest}")
    };
    let fixed = [
        ("Cargo.toml", "[workspace]\nmembers = [\"lab/model\", \"lab/vm\"]\n".to_owned()),
        ("lab/model/Cargo.toml", manifest("lab-model", "")),
        ("lab/vm/Cargo.toml", manifest("lab-vm", "lab-model = { path = \"../model\" }\n")),
        ("lab/model/lib.rs", model.to_owned()),
        ("lab/vm/lib.rs", vm.to_owned()),
    ];
    let files = files.iter().map(|(path, text)| (*path, (*text).to_owned()));
    Workspace::of(&fixed.into_iter().chain(files).collect::<Sources>()).expect("a workspace")
}

fn told(workspace: &Workspace) -> String {
    let found = violations(workspace);
    found.iter().map(Violation::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_import_of_the_project_breaks_the_layers() {
    let workspace = Workspace::of(&Sources::below(&root()).expect("sources")).expect("a workspace");
    // Nothing found among nothing would be no proof.
    for member in ["lab", "lab-cluster", "lab-vm", "lab-report", "lab-plan"] {
        assert!(workspace.files(member).count() > 20, "few files of {member} were read");
        let uses_the_model = |import: &&lab_imports::Import| {
            workspace.owner(&import.from) == member && workspace.owner(&import.to) == "lab-model"
        };
        assert!(
            workspace.imports.iter().filter(uses_the_model).count() > 20,
            "imports of {member} were missed"
        );
    }
    let found = told(&workspace);
    assert!(found.is_empty(), "{found}");
}

#[test]
fn an_import_from_a_lower_crate_passes_and_an_upward_one_is_told_with_its_line() {
    let right = small("pub struct Name;", "use lab_model::Name;", &[]);
    assert_eq!(told(&right), "");
    let wrong = small(
        "mod node;",
        "pub mod machine {\n  pub struct Machine;\n}",
        &[("lab/model/node.rs", "//! A node.\n\npub fn boot(machine: lab_vm::machine::Machine) {}\n")],
    );
    assert_eq!(told(&wrong), "lab-model may not use lab-vm:\n  lab/model/node.rs:3 imports lab/vm/lib.rs");
}

#[test]
fn a_manifest_that_lists_an_upper_crate_is_told() {
    let manifest =
        "[package]\nname = \"lab-model\"\n[lib]\npath = \"lib.rs\"\n[dependencies]\nlab-vm = \"1\"\n";
    let wrong = small("", "", &[("lab/model/Cargo.toml", manifest)]);
    assert_eq!(told(&wrong), "lab/model/Cargo.toml: lab-model may not depend on lab-vm");
}

#[test]
fn a_crate_outside_of_the_layers_is_told() {
    let wrong =
        small("", "", &[("lab/vm/Cargo.toml", "[package]\nname = \"other\"\n[lib]\npath = \"lib.rs\"\n")]);
    assert_eq!(told(&wrong), "lab/vm/Cargo.toml: other has no place among the layers; add it to LAYERS");
}

#[test]
fn folders_that_import_each_other_are_told_and_one_way_is_not() {
    let files = |back: &'static str| {
        [
            ("lab/vm/host/mod.rs", "mod memory;\npub use memory::Memory;"),
            ("lab/vm/host/memory.rs", back),
            ("lab/vm/machine/mod.rs", "mod spec;\npub use spec::Spec;"),
            ("lab/vm/machine/spec.rs", "use crate::host::Memory;\npub struct Spec(Memory);"),
        ]
    };
    let roots = "mod host;\nmod machine;";
    assert_eq!(told(&small("", roots, &files("pub struct Memory;"))), "");
    let back = "pub struct Memory;\nfn of(spec: &crate::machine::Spec) {}";
    assert_eq!(
        told(&small("", roots, &files(back))),
        "folders import each other: lab/vm/host, lab/vm/machine:\n  \
         lab/vm/host/memory.rs:2 imports lab/vm/machine/spec.rs\n  \
         lab/vm/machine/spec.rs:1 imports lab/vm/host/memory.rs"
    );
}

#[test]
fn a_circle_of_four_files_is_told_and_one_of_three_or_in_tests_is_not() {
    let circle = |last: &'static str| {
        let files = [
            ("lab/vm/a.rs", "use crate::b::B;\npub struct A;"),
            ("lab/vm/b.rs", "use super::c::C;\npub struct B;"),
            ("lab/vm/c.rs", last),
            ("lab/vm/d.rs", "pub struct D;\nimpl D { fn f() { crate::a::A; } }"),
        ];
        told(&small("", "mod a; mod b; mod c; mod d;", &files))
    };
    assert_eq!(circle("use crate::a::A;\npub struct C;"), "");
    assert_eq!(circle("pub struct C;\n#[cfg(test)]\nmod tests { use crate::d::D; }"), "");
    assert_eq!(
        circle("use crate::d::D;\npub struct C;"),
        "4 files import each other, 3 may: lab/vm/a.rs, lab/vm/b.rs, lab/vm/c.rs, lab/vm/d.rs:\n  \
         lab/vm/a.rs:1 imports lab/vm/b.rs\n  lab/vm/b.rs:1 imports lab/vm/c.rs\n  \
         lab/vm/c.rs:1 imports lab/vm/d.rs\n  lab/vm/d.rs:2 imports lab/vm/a.rs"
    );
}

#[test]
fn a_name_that_is_passed_on_leads_to_the_file_that_defines_it() {
    let files = [
        ("lab/model/events.rs", "mod kind;\npub use kind::*;"),
        ("lab/model/events/kind.rs", "pub enum Kind { Start }"),
    ];
    let workspace = small(
        "mod events;\npub use events::Kind as EventKind;",
        "use lab_model::EventKind;\nfn f() { assert!(EventKind::Start); }",
        &files,
    );
    let lines: Vec<_> = workspace.imports.iter().filter(|import| import.from == "lab/vm/lib.rs").collect();
    let ends: Vec<_> = lines.iter().map(|import| (import.line, import.to.as_str())).collect();
    assert_eq!(ends, [(1, "lab/model/events/kind.rs"), (2, "lab/model/events/kind.rs")]);
}

#[test]
fn the_drawing_has_an_arrow_for_each_pair_of_crates_and_of_folders() {
    let files = [
        ("lab/vm/host/mod.rs", "pub struct Host(lab_model::Size);"),
        ("lab/vm/machine/mod.rs", "use crate::host::Host;\npub struct Machine(Host);"),
    ];
    let workspace = small("pub struct Size;", "pub mod host;\npub mod machine;", &files);
    assert_eq!(
        text(&workspace),
        "crates\n  lab-vm -> lab-model (1)\n\nlab-vm (lab/vm)\n  machine -> host (1)\n"
    );
    assert_eq!(
        mermaid(&workspace),
        "graph TD\n  lab-vm -->|1| lab-model\n  subgraph lab-vm-folders [lab-vm]\n    \
         lab-vm.machine[\"machine\"] -->|1| lab-vm.host[\"host\"]\n  end\n"
    );
}

/// The packages that a crate is built with.
fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn plans_are_built_without_a_runtime_and_reports_without_live_clients() {
    let live = ["kube", "qapi", "tonic"];
    for (package, without) in [("lab-plan", &["tokio", "kube", "qapi", "tonic"][..]), ("lab-report", &live)] {
        let tree = tree(package);
        assert!(tree.iter().any(|name| name == "lab-model"), "the tree of {package} was not read: {tree:?}");
        let found: Vec<_> = tree.iter().filter(|name| without.contains(&name.as_str())).collect();
        assert!(found.is_empty(), "{package} is built with {found:?}");
    }
    // A tree that never has them would be no proof.
    let above = [tree("lab-cluster"), tree("lab-vm")].concat();
    for name in live.iter().chain(&["tokio"]) {
        assert!(above.iter().any(|other| other == name), "{name} is not in {above:?}");
    }
}
