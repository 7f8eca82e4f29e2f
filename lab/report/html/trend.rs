//! Durations of runs over calendar time.

use jiff::Timestamp;
use maud::{Markup, html};

use super::{
    chart::{Row, Scale, chart_with},
    history::{ReportLinks, begun, class, linked},
    resources::nice,
};
use crate::{Ended, PastRun, history::median};

/// Height of a curve's row, pixels.
const HEIGHT: u32 = 120;
/// Space above and below a curve, pixels.
const EDGE: f64 = 10.0;
/// Units of a curve's drawing.
const UNITS: f64 = 1000.0;
/// The share of the axis after which a label has no room.
const LAST_LABEL: f64 = 0.9;
/// The most labels on the axis.
const LABELS: f64 = 5.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Suitable steps between labels, seconds.
const NICE: [f64; 16] = [
    60.0,
    300.0,
    900.0,
    1800.0,
    HOUR,
    3.0 * HOUR,
    6.0 * HOUR,
    12.0 * HOUR,
    DAY,
    2.0 * DAY,
    7.0 * DAY,
    14.0 * DAY,
    30.0 * DAY,
    90.0 * DAY,
    180.0 * DAY,
    365.0 * DAY,
];
/// The shortest time that the axis covers, seconds: a single run is in its middle.
const SHORTEST: f64 = HOUR;

/// A run in a curve.
struct Point<'a> {
    run: &'a PastRun,
    seconds: f64,
}

/// The curves of formation and of the whole scenario.
pub(super) fn durations(runs: &[&PastRun], links: &ReportLinks) -> Markup {
    let scale = scale(runs);
    let points = |value: fn(&PastRun) -> Option<f64>| -> Vec<Point> {
        runs.iter().filter_map(|run| Some(Point { run, seconds: value(run)? })).collect()
    };
    let rows = [
        row("formation", "until all nodes are green", &points(|run| run.ready_seconds), scale, links),
        row("scenario", "as a whole", &points(|run| Some(run.seconds)), scale, links),
    ];
    html! {
        (chart_with(scale, &labels(scale), "Seconds of each run, over the date of the run", &rows))
        p.legend {
            span.key.line { "each run, in seconds" } span.key.good { "passed" } span.key.bad { "failed" }
            span.key.open { "not run, or no verdict" } span.key.median { "median of the green runs" }
        }
    }
}

/// From the first run to the last, with space on both sides.
fn scale(runs: &[&PastRun]) -> Scale {
    let at = |run: Option<&&PastRun>| run.map_or(0.0, |run| run.at.as_second() as f64);
    let (first, last) = (at(runs.first()), at(runs.last()));
    let space = ((SHORTEST - (last - first)) / 2.0).max((last - first) * 0.03);
    Scale { begin: first - space, end: last + space }
}

/// Dates, and times of day where they are close to each other. All are UTC.
fn labels(scale: Scale) -> Vec<(f64, String)> {
    let length = scale.end - scale.begin;
    let step = NICE.into_iter().find(|step| length / step <= LABELS).unwrap_or(length / LABELS);
    let form = if step < DAY { "%m-%d %H:%M" } else { "%Y-%m-%d" };
    let first = (scale.begin / step).ceil();
    let places = (0..).map(|n| (first + f64::from(n)) * step).take_while(|at| *at <= scale.end).take(20);
    let told = |at: f64| Some(Timestamp::from_second(at as i64).ok()?.strftime(form).to_string());
    places.filter(|at| scale.share(*at) < LAST_LABEL).filter_map(|at| Some((at, told(at)?))).collect()
}

fn row(name: &str, what: &str, points: &[Point], scale: Scale, links: &ReportLinks) -> Row {
    let top = nice(points.iter().map(|point| point.seconds).fold(0.0, f64::max)).max(1.0);
    let height = f64::from(HEIGHT) - 2.0 * EDGE;
    let y = |seconds: f64| EDGE + height * (1.0 - seconds / top);
    let at = |point: &Point| point.run.at.as_second() as f64;
    let line: Vec<_> = points
        .iter()
        .map(|point| {
            format!("{:.1},{:.1}", scale.share(at(point)) * UNITS, (1.0 - point.seconds / top) * UNITS)
        })
        .collect();
    let green = points.iter().filter(|point| point.run.ended == Ended::Passed);
    let usual = median(green.map(|point| point.seconds).collect());
    Row {
        name: html! { b { (name) } small { (what) } },
        height: HEIGHT,
        drawing: html! {
            @for seconds in [top, top / 2.0, 0.0] {
                line.middle x1="0" x2="100%" y1=(pixels(y(seconds))) y2=(pixels(y(seconds))) {}
                text.tick x="0" y=(pixels(y(seconds) - 2.0)) { (seconds) " s" }
            }
            @if let Some(usual) = usual {
                line.median x1="0" x2="100%" y1=(pixels(y(usual))) y2=(pixels(y(usual))) { title { (format!("median of the green runs: {usual:.1} s")) } }
            }
            svg x="0" y=(pixels(EDGE)) width="100%" height=(pixels(height)) viewBox=(format!("0 0 {UNITS} {UNITS}")) preserveAspectRatio="none" overflow="visible" {
                polyline.curve points=(line.join(" ")) {}
            }
            @for point in points { (mark(point, &scale.x(at(point)), y(point.seconds), links)) }
        },
    }
}

fn mark(point: &Point, x: &str, y: f64, links: &ReportLinks) -> Markup {
    let told = format!("{} UTC: {}, {:.1} s", begun(point.run), point.run.ended.label(), point.seconds);
    let radius = if point.run.ended == Ended::Passed { "3.5" } else { "5" };
    let drawn = html! {
        circle.point .(class(Some(point.run.ended))) cx=(x) cy=(pixels(y)) r=(radius) { title { (told) } }
    };
    linked(links.to(point.run), &drawn)
}

fn pixels(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::example;

    #[test]
    fn labels_are_dates_or_times_of_day() {
        let labels = |begin: f64, end: f64| -> Vec<String> {
            labels(Scale { begin, end }).into_iter().map(|(_, text)| text).collect()
        };
        // 2023-11-14 22:13:20 UTC.
        let begin = 1.7e9;
        assert_eq!(labels(begin, begin + 4.0 * HOUR), ["11-14 23:00", "11-15 00:00", "11-15 01:00"]);
        assert_eq!(
            labels(begin, begin + 4.0 * DAY),
            ["2023-11-15", "2023-11-16", "2023-11-17", "2023-11-18"]
        );
        assert!(labels(-1e12, 1e12).len() <= 6, "far beyond any calendar");
    }

    #[test]
    fn a_single_run_is_in_the_middle_and_several_have_space() {
        let one = example(1, 50.0, 1.0);
        let single = scale(&[&one]);
        let at = one.at.as_second() as f64;
        assert!((single.share(at) - 0.5).abs() < 1e-9 && single.end - single.begin == SHORTEST);
        let last = example(500, 50.0, 1.0);
        let several = scale(&[&one, &last]);
        assert!(several.share(at) > 0.02 && several.share(last.at.as_second() as f64) < 0.98);
    }
}
