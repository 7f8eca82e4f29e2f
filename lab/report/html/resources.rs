//! Resource usage of the VMs on the host, over time.

use maud::{Markup, html};

use super::chart::{Row, Scale, chart};
use crate::timeline::{Lane, Sample, Timeline};

/// Height of a curve's row, pixels.
const HEIGHT: u32 = 110;
/// Units of a curve's drawing.
const UNITS: f64 = 1000.0;
/// The maximum number of distinguishable lines.
const COLOURS: usize = 6;
/// The maximum number of samples in a curve.
const POINTS: usize = 400;

/// The curves; `None` without samples.
pub(super) fn curves(timeline: &Timeline, scale: Scale) -> Option<Markup> {
    let nodes: Vec<_> = timeline.nodes().filter(|(_, lane)| lane.samples.len() > 1).collect();
    if nodes.is_empty() {
        return None;
    }
    let curves = |values: fn(&[Sample]) -> Vec<(f64, f64)>| -> Vec<Vec<(f64, f64)>> {
        nodes.iter().map(|(_, lane)| values(&lane.samples)).collect()
    };
    let rows = [
        row("busy cores", "cores", &curves(busy_cores), scale),
        row("memory", "MiB", &curves(memory), scale),
    ];
    Some(html! {
        (chart(scale, "Processor and memory that each VM takes of the host, over time in seconds", &rows))
        p.legend { @for (index, (node, _)) in nodes.iter().enumerate() {
            span.key.line .(colour(index)) { (node.name) }
        } }
        div.table { table {
            thead { tr { th { "VM" } th.number { "CPU seconds" } th.number { "busy cores, mean" } th.number { "most memory" } } }
            tbody { @for (node, lane) in &nodes { tr {
                td { (node.name) }
                td.number { (format!("{:.1}", spent(lane))) }
                td.number { (format!("{:.2}", spent(lane) / lasted(lane).max(0.1))) }
                td.number { (format!("{} MiB", lane.samples.iter().map(|sample| sample.rss_bytes >> 20).max().unwrap_or(0))) }
            } } }
        } }
    })
}

fn spent(lane: &Lane) -> f64 {
    lane.samples.last().map_or(0.0, |sample| sample.cpu_seconds)
}

fn lasted(lane: &Lane) -> f64 {
    lane.samples.last().map_or(0.0, |sample| sample.at) - lane.samples.first().map_or(0.0, |sample| sample.at)
}

/// Busy cores between each sample and its predecessor.
fn busy_cores(samples: &[Sample]) -> Vec<(f64, f64)> {
    let every = samples.len().div_ceil(POINTS).max(1);
    let kept: Vec<_> = samples.iter().step_by(every).collect();
    kept.windows(2)
        .filter(|pair| pair[1].at > pair[0].at)
        // The counter of a restarted VM starts at zero.
        .map(|pair| {
            (pair[1].at, (pair[1].cpu_seconds - pair[0].cpu_seconds).max(0.0) / (pair[1].at - pair[0].at))
        })
        .collect()
}

fn memory(samples: &[Sample]) -> Vec<(f64, f64)> {
    let every = samples.len().div_ceil(POINTS).max(1);
    let mib = |sample: &Sample| (sample.rss_bytes / 1024) as f64 / 1024.0;
    samples.iter().step_by(every).map(|sample| (sample.at, mib(sample))).collect()
}

fn row(name: &str, unit: &str, curves: &[Vec<(f64, f64)>], scale: Scale) -> Row {
    let most = curves.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
    let top = nice(most);
    let line = |points: &[(f64, f64)]| -> String {
        let place = |(at, value): &(f64, f64)| {
            format!("{:.1},{:.1}", scale.share(*at) * UNITS, UNITS - value / top * UNITS)
        };
        points.iter().map(place).collect::<Vec<_>>().join(" ")
    };
    Row {
        name: html! { b { (name) } small { "up to " (top) " " (unit) } },
        height: HEIGHT,
        drawing: html! {
            line.middle x1="0" x2="100%" y1="50%" y2="50%" {}
            svg x="0" y="4" width="100%" height=(HEIGHT - 8) viewBox=(format!("0 0 {UNITS} {UNITS}")) preserveAspectRatio="none" {
                @for (index, points) in curves.iter().enumerate() {
                    polyline.curve .(colour(index)) points=(line(points)) {}
                }
            }
        },
    }
}

fn colour(index: usize) -> String {
    format!("c{}", index % COLOURS)
}

/// The next round number.
pub(super) fn nice(most: f64) -> f64 {
    let power = 10_f64.powf(most.max(0.01).log10().floor());
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|top| *top >= most)
        .unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_cores_are_what_was_spent_between_two_samples() {
        let sample = |at, cpu_seconds| Sample { at, cpu_seconds, rss_bytes: 0 };
        let samples = [sample(0.0, 0.0), sample(2.0, 3.0), sample(4.0, 4.0), sample(6.0, 0.5)];
        assert_eq!(busy_cores(&samples), [(2.0, 1.5), (4.0, 0.5), (6.0, 0.0)]);
        let many: Vec<_> = (0..10_000).map(|n| sample(f64::from(n), f64::from(n))).collect();
        assert!(busy_cores(&many).len() <= POINTS && memory(&many).len() <= POINTS);
    }

    #[test]
    fn the_top_of_a_curve_is_a_round_number() {
        assert_eq!([nice(0.0), nice(1.4), nice(812.0), nice(1000.0)], [0.01, 2.0, 1000.0, 1000.0]);
    }
}
