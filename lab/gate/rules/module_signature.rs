//! Every kernel module is signed by a key that the kernel of its image trusts. Another build has another key, and the
//! kernel then says "key was rejected by service".

use std::collections::BTreeMap;

use lab_image::{Trust, TrustedKey};

use super::{Looked, Rule, looked::some_of};
use crate::evidence::{Evidence, NodeEvidence, NodeFacts};

pub(super) const RULE: Rule = Rule {
    name: "module-signature",
    holds: "every kernel module is signed by a key that the kernel of its image trusts",
    subjects: "modules",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for (node, facts) in evidence.node_contents() {
        signatures(&mut looked, node, facts);
    }
    looked
}

fn signatures(looked: &mut Looked, node: &NodeEvidence, facts: &NodeFacts) {
    let mut by_trust: BTreeMap<(&str, Judged), Vec<&str>> = BTreeMap::new();
    let mut signed = 0;
    for (file, module) in facts.modules.read() {
        looked.at_one();
        signed += usize::from(module.trust != Trust::Unsigned);
        let judged = match &module.trust {
            Trust::Valid { .. } => continue,
            Trust::Unsigned => Judged::Unsigned,
            Trust::UnknownSigner { signer } => Judged::Unknown(signer),
            Trust::Invalid { why } => Judged::Invalid(why),
            Trust::NotVerified { algorithm, .. } => Judged::NotVerified(algorithm),
        };
        by_trust.entry((&file.layer, judged)).or_default().push(&file.path);
    }
    let keys: Vec<_> = facts.inspection.kernel.keys.iter().map(TrustedKey::name).collect();
    let trusts = if keys.is_empty() {
        "the kernel image has no certificate".to_owned()
    } else {
        format!("the kernel trusts {}", some_of(&keys))
    };
    for ((layer, judged), paths) in by_trust {
        let (place, paths) = (format!("{}, layer {layer}", node.place()), some_of(&paths));
        match judged {
            Judged::Unsigned if signed == 0 => {
                let cause = format!(
                    "no module is signed ({paths}); a kernel that enforces signatures loads none of them"
                );
                looked.warning(
                    &place,
                    cause,
                    "sign the modules in the build of the kernel (CONFIG_MODULE_SIG_ALL)",
                );
            }
            Judged::Unsigned => {
                let cause = format!("not signed, while other modules of the image are: {paths}");
                looked.error(&place, cause, "build the extension with the kernel, which signs its modules");
            }
            Judged::Unknown(signer) => {
                let cause = format!(
                    "signed by {signer}, and {trusts}: {paths}; the kernel will say \"key was rejected by service\""
                );
                looked.error(
                    &place,
                    cause,
                    "take kernel and extension from one build; each build has its own signing key",
                );
            }
            Judged::Invalid(why) => {
                looked.error(&place, format!("{paths}: {why}"), "build the extension again")
            }
            Judged::NotVerified(algorithm) => {
                let cause =
                    format!("the kernel has the key, but the gate cannot verify {algorithm}: {paths}");
                looked.warning(&place, cause, "load one of the modules on a node of this build");
            }
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Judged<'a> {
    Unsigned,
    Unknown(&'a str),
    Invalid(&'a str),
    NotVerified(&'a str),
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::{SigningKey, module};

    use super::*;
    use crate::rules::fixture::{self, KEY, Node, RELEASE, VERMAGIC};

    fn found(drbd: &[u8]) -> Vec<String> {
        let path = format!("usr/lib/modules/{RELEASE}/extra/drbd.ko");
        let node = Node::new("compute").extension("name: drbd, version: v9", &[(&path, drbd)]);
        fixture::found(&RULE, &fixture::evidence(vec![node.read()]))
    }

    fn drbd() -> Vec<u8> {
        module("drbd", VERMAGIC, &[], &[])
    }

    #[test]
    fn a_module_that_the_build_signed_passes() {
        assert_eq!(found(&KEY.sign(&drbd())), [""; 0]);
    }

    #[test]
    fn a_module_with_the_key_of_another_build_names_both_keys() {
        let found = found(&SigningKey::new("other build").sign(&drbd()));
        assert_eq!(found.len(), 1);
        for part in [
            "layer 0.sqsh: signed by CN=other build (serial ",
            "and the kernel trusts CN=build key",
            "extra/drbd.ko",
            "key was rejected by service",
        ] {
            assert!(found[0].contains(part), "{part}: {found:?}");
        }
    }

    #[test]
    fn an_unsigned_module_among_signed_ones_and_a_changed_module_are_told() {
        assert!(found(&drbd())[0].contains("not signed, while other modules of the image are"));
        let mut changed = KEY.sign(&drbd());
        changed[0x20] ^= 1;
        assert!(found(&changed)[0].contains("is not one of this content"));
    }
}
