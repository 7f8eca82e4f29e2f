//! Network links and link faults, as plain data.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Delay, Loss, Rate};
use crate::node::{InvalidNodeName, NodeName};

/// The name of the link between the switch and the host.
pub const UPLINK: &str = "uplink";

/// A link between the switch and a node, or between the switch and the host. The text form is the node
/// name, or `uplink` for the link to the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Link {
    Node(NodeName),
    /// The link to the host and to all networks outside the LAN.
    Uplink,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Uplink => f.pad(UPLINK),
        }
    }
}

impl FromStr for Link {
    type Err = InvalidNodeName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == UPLINK { Ok(Self::Uplink) } else { NodeName::new(text).map(Self::Node) }
    }
}

impl TryFrom<String> for Link {
    type Error = InvalidNodeName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Link> for String {
    fn from(link: Link) -> Self {
        link.to_string()
    }
}

impl From<&NodeName> for Link {
    fn from(node: &NodeName) -> Self {
        Self::Node(node.clone())
    }
}

/// A fault on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkFault {
    /// The link drops frames in both directions. The network card still reports a carrier.
    Cut,
    /// The link delays, throttles or drops some frames.
    Shaped(Impairment),
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("cut"),
            Self::Shaped(impairment) => write!(f, "shaped: {impairment}"),
        }
    }
}

/// Traffic shaping for a link. It applies to each direction separately: a delay of 50 ms adds 100 ms to a
/// round trip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Impairment {
    /// The added delay per frame.
    pub delay: Delay,
    /// The variation of the delay in both directions, uniformly distributed. Jitter can reorder frames;
    /// without jitter, frames keep their order.
    pub jitter: Delay,
    /// The share of lost frames. The loss of each frame is independent.
    pub loss: Loss,
    /// The bandwidth in bits per second. The link drops frames that would wait longer than half a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The seed for the random numbers. The same seed drops the same frames of the same sequence.
    pub seed: u64,
}

/// The reason an impairment is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImpairmentError {
    /// The impairment has no effect.
    #[error("the link would not change: give a delay, a loss or a rate")]
    Nothing,
    /// Frames would arrive before they are sent.
    #[error("the jitter {jitter} is larger than the delay {delay}; use a smaller jitter")]
    Jitter {
        jitter: Delay,
        /// The configured delay, smaller than the jitter.
        delay: Delay,
    },
}

impl Impairment {
    /// Checks that the impairment has an effect and is possible.
    ///
    /// # Errors
    /// Returns an error if the impairment is impossible or has no effect.
    pub fn check(&self) -> Result<(), ImpairmentError> {
        if self.jitter > self.delay {
            return Err(ImpairmentError::Jitter { jitter: self.jitter, delay: self.delay });
        }
        let same = self.delay.is_zero() && self.loss == Loss::default() && self.rate.is_none();
        if same { Err(ImpairmentError::Nothing) } else { Ok(()) }
    }
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.delay.is_zero() {
            let spread = if self.jitter.is_zero() { String::new() } else { format!(" ± {}", self.jitter) };
            parts.push(format!("delay {}{spread}", self.delay));
        }
        if self.loss != Loss::default() {
            parts.push(format!("loss {}", self.loss));
        }
        if let Some(rate) = self.rate {
            parts.push(format!("rate {rate}"));
        }
        if parts.is_empty() { f.write_str("nothing") } else { f.write_str(&parts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow() -> Impairment {
        Impairment {
            delay: Delay::millis(50),
            jitter: Delay::millis(10),
            loss: Loss::percent(2),
            rate: Some(Rate::megabits(10)),
            seed: 7,
        }
    }

    #[test]
    fn a_fault_reads_as_a_person_says_it() {
        assert_eq!(LinkFault::Shaped(slow()).to_string(), "shaped: delay 50ms ± 10ms, loss 2%, rate 10Mbit");
        assert_eq!(LinkFault::Cut.to_string(), "cut");
        assert_eq!(Impairment::default().to_string(), "nothing");
    }

    #[test]
    fn a_fault_survives_as_json_and_what_is_left_out_is_none() {
        let text = serde_json::to_string(&LinkFault::Shaped(slow())).unwrap();
        assert_eq!(
            text,
            r#"{"shaped":{"delay":"50ms","jitter":"10ms","loss":"2%","rate":"10Mbit","seed":7}}"#
        );
        assert_eq!(serde_json::from_str::<LinkFault>(&text).unwrap(), LinkFault::Shaped(slow()));
        assert_eq!(serde_json::from_str::<LinkFault>(r#""cut""#).unwrap(), LinkFault::Cut);
        let lossy: Impairment = serde_json::from_str(r#"{"loss":"1%"}"#).unwrap();
        assert_eq!(lossy, Impairment { loss: Loss::percent(1), ..Impairment::default() });
        assert!(serde_json::from_str::<Impairment>(r#"{"lossy":"1%"}"#).is_err());
    }

    #[test]
    fn what_cannot_be_done_or_changes_nothing_is_refused() {
        assert_eq!(slow().check(), Ok(()));
        assert_eq!(Impairment::default().check(), Err(ImpairmentError::Nothing));
        let backwards = Impairment { delay: Delay::millis(5), ..slow() };
        assert_eq!(
            backwards.check().unwrap_err().to_string(),
            "the jitter 10ms is larger than the delay 5ms; use a smaller jitter"
        );
    }

    #[test]
    fn the_uplink_is_a_link_and_no_node() {
        assert_eq!("uplink".parse(), Ok(Link::Uplink));
        assert_eq!("worker-1".parse(), Ok(Link::Node("worker-1".parse().unwrap())));
        assert!("Worker 1".parse::<Link>().is_err());
        assert_eq!(serde_json::to_string(&Link::Uplink).unwrap(), r#""uplink""#);
    }
}
