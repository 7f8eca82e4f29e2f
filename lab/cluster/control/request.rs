//! Requests to a running lab.

use std::path::PathBuf;

use lab_model::{
    network::{Impairment, Link, Partition},
    node::NodeName,
};
use serde::{Deserialize, Serialize};

/// The maximum length of a request line in bytes.
pub const LONGEST_REQUEST: usize = 64 << 10;

/// A request, as a line of JSON: `{"do":"cut","link":"worker-1"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Returns the state of the nodes and links.
    Status,
    /// Cuts a link.
    Cut {
        /// The link to cut.
        link: Link,
    },
    /// Restores a link, or all links.
    Restore {
        /// The link to restore. Without it, all links.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<Link>,
    },
    /// Adds delay or loss to a link, or limits its rate.
    Shape {
        /// The link to shape.
        link: Link,
        impairment: Impairment,
    },
    /// Partitions the LAN.
    Partition {
        /// The groups of nodes.
        partition: Partition,
    },
    /// Ends the partition.
    Heal,
    /// Starts the capture of a link.
    CaptureStart {
        /// The link to capture.
        link: Link,
        /// The capture file. Without it, a file in the run's directory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
        /// The maximum size of the file in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// Stops the capture of a link.
    CaptureStop {
        /// The captured link.
        link: Link,
    },
    /// Stops a node's CPUs.
    Pause {
        /// The node to pause.
        node: NodeName,
    },
    /// Resumes a node's CPUs.
    Resume {
        /// The node to resume.
        node: NodeName,
    },
    /// Kills a node's QEMU to simulate a crash.
    Kill {
        /// The node to kill.
        node: NodeName,
    },
    /// Reboots a node through its machine API, or else by a power cycle. Starts a new QEMU if none is
    /// running.
    Reboot {
        /// The node to reboot.
        node: NodeName,
    },
    /// Saves the current state of the cluster.
    Save {
        /// The name of the snapshot.
        name: NodeName,
        /// Whether the nodes stay paused, because the cluster is to end.
        #[serde(default)]
        stand_still: bool,
    },
    /// Sends input to a node's serial console.
    Type {
        /// The target node.
        node: NodeName,
        /// The input bytes.
        keys: Vec<u8>,
    },
}

/// The error for a line that is not a request.
#[derive(Debug, thiserror::Error)]
#[error("this is not a request: {source}; a request is one line of JSON, e.g. {{\"do\":\"status\"}}")]
pub struct InvalidRequest {
    #[from]
    source: serde_json::Error,
}

impl Request {
    /// Parses a line.
    ///
    /// # Errors
    /// When the line is not a request.
    pub fn parse(line: &[u8]) -> Result<Self, InvalidRequest> {
        Ok(serde_json::from_slice(line)?)
    }

    /// Returns the line, including the newline.
    pub fn to_line(&self) -> String {
        // Serialization to JSON cannot fail for these types.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use lab_model::network::{Delay, Loss, Rate, UplinkSide};

    fn node() -> impl Strategy<Value = NodeName> {
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?".prop_map(|name| NodeName::new(name).unwrap())
    }

    fn link() -> impl Strategy<Value = Link> {
        prop_oneof![Just(Link::Uplink), node().prop_map(|node| node.as_str().parse().unwrap())]
    }

    fn impairment() -> impl Strategy<Value = Impairment> {
        (0..60_000_u64, 0..=100_u32, proptest::option::of(1..1000_u64), any::<u64>()).prop_map(
            |(delay, loss, rate, seed)| Impairment {
                delay: Delay::millis(delay),
                jitter: Delay::millis(delay / 2),
                loss: Loss::percent(loss),
                rate: rate.map(Rate::megabits),
                seed,
            },
        )
    }

    fn partition() -> impl Strategy<Value = Partition> {
        let nodes = || proptest::collection::vec(node(), 0..4);
        let uplink =
            prop_oneof![Just(UplinkSide::All), Just(UplinkSide::None), nodes().prop_map(UplinkSide::Nodes)];
        (proptest::collection::vec(nodes(), 0..3), uplink)
            .prop_map(|(groups, uplink)| Partition { groups, uplink })
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Status),
            Just(Request::Heal),
            link().prop_map(|link| Request::Cut { link }),
            proptest::option::of(link()).prop_map(|link| Request::Restore { link }),
            (link(), impairment()).prop_map(|(link, impairment)| Request::Shape { link, impairment }),
            partition().prop_map(|partition| Request::Partition { partition }),
            (link(), proptest::option::of("/[a-zé ]{1,9}"), proptest::option::of(any::<u64>())).prop_map(
                |(link, file, limit)| Request::CaptureStart { link, file: file.map(PathBuf::from), limit }
            ),
            link().prop_map(|link| Request::CaptureStop { link }),
            node().prop_map(|node| Request::Pause { node }),
            node().prop_map(|node| Request::Resume { node }),
            node().prop_map(|node| Request::Kill { node }),
            node().prop_map(|node| Request::Reboot { node }),
            (node(), any::<Vec<u8>>()).prop_map(|(node, keys)| Request::Type { node, keys }),
        ]
    }

    proptest! {
        #[test]
        fn a_request_is_one_line_that_reads_back(request in request()) {
            let line = request.to_line();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(Request::parse(line.as_bytes()).unwrap(), request);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>()) {
            let _ = Request::parse(&bytes);
        }

        #[test]
        fn a_damaged_request_ends_without_a_panic(request in request(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut line = request.to_line().into_bytes();
            let at = at.index(line.len());
            line[at] = byte;
            let _ = Request::parse(&line);
        }
    }

    #[test]
    fn a_line_that_is_no_request_is_told_what_one_is() {
        for line in ["", "{}", r#"{"do":"fly"}"#, r#"{"do":"cut"}"#, r#"{"do":"cut","link":"Worker"}"#] {
            assert!(Request::parse(line.as_bytes()).is_err(), "{line}");
        }
        let error = Request::parse(br#"{"do":"cut","link":"worker-1","hard":true}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `hard`"), "{error}");
        let cut = Request::Cut { link: "worker-1".parse().unwrap() };
        assert_eq!(cut.to_line(), "{\"do\":\"cut\",\"link\":\"worker-1\"}\n");
    }
}
