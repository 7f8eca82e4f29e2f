//! Check definitions for planning: the name in scenario files, the parameters, the GIVEN/WHEN/THEN text
//! and the requirements.
//!
//! A check is a type that implements [`CheckKind`]. The reader of scenario files has no built-in checks.
//! It receives a table of [`CheckDefinition`]s, and returns each check as a [`PlannedCheck`] or as a
//! trait that extends it. The trait for checks against a live cluster is such an extension.

use std::{collections::BTreeSet, fmt, sync::Arc};

use lab_model::node::NodeName;
use serde::{
    Serialize, Serializer,
    de::DeserializeOwned,
    ser::{Error as _, SerializeStruct},
};

use super::{
    check_context::CheckContext,
    check_entry::{CheckReader, Parameters},
    vocabulary::words_of,
};
use crate::cluster::{ClusterSpec, Fault};

/// A kind of check. The implementing type holds the validated parameters.
pub trait CheckKind: Serialize + fmt::Debug + Send + Sync + Sized + 'static {
    /// The name in scenario files.
    const NAME: &'static str;

    /// The parameters as written in scenario files. The type derives `Deserialize` with
    /// `deny_unknown_fields`. Text that needs validation has the type [`super::Text`], so that errors
    /// have a position. If all parameters have defaults, a scenario file may contain only the name of the
    /// check.
    type Written: DeserializeOwned;

    /// Creates the check from its parameters. Returns `None` after it has reported a problem to
    /// `context`.
    fn read(written: Self::Written, context: &mut CheckContext<'_, '_>) -> Option<Self>;

    /// Returns the keys of the parameters. A type whose parameters can also be a text names them.
    fn keys() -> BTreeSet<&'static str> {
        words_of::<Self::Written>()
    }

    /// Returns the default GIVEN, WHEN and THEN text. A scenario can override it.
    fn words(&self, cluster: &ClusterSpec) -> Words;

    /// Returns whether the check runs programs on the host that the scenario names.
    fn runs_programs(&self) -> bool {
        false
    }

    /// Returns the nodes that the parameters refer to.
    fn nodes(&self) -> Vec<&NodeName> {
        Vec::new()
    }

    /// Returns the container images of the check's workloads.
    fn images(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Returns whether the check restarts a node.
    fn restarts_nodes(&self) -> bool {
        false
    }

    /// Returns the node with a boot sequence that an extension service may block at the start of the
    /// check.
    fn held_node(&self) -> Option<&NodeName> {
        None
    }
}

/// A check of a scenario, independent of its kind. The methods correspond to [`CheckKind`].
pub trait PlannedCheck: fmt::Debug + Send + Sync {
    /// See [`CheckKind::NAME`].
    fn name(&self) -> &'static str;
    /// Returns the parameters, or `None` if the check has none.
    ///
    /// # Errors
    /// Returns an error if the parameters cannot be serialized as JSON.
    fn parameters(&self) -> Result<Option<serde_json::Value>, serde_json::Error>;
    /// See [`CheckKind::words`].
    fn words(&self, cluster: &ClusterSpec) -> Words;
    /// See [`CheckKind::runs_programs`].
    fn runs_programs(&self) -> bool;
    /// See [`CheckKind::nodes`].
    fn nodes(&self) -> Vec<&NodeName>;
    /// See [`CheckKind::images`].
    fn images(&self) -> Vec<&str>;
    /// See [`CheckKind::restarts_nodes`].
    fn restarts_nodes(&self) -> bool;
    /// See [`CheckKind::held_node`].
    fn held_node(&self) -> Option<&NodeName>;
}

impl<K: CheckKind> PlannedCheck for K {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn parameters(&self) -> Result<Option<serde_json::Value>, serde_json::Error> {
        let value = serde_json::to_value(self)?;
        Ok(value.as_object().is_none_or(|keys| !keys.is_empty()).then_some(value))
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        CheckKind::words(self, cluster)
    }

    fn runs_programs(&self) -> bool {
        CheckKind::runs_programs(self)
    }

    fn nodes(&self) -> Vec<&NodeName> {
        CheckKind::nodes(self)
    }

    fn images(&self) -> Vec<&str> {
        CheckKind::images(self)
    }

    fn restarts_nodes(&self) -> bool {
        CheckKind::restarts_nodes(self)
    }

    fn held_node(&self) -> Option<&NodeName> {
        CheckKind::held_node(self)
    }
}

/// An entry in the table of checks: the name of a kind of check, and the reader of its parameters. `C` is
/// the trait object type of the checks.
pub struct CheckDefinition<C: ?Sized> {
    /// See [`CheckKind::NAME`].
    pub name: &'static str,
    /// The keys of the parameters.
    pub(super) keys: fn() -> BTreeSet<&'static str>,
    pub(super) read: CheckReader<C>,
}

impl<C: ?Sized> CheckDefinition<C> {
    /// Creates the entry for a kind of check. `read` calls [`Parameters::read`] for the kind.
    pub const fn new<K: CheckKind>(read: CheckReader<C>) -> Self {
        Self { name: K::NAME, keys: K::keys, read }
    }
}

/// The GIVEN/WHEN/THEN text of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// GIVEN: the state before the check.
    pub given: String,
    /// WHEN: the action of the check.
    pub when: String,
    /// The expected state.
    pub then: String,
}

impl Words {
    /// Creates the text from its three parts.
    pub fn new(given: impl Into<String>, when: impl Into<String>, then: impl Into<String>) -> Self {
        Self { given: given.into(), when: when.into(), then: then.into() }
    }

    /// Returns the number of nodes as text, e.g. "3 nodes".
    pub fn count_nodes(cluster: &ClusterSpec) -> String {
        match cluster.nodes.len() {
            1 => "1 node".to_owned(),
            count => format!("{count} nodes"),
        }
    }

    /// Returns the GIVEN text for a formed cluster.
    pub fn formed(cluster: &ClusterSpec) -> String {
        format!("a cluster formed of {}", Self::count_nodes(cluster))
    }
}

impl fmt::Display for Words {
    /// Writes GIVEN … WHEN … THEN in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GIVEN {} WHEN {} THEN {}", self.given, self.when, self.then)
    }
}

/// A check of a scenario with its identifier and its GIVEN/WHEN/THEN text.
#[derive(Debug)]
pub struct CheckSpec<C: ?Sized> {
    /// Identifier, unique in the scenario. Events and reports use it as `check`.
    pub id: String,
    pub check: Arc<C>,
    /// The GIVEN, WHEN and THEN text.
    pub words: Words,
    /// A fault that must make the check fail.
    pub fails_with: Option<Fault>,
}

impl<C: ?Sized> CheckSpec<C> {
    /// Returns GIVEN … WHEN … THEN in one line.
    pub fn title(&self) -> String {
        self.words.to_string()
    }
}

impl<C: ?Sized> Clone for CheckSpec<C> {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            check: Arc::clone(&self.check),
            words: self.words.clone(),
            fails_with: self.fails_with.clone(),
        }
    }
}

impl<C: PlannedCheck + ?Sized> Serialize for CheckSpec<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let length = 5 + usize::from(self.fails_with.is_some());
        let mut spec = serializer.serialize_struct("CheckSpec", length)?;
        spec.serialize_field("id", &self.id)?;
        spec.serialize_field("check", &NameAndParameters(&*self.check))?;
        spec.serialize_field("given", &self.words.given)?;
        spec.serialize_field("when", &self.words.when)?;
        spec.serialize_field("then", &self.words.then)?;
        match &self.fails_with {
            Some(fault) => spec.serialize_field("failsWith", fault)?,
            None => spec.skip_field("failsWith")?,
        }
        spec.end()
    }
}

/// Serializes a check as an enum variant, tagged with its name.
struct NameAndParameters<'a, C: ?Sized>(&'a C);

impl<C: PlannedCheck + ?Sized> Serialize for NameAndParameters<'_, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parameters().map_err(S::Error::custom)? {
            None => serializer.serialize_unit_variant("Check", 0, self.0.name()),
            Some(parameters) => serializer.serialize_newtype_variant("Check", 0, self.0.name(), &parameters),
        }
    }
}

/// A function that creates a check from its entry.
pub type ReadCheck<C> = Box<dyn FnOnce(&mut CheckContext<'_, '_>) -> Option<Arc<C>>>;

impl Parameters<'_> {
    /// Reads the parameters of a check of kind `K`. `erase` converts the check to `C`.
    ///
    /// # Errors
    /// Returns an error if the parameters do not match [`CheckKind::Written`].
    pub fn read<K: CheckKind, C: ?Sized + 'static>(
        &self,
        erase: fn(K) -> Arc<C>,
    ) -> Result<ReadCheck<C>, serde_saphyr::Error> {
        let written = self.written::<K::Written>(K::NAME)?;
        Ok(Box::new(move |context| K::read(written, context).map(erase)))
    }
}
