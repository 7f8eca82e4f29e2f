//! Shared parts of all charts over time: a scale in percent, so that a chart can be widened without
//! redrawing, labels that stay visible, and the axis.

use maud::{Markup, html};

/// Converts seconds to positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) begin: f64,
    pub(super) end: f64,
}

/// Height of the axis, pixels.
pub(super) const AXIS: u32 = 22;
/// Number of labels on an axis that is not widened.
const LABELS: f64 = 7.0;
/// Suitable steps between labels, seconds.
const NICE: [f64; 14] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

impl Scale {
    /// The relative position, 0 to 1.
    pub(super) fn share(self, at: f64) -> f64 {
        let length = self.end - self.begin;
        if length > 0.0 { ((at - self.begin) / length).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// A position, as an attribute.
    pub(super) fn x(self, at: f64) -> String {
        percent(self.share(at))
    }

    /// A length, as an attribute.
    pub(super) fn width(self, from: f64, to: f64) -> String {
        percent((self.share(to) - self.share(from)).max(0.0))
    }

    /// The positions of the labels.
    pub(super) fn labels(self) -> Vec<f64> {
        let length = (self.end - self.begin).max(0.1);
        let step = NICE.into_iter().find(|step| length / step <= LABELS).unwrap_or(length / LABELS);
        let first = (self.begin / step).ceil();
        (0..).map(|n| (first + f64::from(n)) * step).take_while(|at| *at <= self.end).take(50).collect()
    }
}

fn percent(share: f64) -> String {
    format!("{:.3}%", share * 100.0)
}

/// One row of a chart: the label on the left, and the drawing with its height in pixels.
pub(super) struct Row {
    pub(super) name: Markup,
    pub(super) height: u32,
    pub(super) drawing: Markup,
}

/// A chart of rows, from top to bottom, over seconds.
pub(super) fn chart(scale: Scale, label: &str, rows: &[Row]) -> Markup {
    let labels: Vec<_> = scale.labels().into_iter().map(|at| (at, seconds(at))).collect();
    chart_with(scale, &labels, label, rows)
}

/// A chart of rows with these labels on its axis.
pub(super) fn chart_with(scale: Scale, labels: &[(f64, String)], label: &str, rows: &[Row]) -> Markup {
    let height = AXIS + rows.iter().map(|row| row.height).sum::<u32>();
    let tops = rows.iter().scan(AXIS, |top, row| {
        let mine = *top;
        *top += row.height;
        Some(mine)
    });
    html! {
        div.chart data-begin=(format!("{:.3}", scale.begin)) data-end=(format!("{:.3}", scale.end)) {
            div.names style=(format!("padding-top:{AXIS}px")) {
                @for row in rows {
                    div.name style=(format!("height:{}px", row.height)) { (row.name) }
                }
            }
            div.scroll tabindex="0" role="group" aria-label=(label) {
                svg.drawing width="100%" height=(height) role="img" aria-label=(label) {
                    @for (index, (row, top)) in rows.iter().zip(tops.clone()).enumerate() {
                        rect.band .odd[index % 2 == 1] x="0" y=(top) width="100%" height=(row.height) {}
                    }
                    g.axis {
                        @for (at, text) in labels {
                            line x1=(scale.x(*at)) x2=(scale.x(*at)) y1=(AXIS - 5) y2=(height) {}
                            text x=(scale.x(*at)) y="12" { (text) }
                        }
                    }
                    @for (row, top) in rows.iter().zip(tops) {
                        svg x="0" y=(top) width="100%" height=(row.height) { (row.drawing) }
                    }
                }
            }
        }
    }
}

/// Formats a position on the axis.
pub(super) fn seconds(at: f64) -> String {
    if (at - at.round()).abs() < 0.001 { format!("{at:.0} s") } else { format!("{at:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shares_of_the_whole_and_never_outside() {
        let scale = Scale { begin: 10.0, end: 30.0 };
        assert_eq!([scale.x(10.0), scale.x(25.0), scale.x(99.0)], ["0.000%", "75.000%", "100.000%"]);
        assert_eq!(scale.width(15.0, 20.0), "25.000%");
        let nothing = Scale { begin: 5.0, end: 5.0 };
        assert_eq!(nothing.x(5.0), "0.000%");
    }

    #[test]
    fn labels_are_round_and_few() {
        let labels = |begin, end| Scale { begin, end }.labels();
        assert_eq!(labels(0.0, 115.0), [0.0, 30.0, 60.0, 90.0]);
        assert_eq!(labels(3.0, 9.0), [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert!(labels(0.0, 1e6).len() <= 8);
    }
}
