//! Every kernel module was built for the kernel of its image, and lies where that kernel looks.

use std::collections::BTreeMap;

use super::{Looked, Rule, looked::some_of};
use crate::evidence::{Evidence, NodeEvidence, NodeFacts};

pub(super) const RULE: Rule = Rule {
    name: "module-kernel",
    holds: "every kernel module is for the release of the kernel of its image",
    subjects: "modules",
    look,
};

const REMEDY: &str = "take kernel and extensions from one build";

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for (node, facts) in evidence.node_contents() {
        match &facts.inspection.kernel.release {
            Some(release) => modules(&mut looked, node, facts, release),
            None => {
                looked.at_one();
                let cause =
                    "the kernel image has no text \"Linux version\", so no module can be compared with it";
                looked.error(&node.place(), cause, "name an image whose kernel unpacks to an arm64 Image");
            }
        }
    }
    looked
}

fn modules(looked: &mut Looked, node: &NodeEvidence, facts: &NodeFacts, release: &str) {
    let mut causes: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for file in &facts.modules.files {
        looked.at_one();
        let mut add = |cause: String| causes.entry((&file.layer, cause)).or_default().push(&file.path);
        if file.directory() != release {
            add(format!(
                "lies in the directory of the kernel {}, and the kernel of the image is {release}",
                file.directory()
            ));
        }
        match &file.module {
            Err(why) => add(format!("cannot be read: {why}")),
            Ok(module) if module.vermagic.split(' ').next() != Some(release) => {
                let other =
                    if module.vermagic.is_empty() { "no kernel in particular" } else { &module.vermagic };
                add(format!("was built for {other}, and the kernel of the image is {release}"));
            }
            Ok(module) => {
                let own = facts.inspection.kernel.vermagic.as_ref().filter(|own| **own != module.vermagic);
                if let Some(own) = own {
                    add(format!(
                        "has the version magic \"{}\", and the kernel has \"{own}\"",
                        module.vermagic
                    ));
                }
            }
        }
    }
    for ((layer, cause), paths) in causes {
        let place = format!("{}, layer {layer}", node.place());
        looked.error(&place, format!("{} {cause}", some_of(&paths)), REMEDY);
    }
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::module;

    use super::*;
    use crate::rules::fixture::{self, KEY, Node, RELEASE, VERMAGIC};

    fn found(path: &str, vermagic: &str) -> Vec<String> {
        let drbd = KEY.sign(&module("drbd", vermagic, &[], &[]));
        let node = Node::new("compute").extension("name: drbd, version: v9", &[(path, &drbd)]);
        fixture::found(&RULE, &fixture::evidence(vec![node.read()]))
    }

    #[test]
    fn a_module_of_the_same_build_passes() {
        let path = format!("usr/lib/modules/{RELEASE}/extra/drbd.ko");
        assert_eq!(found(&path, VERMAGIC), [""; 0]);
    }

    #[test]
    fn a_module_for_another_kernel_is_told_with_layer_and_file() {
        let path = format!("usr/lib/modules/{RELEASE}/extra/drbd.ko");
        let other = found(&path, "6.12.4-talos SMP preempt mod_unload aarch64");
        let expected = format!(
            "compute (compute/metal image), layer 0.sqsh: {path} was built for 6.12.4-talos SMP preempt mod_unload aarch64, and the kernel of the image is {RELEASE}"
        );
        assert_eq!(other, [expected]);
        let other = found(&path, &format!("{RELEASE} SMP mod_unload aarch64"));
        assert!(other[0].contains("has the version magic"), "{other:?}");
    }

    #[test]
    fn a_module_in_the_directory_of_another_kernel_is_told() {
        let other = found("usr/lib/modules/6.1.0/extra/drbd.ko", VERMAGIC);
        assert!(
            other[0].ends_with(&format!(
                "lies in the directory of the kernel 6.1.0, and the kernel of the image is {RELEASE}"
            )),
            "{other:?}"
        );
    }

    #[test]
    fn a_kernel_without_a_release_is_an_error_and_not_a_pass() {
        let mut kernel = vec![0; 0x100];
        kernel[0x38..0x3c].copy_from_slice(b"ARM\x64");
        let found =
            fixture::found(&RULE, &fixture::evidence(vec![Node::new("compute").kernel(kernel).read()]));
        assert!(found[0].contains("so no module can be compared with it"), "{found:?}");
    }
}
