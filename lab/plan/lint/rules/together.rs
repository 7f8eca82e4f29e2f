//! Rules for values that all configs of one cluster must share.

use std::net::IpAddr;

use lab_model::{
    Diagnostic, Severity,
    yaml::{YamlNode, YamlValue},
};

use super::{super::config_set::ConfigSet, placeholders::is_template};
use crate::user_config::endpoint_host;

/// A shared value, as a rule and its paths.
struct Common {
    rule: &'static str,
    path: &'static [&'static str],
    consequence: &'static str,
    help: &'static str,
    /// Whether messages may show the values.
    public: bool,
    /// Whether no cluster works with different values.
    certain: bool,
}

const SAME_BUNDLE: &str = "generate all configs of the cluster from one secrets bundle";

const COMMON: [Common; 9] = [
    Common {
        rule: "networks-differ",
        path: &["cluster", "network", "serviceSubnets"],
        consequence: "kube-proxy, the API server and cluster DNS will not agree on service addresses",
        help: "write the same networks into the configs of all nodes",
        public: true,
        certain: true,
    },
    Common {
        rule: "networks-differ",
        path: &["cluster", "network", "podSubnets"],
        consequence: "pods of some nodes will not be reached",
        help: "write the same networks into the configs of all nodes",
        public: true,
        certain: true,
    },
    Common {
        rule: "networks-differ",
        path: &["cluster", "network", "dnsDomain"],
        consequence: "names of services will not be found on some nodes",
        help: "write the same domain into the configs of all nodes",
        public: true,
        certain: true,
    },
    Common {
        rule: "clusters-differ",
        path: &["cluster", "controlPlane", "endpoint"],
        consequence: "if they do not lead to the same API server, the nodes join different clusters",
        help: "write the same endpoint into the configs of all nodes, or check that both lead to this cluster",
        public: true,
        certain: false,
    },
    Common {
        rule: "clusters-differ",
        path: &["machine", "ca", "crt"],
        consequence: "the nodes do not trust each other: \"x509: certificate signed by unknown authority\"",
        help: SAME_BUNDLE,
        public: false,
        certain: true,
    },
    Common {
        rule: "clusters-differ",
        path: &["cluster", "ca", "crt"],
        consequence: "kubelet does not trust the API server: \"x509: certificate signed by unknown authority\"",
        help: SAME_BUNDLE,
        public: false,
        certain: true,
    },
    Common {
        rule: "clusters-differ",
        path: &["machine", "token"],
        consequence: "trustd refuses the worker a certificate, and its API stays closed",
        help: SAME_BUNDLE,
        public: false,
        certain: true,
    },
    Common {
        rule: "clusters-differ",
        path: &["cluster", "token"],
        consequence: "the API server refuses kubelet's first request: \"Unauthorized\"",
        help: SAME_BUNDLE,
        public: false,
        certain: true,
    },
    Common {
        rule: "clusters-differ",
        path: &["cluster", "id"],
        consequence: "discovery does not find the other nodes",
        help: SAME_BUNDLE,
        public: false,
        certain: true,
    },
];

/// Compares each config with the first config that contains a value.
pub fn together(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for common in &COMMON {
        let name = common.path.join(".");
        let mut first = None;
        for (file, config) in set.machines() {
            let Some(node) = config.get(common.path) else { continue };
            let value = if common.certain { written(node) } else { endpoint(&written(node)) };
            // Another rule reports placeholders for missing values.
            if value.is_empty() || is_template(&value) {
                continue;
            }
            let Some((first_file, first_value)) = &first else {
                first = Some((file, value));
                continue;
            };
            if *first_value == value {
                continue;
            }
            let (here, there) = if common.public {
                (format!(" ({value})"), format!(" ({first_value})"))
            } else {
                (String::new(), String::new())
            };
            findings.push(file.finding(
                if common.certain { Severity::Error } else { Severity::Warning },
                common.rule,
                node.position,
                format!("{name}{here} differs from {}{there}; {}", first_file.name, common.consequence),
                common.help,
            ));
        }
    }
}

/// Returns a spelling of an endpoint for comparison.
fn endpoint(url: &str) -> String {
    let url = url.trim_end_matches('/').to_ascii_lowercase();
    match endpoint_host(&url).and_then(|host| Some((host, host.parse::<IpAddr>().ok()?))) {
        Some((host, address)) => url.replacen(host, &address.to_string(), 1),
        None => url,
    }
}

/// Renders a value as text for comparison.
fn written(node: &YamlNode) -> String {
    match &node.value {
        YamlValue::Scalar { text, .. } => text.trim().to_owned(),
        YamlValue::List(items) => items.iter().map(written).collect::<Vec<_>>().join(", "),
        YamlValue::Map(entries) => entries
            .iter()
            .map(|entry| format!("{}: {}", entry.key, written(&entry.node)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
