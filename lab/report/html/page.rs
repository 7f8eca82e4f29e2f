//! The page around the scenarios.

use lab_model::events::Outcome;
use maud::{Markup, html};

use super::{
    document::{address, document},
    scenario::verdict_word,
};
use crate::{Criterion, KnownFailure, Report};

const SCRIPT: &str = include_str!("report.js");

impl Report {
    /// Formats the report as one self-contained HTML file that loads no external resources.
    pub fn html(&self) -> String {
        let summary = &self.summary;
        let title = if summary.title.is_empty() { "lab" } else { &summary.title };
        let body = html! {
            (self.head(title))
            main {
                @if summary.scenarios.len() > 1 { (self.contents()) }
                @if !summary.known.is_empty() || !summary.notes.is_empty() {
                    section #known { h2 { "Known" } (self.known()) }
                }
                @if !self.criteria.is_empty() {
                    section #criteria { h2 { "Criteria of a role-based pair" } @for one in &self.criteria { (criterion(one)) } }
                }
                @for (number, (scenario, timeline)) in self.scenarios().enumerate() {
                    (self.scenario_section(number, scenario, timeline))
                }
                section #environment { h2 { "Environment" } (self.environment()) }
                @if !self.artefacts.is_empty() {
                    section #artefacts { h2 { "Files of the run" } (self.files()) }
                }
            }
            footer { "Made by lab from the recording of the run alone. " code { "lab report show " (summary.run) } " makes it again." }
        };
        document(&format!("{}: {title}", word(summary.outcome.as_ref())), Some(SCRIPT), &body)
    }

    fn head(&self, title: &str) -> Markup {
        let summary = &self.summary;
        let [passed, failed, not_run] = summary.checks();
        html! {
            header #verdict data-verdict=(verdict_word(summary.outcome.as_ref())) {
                div.inside {
                    p.word { (word(summary.outcome.as_ref())) }
                    h1 { (title) }
                    @match &summary.outcome {
                        Some(Outcome::Passed) => {},
                        Some(Outcome::Failed { cause } | Outcome::NotRun { cause }) => p.cause { bdi { (cause) } },
                        None => p.cause { "The run did not end by itself." },
                    }
                    ul.facts {
                        @if let Some(started) = summary.started { li { (started.strftime("%Y-%m-%d %H:%M UTC").to_string()) } }
                        li { (format!("{:.0} s", summary.seconds)) }
                        @if passed + failed + not_run > 0 {
                            li { (passed) " of " (passed + failed + not_run) " checks passed" }
                        }
                        @if !summary.accelerator.is_empty() {
                            li { "QEMU " (summary.qemu) ", " (summary.accelerator) }
                            li { "speed factor " (format!("{:.2}", summary.speed_factor)) }
                        }
                    }
                }
            }
        }
    }

    fn contents(&self) -> Markup {
        html! {
            nav aria-label="Scenarios" { ul {
                @for (number, scenario) in self.summary.scenarios.iter().enumerate() {
                    li {
                        a href=(format!("#scenario-{number}")) { (self.summary.name_of(scenario)) }
                        " " (super::scenario::chip(&self.summary.verdict_on(scenario)))
                    }
                }
            } }
        }
    }

    fn known(&self) -> Markup {
        html! {
            @for known in &self.summary.known { (of_known(known)) }
            @for note in &self.summary.notes { p.card { (note) } }
        }
    }

    fn environment(&self) -> Markup {
        html! {
            dl.card { @for (key, value) in &self.environment.facts { div { dt { (key) } dd { (value) } } } }
            @if !self.environment.images.is_empty() {
                div.card.table { table {
                    thead { tr { th { "role" } th { "image" } th { "software" } th { "digest" } } }
                    tbody { @for image in &self.environment.images { tr {
                        td { (image.role) } td.said { (image.source) } td.said { (image.software) } td.said { code { (image.digest) } }
                    } } }
                } }
            }
        }
    }

    fn files(&self) -> Markup {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        html! {
            ul.files.card { @for path in &self.artefacts { li { a href=(address(&text(path))) { (text(path)) } } } }
        }
    }
}

/// A verdict as a word for people.
fn word(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => "Passed",
        Some(Outcome::Failed { .. }) => "Failed",
        Some(Outcome::NotRun { .. }) => "Not run",
        None => "No verdict",
    }
}

fn of_known(known: &KnownFailure) -> Markup {
    html! {
        div.card.known .harmless[known.harmless] {
            p {
                b { (known.id) } " "
                span.small { (known.subjects.join(", ")) @if known.times > 1 { ", seen " (known.times) " times" }
                    @if known.harmless { ", without harm: the scenario is green" } }
            }
            p { (known.cause) ". " }
            p { "What to do: " (known.fix) "." }
            blockquote { bdi { (known.seen) } }
            @if let Some(link) = &known.link { p.small {
                "More: " @if link.starts_with("https://") { a href=(link) rel="noreferrer" { (link) } } @else { (link) }
            } }
        }
    }
}

fn criterion(criterion: &Criterion) -> Markup {
    html! {
        details.card.check {
            summary {
                @if criterion.holds { span.chip.good { "holds" } } @else { span.chip.bad { "does not hold" } }
                " " (criterion.text)
            }
            ul { @for line in &criterion.evidence { li { bdi { (line) } } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_cannot_end_its_element() {
        assert!(!SCRIPT.contains("</"));
    }
}
