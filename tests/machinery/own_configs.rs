//! The user's own configs: the lab's plan from files has the PKI of the files, and what it makes of them is
//! still valid for Sidero's library.

use std::{collections::BTreeMap, io, path::Path};

use lab::scenario::{self, Scenario};
use lab_image::{BootFiles, Contents};
use lab_model::{Diagnostic, Digest, Origin, Severity, accelerator::Accelerator, node::Kind};
use lab_plan::{
    cluster::{Budgets, ImageDelivery, Plan, PlanError, PlanInputs, PreparedImage},
    config::{
        ClusterConfig, LabPatchId, LabPatches, Profile, SecretsBundle, TalosContract, generate, talosconfig,
    },
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::{cluster, node, oracle::Machinery, shared_secrets, theirs, validator::validator, version};

/// Files by their paths, as a scenario in the directory `dir` reads them.
type Files<'a> = &'a [(&'a str, String)];

fn scenario(cluster: &str, files: Files<'_>) -> Scenario {
    let text = format!(
        "name: own\ncluster:\n  gateways: 0\n  nodes:\n    - {{ name: cp-1, kind: controlplane }}\n    \
         - {{ name: worker-1, kind: worker }}\n{cluster}"
    );
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new("dir").join(name) == path);
        found.map(|(_, text)| text.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    scenario::parse("own.yaml", &text, Path::new("dir"), &read).unwrap_or_else(|error| panic!("{error}"))
}

fn planned(scenario: Scenario) -> Result<Plan, PlanError> {
    let image = PreparedImage {
        origin: Origin::default(),
        digest: Digest::of_bytes(b"image"),
        boot: BootFiles { kernel: "Image".into(), initramfs: "initramfs.cpio".into() },
        contents: Contents::default(),
        arguments: None,
    };
    let roles = scenario.cluster.images.keys().cloned();
    let images: BTreeMap<_, _> = roles.map(|role| (role, image.clone())).collect();
    let inputs = PlanInputs {
        images,
        accelerator: Accelerator::Tcg,
        cpu_model: None,
        budgets: Budgets::default(),
        cores: 2,
        upstreams: vec!["registry.k8s.io".into(), "docker.io".into()],
        reference_kubernetes: "1.34.2".into(),
        faults: scenario.faults,
        now: jiff::Timestamp::now(),
    };
    Plan::new(scenario.cluster, inputs)
}

/// What `talosctl gen config` makes, as it is written with comments.
fn files(contract: TalosContract, secrets: &SecretsBundle) -> [(&'static str, String); 2] {
    [("controlplane.yaml", Kind::ControlPlane), ("worker.yaml", Kind::Worker)].map(|(name, kind)| {
        let text = theirs(&mut Machinery::of(version(contract)), contract, kind, secrets, "/dev/sda");
        (name, format!("# talm: nodes=[\"1.2.3.4\"], endpoints=[\"1.2.3.4\"]\n{text}# the end\n"))
    })
}

fn findings(plan: &Plan) -> Vec<Diagnostic> {
    let checked = plan.configs().check(validator());
    checked.asked.unwrap_or_else(|reason| panic!("{reason}"));
    checked.findings
}

const CONFIGS: &str = "  configs: { controlplane: controlplane.yaml, worker: worker.yaml }\n";

fn value<'a>(plan: &'a Plan, index: usize, pointer: &str) -> Option<&'a Value> {
    plan.nodes[index].config.main()?.pointer(pointer)
}

#[rstest]
fn their_configs_stay_as_they_are_but_for_what_the_lab_must_change(
    #[values(TalosContract::V1_11, TalosContract::V1_13)] contract: TalosContract,
) {
    let files = files(contract, shared_secrets());
    let lines = format!("  talosContract: {}\n{CONFIGS}", contract.as_str());
    let plan = planned(scenario(&lines, &files)).expect("plan");
    for (node, (name, text)) in plan.nodes.iter().zip(&files) {
        let sent = node.config.to_yaml().expect("yaml");
        Machinery::of(version(contract)).validate(&sent).expect("valid");
        let change = node.own_config.as_ref().expect("their own");
        assert_eq!(change.file, format!("dir/{name}"));
        // Every line of theirs is sent, but for those that the diff takes away.
        let taken = change.diff.lines().filter(|line| line.starts_with('-') && !line.starts_with("---"));
        let mut there: Vec<_> = sent.lines().collect();
        let gone = text.lines().filter(|line| match there.iter().position(|own| own == line) {
            Some(at) => there.swap_remove(at) != *line,
            None => true,
        });
        assert_eq!(gone.count(), taken.count(), "{}", change.diff);
        for secret in [&shared_secrets().trustdinfo.token, &shared_secrets().certs.os.key] {
            assert!(!change.diff.contains(secret.as_str()));
            assert!(
                !serde_json::to_string(&plan).expect("json").contains(secret.as_str()),
                "the plan tells a secret"
            );
        }
    }
    assert_eq!(value(&plan, 0, "/machine/install/disk"), Some(&json!("/dev/vda")));
    assert_eq!(value(&plan, 0, "/cluster/apiServer/auditPolicy/rules/0/level"), Some(&json!("Metadata")));
    assert_eq!(plan.control_plane().address.to_string(), "10.5.0.2");
    let found = findings(&plan);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn lists_of_theirs_are_replaced_where_the_labs_must_stand_alone() {
    let mut files = files(TalosContract::V1_11, shared_secrets());
    let mine = "machine: {time: {servers: [169.254.169.123]}, registries: {mirrors: {docker.io: {endpoints: ['http://10.5.0.9:5050']}}}, \
                kubelet: {nodeIP: {validSubnets: [192.168.0.0/16]}}}";
    let mut machinery = Machinery::of(version(TalosContract::V1_11));
    files[0].1 = machinery.patch(&files[0].1, &[mine.to_owned()]).expect("patch");
    drop(machinery);
    let plan = planned(scenario(CONFIGS, &files)).expect("plan");
    assert_eq!(value(&plan, 0, "/machine/time/servers"), Some(&json!(["10.5.0.1"])));
    assert_eq!(value(&plan, 0, "/machine/kubelet/nodeIP/validSubnets"), Some(&json!(["10.5.0.0/24"])));
    let mirror = json!({ "endpoints": ["http://10.5.0.1:5999"], "skipFallback": true });
    assert_eq!(value(&plan, 0, "/machine/registries/mirrors/docker.io"), Some(&mirror));
    // What is switched off stays theirs.
    let lines = format!("{CONFIGS}  labPatches: {{ off: [lab/time] }}\n");
    let plan = planned(scenario(&lines, &files)).expect("plan");
    assert_eq!(value(&plan, 0, "/machine/time/servers"), Some(&json!(["169.254.169.123"])));
}

#[test]
fn patches_of_both_sorts_and_every_level_reach_their_configs() {
    let files = files(TalosContract::V1_11, shared_secrets());
    let lines = format!(
        "{CONFIGS}  talosContract: v1.11\n  patches:\n    all: [{{ machine: {{ env: {{ A: all }} }} }}]\n    kinds:\n      \
         worker:\n        - [{{ op: add, path: /machine/env/B, value: kind }}]\n    roles: {{ compute: [{{ machine: \
         {{ features: {{ hostDNS: {{ $patch: delete }} }} }} }}] }}\n"
    );
    let plan = planned(scenario(&lines, &files)).expect("plan");
    assert_eq!(value(&plan, 1, "/machine/env"), Some(&json!({ "A": "all", "B": "kind" })));
    assert_eq!(value(&plan, 0, "/machine/env"), Some(&json!({ "A": "all" })));
    assert_eq!(value(&plan, 0, "/machine/features/hostDNS"), None);
    for node in &plan.nodes {
        let sent = node.config.to_yaml().expect("yaml");
        Machinery::of(version(TalosContract::V1_11)).validate(&sent).expect("valid");
        assert!(sent.starts_with("# talm:") && sent.ends_with("# the end\n"), "comments are kept");
    }
}

#[test]
fn files_of_two_clusters_are_found_with_file_and_line() {
    let mut mixed = files(TalosContract::V1_13, shared_secrets());
    let other = SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets");
    mixed[1] = files(TalosContract::V1_13, &other)[1].clone();
    let plan = planned(scenario(CONFIGS, &mixed)).expect("plan");
    let found: Vec<_> = findings(&plan).iter().map(ToString::to_string).collect();
    for path in ["machine.ca.crt", "cluster.ca.crt", "machine.token", "cluster.token", "cluster.id"] {
        let words = format!("{path} differs from dir/controlplane.yaml");
        let told = found.iter().any(|text| text.starts_with("dir/worker.yaml:") && text.contains(&words));
        assert!(told, "{path}: {found:#?}");
    }
    let line = mixed[1].1.lines().position(|line| line.starts_with("    token: ")).expect("a token") + 1;
    let place = format!("dir/worker.yaml:{line}:");
    assert!(
        found.iter().any(|text| text.starts_with(&place) && text.contains("machine.token")),
        "{found:#?}"
    );
    let same = planned(scenario(CONFIGS, &files(TalosContract::V1_13, shared_secrets()))).expect("plan");
    assert!(findings(&same).is_empty());
}

#[test]
fn a_generated_worker_joins_the_cluster_of_their_control_plane() {
    let files = files(TalosContract::V1_13, shared_secrets());
    let plan = planned(scenario("  configs: { controlplane: controlplane.yaml }\n", &files)).expect("plan");
    assert_eq!(value(&plan, 1, "/machine/ca/crt"), Some(&json!(shared_secrets().certs.os.crt)));
    assert_eq!(value(&plan, 1, "/cluster/token"), Some(&json!(shared_secrets().secrets.bootstraptoken)));
    assert_eq!(value(&plan, 1, "/cluster/clusterName"), Some(&json!("lab")));
    assert!(findings(&plan).is_empty(), "{:#?}", findings(&plan));
}

#[test]
fn their_client_file_is_used_and_dials_the_labs_nodes() {
    let client = talosconfig("lab", &[], shared_secrets(), jiff::Timestamp::now()).expect("talosconfig");
    let mut files = files(TalosContract::V1_13, shared_secrets()).to_vec();
    files.push(("talosconfig", client.to_yaml().expect("yaml")));
    let plan = planned(scenario(&format!("{CONFIGS}  talosconfig: talosconfig\n"), &files)).expect("plan");
    let context = plan.talosconfig.current().expect("a context");
    assert_eq!(context.crt, client.contexts["lab"].crt);
    assert_eq!(context.endpoints, ["10.5.0.2", "10.5.0.10"]);
}

/// What `lab run` does when it restores a saved cluster: the plan is made once, and takes the secrets of that.
#[rstest]
fn a_plan_with_the_secrets_of_another_is_that_other(
    #[values(TalosContract::V1_11, TalosContract::V1_13)] contract: TalosContract,
    #[values(false, true)] from_files: bool,
) {
    let files = files(contract, shared_secrets());
    let lines = format!("  talosContract: {}\n", contract.as_str());
    let lines = if from_files { format!("{lines}{CONFIGS}") } else { lines };
    let [saved, fresh] = [(); 2].map(|()| planned(scenario(&lines, &files)).expect("plan"));
    let sent =
        |plan: &Plan| -> Vec<_> { plan.nodes.iter().map(|node| node.config.to_yaml().unwrap()).collect() };
    // Those of files are the files' own, in every plan.
    assert_eq!(sent(&saved) == sent(&fresh), from_files);
    let same = fresh.with_secrets(saved.secrets.clone(), saved.talosconfig.clone()).expect("a plan");
    assert_eq!(sent(&same), sent(&saved));
    assert!(same.secrets == saved.secrets && same.talosconfig == saved.talosconfig);
    assert_eq!(serde_json::to_string(&same).unwrap(), serde_json::to_string(&saved).unwrap());
}

/// What a run would boot: every scenario of the tree that must pass, as each release, with images from mirrors and
/// from the image disk.
#[rstest]
fn plans_of_the_scenarios_in_the_tree_are_accepted(
    #[values(TalosContract::V1_11, TalosContract::V1_12, TalosContract::V1_13)] contract: TalosContract,
    #[values(ImageDelivery::Mirror, ImageDelivery::Disk)] delivery: ImageDelivery,
    #[values(Profile::default(), Profile::Speed)] profile: Profile,
) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut nodes = 0;
    for folder in ["scenarios", "tests/scenarios/topologies"] {
        let files =
            project.join(folder).read_dir().expect("folder").map(|entry| entry.expect("entry").path());
        for file in files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")) {
            let mut scenario = scenario::load(&file).unwrap_or_else(|error| panic!("{error}"));
            scenario.cluster.talos_contract = Some(contract);
            scenario.cluster.image_delivery = delivery;
            scenario.cluster.lab_patches.profile = profile;
            scenario.faults.clear();
            // The image of this test has no extensions.
            scenario.cluster.role_rules.clear();
            let plan = planned(scenario).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let errors: Vec<_> =
                findings(&plan).into_iter().filter(|found| found.severity == Severity::Error).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", file.display());
            for node in &plan.nodes {
                let text = node.config.to_yaml().expect("yaml");
                let accepted = Machinery::of(version(contract)).validate(&text);
                accepted.unwrap_or_else(|refusal| panic!("{}: {refusal}", file.display()));
                nodes += 1;
            }
        }
    }
    assert!(nodes >= 15, "{nodes} nodes");
}

/// The check before a boot refuses what Talos refuses, and names the patch.
#[test]
fn a_plan_with_a_config_that_talos_refuses_is_refused_with_the_patch() {
    let patch = "{ machine: { network: { kubespan: { enabled: true, mtu: 5 } } } }";
    let plan = planned(scenario(&format!("  patches: {{ all: [{patch}] }}\n"), &[])).expect("plan");
    let found = findings(&plan);
    assert!(found.iter().any(|found| found.severity == Severity::Error), "{found:#?}");
    let told: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|text| text.contains("kubespan link MTU must be at least")), "{told:#?}");
}

#[test]
fn a_node_that_the_lab_would_not_find_is_refused() {
    let lines =
        "  patches: { all: [{ machine: { network: { hostname: other } } }] }\n  talosContract: v1.11\n";
    let refusal = planned(scenario(lines, &[])).expect_err("refused").to_string();
    assert!(refusal.contains("of node cp-1 names it other"), "{refusal}");
    let off =
        planned(scenario("  labPatches: { off: [lab/hostname] }\n", &[])).expect_err("refused").to_string();
    assert!(off.contains("of node cp-1 does not name it"), "{off}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    /// Any bundle, written as a user's files and planned from them, is the same cluster.
    #[test]
    fn a_bundle_that_was_written_as_files_is_the_plans_own(
        contract in prop_oneof![Just(TalosContract::V1_11), Just(TalosContract::V1_13)],
        (third, host) in (0..=255_u8, 1..=250_u8),
        name in "[a-z]([a-z0-9 .-]{0,20}[a-z])?",
        on in prop::collection::btree_set(0..9_usize, 0..9),
    ) {
        let secrets = SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets");
        let off = LabPatchId::all().enumerate().filter(|(index, id)| *id == LabPatchId::Hostname || !on.contains(index));
        let of = ClusterConfig {
            name: name.clone(),
            endpoint_address: [172, 20, third, host].into(),
            lab_patches: LabPatches { off: off.map(|(_, id)| id).collect(), ..LabPatches::default() },
            ..cluster(contract)
        };
        let files = [("controlplane.yaml", Kind::ControlPlane), ("worker.yaml", Kind::Worker)].map(|(file, kind)| {
            (file, generate(&of, &node(kind), &secrets).to_yaml().expect("yaml"))
        });
        let lines = format!("  talosContract: {}\n{CONFIGS}", contract.as_str());
        let plan = planned(scenario(&lines, &files)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let control_plane = plan.control_plane();
        prop_assert_eq!(control_plane.address.octets(), [172, 20, third, host]);
        prop_assert!(SecretsBundle::of_control_plane(&control_plane.config) == secrets, "other secrets");
        prop_assert_eq!(&plan.talosconfig.current().expect("context").ca, &secrets.certs.os.crt);
        prop_assert_eq!(value(&plan, 1, "/machine/token"), Some(&json!(secrets.trustdinfo.token)));
        let found = findings(&plan);
        prop_assert!(found.is_empty(), "{:#?}", found);
        for node in &plan.nodes {
            let sent = node.config.to_yaml().expect("yaml");
            Machinery::of(version(contract)).validate(&sent).map_err(TestCaseError::fail)?;
        }
    }
}
