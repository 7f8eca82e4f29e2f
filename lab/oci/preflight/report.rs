//! Reports for the terminal and in Markdown.

use std::fmt;

use lab_model::{Diagnostics, Severity};
use serde::{Serialize, Serializer};

use super::checks::Preflight;

/// A finding for an image, in the JSON output of `lab image preflight`.
#[derive(Serialize)]
struct ImageFinding<'a> {
    severity: Severity,
    check: &'a str,
    image: &'a str,
    message: &'a str,
    help: &'a str,
}

/// Serializes findings with the field names for images.
pub(super) fn findings<S: Serializer>(findings: &Diagnostics, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(findings.iter().map(|finding| ImageFinding {
        severity: finding.severity,
        check: finding.rule.as_deref().unwrap_or_default(),
        image: &finding.file,
        message: &finding.message,
        help: finding.help.as_deref().unwrap_or_default(),
    }))
}

impl Preflight {
    fn verdict(&self) -> String {
        let sign = if self.passed() { "✅" } else { "❌" };
        let (errors, warnings) =
            (self.findings.count(Severity::Error), self.findings.count(Severity::Warning));
        format!("{sign} {} images, {errors} errors, {warnings} warnings", self.images.len())
    }

    /// Formats a Markdown section, e.g. for `$GITHUB_STEP_SUMMARY`.
    pub fn markdown(&self) -> String {
        // Text from an image must not end the table cell.
        let cell = |text: &str| text.replace('|', "\\|").replace(['\n', '`'], " ");
        let mut text = "### Node images\n\n| image | role | software | kernel | extensions | digest |\n|---|---|---|---|---|---|\n".to_owned();
        for image in &self.images {
            let inspection = &image.inspection;
            let extensions: Vec<_> =
                inspection.contents.extensions.iter().map(|e| format!("{} {}", e.name, e.version)).collect();
            let cells = [
                image.origin.source.clone(),
                image.role.as_ref().map(ToString::to_string).unwrap_or_default(),
                inspection.contents.node_version.clone().unwrap_or_default(),
                inspection.kernel_version.clone().unwrap_or_default(),
                extensions.join(", "),
                image.origin.digest.as_ref().unwrap_or(&inspection.digest).to_string(),
            ];
            let cells: Vec<_> = cells.iter().map(|text| cell(text)).collect();
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text.push('\n');
        for finding in &self.findings {
            let line = finding.with_sign().to_string().replace("\n    fix: ", "; fix: ");
            text += &format!("- {}\n", cell(&line));
        }
        text + &format!("\n{}\n", self.verdict())
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.images.iter().try_for_each(|image| writeln!(f, "{image}"))?;
        if let Some((first, others)) = self.images.split_first() {
            for other in others {
                let difference = first.inspection.difference(&other.inspection);
                writeln!(f, "{} against {}: {difference}", other.origin.source, first.origin.source)?;
            }
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "{}", finding.with_sign()))?;
        f.write_str(&self.verdict())
    }
}
