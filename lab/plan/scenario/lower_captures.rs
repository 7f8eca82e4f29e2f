//! Lowers the links with frame capture.

use lab_model::{Diagnostic, network::Link};

use super::{lowering::Lowering, raw::RawScenario};
use crate::cluster::ClusterSpec;

/// Returns the links with frame capture.
pub(super) fn lower_captures(
    lowering: &mut Lowering<'_>,
    raw: &RawScenario,
    cluster: &ClusterSpec,
) -> Vec<Link> {
    let mut links = Vec::new();
    for text in &raw.captures {
        let link = match text.value.as_str() {
            "uplink" => Some(Link::Uplink),
            _ => lowering.node(text, cluster).map(Link::Node),
        };
        match link {
            Some(link) if links.contains(&link) => {
                lowering.report(
                    Diagnostic::at(text, format!("{link} is captured twice")).help("name a link once"),
                );
            }
            link => links.extend(link),
        }
    }
    links
}
