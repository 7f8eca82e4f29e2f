//! The data of a run for reports. Every format is created from it.

use std::path::PathBuf;

use lab_model::events::{EventKind, Outcome};

use super::{
    beside::artefacts,
    criteria::Criterion,
    history::{History, PastRun},
    planned::{BootedImage, planned},
    recording::Recording,
    signatures::Signatures,
    summary::{ScenarioSummary, Summary},
    timeline::Timeline,
};

/// The report data of a run. All formats use it and therefore contain the same results.
#[derive(Clone, Debug)]
pub struct Report {
    /// The results, with known failures and notes.
    pub summary: Summary,
    /// The criteria for a pair of role-based images, limited to the executed scenarios.
    pub criteria: Vec<Criterion>,
    /// One per scenario.
    pub(super) timelines: Vec<Timeline>,
    /// The previous comparable run, one per scenario.
    pub(super) previous: Vec<Option<Comparison>>,
    pub(super) environment: Environment,
    /// Readable files, relative to the run's directory.
    pub(super) artefacts: Vec<PathBuf>,
    pub(super) directory: Option<PathBuf>,
}

/// A scenario in this run and in the previous run.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) now: PastRun,
    pub(super) before: PastRun,
}

/// The environment of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    /// Lab, host and emulator, as pairs of name and value.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) images: Vec<BootedImage>,
}

impl Report {
    /// Creates a report from a recording and the files beside it. The runs in the same root are its
    /// history.
    pub fn of(recording: &Recording, signatures: &Signatures) -> Self {
        let mut summary = Summary::of(&recording.events);
        summary.known = signatures.seen_in(&recording.events);
        // Without a history there is no comparison, but the report is still complete.
        let history = recording.root().and_then(|root| History::read(&root).ok()).unwrap_or_default();
        let mut previous = vec![None; summary.scenarios.len()];
        for now in PastRun::of(&summary, recording.directory.as_deref()) {
            summary.notes.extend(history.regression(&now));
            let index = summary.scenarios.iter().position(|scenario| scenario.name == now.scenario);
            if let (Some(index), Some(before)) = (index, history.previous(&now).cloned()) {
                previous[index] = Some(Comparison { now, before });
            }
        }
        Self {
            criteria: Criterion::of_what_was_run(&summary),
            timelines: Timeline::all(&recording.events),
            previous,
            environment: Environment::of(recording, &summary),
            artefacts: recording.directory.as_deref().map(artefacts).unwrap_or_default(),
            directory: recording.directory.clone(),
            summary,
        }
    }

    /// The scenarios with their timelines.
    pub(super) fn scenarios(&self) -> impl Iterator<Item = (&ScenarioSummary, &Timeline)> {
        self.summary.scenarios.iter().zip(&self.timelines)
    }

    /// The `TEST RESULTS` block.
    pub fn text(&self) -> String {
        self.summary.to_string()
    }
}

impl Summary {
    /// The verdict of a scenario; an unfinished scenario counts as not run.
    pub(super) fn verdict_on(&self, scenario: &ScenarioSummary) -> Outcome {
        match (&scenario.outcome, &self.outcome) {
            (Some(outcome), _) => outcome.clone(),
            (None, Some(outcome)) if scenario.name.is_empty() => outcome.clone(),
            (None, Some(Outcome::Failed { cause } | Outcome::NotRun { cause })) => {
                Outcome::NotRun { cause: cause.clone() }
            }
            (None, Some(Outcome::Passed) | None) => {
                Outcome::NotRun { cause: "it was begun and did not end by itself".into() }
            }
        }
    }

    /// The name of the scenario; a run without scenarios uses its title.
    pub(super) fn name_of<'a>(&'a self, scenario: &'a ScenarioSummary) -> &'a str {
        [&scenario.name, &self.title, &self.run]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or("run", String::as_str)
    }
}

impl Environment {
    fn of(recording: &Recording, summary: &Summary) -> Self {
        let mut facts = Vec::new();
        let host = recording.events.iter().find_map(|event| match &event.kind {
            EventKind::HostSeen { lab, os, arch, cores, memory_mib } => {
                Some((lab, os, arch, cores, memory_mib))
            }
            _ => None,
        });
        if let Some((lab, os, arch, cores, memory)) = host {
            facts.push(("lab", lab.clone()));
            let memory = memory.map_or_else(String::new, |mib| format!(", {:.1} GiB", mib as f64 / 1024.0));
            facts.push(("host", format!("{os} {arch}, {cores} cores{memory}")));
        }
        if !summary.qemu.is_empty() {
            facts.push(("QEMU", summary.qemu.clone()));
            facts.push(("accelerator", summary.accelerator.clone()));
            facts.push(("speed factor", format!("{:.2}", summary.speed_factor)));
        }
        let names: Vec<_> = summary.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        let (images, models) =
            recording.directory.as_deref().map(|directory| planned(directory, &names)).unwrap_or_default();
        if !models.is_empty() {
            facts.push(("guest CPU", models.join("; ")));
        }
        Self { facts, images }
    }
}
