//! The user's own objects: applied, waited for, and removed.

use std::time::{Duration, Instant};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    kubernetes::{DEFAULT_NAMESPACE, KubernetesApi, KubernetesError},
    wait::Wait,
};
use lab_model::{Diagnostic, node::NodeName, words::choice};
use lab_plan::{
    cluster::{ClusterSpec, Manifest},
    own_checks::{Condition, ObjectKey, Unmet},
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_saphyr::Spanned;

use super::{CheckError, HostCheck, Observation, expression, host_view::HostView};

/// The time limit of a check without one of its own, on the reference host: as long as a node may take to be Ready.
const LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug, Serialize)]
pub struct Manifests {
    manifests: Vec<Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<NodeName>,
    until: Vec<Awaited>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Duration>,
    #[serde(skip)]
    images: Vec<String>,
}

/// An object and its condition.
#[derive(Debug, Serialize)]
struct Awaited {
    object: ObjectKey,
    condition: Condition,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    files: Vec<Text>,
    namespace: Option<Text>,
    #[serde(default)]
    until: Vec<Until>,
    limit: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Until {
    object: Text,
    is: Option<State>,
    cel: Option<Text>,
    json_path: Option<Text>,
    value: Option<Text>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Available,
    Complete,
    Exists,
}

impl CheckKind for Manifests {
    const NAME: &'static str = "manifests";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let mut manifests = Vec::new();
        for file in &written.files {
            manifests.extend(context.manifests(file, &file.value)?);
        }
        // A namespace has a name like a node (RFC 1123 label).
        let namespace = context.parsed(written.namespace.as_ref())?;
        let until = written.until.iter().map(|until| awaited(until, &manifests, context));
        let mut until = until.collect::<Option<Vec<_>>>()?;
        if written.until.is_empty() {
            until = manifests.iter().map(usual).collect();
        }
        if until.is_empty() {
            let problem = context.at_check("a check `manifests` names no file");
            context.report(problem.help("name one in `files`"));
            return None;
        }
        let limit = context.limit(written.limit.as_ref())?;
        let images = manifests.iter().flat_map(Manifest::images).collect();
        Some(Self { manifests, namespace, until, limit, images })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        let conditions: Vec<_> =
            self.until.iter().map(|awaited| format!("{} {}", awaited.object, awaited.condition)).collect();
        let count = self.manifests.len();
        let objects = if count == 1 { "1 object is".to_owned() } else { format!("{count} objects are") };
        Words::new(Words::formed(cluster), format!("{objects} applied"), conditions.join(", "))
    }

    fn images(&self) -> Vec<&str> {
        self.images.iter().map(String::as_str).collect()
    }
}

/// The condition of an object without one in the scenario.
fn usual(manifest: &Manifest) -> Awaited {
    let object = ObjectKey::of(manifest);
    let condition = Condition::usual(&object.kind).unwrap_or(Condition::Exists);
    Awaited { object, condition }
}

fn awaited(until: &Until, manifests: &[Manifest], context: &mut CheckContext<'_, '_>) -> Option<Awaited> {
    let keys: Vec<_> = manifests.iter().map(ObjectKey::of).collect();
    let Some(object) = keys.iter().find(|key| key.to_string() == until.object.value).cloned() else {
        let names: Vec<_> = keys.iter().map(ToString::to_string).collect();
        let message = format!("no manifest of this check has the object \"{}\"", until.object.value);
        let mut problem = Diagnostic::at(&until.object, message);
        problem.help = choice(&until.object.value, &names, "objects");
        context.report(problem);
        return None;
    };
    let expression = expression::Written {
        cel: until.cel.as_ref(),
        json_path: until.json_path.as_ref(),
        value: until.value.as_ref(),
    };
    let condition = match (until.is, expression.read("object", context)?) {
        (Some(State::Available), None) => Condition::Available,
        (Some(State::Complete), None) => Condition::Complete,
        (Some(State::Exists), None) => Condition::Exists,
        (None, Some(condition)) => condition,
        (None, None) => {
            let problem = Diagnostic::at(&until.object, "what the object must become is not said");
            context.report(problem.help("give `is` (available, complete, exists), `cel`, or `jsonPath`"));
            return None;
        }
        (Some(_), Some(_)) => {
            let problem = Diagnostic::at(&until.object, "`is` and an expression exclude each other");
            context.report(problem.help("give each an entry of its own"));
            return None;
        }
    };
    Some(Awaited { object, condition })
}

impl HostCheck for Manifests {
    fn judge<'a>(
        &'a self,
        host: &'a HostView,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        self.judge_from(host, seen).boxed()
    }
}

impl Manifests {
    async fn judge_from(&self, host: &HostView, seen: &mut Observation) -> Result<(), CheckError> {
        let limit = host.limit(self.limit, LIMIT);
        let objects = self.objects()?;
        let mut applied = Applied { api: &host.api, keys: Vec::new() };
        if let Err(error) = self.applied_and_awaited(&mut applied, &objects, limit, seen).await {
            seen.problem(error);
        }
        applied.remove(host.budgets.patience(), seen).await;
        Ok(())
    }

    /// The objects to apply, with the namespace of the check first.
    fn objects(&self) -> Result<Vec<Manifest>, CheckError> {
        let namespace = self.namespace.as_ref().map(|name| namespace(name.as_str())).transpose()?;
        Ok(namespace.into_iter().chain(self.manifests.iter().cloned()).collect())
    }

    fn default_namespace(&self) -> &str {
        self.namespace.as_ref().map_or(DEFAULT_NAMESPACE, NodeName::as_str)
    }

    async fn applied_and_awaited(
        &self,
        applied: &mut Applied<'_>,
        objects: &[Manifest],
        limit: Duration,
        seen: &mut Observation,
    ) -> Result<(), CheckError> {
        let began = Instant::now();
        for manifest in objects {
            applied.create(manifest, self.default_namespace(), limit.saturating_sub(began.elapsed())).await?;
        }
        seen.fact(format!("the API server accepted {} objects", objects.len()));
        for awaited in &self.until {
            let object = awaited.object.clone().or_in(self.default_namespace());
            let left = limit.saturating_sub(began.elapsed());
            let text = format!("{object} {}", awaited.condition);
            match until(applied.api, &object, &awaited.condition, left).await {
                Ok(()) => seen.fact(format!("{text} after {:.1} s", began.elapsed().as_secs_f64())),
                Err(Unmet::NotYet(cause)) => {
                    seen.problem(format!("not within {} s: {text}; last seen: {cause}", limit.as_secs()));
                }
                Err(Unmet::Never(cause)) => seen.problem(format!("{object}: {cause}")),
            }
        }
        Ok(())
    }
}

/// The object of a namespace.
pub(super) fn namespace(name: &str) -> Result<Manifest, CheckError> {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    match Manifest::new("the check", object) {
        Some(Ok(manifest)) => Ok(manifest),
        _ => Err(CheckError::seen(format!("{name} is not a namespace"))),
    }
}

/// Waits until an object meets a condition.
async fn until(
    api: &KubernetesApi,
    object: &ObjectKey,
    condition: &Condition,
    limit: Duration,
) -> Result<(), Unmet> {
    let look = async || match api.object(object).await {
        Ok(Some(found)) => condition.check(&found),
        Ok(None) => Err(Unmet::NotYet(format!("{object} does not exist"))),
        Err(error) => Err(Unmet::NotYet(error.to_string())),
    };
    let again = |unmet: &Unmet| matches!(unmet, Unmet::NotYet(_));
    Wait::up_to(limit).retry_if(again, look).await.map_err(|(_, unmet)| unmet)
}

/// The objects that a check created, in order.
pub(super) struct Applied<'a> {
    pub(super) api: &'a KubernetesApi,
    pub(super) keys: Vec<ObjectKey>,
}

impl Applied<'_> {
    /// Applies an object that does not exist yet: the check removes it at its end, and would remove that of somebody
    /// else.
    pub(super) async fn create(
        &mut self,
        manifest: &Manifest,
        namespace: &str,
        limit: Duration,
    ) -> Result<(), CheckError> {
        let key = ObjectKey::of(manifest).or_in(namespace);
        // An error is none: the kind may be defined by an object of the same check.
        if let Ok(Some(_)) = self.api.object(&key).await {
            let message = format!("{key} exists already; the check applies and removes only its own objects");
            return Err(CheckError::seen(message));
        }
        self.apply(manifest, namespace, limit).await
    }

    /// Applies an object. Repeats the request if another moment can bring another answer: a namespace gets its service
    /// account late, and a new kind is served late.
    pub(super) async fn apply(
        &mut self,
        manifest: &Manifest,
        namespace: &str,
        limit: Duration,
    ) -> Result<(), CheckError> {
        let key = ObjectKey::of(manifest).or_in(namespace);
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        let again = |error: &KubernetesError| !error.is_refusal() || error.is_forbidden();
        let attempt = || self.api.apply_in(manifest, namespace);
        let applied = Wait::up_to(limit).retry_if(again, attempt).await;
        applied.map(drop).map_err(|(_, error)| error.into())
    }

    /// Deletes the objects, the last one first, and waits until they are gone.
    pub(super) async fn remove(self, patience: Duration, seen: &mut Observation) {
        for key in self.keys.iter().rev() {
            let gone = async || match self.api.delete(key).await {
                Ok(false) => Ok(()),
                Ok(true) => Err(format!("{key} still exists after its deletion")),
                // A kind that is gone has no objects.
                Err(error) if error.is_not_found() => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(expired) = Wait::up_to(patience).retry(gone).await {
                seen.problem(format!("cannot remove {key}: {expired}"));
                return;
            }
        }
    }
}
