//! The kernel modules that machine configs load exist in the images of their role.

use super::{Looked, Rule};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "module-config",
    holds: "every module that a machine config loads is in each image of its role",
    subjects: "modules of configs",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for config in &evidence.configs {
        for (module, position) in config.modules.iter().flatten() {
            looked.at_one();
            for (node, facts) in
                evidence.node_contents().into_iter().filter(|(node, _)| node.role == config.role)
            {
                if !facts.modules.has(&lab_image::module_name(module)) {
                    let cause = format!("loads the module {module}, which {} does not have", node.place());
                    let remedy = "add the extension that brings it, or take it out of machine.kernel.modules";
                    looked.error_at(&config.file, *position, cause, remedy);
                }
            }
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use lab_model::{Position, node::Role};

    use super::*;
    use crate::{
        evidence::ConfigModules,
        rules::fixture::{self, Node},
    };

    fn found(module: &str) -> Vec<String> {
        let mut evidence = fixture::evidence(vec![Node::new("compute").read()]);
        let modules = Ok(vec![(module.to_owned(), Position { line: 7, column: 9 })]);
        let role = Role::new("compute").expect("role");
        evidence.configs.push(ConfigModules { role, file: "compute.yaml".into(), modules });
        fixture::found(&RULE, &evidence)
    }

    #[test]
    fn a_module_that_is_a_file_or_built_in_passes() {
        assert_eq!(found("base"), [""; 0]);
        assert_eq!(found("lru-cache"), [""; 0]);
    }

    #[test]
    fn a_module_that_the_image_lacks_is_told_with_its_line() {
        let expected =
            "compute.yaml:7:9: loads the module drbd, which compute (compute/metal image) does not have";
        assert_eq!(found("drbd"), [expected]);
    }
}
