//! The checks of a scenario file, and what each may be told.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::Spanned;

use super::{super::check::Disturbance, RawPatch, Text};

/// A check: its name alone, or a mapping with its name as one of the keys.
#[derive(Debug)]
pub(in crate::scenario) enum RawCheck {
    Bare(String),
    Full(Box<RawCheckKeys>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::scenario) struct RawCheckKeys {
    pub id: Option<Text>,
    pub given: Option<String>,
    pub when: Option<String>,
    pub then: Option<String>,
    pub layers_green: Option<RawNothing>,
    pub architecture: Option<RawArchitecture>,
    pub no_tailscale: Option<RawNoTailscale>,
    pub pod_network: Option<RawPodNetwork>,
    pub power_cycle: Option<RawPowerCycle>,
    pub roles: Option<RawNothing>,
    pub wasm: Option<RawNothing>,
    pub kernel_modules: Option<RawKernelModules>,
    pub boot_hold: Option<RawBootHold>,
    pub link_cut: Option<RawLinkCut>,
    pub partition: Option<RawPartition>,
    pub link_shape: Option<RawLinkShape>,
    pub tailnet_routing: Option<RawNothing>,
    pub tailnet_recovery: Option<RawTailnetRecovery>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawTailnetRecovery {
    pub after: Vec<Disturbance>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawNoTailscale {
    pub role: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawKernelModules {
    pub names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawBootHold {
    pub node: Text,
    pub ends: RawHoldEnd,
    #[serde(default)]
    pub document: Option<Spanned<RawPatch>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::scenario) enum RawHoldEnd {
    Release,
    Reboot,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawLinkCut {
    pub node: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawPartition {
    pub groups: Spanned<Vec<Vec<Text>>>,
    #[serde(default)]
    pub uplink: RawUplink,
    #[serde(rename = "for")]
    pub lasts: Option<Spanned<u32>>,
}

/// Who keeps the way to the host: `all`, or a list of nodes.
#[derive(Debug, Default)]
pub(in crate::scenario) enum RawUplink {
    #[default]
    All,
    Nodes(Vec<Text>),
}

impl<'de> Deserialize<'de> for RawUplink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UplinkVisitor;

        impl<'de> Visitor<'de> for UplinkVisitor {
            type Value = RawUplink;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, or a list of the nodes that keep the uplink")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RawUplink, E> {
                match word {
                    "all" => Ok(RawUplink::All),
                    _ => Err(E::unknown_variant(word, &["all"])),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<RawUplink, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(list)).map(RawUplink::Nodes)
            }
        }

        deserializer.deserialize_any(UplinkVisitor)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawLinkShape {
    pub node: Text,
    pub delay: Option<Text>,
    pub jitter: Option<Text>,
    pub loss: Option<Text>,
    pub rate: Option<Text>,
    pub seed: Option<u64>,
}

/// A check without parameters, written `{}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::scenario) struct RawNothing {}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawArchitecture {
    pub is: Option<RawArchitectureName>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::scenario) enum RawArchitectureName {
    Arm64,
    Amd64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawPodNetwork {
    pub service: Option<bool>,
    pub dns: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::scenario) struct RawPowerCycle {
    pub node: Text,
}

impl<'de> Deserialize<'de> for RawCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CheckVisitor;

        impl<'de> Visitor<'de> for CheckVisitor {
            type Value = RawCheck;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a check or a mapping with the name of a check as a key")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<RawCheck, E> {
                Ok(RawCheck::Bare(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawCheck, A::Error> {
                RawCheckKeys::deserialize(MapAccessDeserializer::new(map)).map(|k| RawCheck::Full(k.into()))
            }
        }

        deserializer.deserialize_any(CheckVisitor)
    }
}
