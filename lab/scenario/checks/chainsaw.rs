//! Tests in the format of Chainsaw, as far as the lab runs them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    kubernetes::{KubernetesApi, KubernetesError, Selection},
    wait::Wait,
};
use lab_model::{Diagnostic, files::directory_of};
use lab_plan::{
    cluster::{ClusterSpec, Manifest},
    own_checks::{
        ObjectKey, Unmet,
        chainsaw::{self, Action, ChainsawTest, Operation, Partial, Script, Target, Until},
        mismatch,
    },
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CheckError, HostCheck, Observation,
    host_view::HostView,
    manifests::{Applied, namespace},
    run::note,
};
use crate::scenario::named_file::read_named;

const SHELL: &str = "/bin/sh";

#[derive(Debug, Serialize)]
pub struct Chainsaw {
    tests: Vec<ChainsawTest>,
    #[serde(skip)]
    images: Vec<String>,
    /// The directory in which scripts start: that of the test.
    #[serde(skip)]
    directory: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    test: Text,
}

impl CheckKind for Chainsaw {
    const NAME: &'static str = "chainsaw";
    type Written = Written;

    fn read(Written { test }: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let (origin, text) = context.file(&test, &test.value, "chainsaw test")?;
        let beside = Path::new(&test.value).parent().unwrap_or(Path::new("")).to_owned();
        let mut file = |path: &str| {
            let path = beside.join(path);
            // The problem is reported at the text of the scenario.
            let found = context.file(&test, &path.to_string_lossy(), "file of the chainsaw test");
            found.map(|(_, text)| text).ok_or_else(|| "the file cannot be read".to_owned())
        };
        match chainsaw::read(&text, &mut file) {
            Ok(tests) => {
                let directory = directory_of(Path::new(&origin)).to_owned();
                Some(Self { images: images(&tests), tests, directory })
            }
            Err(problems) => {
                for problem in problems {
                    let message = format!("the chainsaw test {origin}:{}: {}", problem.line, problem.message);
                    let help = "docs/own-checks.md lists what the lab runs of Chainsaw";
                    context.report(Diagnostic::at(&test, message).help(help));
                }
                None
            }
        }
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        let names: Vec<_> = self.tests.iter().map(|test| test.name.as_str()).collect();
        let steps: usize = self.tests.iter().map(|test| test.steps.len()).sum();
        let names = names.join(", ");
        Words::new(
            Words::formed(cluster),
            format!("the chainsaw test {names} runs"),
            format!("its {steps} steps pass"),
        )
    }

    fn images(&self) -> Vec<&str> {
        self.images.iter().map(String::as_str).collect()
    }

    fn runs_programs(&self) -> bool {
        self.operations().any(|operation| matches!(operation.action, Action::Script(_)))
    }
}

fn images(tests: &[ChainsawTest]) -> Vec<String> {
    let operations = tests.iter().flat_map(|test| &test.steps).flat_map(|step| &step.operations);
    let applied = operations.filter_map(|operation| match &operation.action {
        Action::Apply(manifests) => Some(manifests),
        _ => None,
    });
    applied.flatten().flat_map(Manifest::images).collect()
}

impl HostCheck for Chainsaw {
    fn judge<'a>(
        &'a self,
        host: &'a HostView,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        self.judge_from(host, seen).boxed()
    }
}

impl Chainsaw {
    /// A test outside of a scenario. Files that it names are in its directory or below `allowed`.
    ///
    /// # Errors
    /// What is wrong, or not supported, with lines.
    pub fn of_file(path: &Path, text: &str, allowed: &[PathBuf]) -> Result<Self, Vec<chainsaw::Problem>> {
        let directory = directory_of(path);
        let mut file = |name: &str| {
            read_named(&directory.join(name), directory, allowed)
                .map_err(|error| format!("the file cannot be read: {error}"))
        };
        let tests = chainsaw::read(text, &mut file)?;
        Ok(Self { images: images(&tests), tests, directory: directory.to_owned() })
    }

    fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.tests.iter().flat_map(|test| &test.steps).flat_map(|step| &step.operations)
    }

    async fn judge_from(&self, host: &HostView, seen: &mut Observation) -> Result<(), CheckError> {
        for test in &self.tests {
            let own = format!("chainsaw-{:08x}", rand::random::<u32>());
            let name = test.namespace.clone().unwrap_or(own);
            let mut running = Running {
                host,
                namespace: &name,
                directory: &self.directory,
                applied: Applied { api: &host.api, keys: Vec::new() },
            };
            if let Err(error) = running.test(test, seen).await {
                seen.problem(format!("{}: {error}", test.name));
            }
            running.applied.remove(host.budgets.on_this_host(test.cleanup), seen).await;
        }
        Ok(())
    }
}

/// A test during its run.
struct Running<'a> {
    host: &'a HostView,
    namespace: &'a str,
    directory: &'a Path,
    applied: Applied<'a>,
}

impl Running<'_> {
    /// Runs the steps up to the first failure.
    async fn test(&mut self, test: &ChainsawTest, seen: &mut Observation) -> Result<(), CheckError> {
        let limit = self.host.budgets.patience();
        self.apply(&namespace(self.namespace)?, limit).await?;
        for step in &test.steps {
            for operation in &step.operations {
                let place = format!("{} (line {})", operation.action.name(), operation.line);
                let done = self.operation(operation, seen).await;
                done.map_err(|error| CheckError::seen(format!("{}, {place}: {error}", step.name)))?;
            }
            seen.fact(format!("{}: {} passed", test.name, step.name));
        }
        Ok(())
    }

    async fn operation(&mut self, operation: &Operation, seen: &mut Observation) -> Result<(), CheckError> {
        let limit = self.host.budgets.on_this_host(operation.limit);
        let api = &self.host.api;
        match &operation.action {
            Action::Apply(manifests) => {
                for manifest in manifests {
                    self.apply(manifest, limit).await?;
                }
                Ok(())
            }
            Action::Assert(partials) => {
                for partial in partials {
                    awaited(limit, async || self.matches(partial).await).await?;
                }
                Ok(())
            }
            Action::Error(partials) => {
                for partial in partials {
                    awaited(limit, async || self.matches_none(partial).await).await?;
                }
                Ok(())
            }
            Action::Delete(targets) => {
                for target in targets {
                    self.delete(target, limit).await?;
                }
                Ok(())
            }
            Action::Script(script) => self.script(script, limit, seen).await,
            Action::Wait { target, until } => {
                awaited(limit, async || {
                    let found =
                        self.found(api, target).await.map_err(|error| Unmet::NotYet(error.to_string()))?;
                    match until {
                        Until::Deletion if found.is_empty() => Ok(()),
                        Until::Deletion => Err(Unmet::NotYet(format!("{target} still exists"))),
                        Until::Met(_) if found.is_empty() => {
                            Err(Unmet::NotYet(format!("{target} does not exist")))
                        }
                        Until::Met(condition) => found.iter().try_for_each(|object| condition.check(object)),
                    }
                })
                .await
            }
        }
    }

    /// Applies an object. The test removes only what it created.
    async fn apply(&mut self, manifest: &Manifest, limit: Duration) -> Result<(), CheckError> {
        let key = ObjectKey::of(manifest).or_in(self.namespace);
        let exists =
            !self.applied.keys.contains(&key) && matches!(self.host.api.object(&key).await, Ok(Some(_)));
        if exists {
            self.host.api.apply_in(manifest, self.namespace).await?;
            return Ok(());
        }
        self.applied.apply(manifest, self.namespace, limit).await
    }

    /// The objects that a target means.
    async fn found(&self, api: &KubernetesApi, target: &Target) -> Result<Vec<Value>, KubernetesError> {
        match target.key() {
            Some(key) => Ok(api.object(&key.or_in(self.namespace)).await?.into_iter().collect()),
            None => {
                let namespace = target.namespace.as_deref().or(Some(self.namespace));
                let (api_version, kind, labels) = (&target.api_version, &target.kind, &target.labels);
                api.objects(&Selection { api_version, kind, namespace, labels }).await
            }
        }
    }

    async fn matches(&self, partial: &Partial) -> Result<(), Unmet> {
        let found = self.found(&self.host.api, &partial.target).await;
        let found = found.map_err(|error| Unmet::NotYet(error.to_string()))?;
        let mut differences = found.iter().map(|object| mismatch(&partial.object, object));
        if differences.clone().any(|difference| difference.is_none()) {
            return Ok(());
        }
        let target = &partial.target;
        Err(Unmet::NotYet(match differences.next().flatten() {
            None => format!("{target} does not exist"),
            Some(difference) => format!("{target}: {difference}"),
        }))
    }

    /// An error of the API server is not the absence of an object.
    async fn matches_none(&self, partial: &Partial) -> Result<(), Unmet> {
        let found = self.found(&self.host.api, &partial.target).await;
        let found = found.map_err(|error| Unmet::NotYet(error.to_string()))?;
        match found.iter().find(|object| mismatch(&partial.object, object).is_none()) {
            None => Ok(()),
            Some(_) => Err(Unmet::NotYet(format!("{} matches, and must not", partial.target))),
        }
    }

    async fn delete(&self, target: &Target, limit: Duration) -> Result<(), CheckError> {
        let found = self.found(&self.host.api, target).await?;
        for object in found {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let key = ObjectKey {
                api_version: target.api_version.clone(),
                kind: target.kind.clone(),
                namespace: text("/metadata/namespace"),
                name: text("/metadata/name").unwrap_or_default(),
            };
            self.host.api.delete(&key).await?;
            awaited(limit, async || match self.host.api.object(&key).await {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err(Unmet::NotYet(format!("{key} still exists"))),
                Err(error) => Err(Unmet::NotYet(error.to_string())),
            })
            .await?;
        }
        Ok(())
    }

    async fn script(
        &self,
        script: &Script,
        limit: Duration,
        seen: &mut Observation,
    ) -> Result<(), CheckError> {
        let mut environment = self.host.environment.clone().with("NAMESPACE", self.namespace);
        for (name, value) in &script.env {
            environment = environment.with(name, value);
        }
        let mut command = environment.command(SHELL, self.directory);
        command.args(["-c", &script.content]);
        let ran = self.host.processes.run("chainsaw", command, limit).await;
        let ran = ran.map_err(|error| CheckError::seen(lab_model::words::chain(&error)))?;
        let mut noted = Observation::default();
        note(&"the script", &ran, limit, &mut noted);
        match noted.cause() {
            None => {
                seen.merge(noted);
                Ok(())
            }
            Some(cause) => Err(CheckError::seen(cause)),
        }
    }
}

/// Repeats `look` until it succeeds, or cannot succeed any more, or the time is up.
async fn awaited<F: Future<Output = Result<(), Unmet>>>(
    limit: Duration,
    look: impl FnMut() -> F,
) -> Result<(), CheckError> {
    let again = |unmet: &Unmet| matches!(unmet, Unmet::NotYet(_));
    Wait::up_to(limit).retry_if(again, look).await.map_err(|(_, unmet)| match unmet {
        Unmet::NotYet(cause) => {
            CheckError::seen(format!("not within {} s; last seen: {cause}", limit.as_secs()))
        }
        Unmet::Never(cause) => CheckError::seen(cause),
    })
}
