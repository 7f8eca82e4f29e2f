//! The part of the page for one scenario.

use lab_model::events::Outcome;
use maud::{Markup, html};

use super::{chart::Scale, events, network, resources, steps, topology};
use crate::{
    CheckResult, Ended, NodeSummary, PastRun, Report, ScenarioSummary, report::Comparison, timeline::Timeline,
};

/// Differences below this share are noise on a shared host.
const WORTH_TELLING: f64 = 0.1;

impl Report {
    pub(super) fn scenario_section(
        &self,
        number: usize,
        scenario: &ScenarioSummary,
        timeline: &Timeline,
    ) -> Markup {
        let outcome = self.summary.verdict_on(scenario);
        let scale = Scale { begin: timeline.begin, end: timeline.end };
        let comparison = self.previous.get(number).and_then(Option::as_ref);
        html! {
            section.scenario id=(format!("scenario-{number}")) data-verdict=(verdict_word(Some(&outcome))) {
                h2 { (self.summary.name_of(scenario)) " " (chip(&outcome)) }
                @if !scenario.question.is_empty() { p.question { (scenario.question) } }
                @if let Outcome::Failed { cause } | Outcome::NotRun { cause } = &outcome {
                    p.cause { bdi { (cause) } }
                }
                (part("cluster", "Cluster", cluster(scenario, timeline)))
                (part("checks", "Checks", checks(scenario)))
                (part("course", "Course", (timeline.lanes.len() > 1).then(|| html! {
                    (steps::course(number, timeline, scale))
                    (events::list(number, timeline))
                })))
                (part("readiness", "Readiness", timeline.nodes().any(|(_, lane)| !lane.layers.is_empty())
                    .then(|| steps::readiness(timeline, scale))))
                (part("network", "Who reached whom", network::matrix(timeline)))
                (part("routes", "Tailnet routes", network::routes(timeline)))
                (part("resources", "Resources", resources::curves(timeline, scale)))
                (part("before", "Against the run before", comparison.map(differences)))
            }
        }
    }
}

fn part(id: &str, title: &str, content: Option<Markup>) -> Markup {
    html! { @if let Some(content) = content { div.card .(id) { h3 { (title) } (content) } } }
}

/// A verdict as a word for scripts.
pub(super) fn verdict_word(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => "passed",
        Some(Outcome::Failed { .. }) => "failed",
        Some(Outcome::NotRun { .. }) => "not-run",
        None => "none",
    }
}

/// A verdict as a word for people.
pub(super) fn chip(outcome: &Outcome) -> Markup {
    match outcome {
        Outcome::Passed => html! { span.chip.good { "passed" } },
        Outcome::Failed { .. } => html! { span.chip.bad { "failed" } },
        Outcome::NotRun { .. } => html! { span.chip.open { "not run" } },
    }
}

fn cluster(scenario: &ScenarioSummary, timeline: &Timeline) -> Option<Markup> {
    let picture = topology::picture(timeline)?;
    Some(html! {
        div.side-by-side {
            div { (picture) }
            div {
                div.table { table {
                    thead { tr { th { "node" } th.number { "Ready for Kubernetes" } th.number { "all layers green" } } }
                    tbody { @for node in &scenario.nodes { (row(node)) } }
                } }
                @if let Some(seconds) = scenario.all_ready_after() {
                    p { "All nodes were green " b { (format!("{seconds:.1} s")) } " after the first power-on." }
                }
            }
        }
    })
}

fn row(node: &NodeSummary) -> Markup {
    let after =
        |after: Option<f64>| after.map_or_else(|| "never".to_owned(), |after| format!("{after:.1} s"));
    html! { tr {
        td { (node.node) div.small { (node.kind) ", " (node.role) } }
        td.number { (after(node.node_ready_after)) }
        td.number { (after(node.ready_after)) }
    } }
}

fn checks(scenario: &ScenarioSummary) -> Option<Markup> {
    (!scenario.checks.is_empty()).then(|| {
        html! {
            @for check in &scenario.checks { (of_check(check)) }
        }
    })
}

fn of_check(check: &CheckResult) -> Markup {
    html! {
        details.check open[matches!(check.outcome, Outcome::Failed { .. })] {
            summary {
                (chip(&check.outcome)) " " b { (check.check) }
                span.took { (format!("{:.1} s", check.seconds)) }
                span.title { (check.title) }
            }
            @if let Outcome::Failed { cause } | Outcome::NotRun { cause } = &check.outcome {
                p.cause { bdi { (cause) } }
            }
            @if check.evidence.is_empty() {
                p.small { "Nothing was observed." }
            } @else {
                // Keeps the columns of a table in the evidence.
                ul.evidence { @for line in &check.evidence { li { bdi { (line) } } } }
            }
        }
    }
}

/// The differences from the previous run.
fn differences(comparison: &Comparison) -> Markup {
    let Comparison { now, before } = comparison;
    let changed: Vec<_> = now
        .checks
        .iter()
        .filter_map(|(check, ended)| {
            let was = before.checks.get(check).copied();
            (was != Some(*ended)).then_some((check, was, *ended))
        })
        .collect();
    let gone: Vec<_> = before.checks.keys().filter(|check| !now.checks.contains_key(*check)).collect();
    html! {
        p {
            "The run before this one is " b { (before.run) } " of " (before.at.strftime("%Y-%m-%d %H:%M UTC").to_string())
            ", speed factor " (format!("{:.2}", before.speed_factor)) "; this one's is " (format!("{:.2}", now.speed_factor)) "."
        }
        @if changed.is_empty() && gone.is_empty() && before.ended == now.ended {
            p { "Verdict and checks came to the same." }
        } @else {
            ul {
                @if before.ended != now.ended { li { "Verdict: " (ended(Some(before.ended))) " → " (ended(Some(now.ended))) } }
                @for (check, was, is) in changed { li { b { (check) } ": " (ended(was)) " → " (ended(Some(is))) } }
                @for check in gone { li { b { (check) } ": not in this run" } }
            }
        }
        div.table { table {
            thead { tr { th { "phase" } th.number { "before" } th.number { "now" } th.number title="each divided by its run's speed factor" { "change on the reference host" } } }
            tbody {
                @for (name, was, is) in phases(before, now) {
                    tr {
                        td { (name) }
                        td.number { (seconds(was)) }
                        td.number { (seconds(is)) }
                        (change(was.map(|was| was / factor(before)), is.map(|is| is / factor(now))))
                    }
                }
            }
        } }
    }
}

fn phases<'a>(before: &'a PastRun, now: &'a PastRun) -> Vec<(&'a str, Option<f64>, Option<f64>)> {
    let labels = now.steps.keys().chain(before.steps.keys().filter(|step| !now.steps.contains_key(*step)));
    let mut phases: Vec<_> = labels
        .map(|step| (step.as_str(), before.steps.get(step).copied(), now.steps.get(step).copied()))
        .collect();
    // In chronological order, as far as the label determines it.
    let place = |label: &str| {
        lab_model::events::Step::ALL.iter().position(|step| step.label() == label).unwrap_or(usize::MAX)
    };
    phases.sort_by_key(|(label, ..)| place(label));
    phases.push(("all nodes green", before.ready_seconds, now.ready_seconds));
    phases.push(("the whole scenario", Some(before.seconds), Some(now.seconds)));
    phases
}

fn factor(run: &PastRun) -> f64 {
    if run.speed_factor > 0.0 { run.speed_factor } else { 1.0 }
}

fn ended(ended: Option<Ended>) -> &'static str {
    ended.map_or("not in the run before", Ended::label)
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1} s"))
}

fn change(was: Option<f64>, is: Option<f64>) -> Markup {
    match (was, is) {
        (Some(was), Some(is)) if was > 0.0 => {
            let share = is / was - 1.0;
            let word = if share > WORTH_TELLING {
                "slower"
            } else if share < -WORTH_TELLING {
                "faster"
            } else {
                ""
            };
            html! { td.number .(word) { (format!("{:+.0} %", share * 100.0)) } }
        }
        _ => html! { td.number { "–" } },
    }
}
