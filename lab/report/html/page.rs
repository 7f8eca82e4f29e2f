//! The page around the scenarios.

use base64::{Engine, engine::general_purpose::STANDARD};
use lab_model::events::Outcome;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::scenario::verdict_word;
use crate::{Criterion, KnownFailure, Report};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("report.js");

impl Report {
    /// Formats the report as one self-contained HTML file that loads no external resources.
    pub fn html(&self) -> String {
        let script = STANDARD.encode(Sha256::digest(SCRIPT));
        let policy = format!(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; img-src data:; base-uri 'none'; form-action 'none'"
        );
        let summary = &self.summary;
        let title = if summary.title.is_empty() { "lab" } else { &summary.title };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    link rel="icon" href="data:,";
                    title { (word(summary.outcome.as_ref())) ": " (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
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
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string()
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

/// Encodes a path as a relative URL, so that no character of a file name has a special meaning.
fn address(path: &str) -> String {
    let mut out = String::from("./");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_no_address_of_something_else() {
        assert_eq!(address("nodes/cp-1/console.log"), "./nodes/cp-1/console.log");
        assert_eq!(address("javascript:alert(1)"), "./javascript%3Aalert%281%29");
        assert_eq!(address("a b?c#ü"), "./a%20b%3Fc%23%C3%BC");
    }

    #[test]
    fn script_and_style_cannot_end_their_elements() {
        assert!(!SCRIPT.contains("</") && !STYLE.contains("</"));
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
