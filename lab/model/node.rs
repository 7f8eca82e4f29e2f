//! Node names, kinds and roles. All other modules use these types.
//!
//! Role and kind are independent. The *role* selects the boot image (compute or gateway; the extensions of
//! the images differ). The *kind* selects the Kubernetes components (control plane or worker). A gateway
//! may be the only control plane.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of a node: an RFC 1123 DNS label. The lab uses it as host name, Kubernetes node name and file
/// name, so this type validates it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// The text is not a node name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{name}\" is not a node name: {reason}; use 1 to 63 of a-z, 0-9 and '-', not at either end")]
pub struct InvalidNodeName {
    name: String,
    reason: &'static str,
}

impl NodeName {
    /// Checks `name` against RFC 1123 (section 2.1). Kubernetes applies this rule to the first label of
    /// node names.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidNodeName> {
        let name = name.into();
        let reason = if name.is_empty() {
            Some("it is empty")
        } else if name.len() > 63 {
            Some("it is longer than 63 characters")
        } else if name.starts_with('-') || name.ends_with('-') {
            Some("it starts or ends with '-'")
        } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            Some("it has a character that host names do not allow")
        } else {
            None
        };
        match reason {
            Some(reason) => Err(InvalidNodeName { name, reason }),
            None => Ok(Self(name)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = InvalidNodeName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

impl TryFrom<String> for NodeName {
    type Error = InvalidNodeName;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Self::new(s)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

/// The Kubernetes components of a node; the value of `machine.type` in a Talos machine config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Runs etcd, API server, controller manager and scheduler.
    #[serde(rename = "controlplane")]
    ControlPlane,
    /// Runs only the kubelet and workloads.
    #[serde(rename = "worker")]
    Worker,
}

impl Kind {
    /// Returns the spelling in the Talos machine config.
    pub fn machine_type(self) -> &'static str {
        match self {
            Kind::ControlPlane => "controlplane",
            Kind::Worker => "worker",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::ControlPlane => "control plane",
            Kind::Worker => "worker",
        })
    }
}

/// The role of a node. It selects the boot image. Roles are data instead of an enum, because users add
/// variants (`compute` and `gateway` today).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Role(NodeName);

impl Role {
    /// The role without Tailscale in its image.
    pub const COMPUTE: &'static str = "compute";
    /// The role of the Tailscale subnet router.
    pub const GATEWAY: &'static str = "gateway";

    /// Creates a role. Role names follow the rules for node names.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidNodeName> {
        NodeName::new(name).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Reports whether this is the role of the Tailscale subnet router.
    pub fn is_gateway(&self) -> bool {
        self.as_str() == Self::GATEWAY
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Role {
    type Error = InvalidNodeName;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Self::new(s)
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.0.into()
    }
}
