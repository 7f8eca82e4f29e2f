//! Scenario files: the ones in the tree are right, wrong ones are refused with the place and the
//! nearest word, and no text makes the reader panic.

#[path = "support/own_configs.rs"]
mod own_configs;

use std::{
    io,
    path::{Path, PathBuf},
};

use lab::scenario::{self, CHECKS, Scenario, load};
use lab_plan::scenario::{Expectation, ScenarioError};
use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;

const COMPUTE_ONLY: &str = include_str!("../scenarios/01-compute-only-cluster.yaml");

/// A test with an operation that the lab does not run.
const CHAINSAW: &str = "apiVersion: chainsaw.kyverno.io/v1alpha1\nkind: Test\nmetadata: { name: t }\nspec:\n  steps:\n  - try:\n    - sleep: { duration: 1s }\n";

/// Parses with two patch files at hand.
fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    let read = |path: &Path| match path.to_str() {
        Some("lab/good.yaml") => Ok("machine:\n  sysctls:\n    a: \"1\"\n---\nkind: B\n".to_owned()),
        Some("lab/operations.yaml") => Ok("- {op: remove, path: /machine/env}\n".to_owned()),
        Some("lab/two-lists.yaml") => Ok("- a: 1\n---\n- b: 1\n".to_owned()),
        Some("lab/patch-as-config.yaml") => Ok("machine:\n  sysctls: {}\n".to_owned()),
        Some("lab/worker.yaml") => Ok("machine:\n  type: worker\ncluster:\n  id: x\n".to_owned()),
        Some("lab/pod.yaml") => Ok("apiVersion: v1\nkind: Pod\nmetadata: { name: a }\n".to_owned()),
        Some("lab/chainsaw-test.yaml") => Ok(CHAINSAW.to_owned()),
        Some("lab/bad.yaml") => Ok("machine:\n  a: 1\n  a: 2\n".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    };
    scenario::parse("test.yaml", text, Path::new("lab"), &read)
}

/// A scenario of one control plane and one worker, with these lines added.
fn scenario_with(cluster: &str, rest: &str) -> String {
    format!(
        "name: test\ncluster:\n  nodes:\n    - {{ name: cp-1, kind: controlplane }}\n    \
         - {{ name: worker-1, kind: worker }}\n  gateways: 0\n{cluster}{rest}"
    )
}

/// The error, with words in place of the names of all checks: a new check is not every other test's business.
fn error_of(text: &str) -> String {
    let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    let error = parse(text).expect_err("a wrong file was accepted").to_string();
    error.replace(&names.join(", "), "[the names of all checks]")
}

fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = directory.read_dir().expect("directory").map(|entry| entry.expect("entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

/// Every folder of scenarios that are whole in the tree. `roles`, `tailnet` and `links` hold rows of matrices,
/// `topologies` what must pass.
const FOLDERS: [&str; 7] = [
    "scenarios",
    "tests/scenarios",
    "tests/scenarios/roles",
    "tests/scenarios/tailnet",
    "tests/scenarios/links",
    "tests/scenarios/topologies",
    "tests/scenarios/cni",
];

#[test]
fn every_scenario_in_the_tree_is_right() {
    let files: Vec<PathBuf> = FOLDERS.into_iter().flat_map(yaml_files).collect();
    assert!(files.len() >= 20, "{files:?}");
    for file in files {
        let scenario = load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.warnings, [""; 0], "{}", file.display());
    }
}

#[test]
fn the_scenario_with_configs_from_elsewhere_is_right_with_its_files() {
    let directory = tempfile::tempdir().expect("tempdir");
    let file = own_configs::write(directory.path()).expect("files");
    let scenario = load(&file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(scenario.warnings, [""; 0]);
}

#[test]
fn every_negative_control_says_where_and_why_it_must_fail() {
    for file in FOLDERS[1..5].iter().copied().flat_map(yaml_files) {
        let scenario = load(&file).unwrap_or_else(|error| panic!("{error}"));
        let name = file.file_stem().expect("name").to_str().expect("text");
        assert_eq!(scenario.name, name, "a control is found by its name");
        match &scenario.expect {
            Expectation::Fails { turned_away: Some(_), .. } => {}
            Expectation::Fails { cause_contains, .. } | Expectation::Refused { cause_contains } => {
                assert!(!cause_contains.is_empty(), "{} would take any cause", file.display());
            }
            Expectation::ChecksFail { .. } => panic!("{name}: no file says this"),
            Expectation::Passes => {
                assert!(
                    ["boot-released", "boot-reboots", "recovery", "planted-key", "real"].contains(&name),
                    "{} expects to pass",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn scenario_01_is_one_control_plane_two_workers_and_five_checks() {
    let scenario = parse(COMPUTE_ONLY).expect("scenario");
    insta::assert_snapshot!(serde_yaml::to_string(&scenario).expect("plain data"));
}

#[test]
fn mistakes_in_what_is_done_to_links_are_shown_with_place_and_way_out() {
    let with = |rest: &str| error_of(&scenario_with("", rest));
    let errors = [
        with("checks:\n  - link-cut: { node: cp-1 }\n"),
        with("checks:\n  - partition\n"),
        with("checks:\n  - partition: { groups: [[cp-1, worker-1]] }\n"),
        with("checks:\n  - partition: { groups: [[cp-1], [cp-1]] }\n"),
        with("checks:\n  - partition: { groups: [[cp-1]], uplink: [] }\n"),
        with("checks:\n  - partition: { groups: [[cp-1]], uplink: nobody }\n"),
        with("checks:\n  - partition: { groups: [[cp-1]], for: 0 }\n"),
        with("checks:\n  - partition: { groups: [[worker-2]] }\n"),
        with("checks:\n  - link-shape: { node: worker-1 }\n"),
        with("checks:\n  - link-shape: { node: worker-1, delay: soon }\n"),
        with("checks:\n  - link-shape: { node: worker-1, loss: 2%, jitter: 5ms }\n"),
        with("captures: [worker-1, uplink, worker-3, uplink]\n"),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn mistakes_in_the_form_are_shown_with_place_and_nearest_word() {
    let edit = |from: &str, to: &str| {
        let edited = COMPUTE_ONLY.replacen(from, to, 1);
        assert_ne!(edited, COMPUTE_ONLY, "{from}");
        error_of(&edited)
    };
    let with = |rest: &str| error_of(&scenario_with("", rest));
    let errors = [
        ("unknown key at the top", edit("title:", "tilte:")),
        ("unknown key of a node", edit("vcpus: 2", "cpus: 2")),
        ("unknown key of the cluster", edit("gateways: 0", "gateway: 0")),
        ("unknown kind", edit("kind: controlplane", "kind: control-plane")),
        ("missing key", edit("name: compute-only-cluster\n", "")),
        ("missing key of a node", edit("      kind: controlplane\n", "")),
        ("duplicate key", edit("vcpus: 2", "kind: worker")),
        ("text for a number", edit("count: 2", "count: two")),
        ("negative number", edit("vcpus: 1", "vcpus: -1")),
        ("list for a mapping", edit("{ is: arm64 }", "[arm64]")),
        ("text for a list", edit("nodes:", "nodes: none\n  other:")),
        ("text for true or false", edit("service: true", "service: sometimes")),
        ("unknown check", edit("- no-tailscale", "- no-tailscal")),
        ("unknown check with keys", edit("pod-network:", "pods-network:")),
        ("unknown architecture", edit("is: arm64", "is: arm")),
        ("unknown key of a check", edit("dns: true", "dnss: true")),
        ("check without its node", edit("power-cycle: { node: worker-2 }", "power-cycle: {}")),
        ("bare check that needs a node", edit("power-cycle: { node: worker-2 }", "power-cycle")),
        ("check without parameters", edit("pod-network: { service: true, dns: true }", "pod-network:")),
        ("two checks in one entry", edit("- no-tailscale", "- no-tailscale: {}\n    layers-green: {}")),
        ("unknown fault", with("faults: [{ kernel-panics: { node: cp-1 } }]\n")),
        ("unknown step", with("faults: [{ kill-qemu: { node: cp-1, at: booting } }]\n")),
        ("unknown expectation", with("expect: { fail: { step: boot } }\n")),
        ("unknown budget", with("budgets: { reddy: 30 }\n")),
        ("unknown profile", error_of(&scenario_with("  profile: fast\n", ""))),
        ("unknown patch of the lab", error_of(&scenario_with("  labPatches: { off: [lab/tim] }\n", ""))),
        (
            "patch of the lab on and off",
            error_of(&scenario_with("  labPatches: { on: [speed/leases], off: [speed/leases] }\n", "")),
        ),
        ("unknown key of labPatches", error_of(&scenario_with("  labPatches: { of: [lab/time] }\n", ""))),
        ("broken YAML", edit("cluster:\n", "cluster: [\n")),
        ("tab", edit("  gateways: 0", "\tgateways: 0")),
        ("empty file", error_of("")),
        ("other text", error_of("just a sentence")),
    ]
    .map(|(what, error)| format!("# {what}\n{error}\n"))
    .join("\n");
    insta::assert_snapshot!(errors);
}

#[test]
fn impossible_topologies_are_shown_with_place_and_way_out() {
    let edit = |from: &str, to: &str| {
        let edited = COMPUTE_ONLY.replacen(from, to, 1);
        assert_ne!(edited, COMPUTE_ONLY, "{from}");
        error_of(&edited)
    };
    let with = |cluster: &str, rest: &str| error_of(&scenario_with(cluster, rest));
    let errors = [
        ("memory", edit("memory: 2GiB", "memory: 1GiB")),
        ("size", edit("memory: 2GiB", "memory: 2GB")),
        ("no control plane", edit("kind: controlplane", "kind: worker")),
        ("two control planes", edit("kind: worker", "kind: controlplane")),
        ("node name", edit("name: cp-1", "name: CP_1")),
        ("duplicate node", edit("name: cp-1", "name: worker-2")),
        ("no gateway", edit("  gateways: 0\n", "")),
        ("count", edit("count: 2", "count: 0")),
        ("too many nodes", edit("count: 2", "count: 100000")),
        ("overlap", with("  network: { pods: 10.96.0.0/16 }\n", "")),
        ("tailnet", with("  network: { lan: 100.64.0.0/24 }\n", "")),
        ("not a network", with("  network: { lan: 10.5.0.0 }\n", "")),
        ("host bits", with("  network: { lan: 10.5.0.7/24 }\n", "")),
        ("room", with("  network: { lan: 10.5.0.0/29 }\n", "")),
        ("domain", with("  network: { dnsDomain: cluster_local }\n", "")),
        ("image", with("  images: { compute: refrence }\n", "")),
        ("image of no role", with("  images: { compote: reference }\n", "")),
        ("patch of no role", with("  patches: { roles: { gateway: [{ a: 1 }] } }\n", "")),
        ("patch file missing", with("  patches: { all: [patches/none.yaml] }\n", "")),
        ("patch file wrong", with("  patches: { all: [bad.yaml] }\n", "")),
        ("patch file of two lists", with("  patches: { all: [two-lists.yaml] }\n", "")),
        ("config missing", with("  configs: { worker: none.yaml }\n", "")),
        ("config of no kind", with("  configs: { workers: worker.yaml }\n", "")),
        ("config that is a patch", with("  configs: { controlplane: patch-as-config.yaml }\n", "")),
        ("config of the other kind", with("  configs: { controlplane: worker.yaml }\n", "")),
        ("config of a worker alone", with("  configs: { worker: worker.yaml }\n", "")),
        ("talosconfig alone", with("  talosconfig: good.yaml\n", "")),
        ("node of a check", with("", "checks: [{ power-cycle: { node: worker1 } }]\n")),
        ("node of a fault", with("", "faults: [{ no-config: { node: worker-2 } }]\n")),
        (
            "kill at a step of the cluster",
            with("", "faults: [{ kill-qemu: { node: cp-1, at: bootstrap } }]\n"),
        ),
        ("token of a control plane", with("", "faults: [{ foreign-token: { node: cp-1 } }]\n")),
        ("node of the expectation", with("", "expect: { fails: { node: w } }\n")),
        ("step and check", with("", "expect: { fails: { step: boot, check: layers-green } }\n")),
        ("check id twice", with("", "checks: [{ layers-green: {}, id: a }, { no-tailscale: {}, id: a }]\n")),
        ("budget", with("", "budgets: { ready: 0, boot: .inf }\n")),
    ]
    .map(|(what, error)| format!("# {what}\n{error}\n"))
    .join("\n");
    insta::assert_snapshot!(errors);
}

#[test]
fn mistakes_in_own_checks_are_shown_with_place_and_way_out() {
    let with = |check: &str| error_of(&scenario_with("", &format!("checks:\n  - {check}\n")));
    let errors = [
        with("run: {}"),
        with("run: { command: x, script: y }"),
        with("run: { comand: x }"),
        with("run: { script: good.yaml }"),
        with("run: { script: none.sh }"),
        with("run: { command: x, limit: 0 }"),
        with("run: x\n    failsWith: { no-config: { node: worker-2 } }"),
        with("run: x\n    failsWith: { host-memory: { available: 1GiB } }"),
        with("manifests: { files: [none.yaml] }"),
        with("manifests: { files: [pod.yaml], until: [{ object: Pod/b, is: available }] }"),
        with("manifests: { files: [pod.yaml], until: [{ object: Pod/a, is: redy }] }"),
        with("manifests: { files: [pod.yaml], until: [{ object: Pod/a }] }"),
        with("manifests: { files: [pod.yaml], until: [{ object: Pod/a, cel: object.status == }] }"),
        with("manifests: { files: [pod.yaml], until: [{ object: Pod/a, cel: \"true\" }] }"),
        with("manifests: { files: [pod.yaml], until: [{ object: Pod/a, jsonPath: status }] }"),
        with("manifests: { files: [pod.yaml], until: [{ object: Pod/a, value: x }] }"),
        with("manifests: { files: [pod.yaml], namespace: Shop }"),
        with("http: { url: \"https://x/\", from: host }"),
        with("http: { url: \"http://192.168.1.1/\", from: host }"),
        with("http: { url: \"http://x/\", from: { pod: worker1 } }"),
        with("http: { url: \"http://x/\", from: outside }"),
        with("http: { url: \"http://x/\", from: tailnet, status: 2000 }"),
        with("machine: { resource: X, namespace: runtime }"),
        with("machine: { resource: X, namespace: runtime, cel: \"object.spec.a\" }"),
        with(
            "machine: { resource: X, namespace: runtime, role: compute, nodes: [cp-1], cel: \"size(objects) > 0\" }",
        ),
        with("chainsaw: { test: chainsaw-test.yaml }"),
        with("chainsaw: { test: none.yaml }"),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn several_mistakes_are_marked_in_the_lines_of_the_file() {
    let text = COMPUTE_ONLY.replacen("memory: 2GiB", "memory: 1GiB", 1).replace("  gateways: 0\n", "");
    let error = parse(&text).expect_err("wrong");
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(110)
        .render_report(&mut shown, &error)
        .expect("rendered");
    insta::assert_snapshot!(shown);
}

#[test]
fn patches_keep_their_order_and_say_where_they_are_from() {
    let text = "name: test\ncluster:\n  gateways: 0\n  nodes:\n    - name: cp-1\n      kind: controlplane\n      \
                patches:\n        - machine: { network: { hostname: \"on\" } }\n  patches:\n    all: [good.yaml, operations.yaml, [{ op: remove, path: /a }]]\n    \
                kinds: { controlplane: [{ a: 1 }] }\n    roles: { compute: [{ b: [1, yes] }] }\n";
    let scenario = parse(text).expect("scenario");
    let node = &scenario.cluster.nodes[0];
    let patches: Vec<String> =
        scenario.cluster.patches_for(node).map(|p| format!("# {}\n{}", p.origin, p.text)).collect();
    insta::assert_snapshot!(patches.join("\n"));
}

#[test]
fn a_check_has_the_words_of_its_scenario_or_its_own_and_a_free_id() {
    let text = scenario_with(
        "",
        "checks:\n  - layers-green\n  - layers-green: {}\n    then: all is well\n  \
         - power-cycle: { node: cp-1 }\n    id: pull-the-plug\n",
    );
    let scenario = parse(&text).expect("scenario");
    let checks: Vec<String> = scenario.checks.iter().map(|c| format!("{}: {}", c.id, c.title())).collect();
    insta::assert_snapshot!(checks.join("\n"));
}

#[test]
fn a_scenario_without_checks_looks_at_readiness() {
    let scenario = parse(&scenario_with("", "")).expect("scenario");
    assert_eq!(scenario.checks.len(), 1);
    assert_eq!(scenario.checks[0].check.name(), "layers-green");
}

#[test]
fn a_file_that_is_not_there_is_an_error_with_its_path() {
    let error = load(Path::new("scenarios/none.yaml")).expect_err("no such file");
    assert!(
        error.to_string().starts_with("scenarios/none.yaml: the scenario file cannot be read"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_text_is_a_scenario_or_an_error(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    /// Mutations of a right file reach deeper than noise: bytes are replaced, removed or inserted,
    /// and lines moved. Whatever comes out, the error can be shown.
    #[test]
    fn any_mutation_of_a_right_file_is_a_scenario_or_an_error_that_can_be_shown(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, "[-a-z0-9:{}\\[\\],&*!|>'\" \\n\\t#é.]"), 1..8)
    ) {
        let mut text: Vec<char> = COMPUTE_ONLY.chars().collect();
        for (index, how, with) in edits {
            let at = index.index(text.len());
            match how {
                0 => text[at] = with.chars().next().unwrap_or(' '),
                1 => { text.remove(at); }
                2 => text.insert(at, with.chars().next().unwrap_or(' ')),
                _ => {
                    let tail = text.split_off(at);
                    text.splice(0..0, tail);
                }
            }
        }
        if let Err(error) = parse(&text.into_iter().collect::<String>()) {
            let mut shown = String::new();
            GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
                .render_report(&mut shown, &error)
                .expect("rendered");
            prop_assert!(!error.diagnostics().is_empty());
        }
    }
}
