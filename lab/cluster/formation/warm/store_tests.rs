//! The store against damage, strangers and labs that were killed.

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use lab_plan::config::talosconfig;
use lab_vm::machine::MemoryFormat;

use super::*;
use crate::formation::{SavedFile, SavedNode, disk_files::sum_of};

fn key(qemu: &str) -> WarmKey {
    let ingredients =
        serde_json::json!({ "cluster": "lab", "stage": "formed", "ingredients": { "QEMU": qemu } });
    serde_json::from_value(ingredients).expect("key")
}

fn access() -> SavedAccess {
    let now = jiff::Timestamp::now();
    let secrets = SecretsBundle::generate(now).expect("secrets");
    let talosconfig = talosconfig("lab", &[[10, 5, 0, 10].into()], &secrets, now).expect("talosconfig");
    SavedAccess { secrets, talosconfig, kubeconfig: "kind: Config".into() }
}

fn save(store: &WarmStore, key: &WarmKey, megabytes: usize) -> PathBuf {
    let draft = store.begin(key, 0).expect("draft");
    let file = |name: &str, content: &[u8]| {
        fs::write(draft.file(name), content).expect("write");
        SavedFile { file: name.into(), sum: sum_of(&draft.file(name)).expect("sum") }
    };
    let node = SavedNode {
        name: "cp-1".parse().expect("name"),
        memory: file("cp-1.memory", &vec![7; megabytes << 20]),
        disk: file("cp-1.disk", b"disk"),
    };
    let saved = SavedCluster {
        key: key.clone(),
        saved: jiff::Timestamp::now(),
        memory: MemoryFormat::Stream,
        nodes: vec![node],
        control_server: Vec::new(),
        formed_in: 40.0,
        stood_still: 3.0,
        saved_in: 4.0,
    };
    let spec = ClusterSpec::of_compute_nodes("lab".parse().expect("name"), 1, 0).expect("spec");
    draft.commit(&saved, &access(), &spec).expect("commit")
}

fn cold(lookup: Lookup) -> String {
    match lookup {
        Lookup::Cold(reason) => reason,
        Lookup::Found(snapshot) => panic!("found {}", snapshot.directory.display()),
    }
}

#[test]
fn what_was_saved_is_found_by_its_key_alone() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = WarmStore::new(directory.path().join("warm"));
    assert_eq!(cold(store.find(&key("7.2")).expect("find")), "no cluster of this kind was saved yet");
    save(&store, &key("7.2"), 1);
    assert!(matches!(store.find(&key("7.2")).expect("find"), Lookup::Found(_)));
    assert_eq!(
        cold(store.find(&key("10.0")).expect("find")),
        "the most similar saved cluster has QEMU 7.2 instead of 10.0"
    );
}

#[test]
fn a_file_that_is_cut_off_or_missing_is_told_and_the_cluster_removed() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = WarmStore::new(directory.path());
    let cut = save(&store, &key("7.2"), 1);
    OpenOptions::new().write(true).open(cut.join("cp-1.memory")).expect("open").set_len(9).expect("cut");
    let reason = cold(store.find(&key("7.2")).expect("find"));
    assert!(reason.contains("cp-1.memory has 9 of 1048576 bytes"), "{reason}");
    assert!(!cut.exists());
    for name in [MANIFEST, SECRETS, TALOSCONFIG, KUBECONFIG, "cp-1.disk"] {
        let saved = save(&store, &key("7.2"), 1);
        fs::remove_file(saved.join(name)).expect("remove");
        let reason = cold(store.find(&key("7.2")).expect("find"));
        assert!(reason.contains(name), "{name}: {reason}");
    }
}

#[test]
fn a_flipped_byte_keeps_its_length_and_is_seen_by_the_sum() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = WarmStore::new(directory.path());
    let saved = save(&store, &key("7.2"), 1);
    let memory = saved.join("cp-1.memory");
    OpenOptions::new().write(true).open(&memory).expect("open").write_all_at(&[8], 1000).expect("write");
    let Lookup::Found(snapshot) = store.find(&key("7.2")).expect("find") else { panic!("not found") };
    assert_ne!(sum_of(&memory).expect("sum"), snapshot.saved.nodes[0].memory.sum);
}

#[test]
fn what_a_killed_lab_left_is_removed_and_what_a_living_one_writes_is_not() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = WarmStore::new(directory.path());
    let dead = directory.path().join(format!("{DRAFT}dead"));
    fs::create_dir(&dead).expect("create");
    fs::write(dead.join("cp-1.memory"), "half").expect("write");
    let living = store.begin(&key("7.2"), 0).expect("draft");
    cold(store.find(&key("7.2")).expect("find"));
    assert!(!dead.exists());
    assert!(living.file("").exists());
    let path = living.file("");
    drop(living);
    assert!(!path.exists(), "a draft that is given up is removed");
}

#[test]
fn one_name_means_the_cluster_that_was_saved_last() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = WarmStore::new(directory.path());
    let named = |qemu: &str| key(qemu).named("demo".parse().expect("name"));
    save(&store, &named("7.2"), 1);
    // The same key again, as of a cluster that is stopped a second time: it is exchanged, and nothing of the first stays.
    let again = save(&store, &named("7.2"), 2);
    assert_eq!(fs::metadata(again.join("cp-1.memory")).expect("memory").len(), 2 << 20);
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    // Another kind of cluster under the name. One without the name and one with another name stay.
    save(&store, &key("7.2"), 1);
    save(&store, &key("7.2").named("other".parse().expect("name")), 1);
    let other_kind = save(&store, &named("8.0"), 1);
    store.remove_others(&"demo".parse().expect("name"), &other_kind).expect("remove");
    assert!(other_kind.is_dir() && !again.exists());
    assert_eq!(store.list().expect("list").len(), 3);
}

#[test]
fn the_oldest_go_first_and_those_in_use_stay() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = WarmStore::new(directory.path());
    for qemu in ["7.2", "8.0", "9.0"] {
        save(&store, &key(qemu), 2);
        // The time of last use tells whole milliseconds at worst.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let Lookup::Found(in_use) = store.find(&key("7.2")).expect("find") else { panic!("not found") };
    let order: Vec<_> = store.list().expect("list").into_iter().map(|entry| entry.saved.key).collect();
    assert_eq!(order, [key("7.2"), key("9.0"), key("8.0")]);
    let removed = store.prune(5 << 20).expect("prune");
    assert_eq!(removed.into_iter().map(|entry| entry.saved.key).collect::<Vec<_>>(), [key("8.0")]);
    store.prune(0).expect("prune");
    let left: Vec<_> = store.list().expect("list").into_iter().map(|entry| entry.saved.key).collect();
    assert_eq!(left, [key("7.2")]);
    drop(in_use);
    store.prune(0).expect("prune");
    assert!(store.list().expect("list").is_empty());
}

#[test]
fn a_disk_that_would_be_full_is_left_alone() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = WarmStore::new(directory.path());
    let refused = store.begin(&key("7.2"), u64::MAX / 2).expect_err("no disk is that large");
    assert!(matches!(refused, WarmError::NoSpace { .. }), "{refused}");
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0);
}

#[test]
fn of_many_differences_only_the_first_are_told() {
    let some = |count: usize| (1..=count).map(|n| format!("difference {n}")).collect::<Vec<_>>();
    assert_eq!(few(&some(2)), "difference 1; difference 2");
    assert_eq!(few(&some(5)), "difference 1; difference 2; difference 3; and 2 more differences");
}
