//! Validates references in check parameters, and collects problems.

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

/// The cluster of the scenario, and the problems so far. A method that returns `None` has reported a
/// problem.
pub struct CheckContext<'a, 'b> {
    lowering: &'a mut Lowering<'b>,
    cluster: &'a ClusterSpec,
}

impl<'a, 'b> CheckContext<'a, 'b> {
    pub(super) fn new(lowering: &'a mut Lowering<'b>, cluster: &'a ClusterSpec) -> Self {
        Self { lowering, cluster }
    }

    /// Returns the cluster under test.
    pub fn cluster(&self) -> &'a ClusterSpec {
        self.cluster
    }

    /// Reports a problem. The check is then discarded.
    pub fn report(&mut self, problem: Diagnostic) {
        self.lowering.report(problem);
    }

    /// Returns the node with the given name.
    pub fn node(&mut self, name: &Text) -> Option<NodeName> {
        self.lowering.node(name, self.cluster)
    }

    /// Returns the nodes with the given names.
    pub fn nodes(&mut self, names: &[Text]) -> Option<Vec<NodeName>> {
        names.iter().map(|name| self.node(name)).collect()
    }

    /// Returns whether a node is a control plane.
    pub fn is_control_plane(&self, node: &NodeName) -> bool {
        self.cluster.node(node).is_some_and(|spec| spec.kind == Kind::ControlPlane)
    }

    /// Returns the role with the given name. At least one node must have it.
    pub fn role(&mut self, name: &Text) -> Option<Role> {
        self.lowering.role(name, self.cluster)
    }

    /// Returns an inline patch or document, or reads it from a file.
    pub fn patch(&mut self, written: &Spanned<RawPatch>) -> Option<Patch> {
        self.lowering.patch(written)
    }

    /// Parses an optional text.
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
