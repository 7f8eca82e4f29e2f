//! What the parameters of a check may refer to, and where problems with them are reported.

use std::{fmt::Display, str::FromStr};

use lab_model::{
    Diagnostic,
    node::{Kind, NodeName, Role},
};
use serde_saphyr::Spanned;

use super::{
    lowering::Lowering,
    raw::{RawPatch, Text},
};
use crate::cluster::{ClusterSpec, Patch};

/// The cluster of the scenario, and its problems so far. A method that returns `None` has reported one.
pub struct CheckContext<'a, 'b> {
    lowering: &'a mut Lowering<'b>,
    cluster: &'a ClusterSpec,
}

impl<'a, 'b> CheckContext<'a, 'b> {
    pub(super) fn new(lowering: &'a mut Lowering<'b>, cluster: &'a ClusterSpec) -> Self {
        Self { lowering, cluster }
    }

    /// The cluster that the check looks at.
    pub fn cluster(&self) -> &'a ClusterSpec {
        self.cluster
    }

    /// Reports a problem; the check is not read.
    pub fn report(&mut self, problem: Diagnostic) {
        self.lowering.report(problem);
    }

    /// The node of this name.
    pub fn node(&mut self, name: &Text) -> Option<NodeName> {
        self.lowering.node(name, self.cluster)
    }

    /// The nodes of these names.
    pub fn nodes(&mut self, names: &[Text]) -> Option<Vec<NodeName>> {
        names.iter().map(|name| self.node(name)).collect()
    }

    /// Whether a node is a control plane.
    pub fn is_control_plane(&self, node: &NodeName) -> bool {
        self.cluster.node(node).is_some_and(|spec| spec.kind == Kind::ControlPlane)
    }

    /// The role of this name, which a node has.
    pub fn role(&mut self, name: &Text) -> Option<Role> {
        self.lowering.role(name, self.cluster)
    }

    /// The patch, or the document, that is written or whose file is named.
    pub fn patch(&mut self, written: &Spanned<RawPatch>) -> Option<Patch> {
        self.lowering.patch(written)
    }

    /// A text as the type that it must be, if it is given.
    pub fn parsed<T>(&mut self, text: Option<&Text>) -> Option<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        match text {
            None => Some(None),
            Some(text) => self.lowering.parsed(text).map(Some),
        }
    }
}
