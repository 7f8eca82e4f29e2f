//! The scenario file as written: one struct per mapping, strict, with positions of values that later
//! steps validate.
//!
//! The rest of the lab uses `Scenario`. Check parameters may use [`Text`] and [`RawPatch`].

use std::{collections::BTreeMap, fmt};

use lab_model::{
    events::{Step, TurnedAway},
    node::Kind,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::Spanned;

use super::raw_check::RawCheck;
use crate::{
    cluster::{ControlServerState, ImageDelivery, KeyState, RouteApproval, StartOrder},
    config::{Profile, TalosContract},
    scenario::Start,
};

/// A text with its position in the file.
pub type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawScenario {
    pub name: Text,
    pub title: Option<String>,
    pub question: Option<String>,
    pub cluster: RawCluster,
    #[serde(default)]
    pub start: Start,
    #[serde(default)]
    pub captures: Vec<Text>,
    #[serde(default)]
    pub faults: Vec<Spanned<RawFault>>,
    #[serde(default)]
    pub checks: Vec<Spanned<RawCheck>>,
    pub expect: Option<RawExpect>,
    #[serde(default)]
    pub budgets: RawBudgets,
}

impl RawScenario {
    /// Adds the check `name` if the scenario has no checks.
    pub fn with_default_check(mut self, name: Option<&str>) -> Self {
        if let Some(name) = name.filter(|_| self.checks.is_empty()) {
            let nowhere = serde_saphyr::Location::UNKNOWN;
            self.checks.push(Spanned::new(RawCheck::Bare(name.to_owned()), nowhere, nowhere));
        }
        self
    }
}

/// Seconds on the reference host.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawBudgets {
    pub boot: Option<Spanned<f64>>,
    pub maintenance: Option<Spanned<f64>>,
    pub call: Option<Spanned<f64>>,
    pub secure_api: Option<Spanned<f64>>,
    pub kubernetes_api: Option<Spanned<f64>>,
    pub ready: Option<Spanned<f64>>,
    pub answer: Option<Spanned<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawCluster {
    pub name: Option<Text>,
    pub talos_contract: Option<TalosContract>,
    pub kubernetes_version: Option<Text>,
    #[serde(default)]
    pub network: RawNetwork,
    #[serde(default)]
    pub images: BTreeMap<String, Text>,
    pub nodes: Spanned<Vec<RawNode>>,
    pub gateways: Option<Spanned<usize>>,
    pub allow_scheduling_on_control_planes: Option<bool>,
    #[serde(default)]
    pub profile: Profile,
    #[serde(default)]
    pub configs: BTreeMap<Kind, Text>,
    pub talosconfig: Option<Text>,
    #[serde(default)]
    pub lab_patches: RawLabPatches,
    #[serde(default)]
    pub patches: RawPatches,
    #[serde(default)]
    pub late_documents: BTreeMap<String, Vec<Spanned<RawPatch>>>,
    pub roles: Option<BTreeMap<String, RawRoleRule>>,
    pub boot_timeout: Option<Spanned<u32>>,
    #[serde(default)]
    pub start_order: StartOrder,
    pub cni: Option<RawCni>,
    #[serde(default)]
    pub image_delivery: ImageDelivery,
    pub tailnet: Option<RawTailnet>,
}

/// A user's network plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCni {
    pub manifests: Vec<Text>,
}

/// `local`, or a mapping with settings.
#[derive(Debug)]
pub(super) struct RawTailnet {
    pub local: RawLocalTailnet,
}

impl<'de> Deserialize<'de> for RawTailnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TailnetVisitor;

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            local: RawLocalTailnet,
        }

        impl<'de> Visitor<'de> for TailnetVisitor {
            type Value = RawTailnet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`local`, or a mapping with the key `local`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RawTailnet, E> {
                match word {
                    "local" => Ok(RawTailnet { local: RawLocalTailnet::default() }),
                    _ => Err(E::unknown_variant(word, &["local"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTailnet, A::Error> {
                Keys::deserialize(MapAccessDeserializer::new(map))
                    .map(|keys| RawTailnet { local: keys.local })
            }
        }

        deserializer.deserialize_any(TailnetVisitor)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawLocalTailnet {
    pub document: Option<Spanned<RawPatch>>,
    #[serde(default)]
    pub approval: RouteApproval,
    #[serde(default)]
    pub key: KeyState,
    #[serde(default)]
    pub control_server: ControlServerState,
}

/// Disabled lab patches.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawLabPatches {
    #[serde(default)]
    pub on: Vec<Text>,
    #[serde(default)]
    pub off: Vec<Text>,
}

/// Required and forbidden extensions of a role's image.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawRoleRule {
    #[serde(default)]
    pub requires: Vec<String>,
    #[serde(default)]
    pub forbids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawNetwork {
    pub pods: Option<Text>,
    pub services: Option<Text>,
    pub lan: Option<Text>,
    pub dns_domain: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawNode {
    pub name: Text,
    pub kind: Kind,
    pub role: Option<Text>,
    pub count: Option<Spanned<usize>>,
    pub vcpus: Option<u32>,
    pub memory: Option<Text>,
    pub disk: Option<Text>,
    pub config: Option<Text>,
    #[serde(default)]
    pub patches: Vec<Spanned<RawPatch>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawPatches {
    #[serde(default)]
    pub all: Vec<Spanned<RawPatch>>,
    #[serde(default)]
    pub kinds: BTreeMap<Kind, Vec<Spanned<RawPatch>>>,
    #[serde(default)]
    pub roles: BTreeMap<String, Vec<Spanned<RawPatch>>>,
}

/// A file path, or an inline patch.
#[derive(Debug)]
pub enum RawPatch {
    File(String),
    Inline(serde_json::Value),
}

impl<'de> Deserialize<'de> for RawPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PatchVisitor;

        impl<'de> Visitor<'de> for PatchVisitor {
            type Value = RawPatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a patch file, a mapping that is the patch, or a list of operations")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<RawPatch, E> {
                Ok(RawPatch::File(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPatch, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(RawPatch::Inline)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<RawPatch, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(list)).map(RawPatch::Inline)
            }
        }

        deserializer.deserialize_any(PatchVisitor)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(super) enum RawFault {
    KernelPanic { node: Text },
    NoConfig { node: Text },
    ForeignToken { node: Text },
    LostDisk { node: Text },
    StuckLink { node: Text },
    OtherArchitecture { node: Text },
    WrongClock { node: Text },
    KillQemu { node: Text, at: Spanned<Step> },
    OtherImage { node: Text, role: Text },
    MissingExtension { node: Text, extension: Text },
    HostMemory { available: Text },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(super) enum RawExpect {
    Passes,
    Fails {
        step: Option<Step>,
        node: Option<Text>,
        check: Option<Text>,
        turned_away: Option<TurnedAway>,
        cause_contains: Option<RawWords>,
    },
    Refused {
        cause_contains: Option<RawWords>,
    },
}

/// One text or a list of texts.
#[derive(Debug)]
pub(super) struct RawWords(pub Vec<String>);

impl<'de> Deserialize<'de> for RawWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsVisitor;

        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = RawWords;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RawWords, E> {
                Ok(RawWords(vec![word.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<RawWords, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(RawWords(words))
            }
        }

        deserializer.deserialize_any(WordsVisitor)
    }
}
