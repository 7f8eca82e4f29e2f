//! Validates references in check parameters, and collects problems.

use std::{fmt::Display, path::Path, str::FromStr, time::Duration};

use lab_model::{
    Diagnostic,
    node::{Kind, NodeName, Role},
};
use serde_saphyr::Spanned;

use super::{
    lowering::Lowering,
    raw::{RawPatch, Text},
    raw_check::RawCheck,
};
use crate::cluster::{ClusterSpec, Manifest, Patch};

/// The cluster of the scenario, and the problems so far. A method that returns `None` has reported a
/// problem.
pub struct CheckContext<'a, 'b> {
    lowering: &'a mut Lowering<'b>,
    cluster: &'a ClusterSpec,
    entry: &'a Spanned<RawCheck>,
}

impl<'a, 'b> CheckContext<'a, 'b> {
    pub(super) fn new(
        lowering: &'a mut Lowering<'b>,
        cluster: &'a ClusterSpec,
        entry: &'a Spanned<RawCheck>,
    ) -> Self {
        Self { lowering, cluster, entry }
    }

    /// Returns a problem at the place of the check.
    pub fn at_check(&self, message: &str) -> Diagnostic {
        Diagnostic::at(self.entry, message)
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

    /// Returns the objects of a manifest file. `path` is the path from the directory of the scenario, and `place` the
    /// text that refers to the file.
    pub fn manifests(&mut self, place: &Text, path: &str) -> Option<Vec<Manifest>> {
        let manifests = self.lowering.manifests(place, path);
        (!manifests.is_empty()).then_some(manifests)
    }

    /// Returns the path and the text of a file. `path` is the path from the directory of the scenario, `place` the text
    /// that refers to the file, and `what` its purpose.
    pub fn file(&mut self, place: &Text, path: &str, what: &str) -> Option<(String, String)> {
        self.lowering.named_file(place, path, what)
    }

    /// Returns the directory of the scenario.
    pub fn directory(&self) -> &Path {
        self.lowering.directory
    }

    /// Returns an optional time limit in seconds on the reference host.
    pub fn limit(&mut self, written: Option<&Spanned<f64>>) -> Option<Option<Duration>> {
        match written {
            None => Some(None),
            Some(seconds) => self.lowering.seconds(seconds).map(Some),
        }
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
