//! Everything that can be told of a run, from which each format is made.

use std::path::PathBuf;

use lab_model::events::{EventKind, Outcome};

use super::{
    beside::{BootedImage, artefacts, planned},
    criteria::Criterion,
    history::{History, PastRun},
    recording::Recording,
    signatures::Signatures,
    summary::{ScenarioSummary, Summary},
    timeline::Timeline,
};

/// A run as reports tell it. All formats are made of this and therefore say the same.
#[derive(Clone, Debug)]
pub struct Report {
    /// What came of it, what of that is known, and what is worth a note.
    pub summary: Summary,
    /// What a pair of role-based images must show, as far as the scenarios for it were run.
    pub criteria: Vec<Criterion>,
    /// One a scenario.
    pub(super) timelines: Vec<Timeline>,
    /// One a scenario: the run before this one that compares with it.
    pub(super) previous: Vec<Option<Comparison>>,
    pub(super) environment: Environment,
    /// Files worth a look, relative to the run's directory.
    pub(super) artefacts: Vec<PathBuf>,
    /// The run's directory.
    pub(super) directory: Option<PathBuf>,
}

/// A scenario now and when it was run before.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) now: PastRun,
    pub(super) before: PastRun,
}

/// What a run was on.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    /// Lab, host and emulator, as names with values.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) images: Vec<BootedImage>,
}

impl Report {
    /// Tells a recorded run, with what lies beside the recording. Runs beside it are its history.
    pub fn of(recording: &Recording, signatures: &Signatures) -> Self {
        let mut summary = Summary::of(&recording.events);
        summary.known = signatures.seen_in(&recording.events);
        // Without a history there is nothing to compare with, and the run is told all the same.
        let history = recording.root().and_then(|root| History::read(&root).ok()).unwrap_or_default();
        let mut previous = vec![None; summary.scenarios.len()];
        for now in PastRun::of(&summary) {
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

    /// The scenarios with their courses.
    pub(super) fn scenarios(&self) -> impl Iterator<Item = (&ScenarioSummary, &Timeline)> {
        self.summary.scenarios.iter().zip(&self.timelines)
    }

    /// The `TEST RESULTS` block.
    pub fn text(&self) -> String {
        self.summary.to_string()
    }
}

impl Summary {
    /// The verdict on a scenario; what did not end was not run to its end.
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

    /// How the scenario is called: a run without scenarios is called by its title.
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
