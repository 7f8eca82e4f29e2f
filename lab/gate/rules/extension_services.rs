//! The files of extension services point at programs that exist in the root of the service, and mount what nodes have.

use super::{Looked, Rule};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "extension-services",
    holds: "each extension service has its root, its program and mounts that nodes have",
    subjects: "services",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for (node, facts) in evidence.node_contents() {
        for service in &facts.services {
            looked.at_one();
            let place = format!("{}, layer {}, {}", node.place(), service.layer, service.path);
            let name = &service.files.name;
            let root = format!("/usr/local/lib/containers/{name}");
            if !service.has_root {
                let cause = format!("the service {name} has no root directory {root}");
                looked.error(&place, cause, "put the root file system of the service there, under its name");
                continue;
            }
            match (&service.files.entrypoint, &service.program) {
                (None, _) => looked.error(
                    &place,
                    format!("the service {name} names no entrypoint"),
                    "name one in container.entrypoint",
                ),
                (Some(entrypoint), None) => {
                    let cause = format!("the entrypoint {entrypoint} is not in {root}");
                    looked.error(
                        &place,
                        cause,
                        "correct container.entrypoint, or add the program to the root of the service",
                    );
                }
                (Some(_), Some(_)) => {}
            }
            for source in &service.impossible_mounts {
                let cause = format!(
                    "the service {name} mounts {source}: no node has it, and Talos cannot create it on its read-only root"
                );
                looked.error(&place, cause, "mount a path that exists, or one below /var or /run");
            }
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::elf;

    use super::*;
    use crate::rules::fixture::{self, Node};

    fn found(spec: &str, program: &str) -> Vec<String> {
        let program = format!("usr/local/lib/containers/{program}");
        let files = [("usr/local/etc/containers/tool.yaml", spec.as_bytes()), (&program, &elf(183)[..])];
        let node = Node::new("compute").extension("name: tool, version: v1", &files);
        fixture::found(&RULE, &fixture::evidence(vec![node.read()]))
    }

    const SPEC: &str = "name: tool\ncontainer:\n  entrypoint: ./tool\n  mounts:\n    - { source: /var/lib/tool, destination: /data }\n    - { source: /usr/bin, destination: /host }\n";

    #[test]
    fn a_service_with_its_program_and_mounts_passes() {
        assert_eq!(found(SPEC, "tool/tool"), [""; 0]);
        assert_eq!(found(&SPEC.replace("./tool", "tool"), "tool/usr/bin/tool"), [""; 0]);
        // A program may come from a mount.
        assert_eq!(found(&SPEC.replace("./tool", "/host/containerd"), "tool/x"), [""; 0]);
    }

    #[test]
    fn a_missing_program_root_and_mount_are_told() {
        let place = "compute (compute/metal image), layer 0.sqsh, usr/local/etc/containers/tool.yaml";
        assert_eq!(
            found(SPEC, "tool/other"),
            [format!("{place}: the entrypoint ./tool is not in /usr/local/lib/containers/tool")]
        );
        assert_eq!(
            found(SPEC, "other/tool"),
            [format!("{place}: the service tool has no root directory /usr/local/lib/containers/tool")]
        );
        let mounts = found(&SPEC.replace("/usr/bin", "/srv/x"), "tool/tool");
        assert_eq!(
            mounts,
            [format!(
                "{place}: the service tool mounts /srv/x: no node has it, and Talos cannot create it on its read-only root"
            )]
        );
        let relative = found(&SPEC.replace("/var/lib/tool", "tmpfs"), "tool/tool");
        assert!(relative[0].contains("mounts tmpfs at /data: no node has it"), "{relative:?}");
    }
}
