//! The plans in a run's directory: what its nodes booted.

use std::{collections::BTreeMap, path::Path};

use lab_model::{
    LONGEST_TEXT,
    files::{is_plain, read_bounded},
    redact, visible,
};
use serde_json::Value;

/// The largest plan that is read, in bytes.
const LARGEST_PLAN: u64 = 16 << 20;

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
