//! The page of the history: for each series of comparable runs its durations, its checks and its verdicts over time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use lab_model::files::is_plain;
use maud::{Markup, html};

use super::{
    document::{address, document},
    trend::durations,
};
use crate::{
    Ended, HTML, History, PastRun,
    flaky::{Flaky, flaky},
    history::median,
};

/// The most runs of a series on the page; the newest are shown.
const RUNS: usize = 100;
/// The most series on the page; those that ran last are shown.
const SERIES: usize = 60;
/// The most checks of a series on the page.
const CHECKS: usize = 60;
/// Width of a run in a strip, pixels.
const CELL: usize = 11;
/// Height of a strip, pixels.
const STRIP: usize = 16;

/// The addresses of the reports of runs, as a page has them.
#[derive(Clone, Debug, Default)]
pub struct ReportLinks(BTreeMap<String, String>);

impl ReportLinks {
    /// Links from a page in `page`, a directory, to the reports that exist below `root`.
    pub fn of(history: &History, root: &Path, page: &Path) -> Self {
        let (Ok(root), Ok(page)) = (fs::canonicalize(root), fs::canonicalize(page)) else {
            return Self::default();
        };
        let runs: BTreeSet<_> = history.runs.iter().map(|run| &run.run).collect();
        let there = runs.into_iter().filter(|run| is_plain(Path::new(run)));
        let links = there.filter_map(|run| {
            let report = root.join(run).join(HTML);
            report.is_file().then(|| Some((run.clone(), address(&relative(&page, &report)?))))?
        });
        Self(links.collect())
    }

    /// The address of a run's report, if there is one.
    pub(super) fn to(&self, run: &PastRun) -> Option<&str> {
        self.0.get(&run.run).map(String::as_str)
    }
}

/// The way from a directory to a file, both absolute.
fn relative(from: &Path, to: &Path) -> Option<String> {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(shared)).collect();
    way.to_str().map(str::to_owned)
}

/// What the page shows of comparable runs.
struct Series<'a> {
    /// The newest, oldest first.
    runs: Vec<&'a PastRun>,
    left_out: usize,
    flaky: Vec<Flaky<'a>>,
    /// A sentence if the last run was slow.
    note: Option<String>,
}

impl History {
    /// Formats the history as one self-contained HTML file that loads no external resources.
    pub fn html(&self, links: &ReportLinks) -> String {
        let mut all = self.series();
        all.sort_by_key(|runs| std::cmp::Reverse(runs.last().map(|run| run.at)));
        let left_out = all.len().saturating_sub(SERIES);
        let series: Vec<_> = all.into_iter().take(SERIES).map(|runs| self.shown(runs)).collect();
        let body = html! {
            (head(self, &series))
            main {
                @if series.is_empty() { p.card { "No scenario has been run." } }
                @if series.len() > 1 { (contents(&series)) }
                @if left_out > 0 { p.card.cut { "Not shown: " (left_out) " series that ran longer ago." } }
                @for (number, one) in series.iter().enumerate() { (section(number, one, links)) }
            }
            footer { "Made by lab from the history of its runs. " code { "lab report history --html FILE" } " makes it again." }
        };
        document("History of the lab", None, &body)
    }

    fn shown<'a>(&self, runs: Vec<&'a PastRun>) -> Series<'a> {
        let left_out = runs.len().saturating_sub(RUNS);
        let runs = runs[left_out..].to_vec();
        let note = runs.last().and_then(|last| self.regression(last));
        Series { flaky: flaky(&runs), runs, left_out, note }
    }
}

fn head(history: &History, series: &[Series]) -> Markup {
    let runs: BTreeSet<_> = history.runs.iter().map(|run| &run.run).collect();
    let flaky: usize = series.iter().map(|one| one.flaky.len()).sum();
    let ends = history.runs.first().zip(history.runs.last());
    html! {
        header #verdict data-verdict="history" {
            div.inside {
                p.word { "lab" }
                h1 { "History" }
                ul.facts {
                    li { (counted(runs.len())) }
                    @if let Some((first, last)) = ends { li { (day(first)) " to " (day(last)) } }
                    @if flaky > 0 { li { span.chip.bad { (flaky) " flaky" } } } @else { li { "nothing flaky" } }
                }
            }
        }
    }
}

fn contents(series: &[Series]) -> Markup {
    html! {
        nav aria-label="Scenarios" { ul {
            @for (number, one) in series.iter().enumerate() {
                @if let Some(last) = one.runs.last() {
                    li { a href=(format!("#series-{number}")) { (last.scenario) } " " (chip(last.ended)) }
                }
            }
        } }
    }
}

fn section(number: usize, series: &Series, links: &ReportLinks) -> Markup {
    let Some(last) = series.runs.last() else { return html! {} };
    let tests = if last.is_test() { ", as a test" } else { "" };
    html! {
        section.scenario id=(format!("series-{number}")) {
            h2 { (last.scenario) " " (chip(last.ended)) }
            p.question {
                (last.nodes) " nodes, " (last.accelerator) (tests) ". "
                (counted(series.runs.len())) @if series.left_out > 0 { ", the newest of " (series.runs.len() + series.left_out) } "."
            }
            @if let Some(note) = &series.note { p.card { (note) } }
            @if !series.flaky.is_empty() { (flaky_card(&series.flaky)) }
            div.card.trend { h3 { "Seconds" } (durations(&series.runs, links)) }
            div.card.results { h3 { "Results, oldest to newest" } (results(series, links)) }
            (runs(&series.runs, links))
        }
    }
}

fn flaky_card(flaky: &[Flaky]) -> Markup {
    html! {
        div.card.known.flaky {
            p { b { "Flaky" } ": both results with the same images" }
            ul { @for one in flaky {
                li {
                    b { (one.check.unwrap_or("the verdict")) }
                    " passed in " (one.passed) " and failed in " (one.failed) " of these runs"
                }
            } }
        }
    }
}

/// One strip for the verdict and for each check, with a cell for each run.
fn results(series: &Series, links: &ReportLinks) -> Markup {
    let checks: BTreeSet<_> = series.runs.iter().flat_map(|run| run.checks.keys()).collect();
    let is_flaky = |check: Option<&str>| series.flaky.iter().any(|one| one.check == check);
    html! {
        div.table { table {
            thead { tr { th { "check" } th { "runs" } th.number { "passed" } th.number { "failed" } } }
            tbody {
                (result_row("verdict", is_flaky(None), &series.runs, |run| Some(run.ended), links))
                @for check in checks.iter().take(CHECKS) {
                    (result_row(check, is_flaky(Some(check)), &series.runs, |run| run.checks.get(*check).copied(), links))
                }
            }
        } }
        @if checks.len() > CHECKS { p.small { "Not shown: " (checks.len() - CHECKS) " more checks." } }
        p.legend {
            span.key.good { "passed" } span.key.bad { "failed" } span.key.open { "not run, or no verdict" }
            span.key.none { "not in this run" }
        }
    }
}

fn result_row(
    name: &str,
    is_flaky: bool,
    runs: &[&PastRun],
    result: impl Fn(&PastRun) -> Option<Ended>,
    links: &ReportLinks,
) -> Markup {
    let count = |ended| runs.iter().filter(|run| result(run) == Some(ended)).count();
    html! { tr {
        th { (name) @if is_flaky { " " span.chip.bad { "flaky" } } }
        td {
            svg.strip-of-runs width=(runs.len() * CELL) height=(STRIP) role="img" aria-label=(format!("Results of {name}")) {
                @for (at, run) in runs.iter().enumerate() { (cell(at, run, result(run), links)) }
            }
        }
        td.number { (count(Ended::Passed)) }
        td.number { (count(Ended::Failed)) }
    } }
}

/// A run in a strip. Results differ in form too, for those who do not tell the colours apart.
fn cell(at: usize, run: &PastRun, ended: Option<Ended>, links: &ReportLinks) -> Markup {
    let (x, height) = (at * CELL, if ended == Some(Ended::Passed) { STRIP - 6 } else { STRIP });
    let told = format!("{}: {}", begun(run), ended.map_or("not in this run", Ended::label));
    let drawn = html! {
        rect.cell .(class(ended)) x=(x) y=(STRIP - height) width=(CELL - 2) height=(height) rx="1.5" { title { (told) } }
        @if ended == Some(Ended::Failed) {
            path.cross d=(format!("M{} 5l5 6m0 -6l-5 6", x + 2)) {}
        }
    };
    linked(links.to(run), &drawn)
}

/// All runs as a table, the newest first.
fn runs(runs: &[&PastRun], links: &ReportLinks) -> Markup {
    let medians = {
        let green: Vec<_> = runs.iter().filter(|run| run.ended == Ended::Passed).collect();
        let of =
            |value: fn(&PastRun) -> Option<f64>| median(green.iter().filter_map(|run| value(run)).collect());
        [of(|run| run.ready_seconds), of(|run| Some(run.seconds))]
    };
    html! {
        details.card.runs {
            summary { "All runs" }
            div.table { table {
                thead { tr {
                    th { "begun, UTC" } th { "verdict" } th.number { "formation" } th.number { "whole scenario" }
                    th.number { "speed factor" } th { "failed checks" }
                } }
                tbody {
                    tr { td { "median of the green" } td {} td.number { (seconds(medians[0])) } td.number { (seconds(medians[1])) } td {} td {} }
                    @for run in runs.iter().rev() { tr {
                        td { (linked(links.to(run), &html! { (begun(run)) })) }
                        td { (chip(run.ended)) }
                        td.number { (seconds(run.ready_seconds)) }
                        td.number { (seconds(Some(run.seconds))) }
                        td.number { (format!("{:.2}", run.speed_factor)) }
                        td.said { (failed(run)) }
                    } }
                }
            } }
        }
    }
}

fn failed(run: &PastRun) -> String {
    let failed = run.checks.iter().filter(|(_, ended)| **ended == Ended::Failed).take(CHECKS);
    failed.map(|(check, _)| check.as_str()).collect::<Vec<_>>().join(", ")
}

pub(super) fn linked(link: Option<&str>, content: &Markup) -> Markup {
    html! { @if let Some(link) = link { a href=(link) { (content) } } @else { (content) } }
}

/// The class of a result in drawings.
pub(super) fn class(ended: Option<Ended>) -> &'static str {
    match ended {
        Some(Ended::Passed) => "good",
        Some(Ended::Failed) => "bad",
        Some(Ended::NotRun | Ended::Died) => "open",
        None => "none",
    }
}

fn chip(ended: Ended) -> Markup {
    html! { span.chip .(class(Some(ended))) { (ended.label()) } }
}

/// The start of a run, to the minute.
pub(super) fn begun(run: &PastRun) -> String {
    run.at.strftime("%Y-%m-%d %H:%M").to_string()
}

fn counted(runs: usize) -> String {
    format!("{runs} {}", if runs == 1 { "run" } else { "runs" })
}

fn day(run: &PastRun) -> String {
    run.at.strftime("%Y-%m-%d").to_string()
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1} s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::example;

    #[test]
    fn a_way_leads_from_the_page_to_the_report() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).expect("a way");
        assert_eq!(way("/a/lab", "/a/lab/run/report.html"), "run/report.html");
        assert_eq!(way("/a/pages", "/a/lab/run/report.html"), "../lab/run/report.html");
        assert_eq!(way("/", "/a/r.html"), "a/r.html");
    }

    #[test]
    fn only_reports_that_exist_below_the_root_are_linked() {
        let root = tempfile::tempdir().expect("tempdir");
        let report = |name: &str| {
            fs::create_dir_all(root.path().join(name)).expect("directory");
            fs::write(root.path().join(name).join(HTML), "").expect("write");
        };
        ["root/there & there", "outside", "pages"].into_iter().for_each(report);
        let mut runs: Vec<_> = ["there & there", "gone", "../outside"].map(str::to_owned).into();
        runs.push(root.path().join("outside").display().to_string());
        let runs = runs.into_iter().map(|run| PastRun { run, ..example(1, 1.0, 1.0) }).collect();
        let history = History { runs };
        let links = ReportLinks::of(&history, &root.path().join("root"), &root.path().join("pages"));
        let told: Vec<_> = history.runs.iter().map(|run| links.to(run)).collect();
        assert_eq!(told, [Some("./../root/there%20%26%20there/report.html"), None, None, None]);
    }

    #[test]
    fn a_long_history_makes_a_page_of_bounded_size() {
        let checks: BTreeMap<_, _> = (0..200).map(|n| (format!("check-{n}"), Ended::Passed)).collect();
        let runs = (0..40_i64).flat_map(|n| (0..200).map(move |at| (n, at))).map(|(n, at)| PastRun {
            scenario: format!("s{}", n % 8),
            checks: checks.clone(),
            ..example(at, 50.0, 1.0)
        });
        let page = History { runs: runs.collect() }.html(&ReportLinks::default());
        assert!(page.contains("the newest of 1000") && page.contains("140 more checks"));
        assert!(page.len() < 16 << 20, "{} bytes", page.len());
        let many = (0..100).map(|n| PastRun { scenario: format!("s{n}"), ..example(n, 50.0, 1.0) });
        let page = History { runs: many.collect() }.html(&ReportLinks::default());
        assert!(page.contains("Not shown: 40 series") && page.matches("<section").count() == SERIES);
    }
}
