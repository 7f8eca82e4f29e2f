//! The reachability of targets, and the routes of the tailnet.

use std::collections::BTreeSet;

use lab_model::events::{ChainLink, Outcome, Target};
use maud::{Markup, html};

use crate::timeline::{NetworkRequest, Route, Timeline};

/// A table from each pod's node to all requested targets; `None` without requests.
pub(super) fn matrix(timeline: &Timeline) -> Option<Markup> {
    let asked = &timeline.asked;
    if asked.is_empty() {
        return None;
    }
    let from: BTreeSet<&str> = asked.iter().map(|asked| asked.from.as_str()).collect();
    let targets: BTreeSet<&Target> = asked.iter().map(|asked| &asked.target).collect();
    let last = |from: &str, target: &Target| {
        asked.iter().rev().find(|asked| asked.from == from && asked.target == *target)
    };
    Some(html! {
        div.table { table.matrix {
            thead { tr {
                th { "a pod on" }
                @for target in &targets { th { (head(target)) } }
            } }
            tbody {
                @for from in &from {
                    tr {
                        th { (from) }
                        @for target in &targets { (cell(from, target, last(from, target))) }
                    }
                }
            }
        } }
    })
}

fn head(target: &Target) -> Markup {
    match target {
        Target::PodOn(node) => html! { "pod on " (node) },
        Target::Service => html! { "service address" },
        Target::ServiceName => html! { "service name" },
    }
}

fn cell(from: &str, target: &Target, asked: Option<&NetworkRequest>) -> Markup {
    match asked {
        None if matches!(target, Target::PodOn(node) if node == from) => html! { td.none { "itself" } },
        None => html! { td.none { "not asked" } },
        Some(asked) => match &asked.outcome {
            Outcome::Passed => html! { td title=(asked.address) { span.chip.good { "✓ answers" } } },
            Outcome::Failed { cause } | Outcome::NotRun { cause } => html! {
                td { span.chip.bad { "✕ no answer" } div.small { bdi { (asked.address) ": " (cause) } } }
            },
        },
    }
}

/// The links of each route; `None` without routes.
pub(super) fn routes(timeline: &Timeline) -> Option<Markup> {
    if timeline.routes.is_empty() {
        return None;
    }
    Some(html! {
        div.table { table.matrix {
            thead { tr {
                th { "route" }
                @for link in ["advertised", "approved", "accepted", "reached"] { th { (link) } }
            } }
            tbody {
                @for route in &timeline.routes {
                    tr {
                        th { (route.prefix) div.small { "by " (route.gateway) } }
                        @for (index, link) in route.links.iter().enumerate() {
                            td { (of_link(link, (index == 3).then_some(route).and_then(fastest))) }
                        }
                    }
                }
            }
        } }
    })
}

fn fastest(route: &Route) -> Option<String> {
    route.fastest_ms.map(|milliseconds| format!("✓ {milliseconds} ms"))
}

fn of_link(link: &ChainLink, holds: Option<String>) -> Markup {
    match link {
        ChainLink::Unknown => html! { span.none { "not checked" } },
        ChainLink::Holds => html! { span.chip.good { (holds.unwrap_or_else(|| "✓ yes".into())) } },
        ChainLink::Broken(seen) => html! { span.chip.bad { "✕ no" } div.small { bdi { (seen) } } },
    }
}
