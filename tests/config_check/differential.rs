//! What the lab accepts or refuses equals what Talos' own library does, for each release: over generated configs, the
//! catalogue, forms like those of the library's own test data, and configs that mutation made. An error of the
//! lab's own must be of a rule that says why it is certain.
//!
//! Two builds of the library are compared: the lab's validator, and the oracle of these tests, which loads, patches
//! and validates in the plainest way.

use std::{cell::RefCell, collections::BTreeSet};

use lab_model::{Severity, node::Kind};
use lab_plan::{
    config::{MachineConfig, TalosContract},
    lint::{ConfigSet, Decides, JudgeAnswer, JudgeRequest, NotAsked, TalosLibrary, Verdict, catalogue},
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{cluster, oracle::Machinery, rules::checked, validator::validator, version};

/// The library, with its verdicts.
struct Overheard {
    verdicts: RefCell<Vec<Verdict>>,
}

impl TalosLibrary for Overheard {
    fn judge(&self, contract: TalosContract, request: &JudgeRequest<'_>) -> Result<JudgeAnswer, NotAsked> {
        let answer = validator().judge(contract, request)?;
        self.verdicts.borrow_mut().clone_from(&answer.verdicts);
        Ok(answer)
    }
}

/// The rules of the lab that may report errors, each with its reason in the catalogue.
fn allowed() -> BTreeSet<&'static str> {
    let own = catalogue().iter().filter(|rule| rule.decides == Decides::Lab && rule.certain.is_some());
    own.map(|rule| rule.id.as_str()).collect()
}

/// The verdict of the lab on a text, compared with that of the validator and with the allowed rules.
fn compared(text: &str, bases: &[String], contract: TalosContract) -> Result<bool, String> {
    let overheard = Overheard { verdicts: RefCell::default() };
    let mut set = ConfigSet::new([("file.yaml".to_owned(), text.to_owned())]);
    set.bases = bases.to_vec();
    let findings = checked(&set, contract, &overheard);
    let verdicts = overheard.verdicts.into_inner();
    let [verdict] = verdicts.as_slice() else { return Err(format!("{} verdicts", verdicts.len())) };
    let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let allowed = allowed();
    let is_own = |rule: &Option<_>| rule.as_deref().is_some_and(|rule| allowed.contains(rule));
    let told = || findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let context = || format!("{contract:?}\n{text}\nlibrary: {verdict:?}\nlab: {}", told());
    if verdict.accepted {
        if let Some(error) = errors.iter().find(|error| !is_own(&error.rule)) {
            return Err(format!("the lab refuses what Talos accepts: {error}\n{}", context()));
        }
    } else if errors.is_empty() {
        return Err(format!("the lab accepts what Talos refuses\n{}", context()));
    }
    Ok(verdict.accepted)
}

/// The verdict of the oracle on a whole config.
fn oracle(text: &str, contract: TalosContract) -> bool {
    Machinery::of(version(contract)).validate(text).is_ok()
}

/// The verdict of the oracle on a patch over a config.
fn oracle_over(base: &str, patch: &str, contract: TalosContract) -> bool {
    let mut machinery = Machinery::of(version(contract));
    let patched = machinery.patch(base, &[patch.to_owned()]);
    patched.and_then(|text| machinery.validate(&text)).is_ok()
}

fn generated(contract: TalosContract, kind: Kind) -> String {
    super::generated(&cluster(contract), kind)
}

#[test]
fn generated_configs_have_one_verdict() {
    for written in TalosContract::ALL {
        for read in TalosContract::ALL {
            for kind in [Kind::ControlPlane, Kind::Worker] {
                let text = generated(written, kind);
                let accepted = compared(&text, &[], read).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(accepted, oracle(&text, read), "{written:?} read by {read:?}");
                assert!(accepted || written > read, "{written:?} read by {read:?}");
            }
        }
    }
}

#[test]
fn the_catalogue_has_one_verdict() {
    for rule in catalogue() {
        for example in rule.fires.iter().chain(&rule.silent) {
            for contract in TalosContract::ALL {
                for text in example.files.values() {
                    compared(text, &[], contract)
                        .unwrap_or_else(|error| panic!("{}: {}: {error}", rule.id, example.form));
                }
            }
        }
    }
}

/// Forms like those in the library's own test data: of the loader, the patcher and the validation.
const FORMS: [&str; 30] = [
    "",
    "---\n",
    "null\n",
    "- 1\n- 2\n",
    "just text\n",
    "---\nmachine: {type: worker}\n---\n---\n",
    "machine:\n\ttype: worker\n",
    "machine: &a {type: worker}\ncluster: *b\n",
    "machine:\n  nodeLabels: &l {a: b}\n  nodeAnnotations: *l\n",
    "machine:\n  nodeLabels:\n    <<: {a: b}\n    c: d\n",
    "machine: {type: worker}\nextra: true\n",
    "machine: {sysctls: {a: {b: c}}}\n",
    "machine: {sysctls: [a, b]}\n",
    "machine: {files: [null]}\n",
    "machine: {disks: [null]}\n",
    "machine: {registries: {mirrors: {a: null}}}\n",
    "apiVersion: v1alpha1\nkind: HostnameConfig\n",
    "apiVersion: v1alpha1\n",
    "kind:\napiVersion: v1alpha1\n",
    "apiVersion: v1alpha1\nkind: [a]\n",
    "apiVersion: v1alpha1\nkind: KmsgLogConfig\nname: remote\nurl: tcp://10.5.0.3:514/\n",
    "apiVersion: v1alpha1\nkind: KmsgLogConfig\nname: remote\nurl: http://10.5.0.3\n",
    "apiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: a\nportSelector: {ports: [1-5, 3], protocol: tcp}\ningress: []\n",
    "apiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: a\nportSelector: {ports: [5-1], protocol: udp}\ningress: []\n",
    "apiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nprovisioning: {minSize: 2GiB, maxSize: 1GiB}\n",
    "apiVersion: v1alpha1\nkind: TrustedRootsConfig\nname: a\ncertificates: none\n",
    "machine: {network: {interfaces: [{interface: eth0, addresses: [none]}]}}\n",
    "machine: {kubelet: {nodeIP: {validSubnets: [none]}, extraConfig: {clusterDNS: []}}}\n",
    "machine: {network: {interfaces: [{interface: eth0, $patch: delete}]}}\n",
    "[{op: test, path: /machine/type, value: none}, {op: nonsense, path: /}]\n",
];

#[test]
fn forms_like_those_of_the_library_have_one_verdict() {
    let mut verdicts = BTreeSet::new();
    for text in FORMS {
        for contract in TalosContract::ALL {
            verdicts.insert(compared(text, &[], contract).unwrap_or_else(|error| panic!("{error}")));
            let base = generated(TalosContract::V1_11, Kind::Worker);
            // An empty text is no patch: the library would take it for a list of no operations.
            if text.trim_start_matches(['-', '\n']).is_empty() || text.starts_with("null") {
                continue;
            }
            let accepted = compared(text, std::slice::from_ref(&base), contract);
            let accepted = accepted.unwrap_or_else(|error| panic!("{error}"));
            let is_part = text.contains("type: worker");
            assert!(is_part || accepted == oracle_over(&base, text, contract), "{contract:?}\n{text}");
        }
    }
    assert_eq!(verdicts.len(), 2, "some are accepted, and some are refused");
}

/// One change of a config. Numbers choose a place among those that there are.
#[derive(Clone, Debug)]
enum Mutation {
    Remove(usize),
    Rename(usize, &'static str),
    Replace(usize, Value),
    Add(usize, &'static str, Value),
    Swap(usize, usize),
    Document(&'static str),
    RepeatDocument(usize),
    RemoveDocument(usize),
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!("")),
        Just(json!("text")),
        Just(json!("true")),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!(65_536)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!(["10.5.0.7"])),
        Just(json!({})),
        Just(json!({ "key": "value" })),
        Just(json!("10.5.0.0/24")),
        Just(json!("https://10.5.0.2:6443")),
        Just(json!("60s")),
        Just(json!("worker")),
        Just(json!("controlplane")),
    ]
}

const NAMES: [&str; 8] = ["type", "vip", "hostname", "enabled", "endpoint", "labels", "interface", "Machine"];

/// Documents that some releases accept, and some do not.
const DOCUMENTS: [&str; 12] = [
    r#"{"apiVersion": "v1alpha1", "kind": "HostnameConfig", "hostname": "other"}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "HostnameConfig", "auto": "stable", "hostname": "other"}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "KubeSpanConfig", "enabled": true}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "ExtensionServiceConfig", "name": "tailscale", "environment": ["TS_HOSTNAME=a"]}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "ExtensionServiceConfig", "environment": ["A=b"]}"#,
    r#"{"apiVersion": "v1", "kind": "ExtensionServiceConfig", "name": "a", "environment": ["A=b"]}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "Layer2VIPConfig", "name": "10.5.0.5", "link": "eth0"}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "LinkConfig", "name": "eth0", "addresses": [{"address": "10.5.0.7/24"}]}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "NetworkDefaultActionConfig", "ingress": "block"}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "WatchdogTimerConfig", "device": "/dev/watchdog0", "timeout": "2m"}"#,
    r#"{"apiVersion": "v1alpha1", "kind": "UserVolumeConfig", "name": "data", "provisioning": {"diskSelector": {"match": "true"}, "minSize": "1GiB"}}"#,
    r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {}}"#,
];

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let place = || any::<usize>();
    let name = || prop::sample::select(&NAMES[..]);
    prop_oneof![
        3 => place().prop_map(Mutation::Remove),
        2 => (place(), name()).prop_map(|(place, name)| Mutation::Rename(place, name)),
        6 => (place(), any_value()).prop_map(|(place, value)| Mutation::Replace(place, value)),
        3 => (place(), name(), any_value()).prop_map(|(place, name, value)| Mutation::Add(place, name, value)),
        2 => (place(), place()).prop_map(|(one, other)| Mutation::Swap(one, other)),
        4 => prop::sample::select(&DOCUMENTS[..]).prop_map(Mutation::Document),
        1 => place().prop_map(Mutation::RepeatDocument),
        1 => place().prop_map(Mutation::RemoveDocument),
    ]
}

/// The pointers of all values below a value.
fn pointers(value: &Value, prefix: &str, found: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(entries) => {
            for (key, inner) in entries {
                let pointer = format!("{prefix}/{}", escaped(key));
                found.push(pointer.clone());
                pointers(inner, &pointer, found);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                let pointer = format!("{prefix}/{index}");
                found.push(pointer.clone());
                pointers(inner, &pointer, found);
            }
        }
        _ => {}
    }
}

fn choose(documents: &Value, place: usize) -> Option<String> {
    let mut found = Vec::new();
    pointers(documents, "", &mut found);
    found.get(place.checked_rem(found.len())?).cloned()
}

/// The object that contains the value at a pointer, and its key.
fn parent<'a>(documents: &'a mut Value, pointer: &str) -> Option<(&'a mut Map<String, Value>, String)> {
    let (parent, key) = pointer.rsplit_once('/')?;
    let key = key.replace("~1", "/").replace("~0", "~");
    Some((documents.pointer_mut(parent)?.as_object_mut()?, key))
}

impl Mutation {
    /// Changes a list of documents.
    fn apply(&self, documents: &mut Value) -> Option<()> {
        let count = documents.as_array()?.len();
        match self {
            Self::Remove(place) => {
                let pointer = choose(documents, *place)?;
                let (entries, key) = parent(documents, &pointer)?;
                entries.remove(&key);
            }
            Self::Rename(place, name) => {
                let pointer = choose(documents, *place)?;
                let (entries, key) = parent(documents, &pointer)?;
                let value = entries.remove(&key)?;
                entries.insert((*name).to_owned(), value);
            }
            Self::Replace(place, value) => {
                let pointer = choose(documents, *place)?;
                *documents.pointer_mut(&pointer)? = value.clone();
            }
            Self::Add(place, name, value) => {
                let pointer = choose(documents, *place)?;
                documents.pointer_mut(&pointer)?.as_object_mut()?.insert((*name).to_owned(), value.clone());
            }
            Self::Swap(one, other) => {
                let (one, other) = (choose(documents, *one)?, choose(documents, *other)?);
                let value = documents.pointer(&other)?.clone();
                *documents.pointer_mut(&one)? = value;
            }
            Self::Document(text) => documents.as_array_mut()?.push(serde_json::from_str(text).ok()?),
            Self::RepeatDocument(place) => {
                let document = documents[place.checked_rem(count)?].clone();
                documents.as_array_mut()?.push(document);
            }
            Self::RemoveDocument(place) => {
                documents.as_array_mut()?.remove(place.checked_rem(count)?);
            }
        }
        Some(())
    }
}

fn text(documents: &Value) -> String {
    let documents = documents.as_array().into_iter().flatten();
    documents.map(|document| format!("---\n{}", serde_yaml::to_string(document).expect("yaml"))).collect()
}

/// A config with changes, or a part of one as a patch.
fn any_text() -> impl Strategy<Value = (Kind, bool, String)> {
    let contract = prop::sample::select(&TalosContract::ALL[..]);
    let kind = prop_oneof![Just(Kind::ControlPlane), Just(Kind::Worker)];
    let mutations = prop::collection::vec(any_mutation(), 0..4);
    (contract, kind, any::<bool>(), any::<usize>(), mutations).prop_map(
        |(contract, kind, whole, part, mutations)| {
            let config = MachineConfig::from_yaml(&generated(contract, kind)).expect("yaml");
            let mut documents = Value::Array(config.documents().to_vec());
            if !whole {
                // One part of the main document, such as machine.features.
                let sections: Vec<_> = ["machine", "cluster"]
                    .iter()
                    .flat_map(|root| {
                        let keys =
                            documents[0][root].as_object().into_iter().flat_map(|entries| entries.keys());
                        keys.filter(|key| *key != "type")
                            .map(move |key| (*root, key.clone()))
                            .collect::<Vec<_>>()
                    })
                    .collect();
                let (root, key) = &sections[part % sections.len()];
                let section = documents[0][root][key].clone();
                documents = json!([{ *root: { key.clone(): section } }]);
            }
            for mutation in &mutations {
                // A place that does not take the change stays as it is.
                let _ = mutation.apply(&mut documents);
            }
            (kind, whole, text(&documents))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn mutated_configs_have_one_verdict((kind, whole, text) in any_text()) {
        for contract in TalosContract::ALL {
            let accepted = compared(&text, &[], contract).map_err(TestCaseError::fail)?;
            if is_config(&text) {
                // The library judges a whole config without a base.
                prop_assert_eq!(accepted, oracle(&text, contract), "{:?}\n{}", contract, text);
            } else if !whole && !is_nothing(&text) && !text.contains("type: ") {
                let base = generated(TalosContract::V1_11, kind);
                let accepted = compared(&text, std::slice::from_ref(&base), contract).map_err(TestCaseError::fail)?;
                prop_assert_eq!(accepted, oracle_over(&base, &text, contract), "{:?}\n{}", contract, text);
            }
        }
    }
}

/// Whether a text has no document but null. The library takes such a patch for a list of no operations.
fn is_nothing(text: &str) -> bool {
    text.lines().all(|line| matches!(line.trim(), "" | "---" | "null"))
}

/// Whether a text has what makes it a whole config: a type, a token and an endpoint.
fn is_config(text: &str) -> bool {
    let Ok(config) = MachineConfig::from_yaml(text) else { return false };
    let Some(main) = config.main() else { return false };
    let has =
        |pointer: &str| main.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    has("/machine/type") && has("/machine/token") && has("/cluster/controlPlane/endpoint")
}

/// A value that is taken out of a plugin's configuration makes the library panic (machinery v1.11.5, config/merge).
#[test]
fn a_panic_of_the_library_is_a_refusal() {
    let text = "cluster:\n  apiServer:\n    admissionControl:\n      - name: PodSecurity\n        configuration:\n          defaults: null\n";
    let base = generated(TalosContract::V1_11, Kind::ControlPlane);
    for contract in TalosContract::ALL {
        let accepted = compared(text, std::slice::from_ref(&base), contract);
        let accepted = accepted.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(accepted, oracle_over(&base, text, contract), "{contract:?}");
        assert!(!accepted, "{contract:?}");
    }
}

/// The comparison finds a library that says something else.
#[test]
fn a_difference_is_found() {
    struct Contrary;
    impl TalosLibrary for Contrary {
        fn judge(
            &self,
            contract: TalosContract,
            request: &JudgeRequest<'_>,
        ) -> Result<JudgeAnswer, NotAsked> {
            let mut answer = validator().judge(contract, request)?;
            answer.verdicts.iter_mut().for_each(|verdict| {
                verdict.accepted = !verdict.accepted;
                verdict.findings.clear();
            });
            Ok(answer)
        }
    }
    let text = generated(TalosContract::V1_13, Kind::Worker);
    let set = ConfigSet::new([("file.yaml".to_owned(), text.clone())]);
    let findings = checked(&set, TalosContract::V1_13, &Contrary);
    assert_eq!(findings.count(Severity::Error), 1, "a refusal without a reason is still a refusal");
    assert!(oracle(&text, TalosContract::V1_13));
}
