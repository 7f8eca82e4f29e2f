//! The config check against the library: its tables of keys are the library's, it is silent about
//! what the library and the lab generate, and it finds what its catalogue says.

use std::collections::BTreeSet;

use lab_model::{Diagnostics, Severity, node::Kind};
use lab_plan::{
    config::{SecretsBundle, TalosContract, generate},
    lint::{ConfigSet, Schema, catalogue, check},
};
use rstest::rstest;
use serde_json::json;

use super::{additions, cluster, node, oracle::Machinery, version};

fn findings(files: impl IntoIterator<Item = (String, String)>, contract: TalosContract) -> Diagnostics {
    check(&ConfigSet::new(files, Schema::of(contract)))
}

fn words(findings: &Diagnostics) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[rstest]
fn the_keys_are_those_that_the_library_reads(
    #[values(TalosContract::V1_11, TalosContract::V1_13)] contract: TalosContract,
) {
    let schema = Schema::of(contract);
    let kinds: Vec<_> = schema.kinds().collect();
    let answer = Machinery::of(version(contract)).ask(&json!({ "ask": "keys", "patches": kinds }));
    let table = Schema::parse(&answer.expect("a table")).expect("the table's form");
    assert_eq!(*schema, table, "lab/plan/lint/schema is out of date");
}

#[test]
fn every_rule_finds_its_bad_example_and_nothing_in_the_good_one() {
    let mut ids = BTreeSet::new();
    for rule in catalogue() {
        assert!(ids.insert(&rule.id), "{} is there twice", rule.id);
        let bad = findings(rule.bad.clone(), TalosContract::V1_13);
        assert!(!bad.is_empty(), "{}: nothing found", rule.id);
        for finding in bad.iter() {
            assert_eq!(finding.rule.as_deref(), Some(rule.id.as_str()), "{finding}");
            assert_eq!(finding.severity, rule.severity, "{finding}");
        }
        let good = findings(rule.good.clone(), TalosContract::V1_13);
        assert!(good.is_empty(), "{}: {:?}", rule.id, words(&good));
    }
}

#[test]
fn what_is_found_is_told_with_place_and_way_out() {
    let told: Vec<_> = catalogue()
        .iter()
        .flat_map(|rule| words(&findings(rule.bad.clone(), TalosContract::V1_13)))
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[rstest]
fn nothing_is_found_in_what_the_lab_generates(
    #[values(TalosContract::V1_11, TalosContract::V1_13)] contract: TalosContract,
) {
    let secrets = SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets");
    let files = [Kind::ControlPlane, Kind::Worker].map(|kind| {
        let config = generate(&cluster(contract), &node(kind), &secrets);
        let patched = config.patch([additions(contract, kind).as_str()]).expect("patch");
        (format!("{kind:?}.yaml"), patched.to_yaml().expect("yaml"))
    });
    let found = findings(files, contract);
    assert!(found.is_empty(), "{:#?}", words(&found));
}

/// What the rules call an error for one node alone, the library refuses as well: the example laid
/// over a good config as a patch.
#[rstest]
#[case::unknown_key("unknown-key")]
#[case::wrong_type("wrong-type")]
#[case::unknown_kind("unknown-kind")]
#[case::machine_type("machine-type")]
#[case::talos_api_access("talos-api-access-on-worker")]
#[case::authority_key("authority-key-on-worker")]
#[case::shared_address("shared-address-on-worker")]
#[case::kubespan("kubespan-without-discovery")]
#[case::persist("not-persisted")]
fn the_library_refuses_it_too(#[case] id: &str) {
    let rule = catalogue().iter().find(|rule| rule.id == id).expect("a rule");
    assert_eq!(rule.severity, Severity::Error);
    let text = rule.bad.values().next().expect("an example");
    let secrets = SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets");
    let base = generate(&cluster(TalosContract::V1_13), &node(Kind::Worker), &secrets);
    let base = base.to_yaml().expect("yaml");
    let mut machinery = Machinery::of(version(TalosContract::V1_13));
    // A patch that has the wrong form is refused when it is merged into the config.
    let accepted =
        machinery.patch(&base, std::slice::from_ref(text)).and_then(|yaml| machinery.validate(&yaml));
    assert!(accepted.is_err(), "machinery accepts:\n{text}");
}
