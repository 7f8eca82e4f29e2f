//! The list of events, with one row per mark of the timeline.

use maud::{Markup, html};

use crate::timeline::{Lane, Mark, MarkKind, Timeline};

/// The number of listed console lines of a node, from the start and from the end. The log of the node
/// contains all lines.
const FIRST: usize = 120;
const LAST: usize = 230;

/// The ID of a mark's row, for links.
pub(super) fn id(scenario: usize, lane: usize, mark: usize) -> String {
    format!("e{scenario}-{lane}-{mark}")
}

/// The CSS class of a kind of mark.
pub(super) fn class(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Console => "mark-console",
        MarkKind::Note => "mark-note",
        MarkKind::Layer => "mark-layer",
        MarkKind::Kubernetes => "mark-kubernetes",
        MarkKind::Outcome => "mark-outcome",
    }
}

struct Listed<'a> {
    id: String,
    who: &'a str,
    mark: &'a Mark,
}

/// All events in chronological order.
pub(super) fn list(scenario: usize, timeline: &Timeline) -> Markup {
    let mut listed: Vec<_> =
        timeline.lanes.iter().enumerate().flat_map(|(index, lane)| of_lane(scenario, index, lane)).collect();
    listed.sort_by(|a, b| a.mark.at.total_cmp(&b.mark.at));
    let left_out: usize = timeline.lanes.iter().map(left_out).sum();
    html! {
        details.events {
            summary { "Events " span.count { (listed.len()) } }
            div.filters hidden {
                @for kind in MarkKind::ALL {
                    label { input type="checkbox" value=(class(kind)) checked[kind != MarkKind::Console]; (kind.label()) }
                }
                select aria-label="whose" {
                    option value="" { "all" }
                    @for lane in &timeline.lanes { option { (who(lane)) } }
                }
                input type="search" placeholder="contains …" aria-label="text that events must contain";
            }
            div.rows tabindex="0" {
                table {
                    tbody {
                        @for one in &listed {
                            tr.(class(one.mark.kind)) .bad[one.mark.bad] id=(one.id) data-at=(format!("{:.3}", one.mark.at)) {
                                td.number { (format!("{:.1}", one.mark.at)) }
                                td { (one.who) }
                                td { (one.mark.kind.label()) }
                                td.said { bdi { (one.mark.text) } }
                            }
                        }
                    }
                }
            }
            @if left_out > 0 {
                p.small { (left_out) " console lines in the middle are not listed; console.log of each node has them all." }
            }
        }
    }
}

fn who(lane: &Lane) -> &str {
    lane.node.as_ref().map_or("cluster", |node| node.name.as_str())
}

fn consoles(lane: &Lane) -> usize {
    lane.marks.iter().filter(|mark| mark.kind == MarkKind::Console).count()
}

fn left_out(lane: &Lane) -> usize {
    consoles(lane).saturating_sub(FIRST + LAST)
}

fn of_lane(scenario: usize, index: usize, lane: &Lane) -> Vec<Listed<'_>> {
    let (last, mut console) = (consoles(lane).saturating_sub(LAST), 0);
    let mut listed = Vec::new();
    for (place, mark) in lane.marks.iter().enumerate() {
        if mark.kind == MarkKind::Console {
            console += 1;
            if console > FIRST && console <= last {
                continue;
            }
        }
        listed.push(Listed { id: id(scenario, index, place), who: who(lane), mark });
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_console_the_beginning_and_the_end_are_listed() {
        let mark =
            |n: u32| Mark { at: f64::from(n), kind: MarkKind::Console, bad: false, text: n.to_string() };
        let lane = |lines| Lane { marks: (1..=lines).map(mark).collect(), ..Lane::default() };
        let long = lane(1000);
        let listed = of_lane(0, 0, &long);
        assert_eq!((listed.len(), left_out(&long)), (FIRST + LAST, 1000 - FIRST - LAST));
        assert_eq!((listed[FIRST - 1].mark.at, listed[FIRST].mark.at), (120.0, 771.0));
        let short = lane(350);
        assert_eq!((of_lane(0, 0, &short).len(), left_out(&short)), (350, 0));
    }
}
