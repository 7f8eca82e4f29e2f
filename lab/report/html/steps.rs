//! The charts of a scenario: the steps and marks of each node, and its readiness layers.

use lab_model::events::{Layer, LayerState, Outcome};
use maud::{Markup, html};

use super::{
    chart::{Row, Scale, chart},
    events,
};
use crate::timeline::{Bar, Lane, Mark, MarkKind, Node, Timeline, What};

/// Height of a bar, of the space for marks, and of a layer's strip, pixels.
const BAR: u32 = 22;
const MARKS: u32 = 20;
const STRIP: u32 = 15;
/// Units of the drawing of console lines, which is stretched to the width of the chart.
const FINE: f64 = 10_000.0;

/// Steps and checks as bars, with all events as marks below them.
pub(super) fn course(number: usize, timeline: &Timeline, scale: Scale) -> Markup {
    let rows: Vec<_> = timeline
        .lanes
        .iter()
        .enumerate()
        .map(|(index, lane)| Row {
            name: name(lane.node.as_ref()),
            height: u32::try_from(lane.rows()).unwrap_or(1).max(1) * BAR + MARKS + 6,
            drawing: drawing(number, index, lane, scale),
        })
        .collect();
    html! {
        (chart(scale, "Steps and messages of each node, over time in seconds", &rows))
        p.legend {
            span.key.step { "step" } span.key.good { "check passed" } span.key.bad { "failed" } span.key.open { "did not end" }
            span.key.mark-console { "console" } span.key.mark-note { "note" } span.key.mark-layer { "readiness" }
            span.key.mark-kubernetes { "Kubernetes event" } span.key.mark-bad { "warning or failure" }
        }
    }
}

fn name(node: Option<&Node>) -> Markup {
    match node {
        None => html! { b { "cluster" } },
        Some(node) => html! { b { (node.name) } small { (node.kind) ", " (node.role) } },
    }
}

fn drawing(number: usize, index: usize, lane: &Lane, scale: Scale) -> Markup {
    let under = u32::try_from(lane.rows()).unwrap_or(1).max(1) * BAR + 3;
    html! {
        @for bar in &lane.bars { (of_bar(bar, scale)) }
        svg.console-lines x="0" y=(under + 6) width="100%" height="8" viewBox=(format!("0 0 {FINE} 8")) preserveAspectRatio="none" {
            path d=(console(&lane.marks, scale)) {}
        }
        @for (place, mark) in lane.marks.iter().enumerate().filter(|(_, mark)| mark.kind != MarkKind::Console) {
            a href=(format!("#{}", events::id(number, index, place))) tabindex="-1" {
                rect.mark .(events::class(mark.kind)) .bad[mark.bad] x=(scale.x(mark.at)) y=(if mark.bad { under } else { under + 3 })
                    width="3" height=(if mark.bad { 17 } else { 12 }) {
                    title { (format!("{:.1} s, {}: {}", mark.at, mark.kind.label(), mark.text)) }
                }
            }
        }
    }
}

fn console(marks: &[Mark], scale: Scale) -> String {
    let lines = marks.iter().filter(|mark| mark.kind == MarkKind::Console);
    let mut places: Vec<_> = lines.map(|mark| (scale.share(mark.at) * FINE).round()).collect();
    places.dedup();
    places.iter().map(|place| format!("M{place} 0v8")).collect()
}

fn of_bar(bar: &Bar, scale: Scale) -> Markup {
    let (state, words) = match (&bar.outcome, &bar.what) {
        (None, _) => ("open", "it did not end".to_owned()),
        (Some(Outcome::Passed), What::Check(_)) => ("good", "passed".into()),
        (Some(Outcome::Passed), What::Step(_)) => ("step", "done".into()),
        (Some(Outcome::Failed { cause }), _) => ("bad", format!("failed: {cause}")),
        (Some(Outcome::NotRun { cause }), _) => ("open", format!("not run: {cause}")),
    };
    let y = u32::try_from(bar.row).unwrap_or(0) * BAR + 4;
    html! {
        svg.bar .(state) x=(scale.x(bar.from)) y=(y) width=(scale.width(bar.from, bar.to)) height=(BAR - 4) {
            title { (format!("{}: {:.1} s, from {:.1} s on; {words}", bar.what.label(), bar.to - bar.from, bar.from)) }
            rect width="100%" height="100%" rx="3" {}
            text x="5" y="13" { (bar.what.label()) }
        }
    }
}

/// The three readiness layers of each node.
pub(super) fn readiness(timeline: &Timeline, scale: Scale) -> Markup {
    let rows: Vec<_> = timeline
        .nodes()
        .map(|(node, lane)| Row {
            name: html! { b { (node.name) } small { "boot, services, Kubernetes" } },
            height: STRIP * 3 + 10,
            drawing: strips(lane, scale),
        })
        .collect();
    html! {
        (chart(scale, "Three layers of readiness of each node, over time in seconds", &rows))
        p.legend { span.key.waiting { "waiting" } span.key.good { "green" } "From top to bottom: boot sequence, services, Kubernetes node." }
        div.table { table {
            thead { tr { th { "node" } th { "layer" } th { "stands" } th { "since" } th { "it says" } } }
            tbody {
                @for (node, lane) in timeline.nodes() {
                    @for layer in Layer::ALL {
                        @if let Some(last) = lane.layers.get(&layer).and_then(|stretches| stretches.last()) {
                            tr {
                                td { (node.name) }
                                td { (layer.label()) }
                                td { span.chip .(state(last.state)) { (words(last.state)) } }
                                td.number { (format!("{:.1} s", last.from)) }
                                td.said { bdi { (last.detail) } }
                            }
                        }
                    }
                }
            }
        } }
    }
}

fn strips(lane: &Lane, scale: Scale) -> Markup {
    html! {
        @for (index, layer) in (0..).zip(Layer::ALL) {
            @for stretch in lane.layers.get(&layer).into_iter().flatten() {
                rect.strip .(state(stretch.state)) x=(scale.x(stretch.from)) y=(5 + index * STRIP)
                    width=(scale.width(stretch.from, stretch.to)) height=(STRIP - 3) {
                    title { (format!("{} {} from {:.1} s on: {}", layer.label(), words(stretch.state), stretch.from, stretch.detail)) }
                }
            }
        }
    }
}

fn state(state: LayerState) -> &'static str {
    match state {
        LayerState::Unknown => "unknown",
        LayerState::Waiting => "waiting",
        LayerState::Green => "good",
    }
}

fn words(state: LayerState) -> &'static str {
    match state {
        LayerState::Unknown => "unknown",
        LayerState::Waiting => "waiting",
        LayerState::Green => "green",
    }
}
