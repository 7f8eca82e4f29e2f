//! The verdict on a run in one word, as `scripts/ci` and the action have it.

use std::{fmt, str::FromStr};

use lab_model::{Ending, RunResult, events::Outcome};

use super::{recording::Recording, summary::Summary};

/// What came of a run. Only [`Verdict::Passed`] is green.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every scenario has the result that it expects.
    Passed,
    /// An image, a config or a cluster is wrong.
    Failed,
    /// An input is wrong; nothing was booted.
    Refused,
    /// The host cannot run the clusters.
    HostUnable,
    /// The run was stopped from outside.
    Interrupted,
    /// The lab failed or was killed; this says nothing about the images.
    Broken,
    /// The run has not ended.
    Running,
}

/// The text is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a verdict; use {all}", all = Verdict::ENDED.map(Verdict::word).join(", "))]
pub struct InvalidVerdict(String);

impl Verdict {
    /// The verdicts on runs that have ended.
    pub const ENDED: [Verdict; 6] =
        [Self::Passed, Self::Failed, Self::Refused, Self::HostUnable, Self::Interrupted, Self::Broken];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::HostUnable => "host-unable",
            Self::Interrupted => "interrupted",
            Self::Broken => "broken",
            Self::Running => "no verdict",
        }
    }

    /// The verdict on a recorded run. If there is a result beside the recording, both must say that the run has passed.
    pub fn of(recording: &Recording) -> Self {
        let told = Summary::of(&recording.events).outcome;
        match recording.directory.as_deref().map_or(Ok(None), RunResult::read) {
            // A copy of a recording, or a run that goes on.
            Ok(None) => Self::without_result(told.as_ref()),
            Ok(Some(result)) => Self::with_result(told.as_ref(), result.ending),
            Err(_) => Self::Broken,
        }
    }

    fn without_result(told: Option<&Outcome>) -> Self {
        match told {
            Some(Outcome::Passed) => Self::Passed,
            Some(Outcome::Failed { .. }) => Self::Failed,
            Some(Outcome::NotRun { .. }) => Self::Interrupted,
            None => Self::Running,
        }
    }

    fn with_result(told: Option<&Outcome>, ending: Ending) -> Self {
        match (ending, told) {
            (Ending::Passed, Some(Outcome::Passed)) => Self::Passed,
            (Ending::Failed, _) => Self::Failed,
            (Ending::HostUnable, _) => Self::HostUnable,
            (Ending::Interrupted, _) => Self::Interrupted,
            // A result that its recording does not confirm is none.
            (Ending::Passed | Ending::Broken | Ending::Died, _) => Self::Broken,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Verdict {
    type Err = InvalidVerdict;

    fn from_str(text: &str) -> Result<Self, InvalidVerdict> {
        let known = Self::ENDED.into_iter().find(|verdict| verdict.word() == text);
        known.ok_or_else(|| InvalidVerdict(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lab_model::events::{EventKind, Recorder};

    use lab_model::RESULT;

    use super::*;

    /// A run directory with this outcome in its recording and this text as its result.
    fn verdict(outcome: Option<Outcome>, result: Option<&str>) -> Verdict {
        let directory = tempfile::tempdir().expect("tempdir");
        let recorder = Recorder::new();
        let mut events = recorder.subscribe();
        outcome.into_iter().for_each(|outcome| recorder.record(EventKind::RunFinished { outcome }));
        let mut lines = String::new();
        while let Ok(event) = events.try_recv() {
            lines += &format!("{}\n", serde_json::to_string(&event).expect("JSON"));
        }
        fs::write(directory.path().join("events.jsonl"), lines).expect("write");
        if let Some(text) = result {
            fs::write(directory.path().join(RESULT), text).expect("write");
        }
        Verdict::of(&Recording::of_run(directory.path()).expect("a recording"))
    }

    fn result(ending: &str) -> String {
        format!(r#"{{"ending":"{ending}","at":"2026-01-01T00:00:00Z"}}"#)
    }

    #[test]
    fn only_a_recording_and_a_result_that_agree_are_green() {
        let passed = || Some(Outcome::Passed);
        let failed = || Some(Outcome::Failed { cause: "c".into() });
        let not_run = || Some(Outcome::NotRun { cause: "c".into() });
        for (outcome, ending, expected) in [
            (passed(), "passed", Verdict::Passed),
            (failed(), "failed", Verdict::Failed),
            (failed(), "host-unable", Verdict::HostUnable),
            (not_run(), "interrupted", Verdict::Interrupted),
            (None, "died", Verdict::Broken),
            (None, "broken", Verdict::Broken),
            (None, "passed", Verdict::Broken),
            (failed(), "passed", Verdict::Broken),
            (passed(), "failed", Verdict::Failed),
            (passed(), "green", Verdict::Broken),
        ] {
            let seen = verdict(outcome.clone(), Some(&result(ending)));
            assert_eq!(seen, expected, "{outcome:?} and {ending}");
        }
        for (outcome, expected) in [
            (passed(), Verdict::Passed),
            (failed(), Verdict::Failed),
            (not_run(), Verdict::Interrupted),
            (None, Verdict::Running),
        ] {
            assert_eq!(verdict(outcome, None), expected);
        }
        assert_eq!(verdict(passed(), Some("{}")), Verdict::Broken);
        assert_eq!(verdict(passed(), Some(&"x".repeat(2 << 20))), Verdict::Broken);
    }

    #[test]
    fn a_verdict_is_read_by_its_word() {
        for verdict in Verdict::ENDED {
            assert_eq!(verdict.word().parse(), Ok(verdict));
        }
        let refused = "green".parse::<Verdict>().expect_err("no verdict").to_string();
        assert_eq!(
            refused,
            "\"green\" is not a verdict; use passed, failed, refused, host-unable, interrupted, broken"
        );
        assert!("no verdict".parse::<Verdict>().is_err());
    }
}
