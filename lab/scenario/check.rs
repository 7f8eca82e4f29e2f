//! What the lab knows of a check before anything boots: how scenario files spell it, its parameters, its words, and
//! what it needs.
//!
//! A check is a type that implements [`CheckKind`]. The reader of scenario files knows no check by name. It is given
//! a table of [`CheckDefinition`]s, and hands out each check behind [`PlannedCheck`] or a trait that extends it; what
//! looks at a live cluster is such a trait.

use std::{collections::BTreeSet, fmt, sync::Arc};

use lab_model::node::NodeName;
use lab_plan::cluster::ClusterSpec;
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

/// A kind of check. What implements it are the parameters of the check, read and found right.
pub trait CheckKind: Serialize + fmt::Debug + Send + Sync + Sized + 'static {
    /// The name in scenario files.
    const NAME: &'static str;

    /// The parameters as scenario files spell them. It derives `Deserialize` with `deny_unknown_fields`; text that may
    /// be wrong is [`super::Text`], so that an error can point at it. A check whose parameters all have defaults may
    /// be written as its name alone.
    type Written: DeserializeOwned;

    /// The check with these parameters, or `None` when a problem with them was reported to `context`.
    fn read(written: Self::Written, context: &mut CheckContext<'_, '_>) -> Option<Self>;

    /// GIVEN, WHEN and THEN, unless the scenario has its own words.
    fn words(&self, cluster: &ClusterSpec) -> Words;

    /// The nodes that the check names.
    fn nodes(&self) -> Vec<&NodeName> {
        Vec::new()
    }

    /// The container images of the workloads that it starts.
    fn images(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a node has restarted once it is done.
    fn restarts_nodes(&self) -> bool {
        false
    }

    /// The node whose boot may be held up by an extension service when the check begins.
    fn held_node(&self) -> Option<&NodeName> {
        None
    }
}

/// A check of a scenario, of whatever kind: what [`CheckKind`] says of it.
pub trait PlannedCheck: fmt::Debug + Send + Sync {
    /// See [`CheckKind::NAME`].
    fn name(&self) -> &'static str;
    /// Its parameters; `None` when it has none.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    fn parameters(&self) -> Result<Option<serde_json::Value>, serde_json::Error>;
    /// See [`CheckKind::words`].
    fn words(&self, cluster: &ClusterSpec) -> Words;
    /// See [`CheckKind::nodes`].
    fn nodes(&self) -> Vec<&NodeName>;
    /// See [`CheckKind::images`].
    fn images(&self) -> &'static [&'static str];
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

    fn nodes(&self) -> Vec<&NodeName> {
        CheckKind::nodes(self)
    }

    fn images(&self) -> &'static [&'static str] {
        CheckKind::images(self)
    }

    fn restarts_nodes(&self) -> bool {
        CheckKind::restarts_nodes(self)
    }

    fn held_node(&self) -> Option<&NodeName> {
        CheckKind::held_node(self)
    }
}

/// A line of the table of checks: the name of a kind of check, and how its parameters are read. `C` is the trait
/// behind which checks are handed out.
pub struct CheckDefinition<C: ?Sized> {
    /// See [`CheckKind::NAME`].
    pub name: &'static str,
    /// The keys of the parameters.
    pub(super) keys: fn() -> BTreeSet<&'static str>,
    pub(super) read: CheckReader<C>,
}

impl<C: ?Sized> CheckDefinition<C> {
    /// The line of a kind of check. `read` calls [`Parameters::read`] for it.
    pub const fn new<K: CheckKind>(read: CheckReader<C>) -> Self {
        Self { name: K::NAME, keys: words_of::<K::Written>, read }
    }
}

/// The words in which a check is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The state that is assumed.
    pub given: String,
    /// What is done.
    pub when: String,
    /// What must then be true.
    pub then: String,
}

impl Words {
    /// The three parts.
    pub fn new(given: impl Into<String>, when: impl Into<String>, then: impl Into<String>) -> Self {
        Self { given: given.into(), when: when.into(), then: then.into() }
    }

    /// How many nodes the cluster has, as "3 nodes".
    pub fn count_nodes(cluster: &ClusterSpec) -> String {
        match cluster.nodes.len() {
            1 => "1 node".to_owned(),
            count => format!("{count} nodes"),
        }
    }

    /// The words for a formed cluster.
    pub fn formed(cluster: &ClusterSpec) -> String {
        format!("a cluster formed of {}", Self::count_nodes(cluster))
    }
}

impl fmt::Display for Words {
    /// GIVEN … WHEN … THEN, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GIVEN {} WHEN {} THEN {}", self.given, self.when, self.then)
    }
}

/// A check of a scenario with its identifier and its words.
#[derive(Debug)]
pub struct CheckSpec<C: ?Sized> {
    /// Unique in the scenario; the `check` of events and reports.
    pub id: String,
    /// The check.
    pub check: Arc<C>,
    /// GIVEN, WHEN and THEN.
    pub words: Words,
}

impl<C: ?Sized> CheckSpec<C> {
    /// GIVEN … WHEN … THEN, in one line.
    pub fn title(&self) -> String {
        self.words.to_string()
    }
}

impl<C: ?Sized> Clone for CheckSpec<C> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), check: Arc::clone(&self.check), words: self.words.clone() }
    }
}

impl<C: PlannedCheck + ?Sized> Serialize for CheckSpec<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut spec = serializer.serialize_struct("CheckSpec", 5)?;
        spec.serialize_field("id", &self.id)?;
        spec.serialize_field("check", &NameAndParameters(&*self.check))?;
        spec.serialize_field("given", &self.words.given)?;
        spec.serialize_field("when", &self.words.when)?;
        spec.serialize_field("then", &self.words.then)?;
        spec.end()
    }
}

/// A check as a variant of all checks, by its name.
struct NameAndParameters<'a, C: ?Sized>(&'a C);

impl<C: PlannedCheck + ?Sized> Serialize for NameAndParameters<'_, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parameters().map_err(S::Error::custom)? {
            None => serializer.serialize_unit_variant("Check", 0, self.0.name()),
            Some(parameters) => serializer.serialize_newtype_variant("Check", 0, self.0.name(), &parameters),
        }
    }
}

/// How a check is read from its entry.
pub type ReadCheck<C> = Box<dyn FnOnce(&mut CheckContext<'_, '_>) -> Option<Arc<C>>>;

impl Parameters<'_> {
    /// Reads the parameters of a check of the kind `K`, which `erase` hides behind `C`.
    ///
    /// # Errors
    /// When they do not have the form of [`CheckKind::Written`].
    pub fn read<K: CheckKind, C: ?Sized + 'static>(
        &self,
        erase: fn(K) -> Arc<C>,
    ) -> Result<ReadCheck<C>, serde_saphyr::Error> {
        let written = self.written::<K::Written>(K::NAME)?;
        Ok(Box::new(move |context| K::read(written, context).map(erase)))
    }
}
