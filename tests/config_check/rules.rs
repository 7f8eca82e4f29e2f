//! The config check against the library: its tables of keys are the library's, it is silent about what the
//! library and the lab generate, and it finds what its catalogue says.

use std::collections::BTreeSet;

use lab_model::{Diagnostics, Severity, node::Kind};
use lab_plan::{
    config::{ClusterConfig, LabPatches, Profile, TalosContract},
    lint::{Checked, ConfigSet, Decides, Example, NoLibrary, Schema, TalosLibrary, catalogue, check},
};
use rstest::rstest;
use serde_json::json;

use super::{cluster, generated, oracle::Machinery, secrets, validator::validator, version};

pub fn checked(set: &ConfigSet, contract: TalosContract, library: &dyn TalosLibrary) -> Diagnostics {
    let Checked { findings, asked } = check(set, contract, library);
    asked.unwrap_or_else(|reason| panic!("{reason}"));
    findings
}

fn findings(files: impl IntoIterator<Item = (String, String)>, contract: TalosContract) -> Diagnostics {
    checked(&ConfigSet::new(files), contract, validator())
}

fn of(example: &Example) -> Diagnostics {
    findings(example.files.clone(), example.talos)
}

fn words(findings: &Diagnostics) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[rstest]
fn the_keys_are_those_that_the_library_reads(
    #[values(TalosContract::V1_11, TalosContract::V1_12, TalosContract::V1_13)] contract: TalosContract,
) {
    let schema = Schema::of(contract);
    let kinds: Vec<_> = schema.kinds().collect();
    let answer = Machinery::of(version(contract)).ask(&json!({ "ask": "keys", "patches": kinds }));
    let table = Schema::parse(&answer.expect("a table")).expect("the table's form");
    assert_eq!(*schema, table, "lab/plan/lint/schema is out of date");
}

#[test]
fn each_library_is_that_of_its_release() {
    for contract in TalosContract::ALL {
        let set = ConfigSet::new([("x.yaml".to_owned(), "machine: {type: worker}".to_owned())]);
        let asked = check(&set, contract, validator()).asked.expect("asked");
        assert!(asked.starts_with(&format!("{}.", contract.as_str())), "{asked}");
    }
}

#[test]
fn every_rule_finds_its_examples_and_nothing_in_similar_ones() {
    let mut ids = BTreeSet::new();
    for rule in catalogue() {
        assert!(ids.insert(&rule.id), "{} is there twice", rule.id);
        for example in &rule.fires {
            let what = format!("{}: {}", rule.id, example.form);
            let found = of(example);
            let told = words(&found);
            let own: Vec<_> = found.iter().filter(|found| found.rule.as_deref() == Some(&rule.id)).collect();
            assert!(!own.is_empty(), "{what}: not found: {told:#?}");
            let severity = example.severity.unwrap_or(rule.severity);
            for finding in &own {
                assert_eq!(finding.severity, severity, "{what}: {finding}");
            }
            for finding in found.iter().filter(|found| found.rule.as_deref() != Some(&rule.id)) {
                let known =
                    finding.rule.as_ref().is_some_and(|id| example.also.iter().any(|also| also == id));
                assert!(known, "{what}: another finding: {finding}");
            }
            for word in &example.says {
                assert!(told.iter().any(|text| text.contains(word.as_str())), "{what}: no {word}: {told:#?}");
            }
            if let Some(at) = &example.at {
                let place = own[0].position.map(|place| format!("{}:{}", place.line, place.column));
                assert_eq!(place.as_ref(), Some(at), "{what}: {told:#?}");
            }
        }
        for example in &rule.silent {
            let found = of(example);
            let known = |id: Option<&str>| example.also.iter().any(|also| Some(also.as_str()) == id);
            let others: Vec<_> = found.iter().filter(|found| !known(found.rule.as_deref())).collect();
            assert!(others.is_empty(), "{}: {}: {:#?}", rule.id, example.form, words(&found));
        }
    }
}

#[test]
fn what_is_found_is_told_with_place_and_way_out() {
    let examples = catalogue().iter().flat_map(|rule| &rule.fires);
    let told: Vec<_> = examples.flat_map(|example| words(&of(example))).collect();
    insta::assert_snapshot!(told.join("\n"));
}

/// What a rule of the lab calls an error, the library accepts. Only then it is the lab's to say.
#[test]
fn the_library_accepts_what_the_labs_own_rules_refuse() {
    let of_talos: Vec<_> = catalogue().iter().filter(|rule| rule.decides == Decides::Talos).collect();
    // Talos refuses most of these as well, and the finding of the lab stands for its errors.
    let both = ["no-config", "placeholder"];
    for rule in catalogue().iter().filter(|rule| rule.decides == Decides::Lab) {
        for example in rule.fires.iter().filter(|_| !both.contains(&rule.id.as_str())) {
            let found = of(example);
            let is_theirs = |id: Option<&str>| of_talos.iter().any(|rule| Some(rule.id.as_str()) == id);
            let theirs = found.iter().filter(|found| is_theirs(found.rule.as_deref()));
            assert_eq!(theirs.count(), 0, "{}: {:#?}", rule.id, words(&found));
        }
    }
}

#[test]
fn without_the_library_the_tables_answer_and_the_reason_is_told() {
    let examples = ["unknown-key", "wrong-type", "unknown-kind", "not-yaml"];
    for rule in catalogue().iter().filter(|rule| examples.contains(&rule.id.as_str())) {
        let set = ConfigSet::new(rule.fires[0].files.clone());
        let Checked { findings, asked } = check(&set, TalosContract::default(), &NoLibrary);
        assert!(asked.is_err());
        let found = findings.iter().any(|found| found.rule.as_deref() == Some(&rule.id));
        assert!(found, "{}: {:#?}", rule.id, words(&findings));
        assert!(words(&findings).iter().all(|text| !text.contains("Talos says")), "{:#?}", words(&findings));
    }
    let good = catalogue().iter().flat_map(|rule| &rule.silent);
    for example in good {
        let set = ConfigSet::new(example.files.clone());
        let findings = check(&set, example.talos, &NoLibrary).findings;
        assert_eq!(findings.count(Severity::Error), 0, "{}: {:#?}", example.form, words(&findings));
    }
}

#[rstest]
fn nothing_is_found_in_what_the_lab_generates(
    #[values(TalosContract::V1_11, TalosContract::V1_12, TalosContract::V1_13)] contract: TalosContract,
    #[values(Profile::default(), Profile::Speed)] profile: Profile,
    #[values(false, true)] everything: bool,
) {
    let asks = ClusterConfig {
        image_cache: everything,
        own_network_plugin: everything,
        schedule_on_control_planes: everything,
        lab_patches: LabPatches { profile, ..LabPatches::default() },
        ..cluster(contract)
    };
    let files =
        [Kind::ControlPlane, Kind::Worker].map(|kind| (format!("{kind:?}.yaml"), generated(&asks, kind)));
    let found = findings(files, contract);
    assert!(found.is_empty(), "{:#?}", words(&found));
}

#[test]
fn a_patch_is_laid_over_the_base_that_the_user_names() {
    let config = |kind| generated(&cluster(TalosContract::V1_13), kind);
    let patch = "cluster: {etcd: {advertisedSubnets: [10.5.0.0/24]}}".to_owned();
    let over = |base: String| {
        let mut set = ConfigSet::new([("patch.yaml".to_owned(), patch.clone())]);
        set.bases = vec![base];
        words(&checked(&set, TalosContract::V1_13, validator()))
    };
    assert_eq!(over(config(Kind::ControlPlane)), Vec::<String>::new());
    let refused = over(config(Kind::Worker)).join("\n");
    assert!(refused.contains("etcd config is only allowed on control plane machines"), "{refused}");
    let mut json =
        ConfigSet::new([("patch.yaml".to_owned(), "[{op: add, path: /debug, value: true}]".to_owned())]);
    json.bases = vec![config(Kind::Worker)];
    let refused = words(&checked(&json, TalosContract::V1_13, validator())).join("\n");
    assert!(refused.contains("strategic merge patch"), "{refused}");
}

#[test]
fn secrets_are_not_quoted() {
    let secrets = secrets();
    let good = generated(&cluster(TalosContract::V1_13), Kind::ControlPlane);
    for (from, to) in [
        (format!("token: {}", secrets.trustdinfo.token), format!("token: [{}]", secrets.trustdinfo.token)),
        (format!("key: {}", secrets.certs.os.key), format!("key: '!{}'", secrets.certs.os.key)),
        (format!("secret: {}", secrets.cluster.secret), format!("sekret: {}", secrets.cluster.secret)),
    ] {
        let broken = good.replacen(&from, &to, 1);
        assert_ne!(broken, good, "{from}");
        let told = words(&findings([("cp.yaml".to_owned(), broken)], TalosContract::V1_13)).join("\n");
        assert!(!told.is_empty());
        for secret in [&secrets.trustdinfo.token, &secrets.certs.os.key, &secrets.cluster.secret] {
            assert!(!told.contains(&secret[..12]), "{told}");
        }
    }
}
