//! What a file is: a whole config, a part of one, or a patch.

use lab_model::{node::Kind, yaml::YamlNode};

use crate::user_config::{UserConfig, machine_kind};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A config as a machine gets it: it has a type, a token and an endpoint.
    Config,
    /// A config for a kind of machine without its secrets. Talos judges it with the least that it lacks.
    Part(Kind),
    /// A patch for configs that are not given. Talos judges it over configs of talosctl.
    Patch,
}

impl Shape {
    pub(super) fn of(file: &UserConfig) -> Self {
        let Some(main) = file.main().filter(|main| !is_json_patch(main)) else {
            // Talos says of an empty file that there is no config in it.
            return if file.documents.is_empty() { Self::Config } else { Self::Patch };
        };
        let has = |path: &[&str]| main.text_at(path).is_some_and(|text| !text.is_empty());
        let whole: [&[&str]; 2] = [&["machine", "token"], &["cluster", "controlPlane", "endpoint"]];
        match (has(&["machine", "type"]), whole.iter().all(|path| has(path))) {
            (true, true) => Self::Config,
            (true, false) => Self::Part(machine_kind(main).unwrap_or(Kind::Worker)),
            (false, _) => Self::Patch,
        }
    }
}

/// Returns whether a document is a list of JSON patch operations.
pub(in crate::lint) fn is_json_patch(document: &YamlNode) -> bool {
    let items = document.items();
    !items.is_empty() && items.iter().all(|item| item.get(&["op"]).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Shape {
        Shape::of(&UserConfig::parse("x.yaml", text).expect("YAML"))
    }

    #[test]
    fn a_config_has_type_token_and_endpoint_and_a_patch_has_no_type() {
        let endpoint = "cluster: {controlPlane: {endpoint: https://10.5.0.2:6443}}";
        assert_eq!(shape(&format!("machine: {{type: worker, token: a.b}}\n{endpoint}\n")), Shape::Config);
        assert_eq!(shape(&format!("machine: {{type: worker}}\n{endpoint}\n")), Shape::Part(Kind::Worker));
        assert_eq!(shape("machine: {type: init}"), Shape::Part(Kind::ControlPlane));
        assert_eq!(shape("machine: {type: '', token: ''}"), Shape::Patch);
        assert_eq!(shape("apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: a\n"), Shape::Patch);
        assert_eq!(shape("[{op: add, path: /machine/type, value: worker}]"), Shape::Patch);
        assert_eq!(shape("# nothing\n"), Shape::Config);
    }
}
