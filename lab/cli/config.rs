//! `lab config`: machine configs, looked at before anything boots.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lab::{
    host::ExitCode,
    lint::{ConfigSet, Schema, Severity, catalogue, check},
    talos::TalosContract,
};

use super::{Failed, print_json, print_line};

#[derive(Subcommand)]
pub enum Config {
    /// Say what is wrong with machine configs and patches, with file, line and a way out
    Check(Check),
    /// List the rules, or explain one, with an example that breaks it and one that does not
    Rules {
        /// The rule's id
        rule: Option<String>,
    },
}

/// Say what is wrong with machine configs and patches, with file, line and a way out.
#[derive(Args)]
pub struct Check {
    /// Config files, of one document or several, or patches; all of one cluster
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The Talos version that will read them
    #[arg(long, value_name = "VERSION", default_value = TalosContract::default().as_str(), value_parser = contract)]
    talos: TalosContract,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn contract(text: &str) -> Result<TalosContract, String> {
    TalosContract::of_version(text).ok_or_else(|| "write a release from v1.11 on, as v1.13.9".to_owned())
}

impl Config {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Check(check) => check.run(),
            Self::Rules { rule: None } => {
                for entry in catalogue() {
                    let severity = entry.severity.to_string();
                    print_line(format_args!("{:<28} {severity:<8} {}", entry.id, entry.finds));
                }
                Ok(ExitCode::Passed)
            }
            Self::Rules { rule: Some(id) } => {
                let entry = catalogue().iter().find(|entry| entry.id == id).ok_or_else(|| {
                    let message = format!("there is no rule \"{id}\"; `lab config rules` lists them");
                    Failed::new(ExitCode::BadInput, message)
                })?;
                print_line(entry);
                Ok(ExitCode::Passed)
            }
        }
    }
}

impl Check {
    fn run(self) -> Result<ExitCode, Failed> {
        let set = ConfigSet::read(&self.files, Schema::of(self.talos))
            .map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let findings = check(&set);
        let (errors, warnings) = (findings.count(Severity::Error), findings.count(Severity::Warning));
        if self.json {
            print_json(&findings)?;
        } else {
            for finding in findings.iter() {
                print_line(finding);
            }
            print_line(format_args!(
                "{} {} files, {errors} errors, {warnings} warnings (keys of Talos {})",
                if errors == 0 { "✅" } else { "❌" },
                self.files.len(),
                self.talos.as_str()
            ));
        }
        Ok(if errors == 0 { ExitCode::Passed } else { ExitCode::VerdictFailed })
    }
}
