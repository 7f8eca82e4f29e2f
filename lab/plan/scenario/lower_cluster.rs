//! Converts the `cluster:` part of a scenario file to a valid `ClusterSpec`.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use ipnet::Ipv4Net;
use lab_model::{
    Diagnostic, Source,
    diagnostic::{from_yaml, yaml_options},
    node::{NodeName, Role},
    words::choice,
};
use serde_saphyr::Spanned;

use super::{
    lowering::Lowering,
    raw::{RawNetwork, RawNode, RawPatch, RawRoleRule, RawScenario, Text},
};
use crate::cluster::{
    ClusterSpec, ImageSource, NetworkSpec, NodeSpec, Patch, PatchSet, RoleRule, SpecError, SpecSubject,
    SpecWarning, TailnetSpec, default_role_rules,
};

/// Maximum node count of one entry, above the capacity of any host. Larger numbers are typing errors.
const MOST_NODES_OF_ONE_ENTRY: usize = 100;

/// The default cluster name. All scenarios use the same default, so scenarios with the same topology
/// share a saved cluster.
const DEFAULT_NAME: &str = "lab";

/// Returns the cluster, or `None` if problems were reported.
pub(super) fn lower_cluster(
    lowering: &mut Lowering<'_>,
    raw: &RawScenario,
) -> Option<(ClusterSpec, Vec<SpecWarning>)> {
    let before = lowering.problems.len();
    let cluster = &raw.cluster;
    let name = match &cluster.name {
        Some(name) => lowering.parsed(name),
        None => NodeName::new(DEFAULT_NAME).ok(),
    };
    let mut nodes = Vec::new();
    let mut origins = Vec::new();
    for raw_node in &cluster.nodes.value {
        for node in lowering.nodes(raw_node) {
            origins.push((node.name.clone(), raw_node));
            nodes.push(node);
        }
    }
    let network = lowering.network(&cluster.network);
    let images = lowering.images(&cluster.images, &nodes);
    let patches = PatchSet {
        all: lowering.patches(&cluster.patches.all),
        kinds: cluster.patches.kinds.iter().map(|(kind, list)| (*kind, lowering.patches(list))).collect(),
        roles: lowering.role_patches(&cluster.patches.roles, &nodes),
    };
    let lab_patches = lowering.lab_patches(cluster);
    let own = lowering.own_configs(cluster, &mut nodes, &origins, &patches, &lab_patches);
    let network = network.and_then(|network| lowering.own_network(&cluster.network, network, own.as_ref()));
    let schedule = own.as_ref().is_none_or(|own| own.schedule_on_control_planes);
    let late_documents = Some(lowering.role_patches(&cluster.late_documents, &nodes));
    let tailnet = cluster.tailnet.as_ref().map(|tailnet| TailnetSpec {
        document: tailnet.local.document.as_ref().and_then(|document| lowering.patch(document)),
        approval: tailnet.local.approval,
        key: tailnet.local.key,
        control_server: tailnet.local.control_server,
    });
    let role_rules = lowering.role_rules(cluster.roles.as_ref());
    if let Some(seconds) = cluster.boot_timeout.as_ref().filter(|seconds| seconds.value == 0) {
        lowering.report(Diagnostic::at(seconds, "a boot needs some time").help("give seconds, 1 or more"));
    }
    let kubernetes_version =
        cluster.kubernetes_version.as_ref().map(|text| lowering.kubernetes_version(text));
    let spec = ClusterSpec {
        name: name?,
        nodes,
        network: network?,
        images,
        talos_contract: cluster.talos_contract,
        kubernetes_version,
        allow_scheduling_on_control_planes: cluster.allow_scheduling_on_control_planes.unwrap_or(schedule),
        gateways: cluster.gateways.as_ref().map_or(1, |gateways| gateways.value),
        own,
        lab_patches,
        patches,
        late_documents: late_documents?,
        role_rules: role_rules?,
        tailnet,
        boot_timeout: cluster.boot_timeout.as_ref().map(|seconds| seconds.value),
        start_order: cluster.start_order,
        network_plugin: lowering.network_plugin(cluster.cni.as_ref()),
        image_delivery: cluster.image_delivery,
    };
    // An incomplete node list would cause misleading follow-up errors.
    if lowering.problems.len() > before {
        return None;
    }
    match spec.validate() {
        Ok(warnings) => Some((spec, warnings)),
        Err(errors) => {
            for error in errors {
                let problem = place(&error, raw, &origins);
                lowering.report(problem);
            }
            None
        }
    }
}

/// Creates a diagnostic for a spec error at its position in the file.
fn place(error: &SpecError, raw: &RawScenario, origins: &[(NodeName, &RawNode)]) -> Diagnostic {
    let cluster = &raw.cluster;
    let at_nodes = || Diagnostic::at(&cluster.nodes, error.to_string());
    let at = |text: Option<&Text>| text.map_or_else(at_nodes, |t| Diagnostic::at(t, error.to_string()));
    let network = |name: &str| {
        match name {
            "pods" => &cluster.network.pods,
            "services" => &cluster.network.services,
            _ => &cluster.network.lan,
        }
        .as_ref()
    };
    match error.subject() {
        SpecSubject::Nodes => at_nodes(),
        SpecSubject::Node(name) => {
            let Some((_, node)) = origins.iter().rev().find(|(origin, _)| *origin == name) else {
                return at_nodes();
            };
            let value = match error {
                SpecError::MemoryTooSmall { .. } => node.memory.as_ref(),
                SpecError::DiskTooSmall { .. } => node.disk.as_ref(),
                _ => None,
            };
            at(value.or(Some(&node.name)))
        }
        // One of the two networks may be a default, which has no position in the file.
        SpecSubject::Networks(first, second) => at(network(second).or_else(|| network(first))),
        SpecSubject::Network(name) => at(network(name)),
        SpecSubject::DnsDomain => at(cluster.network.dns_domain.as_ref()),
        SpecSubject::Gateways => match &cluster.gateways {
            Some(gateways) => Diagnostic::at(gateways, error.to_string()),
            None => at_nodes(),
        },
    }
}

impl Lowering<'_> {
    /// Parses a text, or reports a problem.
    pub(super) fn parsed<T>(&mut self, text: &Text) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match text.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.report(Diagnostic::at(text, error.to_string()));
                None
            }
        }
    }

    /// Returns a Kubernetes version without `v`, or reports a problem.
    fn kubernetes_version(&mut self, text: &Text) -> String {
        let version = text.value.trim_start_matches('v');
        if version.parse::<semver::Version>().is_err() {
            let message = format!("\"{}\" is not a Kubernetes version", text.value);
            self.report(Diagnostic::at(text, message).help("write all three numbers, as in v1.34.1"));
        }
        version.to_owned()
    }

    /// Returns the nodes of one list entry. Returns an empty list if problems were reported.
    fn nodes(&mut self, raw: &RawNode) -> Vec<NodeSpec> {
        let role = match &raw.role {
            Some(text) => match Role::new(text.value.as_str()) {
                Ok(role) => Some(role),
                Err(error) => {
                    let message = error.to_string().replace("is not a node name", "is not a role");
                    self.report(Diagnostic::at(text, message));
                    None
                }
            },
            None => Role::new(Role::COMPUTE).ok(),
        };
        let memory = raw.memory.as_ref().map_or(Some(NodeSpec::DEFAULT_MEMORY), |text| self.parsed(text));
        let disk = raw.disk.as_ref().map_or(Some(NodeSpec::DEFAULT_DISK), |text| self.parsed(text));
        let patches = self.patches(&raw.patches);
        let names = self.node_names(raw);
        let (Some(role), Some(memory), Some(disk)) = (role, memory, disk) else { return Vec::new() };
        let node = |name| NodeSpec {
            vcpus: raw.vcpus.unwrap_or(NodeSpec::default_vcpus(raw.kind)),
            memory,
            disk,
            patches: patches.clone(),
            ..NodeSpec::new(name, raw.kind, role.clone())
        };
        names.into_iter().map(node).collect()
    }

    fn node_names(&mut self, raw: &RawNode) -> Vec<NodeName> {
        let Some(count) = &raw.count else {
            return self.parsed(&raw.name).into_iter().collect();
        };
        if !(1..=MOST_NODES_OF_ONE_ENTRY).contains(&count.value) {
            let message = format!("{} nodes are requested", count.value);
            let help = format!("give a count of 1 to {MOST_NODES_OF_ONE_ENTRY}");
            self.report(Diagnostic::at(count, message).help(help));
            return Vec::new();
        }
        let names: Result<Vec<NodeName>, _> =
            (1..=count.value).map(|n| NodeName::new(format!("{}-{n}", raw.name.value))).collect();
        names.unwrap_or_else(|error| {
            self.report(Diagnostic::at(&raw.name, error.to_string()));
            Vec::new()
        })
    }

    fn network(&mut self, raw: &RawNetwork) -> Option<NetworkSpec> {
        let default = NetworkSpec::default();
        let mut net = |text: &Option<Text>, default: Ipv4Net| match text {
            None => Some(default),
            Some(text) => match text.value.parse() {
                Ok(net) => Some(net),
                Err(_) => {
                    let message = format!("\"{}\" is not an IPv4 network", text.value);
                    self.report(Diagnostic::at(text, message).help(format!("write it like {default}")));
                    None
                }
            },
        };
        let pods = net(&raw.pods, default.pods);
        let services = net(&raw.services, default.services);
        let lan = net(&raw.lan, default.lan);
        let dns_domain = raw.dns_domain.as_ref().map_or(default.dns_domain, |text| text.value.clone());
        Some(NetworkSpec { pods: pods?, services: services?, lan: lan?, dns_domain })
    }

    fn images(&mut self, raw: &BTreeMap<String, Text>, nodes: &[NodeSpec]) -> BTreeMap<Role, ImageSource> {
        let reference = |node: &NodeSpec| (node.role.clone(), ImageSource::Reference);
        let mut images: BTreeMap<Role, ImageSource> = nodes.iter().map(reference).collect();
        let roles: Vec<String> = images.keys().map(ToString::to_string).collect();
        for (key, text) in raw {
            let Some(role) = images.keys().find(|role| role.as_str() == key).cloned() else {
                let mut problem =
                    Diagnostic::at(text, format!("an image for \"{key}\", but no node has that role"));
                problem.help = choice(key, &roles, "roles of the nodes");
                self.report(problem);
                continue;
            };
            let path = Path::new(&text.value);
            let is_path = path.is_absolute()
                || matches!(path.components().next(), Some(Component::CurDir | Component::ParentDir));
            if text.value == "reference" {
                images.insert(role, ImageSource::Reference);
            } else if let Some(variant) = text.value.strip_prefix("reference:") {
                match NodeName::new(variant) {
                    Ok(variant) => {
                        images.insert(role, ImageSource::ReferenceVariant(variant.to_string()));
                    }
                    Err(error) => {
                        let message = error.to_string().replace("is not a node name", "is not a variant");
                        self.report(Diagnostic::at(text, message));
                    }
                }
            } else if is_path {
                images.insert(role, ImageSource::Given(Source::Path(self.resolve(path))));
            } else {
                match Source::parse(&text.value) {
                    // A relative path starts with ./ to distinguish it from an image reference.
                    Ok(source @ Source::Registry(_)) => {
                        images.insert(role, ImageSource::Given(source));
                    }
                    _ => {
                        let message = format!("\"{}\" is not an image", text.value);
                        let help = "write `reference`, `reference:VARIANT`, a path beginning with ./, ../ or /, or \
                                    an image in a registry, HOST/NAME:TAG";
                        self.report(Diagnostic::at(text, message).help(help));
                    }
                }
            }
        }
        images
    }

    fn role_patches(
        &mut self,
        raw: &BTreeMap<String, Vec<Spanned<RawPatch>>>,
        nodes: &[NodeSpec],
    ) -> BTreeMap<Role, Vec<Patch>> {
        let mut patches = BTreeMap::new();
        for (key, list) in raw {
            match nodes.iter().find(|node| node.role.as_str() == key) {
                Some(node) => {
                    patches.insert(node.role.clone(), self.patches(list));
                }
                None => {
                    let message = format!("patches for \"{key}\", but no node has that role");
                    let mut roles: Vec<&str> = nodes.iter().map(|node| node.role.as_str()).collect();
                    roles.dedup();
                    let mut problem = list.first().map_or_else(
                        || Diagnostic::of_file(message.clone()),
                        |first| Diagnostic::at(first, message.clone()),
                    );
                    problem.help = choice(key, &roles, "roles of the nodes");
                    self.report(problem);
                }
            }
        }
        patches
    }

    /// Returns the role rules: the built-in rules, unless the file overrides them.
    fn role_rules(
        &mut self,
        raw: Option<&BTreeMap<String, RawRoleRule>>,
    ) -> Option<BTreeMap<Role, RoleRule>> {
        let Some(raw) = raw else { return Some(default_role_rules()) };
        let mut rules = BTreeMap::new();
        for (name, rule) in raw {
            match Role::new(name.as_str()) {
                Ok(role) => {
                    let (requires, forbids) = (rule.requires.clone(), rule.forbids.clone());
                    rules.insert(role, RoleRule { requires, forbids });
                }
                Err(error) => {
                    let message = error.to_string().replace("is not a node name", "is not a role");
                    self.report(Diagnostic::of_file(message));
                    return None;
                }
            }
        }
        Some(rules)
    }

    fn patches(&mut self, raw: &[Spanned<RawPatch>]) -> Vec<Patch> {
        raw.iter().filter_map(|patch| self.patch(patch)).collect()
    }

    pub(super) fn patch(&mut self, raw: &Spanned<RawPatch>) -> Option<Patch> {
        match &raw.value {
            RawPatch::Inline(patch) => {
                let origin = format!("{}:{}", self.file, raw.referenced.line());
                match serde_saphyr::to_string(patch) {
                    Ok(text) => Some(Patch { origin, text }),
                    Err(error) => {
                        self.report(Diagnostic::at(
                            raw,
                            format!("the patch cannot be written as YAML: {error}"),
                        ));
                        None
                    }
                }
            }
            RawPatch::File(path) => {
                let (origin, text) = self.named_file(raw, path, "patch file")?;
                if let Err((line, what)) = patch_form(&text) {
                    let message = format!("the patch file is wrong: {origin}:{line}: {what}");
                    let help = "a patch is one or more YAML mappings, or one list of operations (RFC 6902)";
                    self.report(Diagnostic::at(raw, message).help(help));
                    return None;
                }
                Some(Patch { origin, text })
            }
        }
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        // Pushing an absolute path replaces the directory.
        self.directory.join(path)
    }

    /// Reads a file that the scenario refers to at `place`, and returns its path and text. A read error
    /// names the purpose of the file.
    pub(super) fn named_file<T>(
        &mut self,
        place: &Spanned<T>,
        path: &str,
        what: &str,
    ) -> Option<(String, String)> {
        let path = self.resolve(Path::new(path));
        let origin = path.display().to_string();
        match (self.read)(&path) {
            Ok(text) => Some((origin, text)),
            Err(error) => {
                let message = format!("the {what} {origin} cannot be read: {error}");
                let help = "paths start from the directory of the scenario file";
                self.report(Diagnostic::at(place, message).help(help));
                None
            }
        }
    }
}

/// Validates the form of a patch. An error contains the problem and its line.
fn patch_form(text: &str) -> Result<(), (usize, String)> {
    type Documents<T> = Result<Vec<T>, serde_saphyr::Error>;
    let operations: Documents<Vec<serde_json::Map<String, serde_json::Value>>> =
        serde_saphyr::from_multiple_with_options(text, yaml_options());
    if operations.is_ok_and(|lists| lists.len() == 1) {
        return Ok(());
    }
    let mappings: Documents<serde_json::Map<String, serde_json::Value>> =
        serde_saphyr::from_multiple_with_options(text, yaml_options());
    mappings.map(drop).map_err(|error| yaml_fault(&error))
}

/// Returns the line and the message of an error in another file. The message has no text of that file: it may be a file
/// that its owner did not mean to show.
pub(super) fn yaml_fault(error: &serde_saphyr::Error) -> (usize, String) {
    use serde_saphyr::Error;
    let message = match error.without_snippet() {
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("wrong type: expected {expected}")
        }
        Error::SerdeUnknownField { .. } => "an unknown key".to_owned(),
        Error::DuplicateMappingKey { .. } => "a key is given twice".to_owned(),
        Error::Unexpected { .. } | Error::Eof { .. } => from_yaml(error).message,
        _ => "it is not valid YAML of this form".to_owned(),
    };
    (from_yaml(error).position.map_or(1, |position| position.line), message)
}
