//! Markdown for the summary of a CI step.

use std::fmt::Write as _;

use lab_model::events::Outcome;

use super::{
    report::Report,
    results::mark,
    summary::{NodeSummary, ScenarioSummary},
};

/// The maximum length of a text; a GitHub Actions summary can have one megabyte in total.
const LONGEST: usize = 600;
/// The maximum number of facts per check.
const FACTS: usize = 40;

impl Report {
    /// Formats the report as a Markdown section, e.g. for `$GITHUB_STEP_SUMMARY`.
    pub fn markdown(&self) -> String {
        let summary = &self.summary;
        let mut text =
            format!("### {} {}\n\n", verdict_mark(summary.outcome.as_ref()), plain(&summary.title));
        text += &format!("{}\n", verdict_words(summary.outcome.as_ref()));
        for known in &summary.known {
            text += &format!("\n- {}", plain(&known.to_string()));
        }
        for note in &summary.notes {
            text += &format!("\n- {}", plain(note));
        }
        text += if summary.known.is_empty() && summary.notes.is_empty() { "" } else { "\n" };
        for scenario in &summary.scenarios {
            text += &self.scenario(scenario);
        }
        if !self.criteria.is_empty() {
            text += "\n| criterion | | evidence |\n| --- | --- | --- |\n";
        }
        for criterion in &self.criteria {
            let evidence: Vec<_> = criterion.evidence.iter().map(|line| plain(line)).collect();
            let holds = if criterion.holds { "✅" } else { "❌" };
            text += &format!("| {} | {holds} | {} |\n", plain(criterion.text), evidence.join("<br>"));
        }
        let facts: Vec<_> =
            self.environment.facts.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect();
        text + &format!("\n<sub>{}</sub>\n\n", facts.join(" · "))
    }

    fn scenario(&self, scenario: &ScenarioSummary) -> String {
        let outcome = self.summary.verdict_on(scenario);
        let mut text = format!(
            "\n#### {} {}\n\n{}\n",
            mark(&outcome),
            plain(self.summary.name_of(scenario)),
            plain(&scenario.question)
        );
        if let Outcome::Failed { cause } | Outcome::NotRun { cause } = &outcome {
            text += &format!("\n> {}\n", plain(cause));
        }
        if !scenario.checks.is_empty() {
            text += "\n| check | | what | seconds |\n| --- | --- | --- | ---: |\n";
        }
        for check in &scenario.checks {
            let what = match &check.outcome {
                Outcome::Passed => plain(&check.title),
                Outcome::Failed { cause } => format!("{}<br>**{}**", plain(&check.title), plain(cause)),
                Outcome::NotRun { cause } => format!("{}<br>not run: {}", plain(&check.title), plain(cause)),
            };
            text += &format!(
                "| {} | {} | {what} | {:.1} |\n",
                plain(&check.check),
                mark(&check.outcome),
                check.seconds
            );
        }
        if !scenario.nodes.is_empty() {
            text += "\n| node | kind | role | Ready for Kubernetes, s | all layers green, s |\n| --- | --- | --- | ---: | ---: |\n";
        }
        scenario.nodes.iter().for_each(|node| text += &row(node));
        let facts: usize = scenario.checks.iter().map(|check| check.evidence.len()).sum();
        if facts > 0 {
            text += "\n<details><summary>What was observed</summary>\n";
            for check in scenario.checks.iter().filter(|check| !check.evidence.is_empty()) {
                text += &format!("\n{}:\n\n", plain(&check.check));
                for line in check.evidence.iter().take(FACTS) {
                    text += &format!("- {}\n", plain(line));
                }
                if let Some(more) = check.evidence.len().checked_sub(FACTS).filter(|more| *more > 0) {
                    text += &format!("- and {more} more\n");
                }
            }
            text += "\n</details>\n";
        }
        text
    }
}

fn row(node: &NodeSummary) -> String {
    let seconds =
        |after: Option<f64>| after.map_or_else(|| "never".to_owned(), |after| format!("{after:.1}"));
    format!(
        "| {} | {} | {} | {} | {} |\n",
        node.node,
        node.kind,
        node.role,
        seconds(node.node_ready_after),
        seconds(node.ready_after)
    )
}

fn verdict_mark(outcome: Option<&Outcome>) -> &'static str {
    outcome.map_or("❌", mark)
}

fn verdict_words(outcome: Option<&Outcome>) -> String {
    match outcome {
        Some(Outcome::Passed) => "**PASSED**".into(),
        Some(Outcome::Failed { cause }) => format!("**FAILED**: {}", plain(cause)),
        Some(Outcome::NotRun { cause }) => format!("**NOT RUN**: {}", plain(cause)),
        None => "**NO VERDICT**: the run did not end by itself".into(),
    }
}

/// Escapes untrusted text, so that it contains no Markdown or HTML and stays in its cell.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Prevents a notification to a user or a team.
            '@' => out.push_str("&#64;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' | '~' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\{c}");
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_guest_says_is_markup() {
        let text = plain("| <img src=x> **bold** [link](http://x) `code` @someone\n# head");
        assert_eq!(
            text,
            "\\| &lt;img src=x&gt; \\*\\*bold\\*\\* \\[link\\](http://x) \\`code\\` &#64;someone \\# head"
        );
        assert_eq!(plain(&"x".repeat(LONGEST + 9)).chars().count(), LONGEST + 1);
    }
}
