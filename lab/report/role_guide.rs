//! The guide for choosing roles, and the comparison of a run's nodes with its table.

use std::collections::BTreeMap;

use super::summary::{NodeSummary, ScenarioSummary};

/// The guide that is part of the lab.
const GUIDE: &str = include_str!("../../docs/role-guide.md");

/// The extension that distinguishes the images of the roles.
const TAILSCALE: &str = "tailscale";

/// The table of the guide, by role.
pub(super) struct RoleGuide(BTreeMap<String, Advice>);

/// A column of the table.
struct Advice {
    /// Whether images of the role have the extension.
    tailscale: bool,
    /// The maximum number of nodes with the role in a cluster.
    most: Option<usize>,
    /// The purpose of nodes with the role.
    purpose: String,
}

/// The comparison of nodes with the guide.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// One sentence for all nodes with the same role and image in a scenario.
    pub(super) evidence: Vec<String>,
    /// Whether any node, or number of nodes, differs from the guide.
    pub(super) differs: bool,
}

impl RoleGuide {
    /// Parses the guide that is part of the lab.
    ///
    /// # Errors
    /// Fails if the table lacks a row or contains an invalid word.
    pub(super) fn embedded() -> Result<Self, String> {
        Self::parse(GUIDE)
    }

    /// Parses the first table of a guide: one column per role, and the rows for the comparison.
    fn parse(guide: &str) -> Result<Self, String> {
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let table = guide.lines().skip_while(|line| !line.starts_with('|'));
        let mut rows = table.take_while(|line| line.starts_with('|')).map(cells);
        let roles = rows.next().ok_or("it has no table")?;
        let rows: BTreeMap<String, Vec<String>> =
            rows.map(|row| (row.first().cloned().unwrap_or_default(), row)).collect();
        let advice = |(column, role): (usize, &String)| {
            let cell = |row: &str| {
                let cell = rows.get(row).and_then(|cells| cells.get(column));
                cell.ok_or_else(|| format!("its table has no \"{row}\" for {role}"))
            };
            let unclear = |row: &str, cell: &str| format!("\"{cell}\" says nothing in its row \"{row}\"");
            let (extension, number) = ("extension `tailscale`", "nodes of a cluster");
            let advice = Advice {
                tailscale: match cell(extension)?.as_str() {
                    "yes" => true,
                    "no" => false,
                    other => return Err(unclear(extension, other)),
                },
                most: match cell(number)?.as_str() {
                    "any number" => None,
                    "at most one" => Some(1),
                    other => return Err(unclear(number, other)),
                },
                purpose: cell("what it is for")?.clone(),
            };
            Ok((role.clone(), advice))
        };
        Ok(Self(roles.iter().enumerate().skip(1).map(advice).collect::<Result<_, String>>()?))
    }

    /// Compares the nodes of scenarios with the table.
    pub(super) fn compare<'a>(&self, scenarios: impl Iterator<Item = &'a ScenarioSummary>) -> Compared {
        let mut compared = Compared::default();
        for scenario in scenarios {
            let mut alike: BTreeMap<Result<String, String>, Vec<String>> = BTreeMap::new();
            for node in &scenario.nodes {
                alike.entry(self.judge(node)).or_default().push(node.node.to_string());
            }
            for (judged, nodes) in alike {
                compared.differs |= judged.is_err();
                let (Ok(words) | Err(words)) = judged;
                compared.evidence.push(format!("{}, {}: {words}", scenario.name, nodes.join(", ")));
            }
            for (role, advice) in &self.0 {
                let nodes = scenario.nodes.iter().filter(|node| node.role.as_str() == role).count();
                if let Some(most) = advice.most.filter(|most| nodes > *most) {
                    compared.differs = true;
                    let words =
                        format!("{nodes} nodes have the role {role}; the guide allows {most} in a cluster");
                    compared.evidence.push(format!("{}: {words}", scenario.name));
                }
            }
        }
        compared
    }

    /// The reason for a node's role and image, or the difference from the guide.
    fn judge(&self, node: &NodeSummary) -> Result<String, String> {
        let role = &node.role;
        let advice = self.0.get(role.as_str()).ok_or_else(|| format!("the guide has no role {role}"))?;
        let image = node.image.as_ref().ok_or("the recording does not tell the image")?;
        let has = |yes: bool| if yes { "with" } else { "without" };
        let seen = image.extensions.iter().any(|name| name == TAILSCALE);
        if seen != advice.tailscale {
            let (source, advised) = (&image.source, has(advice.tailscale));
            return Err(format!(
                "{role}, which the guide gives an image {advised} {TAILSCALE}; {source} is one {} it",
                has(seen)
            ));
        }
        Ok(format!("{role}, {} {} {TAILSCALE}; for {}", image.source, has(seen), advice.purpose))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Summary;
    use lab_model::{
        events::{Event, EventKind, PlannedImage},
        node::{Kind, Role},
    };

    /// A scenario of nodes: name, role, and the extensions of the image, if known.
    fn compared(nodes: &[(&str, &str, Option<&[&str]>)]) -> Compared {
        let planned = |(name, role, extensions): &(&str, &str, Option<&[&str]>)| EventKind::NodePlanned {
            node: name.parse().expect("name"),
            kind: Kind::Worker,
            role: Role::new(*role).expect("role"),
            address: [10, 5, 0, 2].into(),
            image: extensions.map(|names| PlannedImage {
                source: format!("images/{role}"),
                extensions: names.iter().map(|name| (*name).to_owned()).collect(),
            }),
        };
        let began = EventKind::ScenarioStarted { scenario: "a".into(), question: String::new() };
        let kinds = std::iter::once(began).chain(nodes.iter().map(planned));
        let events = (0..).zip(kinds).map(|(seq, kind)| Event { seq, at: Duration::ZERO, kind });
        let summary = Summary::of(&events.collect::<Vec<_>>());
        RoleGuide::embedded().expect("the guide").compare(summary.scenarios.iter())
    }

    #[test]
    fn nodes_that_are_as_the_guide_says_are_told_with_their_purpose() {
        let compute: Option<&[&str]> = Some(&["drbd", "spin"]);
        let gateway: Option<&[&str]> = Some(&["drbd", "spin", "tailscale"]);
        let seen = compared(&[
            ("cp-1", "compute", compute),
            ("worker-1", "compute", compute),
            ("gateway-1", "gateway", gateway),
        ]);
        assert!(!seen.differs, "{seen:?}");
        insta::assert_snapshot!(seen.evidence.join("\n"), @r"
        a, cp-1, worker-1: compute, images/compute without tailscale; for workloads
        a, gateway-1: gateway, images/gateway with tailscale; for workloads, and the route from a tailnet to pods and services
        ");
    }

    #[test]
    fn a_wrong_image_an_unknown_role_and_one_gateway_too_many_differ_from_the_guide() {
        let with: Option<&[&str]> = Some(&["tailscale"]);
        type Nodes<'a> = &'a [(&'a str, &'a str, Option<&'a [&'a str]>)];
        let cases: [(Nodes<'_>, &str); 5] = [
            (
                &[("cp-1", "compute", with)],
                "the guide gives an image without tailscale; images/compute is one with it",
            ),
            (
                &[("g-1", "gateway", Some(&[]))],
                "the guide gives an image with tailscale; images/gateway is one without it",
            ),
            (&[("s-1", "storage", Some(&[]))], "the guide has no role storage"),
            (&[("cp-1", "compute", None)], "the recording does not tell the image"),
            (
                &[("g-1", "gateway", with), ("g-2", "gateway", with)],
                "2 nodes have the role gateway; the guide allows 1 in a cluster",
            ),
        ];
        for (nodes, words) in cases {
            let seen = compared(nodes);
            assert!(seen.differs && seen.evidence.iter().any(|line| line.contains(words)), "{seen:?}");
        }
    }

    #[test]
    fn a_guide_without_its_table_or_a_row_of_it_says_what_is_missing() {
        let error = |text: &str| RoleGuide::parse(text).err().expect("an error");
        assert_eq!(error("# Roles\n"), "it has no table");
        let rows =
            "| | compute |\n| --- | --- |\n| extension `tailscale` | no |\n| nodes of a cluster | some |\n";
        assert_eq!(error(rows), "\"some\" says nothing in its row \"nodes of a cluster\"");
        assert_eq!(error("| | compute |\n"), "its table has no \"extension `tailscale`\" for compute");
    }
}
