//! The release file as written: one struct per mapping, strict, with positions of values that lowering validates.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawRelease {
    pub release: Text,
    pub previous: Option<Text>,
    pub registry: Option<Text>,
    #[serde(default)]
    pub also_from: Vec<Text>,
    pub talos: Option<Text>,
    #[serde(default)]
    pub roles: BTreeMap<String, RawRole>,
    #[serde(default)]
    pub boards: BTreeMap<String, RawBoard>,
    #[serde(default)]
    pub nodes: Vec<RawNode>,
    #[serde(default)]
    pub containers: RawContainers,
    #[serde(default)]
    pub documents: Vec<Text>,
    #[serde(default)]
    pub configs: BTreeMap<String, Vec<Text>>,
    pub provenance: Option<RawProvenance>,
    pub max_age_days: Option<Spanned<u32>>,
    #[serde(default)]
    pub accept: Vec<RawAcceptance>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawRole {
    pub extensions: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawBoard {
    #[serde(default)]
    pub device_trees: Vec<String>,
    #[serde(default)]
    pub overlays: Vec<String>,
    #[serde(default)]
    pub devices: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawNode {
    pub role: Text,
    pub variant: Option<Text>,
    pub board: Option<Text>,
    pub image: Option<Text>,
    pub installer: Option<Text>,
    pub matchbox: Option<Text>,
    pub raw: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawContainers {
    #[serde(default)]
    pub images: Vec<Text>,
    #[serde(default)]
    pub manifests: Vec<Text>,
    #[serde(default)]
    pub packages: Vec<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawProvenance {
    pub key: Text,
    #[serde(default)]
    pub require: Vec<RawProof>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawProof {
    Signatures,
    Attestations,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawAcceptance {
    pub rule: Text,
    #[serde(rename = "where")]
    pub place: Text,
    pub because: Text,
}
