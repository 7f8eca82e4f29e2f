//! The programs that runtime handlers name exist in the root, and are for arm64.

use super::{Looked, Rule};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "runtime-programs",
    holds: "the programs of each runtime handler exist and are for arm64",
    subjects: "programs of handlers",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for (node, facts) in evidence.node_contents() {
        for file in &facts.runtimes {
            let Ok(config) = &file.config else { continue };
            let place = format!("{}, layer {}, {}", node.place(), file.layer, file.path);
            for handler in &config.handlers {
                let named = [("shim", handler.shim()), ("program", handler.binary.clone())];
                for (what, name) in named.into_iter().filter_map(|(what, name)| Some((what, name?))) {
                    looked.at_one();
                    let cause = match facts.programs.get(&name) {
                        Some(Some(Some(machine))) if machine != "arm64" => format!("is for {machine}"),
                        Some(Some(_)) => continue,
                        _ => "is not in the root file system".to_owned(),
                    };
                    let cause = format!("the {what} {name} of the handler {} {cause}", handler.name);
                    looked.error(
                        &place,
                        cause,
                        "put its arm64 build into the extension, e.g. into /usr/local/bin",
                    );
                }
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

    const PART: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.spin]\nruntime_type = 'io.containerd.spin.v2'\n";

    fn found(program: Option<&[u8]>) -> Vec<String> {
        let mut files = vec![("etc/cri/conf.d/10-spin.part", PART.as_bytes())];
        files.extend(program.map(|program| ("usr/local/bin/containerd-shim-spin-v2", program)));
        let node = Node::new("compute").extension("name: spin, version: v1", &files);
        fixture::found(&RULE, &fixture::evidence(vec![node.read()]))
    }

    #[test]
    fn a_shim_for_arm64_passes() {
        assert_eq!(found(Some(&elf(183))), [""; 0]);
    }

    #[test]
    fn a_missing_shim_and_one_for_amd64_are_told() {
        let place = "compute (compute/metal image), layer 0.sqsh, etc/cri/conf.d/10-spin.part: the shim containerd-shim-spin-v2 of the handler spin";
        assert_eq!(found(None), [format!("{place} is not in the root file system")]);
        assert_eq!(found(Some(&elf(62))), [format!("{place} is for amd64")]);
    }
}
