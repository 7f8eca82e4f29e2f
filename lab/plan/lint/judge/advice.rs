//! Where the errors of the library are in a file, and what to do about them. The data is in `advice.yaml`.

use std::sync::LazyLock;

use lab_model::{Position, node::Kind, yaml::YamlNode};
use serde::Deserialize;

/// Advice for one error of the library.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advice {
    /// A part of the error's text.
    says: String,
    /// The kind of machine that the advice is for.
    #[serde(default, rename = "for")]
    kind: Option<Kind>,
    /// Paths of the cause; the first one that the document has. `[]` stands for every item of a list, and `*`
    /// for every key.
    #[serde(default)]
    pub at: Vec<String>,
    pub help: String,
}

static ADVICE: LazyLock<Vec<Advice>> = LazyLock::new(|| {
    serde_yaml::from_str(include_str!("advice.yaml"))
        .expect("the built-in advice is well-formed; a test reads it")
});

impl Advice {
    /// Returns the advice for a text, for a kind of machine if it is known.
    pub(super) fn of(text: &str, kind: Option<Kind>) -> Option<&'static Self> {
        ADVICE.iter().find(|advice| {
            let fits = match (advice.kind, kind) {
                (Some(wanted), Some(kind)) => wanted == kind,
                _ => true,
            };
            fits && text.contains(&advice.says)
        })
    }
}

/// Returns the places of a path in a document, with their exact paths. The position of a value is that of its
/// key.
pub(super) fn places(document: &YamlNode, path: &str) -> Vec<(String, Position)> {
    let mut found = vec![(String::new(), document.position, document)];
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let (key, brackets) = match step.find('[') {
            Some(at) => step.split_at(at),
            None => (step, ""),
        };
        let entered = found.iter().flat_map(|(path, _, node)| {
            let entries = node.entries().iter().filter(move |entry| key == "*" || entry.key == key);
            entries.map(move |entry| {
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                (path, entry.position, &entry.node)
            })
        });
        found = entered.collect();
        if !brackets.is_empty() {
            let wanted = brackets.trim_matches(['[', ']']).parse::<usize>().ok();
            let items = found.iter().flat_map(|(path, _, node)| {
                let items = node.items().iter().enumerate();
                let items = items.filter(move |(index, _)| wanted.is_none_or(|wanted| wanted == *index));
                items.map(move |(index, item)| (format!("{path}[{index}]"), item.position, item))
            });
            found = items.collect();
        }
    }
    found.into_iter().map(|(path, position, _)| (path, position)).collect()
}

#[cfg(test)]
mod tests {
    use lab_model::yaml::documents;

    use super::*;

    #[test]
    fn the_advice_is_well_formed_and_the_first_that_fits_counts() {
        assert!(ADVICE.len() > 30);
        assert!(ADVICE.iter().all(|advice| !advice.says.is_empty() && !advice.help.is_empty()));
        let help = |kind| Advice::of("issuing CA is required (.machine.ca)", kind).map(|advice| &advice.help);
        assert!(help(Some(Kind::ControlPlane)).is_some());
        assert!(Advice::of("something that nobody has seen", None).is_none());
    }

    #[test]
    fn a_path_leads_into_lists_and_any_key() {
        let text = "machine:\n  network:\n    interfaces:\n      - vip: { ip: a }\n      - vlans:\n          - vip: { ip: b }\n";
        let document = &documents(text).expect("YAML")[0];
        let paths = |path: &str| places(document, path).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(paths("machine.network.interfaces[].vip"), ["machine.network.interfaces[0].vip"]);
        assert_eq!(
            paths("machine.network.interfaces[].vlans[].vip.ip"),
            ["machine.network.interfaces[1].vlans[0].vip.ip"]
        );
        assert_eq!(paths("machine.network.interfaces[1]"), ["machine.network.interfaces[1]"]);
        assert_eq!(paths("machine.*"), ["machine.network"]);
        assert!(paths("machine.none").is_empty());
        let place = places(document, "machine.network.interfaces[].vip");
        assert_eq!(place[0].1, Position { line: 4, column: 9 });
    }
}
