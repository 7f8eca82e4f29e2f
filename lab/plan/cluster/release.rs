//! The Talos releases in the images of a cluster, and the Kubernetes version that they support.

use std::collections::BTreeMap;

use lab_model::node::{Kind, Role};
use semver::Version;

use super::{
    plan::Plan,
    plan_error::PlanError,
    prepared_image::PreparedImage,
    spec::{ClusterSpec, NodeSpec},
};
use crate::config::TalosRelease;

/// Returns the release of each node, in the order of the spec. `None` means the reference node.
pub(super) fn releases(
    spec: &ClusterSpec,
    images: &BTreeMap<Role, PreparedImage>,
) -> Result<Vec<Option<TalosRelease>>, PlanError> {
    spec.nodes.iter().map(|node| release(spec, node, images.get(&node.role))).collect()
}

fn release(
    spec: &ClusterSpec,
    node: &NodeSpec,
    image: Option<&PreparedImage>,
) -> Result<Option<TalosRelease>, PlanError> {
    let software = image.and_then(|image| image.contents.node_version.as_deref());
    let Some(software) = software.filter(|software| software.starts_with("Talos")) else {
        return Ok(None);
    };
    let release = match (TalosRelease::of_software(software), spec.talos_contract) {
        (Some(release), _) => release,
        (None, Some(contract)) => return Ok(Some(TalosRelease::newest_of(contract))),
        (None, None) => {
            return Err(PlanError::UnknownRelease { role: node.role.clone(), software: software.to_owned() });
        }
    };
    match (release.contract(), spec.talos_contract) {
        (None, _) => Err(PlanError::OldRelease { role: node.role.clone(), release }),
        (Some(contract), Some(said)) if contract != said => {
            Err(PlanError::Contract { role: node.role.clone(), release, said })
        }
        _ => Ok(Some(release)),
    }
}

impl Plan {
    /// Returns a sentence for each Talos image, with what its release determines.
    pub fn release_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for node in &self.nodes {
            let Some(release) = &node.release else { continue };
            let images = release.images();
            let table = match release.is_known() {
                true => String::new(),
                false => ", which the lab does not know: the images are those of its nearest known release"
                    .to_owned(),
            };
            let note = format!(
                "the image of role {} is Talos {release}{table}; machine configs for {}, Kubernetes v{}, {}, {}, {}, {}",
                node.spec.role,
                node.contract.as_str(),
                self.kubernetes_version,
                images.etcd,
                images.coredns(),
                images.flannel(),
                images.pause(),
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        notes
    }
}

/// Returns the Kubernetes version of generated configs: that of the spec, or the default of the control
/// plane's image. `reference` is the version in the reference node's image.
pub(super) fn kubernetes_version(
    spec: &ClusterSpec,
    releases: &[Option<TalosRelease>],
    reference: &str,
) -> Result<String, PlanError> {
    let mut nodes = spec.nodes.iter().zip(releases);
    let control_plane = nodes.find(|(node, _)| node.kind == Kind::ControlPlane);
    let default = match control_plane {
        Some((_, Some(release))) => release.images().kubernetes,
        _ => reference,
    };
    let Some(asked) = &spec.kubernetes_version else { return Ok(default.to_owned()) };
    for (node, release) in spec.nodes.iter().zip(releases) {
        let problem = match release {
            Some(release) => {
                let (oldest, newest) = release.kubernetes_range();
                let minor = asked.parse::<Version>().ok().map(|version| version.minor);
                let fits = minor.is_some_and(|minor| (oldest..=newest).contains(&minor));
                (!fits)
                    .then(|| format!("is Talos {release}, which runs Kubernetes v1.{oldest} to v1.{newest}"))
            }
            None => (asked != reference)
                .then(|| format!("is the reference node, which contains Kubernetes v{reference}")),
        };
        if let Some(problem) = problem {
            return Err(PlanError::KubernetesVersion {
                role: node.role.clone(),
                asked: asked.clone(),
                problem,
            });
        }
    }
    Ok(asked.clone())
}

#[cfg(test)]
pub(super) mod tests {
    use lab_image::{BootFiles, Contents};
    use lab_model::{Digest, Origin, accelerator::Accelerator, node::NodeName};
    use serde_json::json;

    use super::*;
    use crate::{
        cluster::{Budgets, LateComponent, Patch, PlanInputs},
        config::{LabPatchId, LabPatches, TalosContract},
    };

    fn image(software: &str) -> PreparedImage {
        PreparedImage {
            origin: Origin::default(),
            digest: Digest::of_bytes(software.as_bytes()),
            boot: BootFiles { kernel: "Image".into(), initramfs: "initramfs.cpio".into() },
            contents: Contents { node_version: Some(software.to_owned()), ..Contents::default() },
            arguments: None,
        }
    }

    pub fn spec() -> ClusterSpec {
        ClusterSpec::of_compute_nodes(NodeName::new("lab").expect("name"), 1, 1).expect("spec")
    }

    fn planned(software: &str, spec: ClusterSpec) -> Result<Plan, PlanError> {
        planned_with(software, spec, Accelerator::Tcg)
    }

    pub fn planned_with(
        software: &str,
        spec: ClusterSpec,
        accelerator: Accelerator,
    ) -> Result<Plan, PlanError> {
        let role = Role::new(Role::COMPUTE).expect("role");
        Plan::new(
            spec,
            PlanInputs {
                images: BTreeMap::from([(role, image(software))]),
                accelerator,
                cpu_model: None,
                budgets: Budgets::default(),
                cores: 2,
                upstreams: vec!["registry.k8s.io".into()],
                reference_kubernetes: "1.34.2".into(),
                faults: Vec::new(),
                now: jiff::Timestamp::now(),
            },
        )
    }

    fn refusal(software: &str, spec: ClusterSpec) -> String {
        planned(software, spec).expect_err("refused").to_string()
    }

    #[test]
    fn configs_images_and_arguments_follow_the_image() {
        let plan = planned("Talos (v1.11.5)", spec()).expect("plan");
        let node = plan.control_plane();
        assert_eq!(node.config.documents().len(), 1, "v1.11 has no HostnameConfig");
        assert_eq!(
            node.config.text_at(&["machine", "kubelet", "image"]),
            Some("ghcr.io/siderolabs/kubelet:v1.34.1")
        );
        assert!(!node.kernel.text.contains("module.sig_enforce"));
        assert!(plan.pulled_images().any(|(image, _)| image == "registry.k8s.io/pause:3.10"));

        let plan = planned("Talos (v1.13.9)", spec()).expect("plan");
        let node = plan.control_plane();
        assert_eq!(node.config.documents().len(), 3);
        assert!(node.config.of_kind("HostnameConfig").is_some());
        assert!(node.config.of_kind("OOMConfig").is_some(), "v1.11 does not watch its memory");
        assert_eq!(
            node.config.text_at(&["machine", "kubelet", "image"]),
            Some("ghcr.io/siderolabs/kubelet:v1.36.3")
        );
        assert!(node.kernel.text.contains("module.sig_enforce=1"));
        assert!(!node.kernel.text.contains("lab.talos-contract"));
        assert!(plan.pulled_images().any(|(image, _)| image == "registry.k8s.io/pause:3.10.1"));
        let [note] = &plan.release_notes()[..] else { panic!("one role") };
        assert!(
            note.starts_with("the image of role compute is Talos v1.13.9; machine configs for v1.13,"),
            "{note}"
        );

        let plan = planned("Lab reference node 1", spec()).expect("plan");
        assert!(plan.control_plane().kernel.text.ends_with("lab.talos-contract=v1.13"));
        assert_eq!((plan.kubernetes_version.as_str(), plan.release_notes().len()), ("1.34.2", 0));
    }

    #[test]
    fn what_only_emulated_talos_nodes_need_is_left_out_elsewhere_and_can_be_switched_off_and_on() {
        let of = |software, spec, accelerator| planned_with(software, spec, accelerator).expect("plan");
        let late = |plan: &Plan| {
            let of = |component| plan.late_images(component).into_iter().collect::<Vec<_>>();
            [of(LateComponent::ControllerManager), of(LateComponent::Scheduler)]
        };
        let tuned = |plan: &Plan| plan.control_plane().kernel.text.contains("talos.environment=GOGC=400");
        let plan = of("Talos (v1.13.9)", spec(), Accelerator::Tcg);
        let expected = [["registry.k8s.io/kube-controller-manager"], ["registry.k8s.io/kube-scheduler"]];
        assert_eq!(late(&plan), expected);
        assert!(plan.nodes.iter().all(|node| node.kernel.text.contains("highres=off")));
        assert!(tuned(&plan) && plan.workers().all(|worker| worker.kernel.text.contains("GOGC=400")));
        assert!(plan.lab_patches.iter().any(|line| line.id == LabPatchId::LateComponents));

        let selected = |on: &[LabPatchId], off: &[LabPatchId]| {
            let patches = |ids: &[LabPatchId]| ids.iter().copied().collect();
            let lab_patches = LabPatches { on: patches(on), off: patches(off), ..LabPatches::default() };
            ClusterSpec { lab_patches, ..spec() }
        };
        let both = [LabPatchId::LateComponents, LabPatchId::GoRuntime];
        for plan in [
            of("Talos (v1.13.9)", spec(), Accelerator::Kvm),
            of("Talos (v1.13.9)", selected(&[], &both), Accelerator::Tcg),
            of("Lab reference node 1", spec(), Accelerator::Tcg),
        ] {
            assert_eq!(late(&plan), [[""; 0]; 2]);
            assert!(!tuned(&plan));
            assert!(!plan.lab_patches.iter().any(|line| both.contains(&line.id)));
        }
        assert!(tuned(&of("Talos (v1.13.9)", selected(&both, &[]), Accelerator::Kvm)));
    }

    #[test]
    fn flannel_gets_an_argument_only_where_it_is_the_network_plugin() {
        let arguments = |patch: &str, accelerator| {
            let mut spec = spec();
            spec.patches.all.push(Patch { origin: "a test".into(), text: patch.into() });
            let plan = planned_with("Talos (v1.13.9)", spec, accelerator).expect("plan");
            let config = plan.control_plane().config.main().expect("a main document").clone();
            config.pointer("/cluster/network/cni/flannel/extraArgs").cloned()
        };
        let resync = json!(["--iptables-resync=300"]);
        assert_eq!(arguments("machine: {}", Accelerator::Tcg), Some(resync.clone()));
        assert_eq!(arguments("cluster: {network: {cni: {name: flannel}}}", Accelerator::Tcg), Some(resync));
        assert_eq!(arguments("cluster: {network: {cni: {name: none}}}", Accelerator::Tcg), None);
        assert_eq!(arguments("machine: {}", Accelerator::Kvm), None);
        let theirs =
            "cluster: {network: {cni: {name: flannel, flannel: {extraArgs: [--iptables-resync=9]}}}}";
        let last = arguments(theirs, Accelerator::Tcg).and_then(|all| all.as_array()?.last().cloned());
        assert_eq!(last, Some(json!("--iptables-resync=9")), "the last one counts");
    }

    #[test]
    fn a_scenario_that_contradicts_its_image_is_refused() {
        let says = |contract| ClusterSpec { talos_contract: Some(contract), ..spec() };
        let refused = refusal("Talos (v1.11.5)", says(TalosContract::V1_13));
        assert!(
            refused.starts_with(
                "the image of role compute is Talos v1.11.5, and the scenario says `talosContract: v1.13`"
            ),
            "{refused}"
        );
        assert!(planned("Talos (v1.11.5)", says(TalosContract::V1_11)).is_ok());
        assert!(planned("Lab reference node 1", says(TalosContract::V1_11)).is_ok());
        assert!(
            refusal("Talos (v1.10.3)", spec()).contains("the lab forms clusters of Talos v1.11 and later")
        );
        assert!(refusal("Talos (main)", spec()).contains("names no Talos release"));
        let plan = planned("Talos (main)", says(TalosContract::V1_12)).expect("the scenario says it");
        assert_eq!(plan.nodes[0].contract, TalosContract::V1_12);
    }

    #[test]
    fn the_kubernetes_version_can_be_chosen_within_what_the_release_runs() {
        let asks = |version: &str| ClusterSpec { kubernetes_version: Some(version.to_owned()), ..spec() };
        let plan = planned("Talos (v1.13.9)", asks("1.34.1")).expect("plan");
        assert!(plan.pulled_images().any(|(image, _)| image == "registry.k8s.io/kube-apiserver:v1.34.1"));
        assert!(refusal("Talos (v1.11.5)", asks("1.36.3")).contains("runs Kubernetes v1.29 to v1.34"));
        assert!(refusal("Lab reference node 1", asks("1.36.3")).contains("contains Kubernetes v1.34.2"));
        assert!(planned("Lab reference node 1", asks("1.34.2")).is_ok());
    }
}
