//! Resources of a node's state API (COSI). Their specs are read from the YAML form.

use serde::Deserialize;

use super::wire::resource as wire;

/// A COSI resource of any type.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Namespace, e.g. `runtime`.
    pub namespace: String,
    /// Type, e.g. `MachineStatuses.runtime.talos.dev`.
    pub kind: String,
    /// Unique within namespace and type.
    pub id: String,
    /// Null if the node sent invalid YAML.
    pub spec: serde_json::Value,
}

/// Resource `MachineStatuses.runtime.talos.dev`, id `machine`: the progress of the boot sequence.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MachineStatus {
    pub stage: Stage,
    #[serde(default)]
    pub status: MachineReadiness,
}

/// Readiness within a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineReadiness {
    /// True if no condition is unmet.
    #[serde(default)]
    pub ready: bool,
    /// The conditions that the machine waits for.
    #[serde(default)]
    pub unmet_conditions: Option<Vec<UnmetCondition>>,
}

/// A condition that a machine waits for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct UnmetCondition {
    pub name: String,
    pub reason: String,
}

/// The stage of a machine (Talos, machinery/resources/runtime, MachineStage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are Talos's own and speak for themselves")]
pub enum Stage {
    Unknown,
    Booting,
    Installing,
    Maintenance,
    Running,
    Rebooting,
    #[serde(rename = "shutting down")]
    Shutting,
    Resetting,
    Upgrading,
}

/// Resource `ExtensionStatuses.runtime.talos.dev`: one system extension of the running image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ExtensionStatus {
    /// Contains the name that identifies the extension; the ID of the resource does not identify it.
    pub metadata: ExtensionMetadata,
}

/// The extension's own manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ExtensionMetadata {
    pub name: String,
    /// Empty if the manifest has no version.
    #[serde(default)]
    pub version: String,
}

/// `VolumeStatuses.block.talos.dev`: a partition or disk of the node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// `ready`, `failed` and so on.
    pub phase: String,
    /// Why the volume failed.
    #[serde(default)]
    pub error_message: String,
}

impl VolumeStatus {
    /// Whether the volume cannot be used. The node then boots no further.
    pub fn has_failed(&self) -> bool {
        self.phase == "failed"
    }
}

impl Resource {
    /// Converts a wire message. A spec with invalid YAML becomes null.
    pub(super) fn from_wire(resource: wire::Resource) -> Self {
        let metadata = resource.metadata.unwrap_or_default();
        let yaml = resource.spec.map(|spec| spec.yaml_spec).unwrap_or_default();
        Self {
            namespace: metadata.namespace,
            kind: metadata.r#type,
            id: metadata.id,
            spec: parsed(&yaml).unwrap_or(serde_json::Value::Null),
        }
    }

    /// Deserializes the spec.
    ///
    /// # Errors
    /// When the spec does not match `T`.
    pub fn view<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(self.spec.clone())
    }
}

/// The largest spec of a resource, in bytes.
const LARGEST_SPEC: usize = 1 << 20;

fn parsed(yaml: &str) -> Option<serde_json::Value> {
    lab_model::yaml::within_limits(yaml, LARGEST_SPEC).ok()?;
    serde_yaml::from_str(yaml).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(yaml: &str) -> Resource {
        let spec = wire::Spec { yaml_spec: yaml.into(), ..Default::default() };
        Resource::from_wire(wire::Resource { spec: Some(spec), ..Default::default() })
    }

    #[test]
    fn a_machine_status_is_read_with_what_it_waits_for() {
        let yaml = "stage: booting\nstatus:\n  ready: false\n  unmetConditions:\n    - name: services\n      reason: kubelet not healthy\n";
        let status: MachineStatus = resource(yaml).view().expect("view");
        assert_eq!(status.stage, Stage::Booting);
        assert_eq!(status.status.unmet_conditions.expect("conditions")[0].reason, "kubelet not healthy");
    }

    /// Each resource of the recorded node has the form that is read here.
    #[test]
    fn the_resources_of_a_recorded_node_are_read() {
        let recorded = include_str!("../../../tests/recorded/talos-v1.13.9/resources.yaml");
        let mut extensions = Vec::new();
        let mut volumes = 0;
        for document in recorded.split("---\n").filter(|document| !document.is_empty()) {
            let (title, spec) = document.split_once('\n').expect("a title");
            let resource = resource(spec);
            match title.trim_start_matches("# ").split_once(' ').expect("type and id").0 {
                "MachineStatuses.runtime.talos.dev" => {
                    let status: MachineStatus = resource.view().expect(title);
                    let unmet = status.status.unmet_conditions.expect("conditions");
                    assert_eq!((status.stage, unmet[0].name.as_str()), (Stage::Running, "nodeReady"));
                }
                "ExtensionStatuses.runtime.talos.dev" => {
                    extensions.push(resource.view::<ExtensionStatus>().expect(title).metadata.name);
                }
                "VolumeStatuses.block.talos.dev" => {
                    let volume: VolumeStatus = resource.view().expect(title);
                    assert!(volume.phase == "ready" && !volume.has_failed(), "{title}");
                    volumes += 1;
                }
                other => panic!("{other} is not read"),
            }
        }
        assert_eq!((extensions, volumes), (vec!["drbd".into(), "spin".into(), "modules.dep".to_owned()], 7));
    }

    /// As `talosctl get volumestatus EPHEMERAL -o yaml` of Talos v1.13.9 has the spec.
    #[test]
    fn a_volume_that_failed_tells_why() {
        let yaml = "phase: failed\npreFailPhase: located\ntype: partition\nlocation: /dev/vda6\nfilesystem: xfs\n\
                    errorMessage: 'error formatting: exit status 1'\n";
        let volume: VolumeStatus = resource(yaml).view().expect("view");
        assert!(volume.has_failed() && volume.error_message == "error formatting: exit status 1");
        let volume: VolumeStatus = resource("phase: ready\ntype: partition\n").view().expect("view");
        assert!(!volume.has_failed());
    }

    #[test]
    fn every_stage_is_read_by_the_name_that_talos_gives_it() {
        // machinery/resources/runtime/machinestage_enumer.go, v1.11.5 and v1.13.9.
        for (name, stage) in [
            ("unknown", Stage::Unknown),
            ("booting", Stage::Booting),
            ("installing", Stage::Installing),
            ("maintenance", Stage::Maintenance),
            ("running", Stage::Running),
            ("rebooting", Stage::Rebooting),
            ("shutting down", Stage::Shutting),
            ("resetting", Stage::Resetting),
            ("upgrading", Stage::Upgrading),
        ] {
            let status: MachineStatus = resource(&format!("stage: {name}\n")).view().expect(name);
            assert_eq!(status.stage, stage);
        }
    }

    #[test]
    fn a_spec_that_nests_without_end_is_no_spec() {
        for yaml in ["[".repeat(1 << 20), format!("a: {}", "x".repeat(LARGEST_SPEC))] {
            assert_eq!(resource(&yaml).spec, serde_json::Value::Null);
        }
    }

    #[test]
    fn null_conditions_and_broken_specs_are_no_panic() {
        let status: MachineStatus =
            resource("stage: running\nstatus:\n  ready: true\n  unmetConditions: []\n").view().expect("view");
        assert!(status.status.ready);
        assert!(resource("{ broken").view::<MachineStatus>().is_err());
    }
}
