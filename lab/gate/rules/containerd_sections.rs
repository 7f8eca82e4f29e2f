//! containerd reads the sections that declare runtime handlers. Its major versions read different ones, and ignore the
//! others without a message.

use lab_image::{RuntimeConfig, RuntimeHandler};

use super::{Looked, Rule};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "containerd-sections",
    holds: "the containerd of a node image reads each section that declares a runtime handler",
    subjects: "runtime handlers",
    look,
};

/// The newest version of the configuration that containerd 1 reads (containerd docs/man/containerd-config.toml.5.md).
const NEWEST_OF_1: i64 = 2;

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for (node, facts) in evidence.node_contents() {
        for file in &facts.runtimes {
            let place = format!("{}, layer {}, {}", node.place(), file.layer, file.path);
            let config = match &file.config {
                Ok(config) => config,
                Err(why) => {
                    looked.at_one();
                    looked.error(&place, format!("containerd cannot read it: {why}"), "correct the file");
                    continue;
                }
            };
            looked.subjects += config.handlers.len();
            let Some((major, program)) = &facts.containerd else { continue };
            if let Some(version) = config.version.filter(|version| *major == 1 && *version > NEWEST_OF_1) {
                let cause = format!(
                    "it has version {version}, and {program} is containerd 1, which reads versions up to 2"
                );
                looked.error(
                    &place,
                    cause,
                    "write the file in version 2, or take an image with containerd 2",
                );
            }
            for handler in config.handlers.iter().filter(|handler| is_dead(handler, config, *major)) {
                let (plugin, wanted) = (&handler.plugin, RuntimeHandler::plugin_of(*major));
                let cause = format!(
                    "the handler {} is in the section \"{plugin}\", which containerd {major} ({program}) does not read",
                    handler.name
                );
                looked.error(
                    &place,
                    cause,
                    format!("declare it in [plugins.\"{wanted}\".containerd.runtimes.{}]", handler.name),
                );
            }
        }
        let handlers =
            facts.runtimes.iter().filter_map(|file| Some(file.config.as_ref().ok()?.handlers.len()));
        if facts.containerd.is_none() && handlers.sum::<usize>() > 0 {
            let cause = "the image declares runtime handlers, and no containerd was found in its root";
            looked.error(&node.place(), cause, "put containerd into /usr/bin or /bin, where nodes start it");
        }
    }
    looked
}

/// containerd 2 migrates a file that says version 2 itself.
fn is_dead(handler: &RuntimeHandler, config: &RuntimeConfig, major: u32) -> bool {
    let migrated = major >= 2 && config.version == Some(2) && handler.plugin == RuntimeHandler::plugin_of(1);
    handler.plugin != RuntimeHandler::plugin_of(major) && !migrated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::{self, Node};

    fn part(plugin: &str) -> String {
        format!("[plugins.\"{plugin}\".containerd.runtimes.spin]\nruntime_type = \"io.containerd.spin.v2\"\n")
    }

    fn found(containerd: &str, path: &str, text: &str) -> Vec<String> {
        let node = Node::new("compute")
            .root("usr/bin/containerd", &fixture::containerd(containerd))
            .extension("name: spin, version: v1", &[(path, text.as_bytes())]);
        fixture::found(&RULE, &fixture::evidence(vec![node.read()]))
    }

    #[test]
    fn each_containerd_reads_its_own_section() {
        assert_eq!(
            found("/v2", "etc/cri/conf.d/10-spin.part", &part("io.containerd.cri.v1.runtime")),
            [""; 0]
        );
        assert_eq!(found("", "etc/cri/conf.d/10-spin.part", &part("io.containerd.grpc.v1.cri")), [""; 0]);
    }

    #[test]
    fn a_section_of_the_other_containerd_is_dead() {
        let dead = found("/v2", "etc/cri/conf.d/10-spin.part", &part("io.containerd.grpc.v1.cri"));
        let expected = "compute (compute/metal image), layer 0.sqsh, etc/cri/conf.d/10-spin.part: the handler spin is in the section \"io.containerd.grpc.v1.cri\", which containerd 2 (usr/bin/containerd) does not read";
        assert_eq!(dead, [expected]);
        assert_eq!(found("/v2", "etc/cri/conf.d/10-spin.part", &part("cri")).len(), 1);
        assert_eq!(found("", "etc/cri/conf.d/10-spin.part", &part("io.containerd.cri.v1.runtime")).len(), 1);
    }

    #[test]
    fn a_complete_file_of_version_2_is_migrated_and_version_3_is_too_new_for_containerd_1() {
        let old = format!("version = 2\n{}", part("io.containerd.grpc.v1.cri"));
        assert_eq!(found("/v2", "etc/containerd/config.toml", &old), [""; 0]);
        let new = found("", "etc/cri/containerd.toml", "version = 3\n");
        assert!(new[0].contains("it has version 3, and usr/bin/containerd is containerd 1"), "{new:?}");
    }

    #[test]
    fn handlers_without_a_containerd_and_a_broken_file_are_errors() {
        let node = Node::new("compute").without("usr/bin/containerd");
        let spin = part("io.containerd.cri.v1.runtime");
        let node =
            node.extension("name: spin, version: v1", &[("etc/cri/conf.d/spin.part", spin.as_bytes())]);
        let found = fixture::found(&RULE, &fixture::evidence(vec![node.read()]));
        assert!(found[0].contains("no containerd was found in its root"), "{found:?}");
    }
}
