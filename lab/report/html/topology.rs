//! The picture of the cluster: the switch, its nodes, and the tailnet if there is one.

use lab_model::node::Kind;
use maud::{Markup, html};

use crate::timeline::Timeline;

/// Units of the drawing; a phone shows it almost at this size.
const WIDTH: u32 = 440;
const TOP: u32 = 86;
const NODE: u32 = 62;
/// The positions of the LAN and of the nodes.
const LAN: u32 = 46;
const LEFT: u32 = 96;

/// The picture; `None` if the cluster was never planned.
pub(super) fn picture(timeline: &Timeline) -> Option<Markup> {
    let nodes: Vec<_> = timeline.nodes().map(|(node, _)| node).collect();
    if nodes.is_empty() {
        return None;
    }
    let count = u32::try_from(nodes.len()).unwrap_or(0);
    let network = timeline.network.as_ref();
    let tailnet = network.and_then(|network| network.tailnet.as_deref());
    let bottom = TOP + count * NODE;
    let height = bottom + if tailnet.is_some() { 88 } else { 8 };
    let gateway = nodes.iter().position(|node| node.role.is_gateway());
    let gateway = gateway.and_then(|index| u32::try_from(index).ok());
    Some(html! {
        svg.topology viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label="The cluster's machines and networks" {
            // The switch and the LAN.
            line.lan x1=(LAN) y1="60" x2=(LAN) y2=(bottom - NODE / 2 - 4) {}
            g.switch {
                rect x="4" y="6" width="262" height="54" rx="8" {}
                text.head x="18" y="28" { "switch" }
                text x="18" y="48" {
                    @match network {
                        Some(network) => { (network.lan) ", gateway " (network.gateway) },
                        None => "the lab's LAN",
                    }
                }
            }
            @for (index, node) in (0..).zip(&nodes) {
                @let y = TOP + index * NODE;
                line.lan x1=(LAN) y1=(y + 27) x2=(LEFT) y2=(y + 27) {}
                circle.port cx=(LAN) cy=(y + 27) r="4" {}
                g.node .control-plane[node.kind == Kind::ControlPlane] .gateway[node.role.is_gateway()] {
                    rect x=(LEFT) y=(y) width="250" height="54" rx="8" {}
                    text.head x=(LEFT + 14) y=(y + 22) { (node.name) }
                    text x=(LEFT + 14) y=(y + 42) { (node.kind) ", " (node.role) }
                    text.address x=(LEFT + 238) y=(y + 22) { (node.address) }
                }
            }
            @if let Some(whose) = tailnet {
                @if let Some(index) = gateway {
                    @let y = TOP + index * NODE + 27;
                    path.tunnel d=(format!("M{} {y}h34v{}h-24", LEFT + 250, bottom + 44 - y)) {}
                    text.small-text x=(LEFT + 288) y=(y + 4) { "tunnel" }
                }
                g.tailnet {
                    rect x=(LEFT) y=(bottom + 12) width="262" height="64" rx="30" {}
                    text.head x=(LEFT + 26) y=(bottom + 38) { "tailnet" }
                    text x=(LEFT + 26) y=(bottom + 58) { (whose) }
                }
            }
        }
    })
}
