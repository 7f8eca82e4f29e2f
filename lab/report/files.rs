//! The reports in the directory of a run.

use std::{fs, io, path::Path};

use lab_model::files::replace_file;

use super::{
    history::{History, PastRun},
    recording::Recording,
    report::Report,
    signatures::Signatures,
};

/// The HTML page.
pub const HTML: &str = "report.html";
/// For CI systems.
pub const JUNIT: &str = "junit.xml";
/// For Perfetto and Chrome.
pub const TRACE: &str = "trace.json";
/// For the summary of a CI step.
pub const MARKDOWN: &str = "summary.md";
/// All report files.
pub(super) const ALL: [&str; 4] = [HTML, JUNIT, TRACE, MARKDOWN];

impl Report {
    /// Writes all reports to the directory of a run.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        for (name, text) in
            [(HTML, self.html()), (JUNIT, self.junit()), (TRACE, self.trace()), (MARKDOWN, self.markdown())]
        {
            let path = directory.join(name);
            let told =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            replace_file(&path, text.as_bytes()).map_err(told)?;
        }
        Ok(())
    }
}

/// Writes the reports of a finished run to its directory, and appends its lines to the history in the
/// run root.
///
/// # Errors
/// Fails if the recording cannot be read or a file cannot be written.
pub fn leave_reports(directory: &Path, signatures: &Signatures) -> io::Result<()> {
    let recording = Recording::of_run(directory).map_err(io::Error::other)?;
    let report = Report::of(&recording, signatures);
    report.write(directory)?;
    let directory = fs::canonicalize(directory)?;
    let runs = PastRun::of(&report.summary, Some(&directory));
    directory.parent().map_or(Ok(()), |root| History::append(root, &runs))
}
