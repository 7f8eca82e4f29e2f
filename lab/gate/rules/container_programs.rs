//! What a container starts is for arm64, through all links and wrapper scripts, and so are the other programs.

use lab_oci::containers::{ForeignProgram, ImageKind};

use super::{Looked, Rule, looked::some_of};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "container-programs",
    holds: "the entrypoint and the programs of every container image are for arm64",
    subjects: "programs",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for (container, facts) in evidence.read_containers() {
        let programs = &facts.programs;
        looked.subjects += programs.native + programs.foreign.len();
        for missing in &programs.missing {
            let cause = format!("the entrypoint needs {missing}, which no layer has");
            looked.error(&container.source, cause, "put it into the image, or correct the entrypoint");
        }
        let is_foreign_alone = programs.kind == ImageKind::Programs && programs.native == 0;
        let (started, others): (Vec<_>, Vec<_>) =
            programs.foreign.iter().partition(|one| one.started_by.is_some());
        for program in started {
            let way = program.started_by.as_deref().unwrap_or_default();
            let cause = match way {
                [_] => {
                    format!("the entrypoint /{} is for {}: exec format error", program.path, program.machine)
                }
                way => format!(
                    "the entrypoint leads to /{} ({}), which is for {}: exec format error",
                    program.path,
                    way.join(" → "),
                    program.machine
                ),
            };
            looked.error(&layer(&container.source, program), cause, "build this program for linux/arm64");
        }
        let Some(first) = others.first() else { continue };
        let names: Vec<_> =
            others.iter().map(|program| format!("/{} ({})", program.path, program.machine)).collect();
        let place = layer(&container.source, first);
        if is_foreign_alone || others.iter().any(|program| program.in_path) {
            let cause = format!("programs are not for arm64: {}", some_of(&names));
            looked.error(&place, cause, "build them for linux/arm64");
        } else {
            let cause =
                format!("files for other architectures lie outside of the search path: {}", some_of(&names));
            looked.warning(&place, cause, "leave them out if nothing needs them");
        }
    }
    looked
}

fn layer(source: &str, program: &ForeignProgram) -> String {
    format!("{source}, layer {}", program.layer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture;

    fn found(entrypoint: &[&str], programs: &[(&str, u16)]) -> Vec<String> {
        let mut evidence = fixture::evidence(Vec::new());
        evidence.containers.push(fixture::container("api", entrypoint, programs));
        fixture::found(&RULE, &evidence)
    }

    #[test]
    fn an_arm64_image_and_an_image_of_data_pass() {
        assert!(found(&["/app"], &[("app", 183)]).is_empty());
        assert!(found(&[], &[]).is_empty());
    }

    #[test]
    fn an_amd64_entrypoint_is_told_directly_and_behind_a_wrapper() {
        let expected = "api, layer 1: the entrypoint /app is for amd64: exec format error";
        assert_eq!(found(&["/app"], &[("app", 62)]), [expected]);
        // The fixture has a wrapper /start.sh, which starts /app with the arm64 program /bin/sh.
        let expected = "api, layer 1: the entrypoint leads to /app (/start.sh → /app), which is for amd64: exec format error";
        assert_eq!(found(&["/start.sh"], &[("app", 62), ("bin/sh", 183)]), [expected]);
        assert!(found(&["/start.sh"], &[("app", 183), ("bin/sh", 183)]).is_empty());
    }

    #[test]
    fn other_programs_count_by_where_they_lie() {
        let in_path = found(&["/app"], &[("app", 183), ("usr/bin/tool", 62)]);
        assert_eq!(in_path, ["api, layer 1: programs are not for arm64: /usr/bin/tool (amd64)"]);
        let aside = found(&["/app"], &[("app", 183), ("usr/share/tests/tool", 62)]);
        assert!(aside[0].contains("files for other architectures lie outside"), "{aside:?}");
        // The fixture's working directory is /srv.
        let own = found(&["/app"], &[("app", 183), ("srv/bin/tool", 62)]);
        assert_eq!(own, ["api, layer 1: programs are not for arm64: /srv/bin/tool (amd64)"]);
        let for_each = found(&["/app"], &[("app", 183), ("srv/amd64/tool", 62), ("srv/arm64/tool", 183)]);
        assert!(for_each[0].contains("files for other architectures lie outside"), "{for_each:?}");
        let missing = found(&["/gone"], &[("app", 183)]);
        assert_eq!(missing, ["api: the entrypoint needs /gone, which no layer has"]);
    }
}
