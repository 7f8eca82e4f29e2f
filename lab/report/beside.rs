//! The files in a run's directory beside the recording: readable files, and the plans.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lab_model::{
    LONGEST_TEXT,
    files::{is_plain, read_bounded},
    redact, visible,
};
use serde_json::Value;
use walkdir::WalkDir;

/// Files with credentials, or files that only a running lab needs.
const LEFT_OUT: [&str; 4] = ["kubeconfig", "talosconfig", "lab.json", "lab.lock"];
/// Directories that only a running lab needs, or that contain keys.
const NOT_ENTERED: [&str; 2] = ["processes", "tailnet"];
/// File name extensions of readable files.
const READABLE: [&str; 9] = ["log", "txt", "json", "jsonl", "yaml", "diff", "sh", "pcap", "pcapng"];
/// The largest plan that is read, in bytes.
const LARGEST_PLAN: u64 = 16 << 20;
/// The maximum number of listed files, more than any run usually has.
const LIMIT: usize = 500;

/// The readable files of a run, relative to its directory, sorted by name. Excludes files with
/// credentials.
pub(super) fn artefacts(directory: &Path) -> Vec<PathBuf> {
    let entered = |entry: &walkdir::DirEntry| {
        !(entry.file_type().is_dir() && NOT_ENTERED.iter().any(|name| entry.file_name() == *name))
    };
    let files = WalkDir::new(directory).max_depth(6).sort_by_file_name().into_iter().filter_entry(entered);
    files
        .flatten()
        .filter(|entry| entry.file_type().is_file() && LEFT_OUT.iter().all(|name| entry.file_name() != *name))
        .filter(|entry| {
            let ending = entry.path().extension().unwrap_or_default();
            READABLE.iter().any(|readable| ending == *readable)
        })
        .filter_map(|entry| entry.path().strip_prefix(directory).map(Path::to_owned).ok())
        .filter(|path| !super::files::ALL.iter().any(|name| path == Path::new(name)))
        .take(LIMIT)
        .collect()
}

/// An image that nodes booted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BootedImage {
    /// The role of the image.
    pub(super) role: String,
    /// The source of the image.
    pub(super) source: String,
    /// The content digest.
    pub(super) digest: String,
    /// The software that the image declares.
    pub(super) software: String,
}

/// The facts about guests in the plans of a run: the images, by role and digest, and the CPU models.
pub(super) fn planned(directory: &Path, scenarios: &[&str]) -> (Vec<BootedImage>, Vec<String>) {
    let own = std::iter::once(directory.join("plan.json"));
    let plain = scenarios.iter().filter(|name| is_plain(Path::new(name)));
    let each = plain.map(|name| directory.join(name).join("plan.json"));
    let plans = own
        .chain(each)
        .filter_map(|path| serde_json::from_slice::<Value>(&read_bounded(&path, LARGEST_PLAN).ok()?).ok());
    let (mut images, mut models) = (BTreeMap::new(), Vec::new());
    for plan in plans {
        let text = |value: &Value| visible(&redact(value.as_str().unwrap_or_default()), LONGEST_TEXT);
        let model = text(&plan["cpu_model"]);
        if !model.is_empty() && !models.contains(&model) {
            models.push(model);
        }
        for node in plan["nodes"].as_array().into_iter().flatten() {
            let image = BootedImage {
                role: text(&node["spec"]["role"]),
                source: text(&node["image"]["origin"]["source"]),
                digest: text(&node["image"]["digest"]),
                software: text(&node["image"]["contents"]["node_version"]),
            };
            images.insert((image.role.clone(), image.digest.clone()), image);
        }
    }
    (images.into_values().collect(), models)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_with_credentials_and_the_reports_themselves_are_not_listed() {
        let run = tempfile::tempdir().expect("tempdir");
        for file in [
            "nodes/cp-1/console.log",
            "nodes/cp-1/disk.raw",
            "kubeconfig",
            "talosconfig",
            "lab.json",
            "processes/cp-1-7.process.json",
            "tailnet/keys.txt",
            "bundle/README.txt",
            "report.html",
            "trace.json",
            "plan.json",
        ] {
            let path = run.path().join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, "{}").expect("write");
        }
        let listed: Vec<_> = artefacts(run.path()).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(listed, ["bundle/README.txt", "nodes/cp-1/console.log", "plan.json"]);
    }

    #[test]
    fn images_are_told_by_role_and_digest() {
        let run = tempfile::tempdir().expect("tempdir");
        let node = |role: &str| {
            serde_json::json!({ "spec": { "role": role }, "image": {
                "origin": { "source": format!("./{role}") }, "digest": "sha256:ab",
                "contents": { "node_version": "Talos (v1.11.5)" } } })
        };
        let plan = serde_json::json!({ "cpu_model": "max", "nodes": [node("compute"), node("compute"), node("gateway")] });
        fs::create_dir(run.path().join("mixed")).expect("directory");
        fs::write(run.path().join("mixed/plan.json"), plan.to_string()).expect("write");
        let (images, models) = planned(run.path(), &["mixed"]);
        let roles: Vec<_> = images.iter().map(|image| image.role.as_str()).collect();
        assert_eq!((roles, models), (vec!["compute", "gateway"], vec!["max".to_owned()]));
    }
}
