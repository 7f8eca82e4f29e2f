//! The verdict as text, and as Markdown for the summary of a job.

use std::fmt;

use lab_model::Severity;

use crate::{gate::Gate, ledger::cell};

impl Gate {
    fn verdict(&self) -> String {
        let sign = if self.passed() { "✅" } else { "❌" };
        let count = |severity| self.findings.count(severity);
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let parts = self.ledger.parts.len();
        format!("{sign} {}: {parts} parts, {errors} errors, {warnings} warnings", self.release)
    }

    /// Formats the verdict, the findings, the rules, the changes and the ledger.
    pub fn markdown(&self) -> String {
        let mut text = format!("### Release gate\n\n{}\n\n", cell(&self.verdict()));
        for finding in &self.findings {
            let line = finding.with_sign().to_string().replace("\n    fix: ", "; fix: ");
            text += &format!("- {}\n", cell(&line));
        }
        text += "\n| rule | looked at | errors | warnings |\n|---|---|---|---|\n";
        for rule in &self.rules {
            let looked = if rule.subjects == 0 {
                "nothing".to_owned()
            } else {
                format!("{} {}", rule.subjects, rule.of)
            };
            text += &format!("| {} | {looked} | {} | {} |\n", rule.rule, rule.errors, rule.warnings);
        }
        if let Some(changes) = &self.changes {
            text += "\n### Changes\n\n";
            changes.iter().for_each(|change| text += &format!("- {}\n", cell(&change.to_string())));
            if changes.is_empty() {
                text += "no part changed\n";
            }
        }
        text + "\n" + &self.ledger.markdown()
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            let (sign, looked) = match rule {
                rule if rule.errors > 0 => ("❌", format!("{} {}", rule.subjects, rule.of)),
                rule if rule.subjects == 0 && rule.warnings == 0 => ("·", "nothing to look at".to_owned()),
                rule if rule.warnings > 0 => ("⚠", format!("{} {}", rule.subjects, rule.of)),
                rule => ("✅", format!("{} {}", rule.subjects, rule.of)),
            };
            writeln!(f, "{sign} {:<24} {looked}", rule.rule)?;
        }
        for finding in &self.findings {
            writeln!(f, "{}", finding.with_sign())?;
        }
        for accepted in &self.accepted {
            writeln!(f, "accepted: {} (because: {})", accepted.finding.without_help(), accepted.because)?;
        }
        for change in self.changes.iter().flatten() {
            writeln!(f, "changed: {change}")?;
        }
        f.write_str(&self.verdict())
    }
}
