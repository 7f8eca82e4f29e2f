//! One link of the LAN and what can be wrong with it, as plain data.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Delay, Loss, Rate};
use crate::node::{InvalidNodeName, NodeName};

/// The name of the link between the switch and the host.
pub const UPLINK: &str = "uplink";

/// A link: the cable between the switch and a node, or the one between the switch and the host. Written as the node's
/// name, or `uplink`, which is no node's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Link {
    /// A node's.
    Node(NodeName),
    /// The way to the host and to everything beyond the LAN.
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

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkFault {
    /// Frames are dropped both ways; the network card at its end still sees a carrier.
    Cut,
    /// Frames come late, slowly, or not all of them.
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

/// What a link does to the frames that pass, in each direction for itself: a delay of 50 ms adds 100 ms to a round trip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Impairment {
    /// How much later each frame arrives.
    pub delay: Delay,
    /// By how much the delay varies to either side, evenly spread. Frames may then overtake each other; without it
    /// they keep their order.
    pub jitter: Delay,
    /// Which share of frames is lost, each by its own throw of the dice.
    pub loss: Loss,
    /// How many bits a second pass. What would have to wait for more than half a second is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Where the dice begin: the same seed loses the same frames of the same sequence.
    pub seed: u64,
}

/// Why an impairment makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImpairmentError {
    /// It changes nothing.
    #[error("nothing would be different: give a delay, a loss or a rate")]
    Nothing,
    /// Frames would have to arrive before they are sent.
    #[error("a jitter of {jitter} needs a delay of at least as much, and it is {delay}")]
    Jitter {
        /// The jitter.
        jitter: Delay,
        /// The delay.
        delay: Delay,
    },
}

impl Impairment {
    /// Checks that it changes something and can be done.
    ///
    /// # Errors
    /// When it cannot, or changes nothing.
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
            "a jitter of 10ms needs a delay of at least as much, and it is 5ms"
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
