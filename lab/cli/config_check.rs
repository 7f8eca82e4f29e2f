//! `lab config check`: machine configs and patches, judged before a boot.

use std::path::PathBuf;

use clap::Args;
use lab_model::{Diagnostics, ExitCode, Severity};
use lab_plan::{
    config::TalosContract,
    lint::{Checked, ConfigSet, check, config_files},
};
use lab_validator::Validator;
use serde::Serialize;

use super::{Failed, places::ImagesDirectory, print_json, print_line, tell};

/// Check machine configs and patches; each finding has a file, a line and a fix.
#[derive(Args)]
pub struct Check {
    /// Files with machine configs or patches of one cluster; a file can hold several documents. A directory
    /// stands for the configs in it; one of talhelper or talm for those that the tool rendered
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Talos version that will read the files, or `all` for each that the lab knows
    #[arg(long, value_name = "VERSION", default_value = TalosContract::default().as_str(), value_parser = asked)]
    talos: Asked,
    /// Config that the patches among the files are applied to; can be repeated, and a patch must fit only one of
    /// them [default: the configs among the files, and what talosctl generates]
    #[arg(long, value_name = "FILE")]
    base: Vec<PathBuf>,
    #[command(flatten)]
    images: ImagesDirectory,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The releases to judge as.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    contracts: Vec<TalosContract>,
    /// The difference between the requested release and the known release that replaces it.
    note: Option<String>,
}

fn asked(text: &str) -> Result<Asked, String> {
    if text == "all" {
        return Ok(Asked { contracts: TalosContract::ALL.to_vec(), note: None });
    }
    let contract = TalosContract::of_version(text)
        .ok_or_else(|| "write a release from v1.11 on, as v1.13.9, or all".to_owned())?;
    let release = text.trim_start_matches('v').split('.').take(2).collect::<Vec<_>>().join(".");
    let known = contract.as_str().trim_start_matches('v');
    let note = (release != known)
        .then(|| format!("no table for {release}: judged as {known}, differences possible"));
    Ok(Asked { contracts: vec![contract], note })
}

/// The result for one release.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfRelease {
    talos: &'static str,
    /// The version of Talos' own library.
    #[serde(skip_serializing_if = "Option::is_none")]
    library: Option<String>,
    /// Why the library was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_asked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    findings: Diagnostics,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let bad = |error| Failed::new(ExitCode::BadInput, error);
        let files = config_files(&self.files).map_err(bad)?;
        let set = ConfigSet::read(&files).and_then(|set| set.with_bases(&self.base)).map_err(bad)?;
        let validator = Validator::new(&self.images.for_programs(), |line| tell!("{line}"));
        let of_release = |contract: &TalosContract| {
            let Checked { findings, asked } = check(&set, *contract, &validator);
            OfRelease {
                talos: contract.as_str(),
                library: asked.as_ref().ok().cloned(),
                not_asked: asked.err().map(|reason| reason.to_string()),
                note: self.talos.note.clone(),
                findings,
            }
        };
        let releases: Vec<_> = self.talos.contracts.iter().map(of_release).collect();
        if self.json {
            print_json(&releases)?;
        } else {
            releases.iter().for_each(|release| release.print(files.len()));
        }
        let errors: usize = releases.iter().map(|release| release.findings.count(Severity::Error)).sum();
        Ok(if errors == 0 { ExitCode::Passed } else { ExitCode::VerdictFailed })
    }
}

impl OfRelease {
    fn print(&self, files: usize) {
        let (errors, warnings) =
            (self.findings.count(Severity::Error), self.findings.count(Severity::Warning));
        for finding in &self.findings {
            print_line(finding);
        }
        if let Some(note) = &self.note {
            print_line(format_args!("⚠ {note}"));
        }
        if let Some(reason) = &self.not_asked {
            print_line(format_args!("⚠ {reason}; the lab's table of keys answered, which knows less"));
        }
        let by = match &self.library {
            Some(version) => format!("Talos {}, judged by its own library {version}", self.talos),
            None => format!("Talos {}, judged by the lab's table of keys", self.talos),
        };
        let sign = if errors == 0 { "✅" } else { "❌" };
        print_line(format_args!("{sign} {files} files, {errors} errors, {warnings} warnings ({by})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_newer_release_is_judged_as_the_newest_known_one_and_said_so() {
        let newer = asked("v1.14.0").expect("a release");
        assert_eq!(newer.contracts, [TalosContract::V1_13]);
        let note = "no table for 1.14: judged as 1.13, differences possible";
        assert_eq!(newer.note.as_deref(), Some(note));
        let known = asked("1.12.7").expect("a release");
        assert_eq!((known.contracts, known.note), (vec![TalosContract::V1_12], None));
        assert_eq!(asked("all").expect("all").contracts, TalosContract::ALL);
        assert!(asked("v1.10.0").is_err() && asked("latest").is_err());
    }
}
