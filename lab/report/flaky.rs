//! Checks that came to both results with the same images.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Ended, PastRun};

/// A check, or the verdict of the scenario, that passed and failed although the nodes booted the same images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaky<'a> {
    /// The check ID; `None` for the verdict.
    pub check: Option<&'a str>,
    /// The number of runs with the images of both results in which it passed.
    pub passed: usize,
    /// The number of those in which it failed.
    pub failed: usize,
}

/// The digests of a run's images, by role.
type Images = BTreeMap<String, BTreeSet<String>>;

/// The flaky results of comparable runs, the verdict first. A run of which the images are not known, or that did not end,
/// says nothing.
pub fn flaky<'a>(runs: &[&'a PastRun]) -> Vec<Flaky<'a>> {
    let mut counts = BTreeMap::<Option<&str>, BTreeMap<&Images, [usize; 2]>>::new();
    for run in runs.iter().filter(|run| !run.images.is_empty()) {
        let checks = run.checks.iter().map(|(check, ended)| (Some(check.as_str()), *ended));
        for (check, ended) in std::iter::once((None, run.ended)).chain(checks) {
            let result = match ended {
                Ended::Passed => 0,
                Ended::Failed => 1,
                Ended::NotRun | Ended::Died => continue,
            };
            counts.entry(check).or_default().entry(&run.images).or_default()[result] += 1;
        }
    }
    let both = |counts: BTreeMap<&Images, [usize; 2]>| {
        let mixed = counts.into_values().filter(|[passed, failed]| *passed > 0 && *failed > 0);
        mixed.reduce(|[passed, failed], [more_passed, more_failed]| {
            [passed + more_passed, failed + more_failed]
        })
    };
    counts
        .into_iter()
        .filter_map(|(check, counts)| {
            let [passed, failed] = both(counts)?;
            Some(Flaky { check, passed, failed })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::example;

    fn run(number: i64, digest: &str, verdict: Ended, dns: Ended) -> PastRun {
        let mut run = example(number, 50.0, 1.0);
        if !digest.is_empty() {
            run.images.insert("compute".into(), [digest.to_owned()].into());
        }
        run.ended = verdict;
        run.checks = [("dns".to_owned(), dns), ("pods".to_owned(), Ended::Passed)].into();
        run
    }

    fn named(runs: &[PastRun]) -> Vec<(Option<String>, usize, usize)> {
        let runs: Vec<_> = runs.iter().collect();
        flaky(&runs).into_iter().map(|one| (one.check.map(str::to_owned), one.passed, one.failed)).collect()
    }

    #[test]
    fn both_results_with_the_same_images_are_flaky() {
        use Ended::{Failed, Passed};
        let dns = || Some("dns".to_owned());
        let runs = [
            run(1, "a", Passed, Passed),
            run(2, "a", Failed, Failed),
            run(3, "a", Passed, Passed),
            run(4, "b", Passed, Passed),
        ];
        assert_eq!(named(&runs), [(None, 2, 1), (dns(), 2, 1)]);
        // The verdict can be the same, as when the scenario expects a failure.
        assert_eq!(named(&[run(1, "a", Passed, Passed), run(2, "a", Passed, Failed)]), [(dns(), 1, 1)]);
    }

    #[test]
    fn other_images_unknown_images_and_runs_without_a_result_are_not() {
        use Ended::{Died, Failed, NotRun, Passed};
        let none: [(Option<String>, usize, usize); 0] = [];
        assert_eq!(named(&[run(1, "a", Failed, Failed), run(2, "b", Passed, Passed)]), none);
        assert_eq!(named(&[run(1, "", Failed, Failed), run(2, "", Passed, Passed)]), none);
        assert_eq!(named(&[run(1, "a", Died, NotRun), run(2, "a", Passed, Passed)]), none);
        assert_eq!(named(&[]), none);
    }
}
