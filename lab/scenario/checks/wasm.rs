//! WebAssembly workloads run on every node of every role, and respond to ordinary pods.
//!
//! The lab's own workload is both a Spin application and a plain WASI module, and the check accepts either
//! runtime. A user can name an own Spin image with the text that it must answer.

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    kubernetes::{EchoPod, EchoWorkload, WASM_RUNTIME_CLASS, WasmWorkload},
    wait::Wait,
};
use lab_image::Contents;
use lab_model::{
    Diagnostic,
    workloads::{ECHO_IMAGE, WASM_IMAGE},
};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};

use super::{
    Check, CheckError, Observation,
    asker::Asker,
    fixtures::{Fixtures, on_every_node},
    patient,
};

const NAMESPACE: &str = "lab-wasm-check";
/// Names of WebAssembly runtime handlers in the configurations of containerd that extensions bring, the most
/// usual first.
const HANDLERS: [&str; 6] = ["spin", "wasmtime-spin-v2", "wasmtime-spin", "wasmtime", "wasmedge", "wasm"];

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wasm {
    /// The user's own Spin image, instead of the lab's workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// A part of the answer of the user's image to `GET /`.
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<String>,
    /// The runtime handler, instead of that in the node images.
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<String>,
    /// The name of the RuntimeClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_class: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Written {
    image: Option<Text>,
    expect: Option<Text>,
    handler: Option<String>,
    runtime_class: Option<String>,
}

impl CheckKind for Wasm {
    const NAME: &'static str = "wasm";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let lone = match (&written.image, &written.expect) {
            (Some(image), None) => {
                Some((image, "an image of your own needs `expect`: a part of its answer to GET /"))
            }
            (None, Some(expect)) => {
                Some((expect, "`expect` is for an image of your own; name it as `image`"))
            }
            _ => None,
        };
        if let Some((place, message)) = lone {
            context.report(Diagnostic::at(place, message));
            return None;
        }
        Some(Self {
            image: written.image.map(|text| text.value),
            expect: written.expect.map(|text| text.value),
            handler: written.handler,
            runtime_class: written.runtime_class,
        })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        let nodes = Words::count_nodes(cluster);
        Words::new(
            format!("a WebAssembly module with the runtime class {} on each of {nodes}", self.class()),
            "pods of the ordinary runtime on other nodes call it",
            "it answers, directly and through a service",
        )
    }

    fn images(&self) -> Vec<&str> {
        vec![ECHO_IMAGE, self.image()]
    }
}

impl Wasm {
    fn image(&self) -> &str {
        self.image.as_deref().unwrap_or(WASM_IMAGE)
    }

    fn class(&self) -> &str {
        self.runtime_class.as_deref().unwrap_or(WASM_RUNTIME_CLASS)
    }

    fn workload<'a>(&self, images: impl Iterator<Item = &'a Contents>) -> WasmWorkload {
        WasmWorkload {
            image: self.image().to_owned(),
            class: self.class().to_owned(),
            handler: self.handler.clone().unwrap_or_else(|| handler_of(images)),
            // Only the lab's workload is known to answer a path.
            health: self.image.is_none().then_some("/healthz"),
        }
    }

    /// Whether a module on `node` gives the right answer. Spin does not pass the environment of the container on,
    /// so the lab's own module may not know its node; its address then identifies it.
    fn accepts(&self, node: Option<&str>, body: &str) -> bool {
        match &self.expect {
            Some(expected) => body.contains(expected.as_str()),
            None => {
                let answer: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
                let said = answer["node"].as_str().unwrap_or("nobody");
                answer["runtime"] == "wasm" && (said.is_empty() || node.is_none_or(|node| node == said))
            }
        }
    }
}

/// The handler that the images declare, or the usual one, whose absence containerd then reports.
fn handler_of<'a>(images: impl Iterator<Item = &'a Contents>) -> String {
    let declared: Vec<&String> = images.flat_map(|contents| &contents.runtime_handlers).collect();
    let known = HANDLERS.iter().find(|name| declared.iter().any(|declared| declared == *name));
    (*known.unwrap_or(&HANDLERS[0])).to_owned()
}

impl Check for Wasm {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let (cluster, api) = (fixtures.cluster(), fixtures.api());
            let workload = self.workload(cluster.plan().nodes.iter().map(|node| &node.image.contents));
            seen.fact(format!("runtime class {} has the handler {}", workload.class, workload.handler));
            let modules = EchoWorkload::create_wasm(api, NAMESPACE, &workload).await?;
            let ready = async { tokio::try_join!(on_every_node(cluster, &modules), fixtures.echo()) };
            let (module_pods, callers) = tokio::select! {
                ready = ready => ready?,
                refused = modules.start_refused() => return Err(CheckError::seen(refused)),
            };
            for pod in &module_pods {
                seen.fact(format!("{}: a WebAssembly module runs", pod.node));
                seen.fact(format!("{}: an ordinary pod runs beside it", pod.node));
            }
            let asker = Asker::new(api);
            let patience = patient(cluster.plan().budgets.patience());
            let asked = callers
                .pods
                .iter()
                .map(|from| self.ask_from(&asker, from, &module_pods, &modules.cluster_ip, patience.clone()));
            for answers in futures::future::join_all(asked).await {
                seen.merge(answers);
            }
            Ok(())
        }
        .boxed()
    }
}

impl Wasm {
    /// Sends requests to the modules on the other nodes, and to the service of all modules. After the first wrong
    /// response, the check has failed, and the remaining requests have no retries.
    async fn ask_from(
        &self,
        asker: &Asker,
        from: &EchoPod,
        modules: &[EchoPod],
        service: &str,
        mut patience: Wait,
    ) -> Observation {
        let mut seen = Observation::default();
        for module in modules.iter().filter(|module| module.node != from.node) {
            let url = EchoWorkload::url(&module.address);
            let way = format!("{} -> module {} on {}", from.node, module.address, module.node);
            match asker.ask_body(from, &url, &patience, |body| self.accepts(Some(&module.node), body)).await {
                Ok(_) => seen.fact(format!("{way}: answered on {}", module.node)),
                Err(error) => {
                    seen.problem(format!("{way}: {error}"));
                    patience = Wait::once();
                }
            }
        }
        let way = format!("{} -> service {service}", from.node);
        let url = EchoWorkload::url(service);
        match asker.ask_body(from, &url, &patience, |body| self.accepts(None, body)).await {
            Ok(_) => seen.fact(format!("{way}: answered by a module")),
            Err(error) => seen.problem(format!("{way}: {error}")),
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(handlers: &[&str]) -> Contents {
        let runtime_handlers = handlers.iter().map(ToString::to_string).collect();
        Contents { runtime_handlers, ..Contents::default() }
    }

    #[test]
    fn the_handler_is_that_of_the_images() {
        let of = |handlers: &[&str]| Wasm::default().workload([with(handlers)].iter()).handler;
        assert_eq!(of(&["runc", "wasmtime-spin-v2"]), "wasmtime-spin-v2");
        assert_eq!(of(&["runc", "spin"]), "spin");
        assert_eq!(of(&["runc"]), "spin", "containerd says that it has none");
        let own = Wasm { handler: Some("wws".into()), runtime_class: Some("wws".into()), ..Wasm::default() };
        let workload = own.workload([with(&["runc", "spin"])].iter());
        assert_eq!((workload.handler.as_str(), workload.class.as_str()), ("wws", "wws"));
    }

    #[test]
    fn the_labs_module_answers_as_a_spin_application_and_as_a_plain_module() {
        let lab = Wasm::default();
        assert!(
            lab.accepts(Some("worker-1"), "{\"node\":\"worker-1\",\"pod\":\"p\",\"runtime\":\"wasm\"}\n")
        );
        assert!(lab.accepts(Some("worker-1"), "{\"node\":\"\",\"pod\":\"\",\"runtime\":\"wasm\"}\n"));
        for other in
            ["{\"node\":\"worker-2\",\"runtime\":\"wasm\"}", "{\"node\":\"worker-1\"}", "<html>", "{}"]
        {
            assert!(!lab.accepts(Some("worker-1"), other), "{other}");
        }
    }

    #[test]
    fn an_own_image_answers_what_the_scenario_expects() {
        let own =
            Wasm { image: Some("ghcr.io/me/app:v1".into()), expect: Some("hello".into()), ..Wasm::default() };
        assert!(own.accepts(Some("worker-1"), "hello from Spin") && !own.accepts(None, "bye"));
        assert_eq!(CheckKind::images(&own), [ECHO_IMAGE, "ghcr.io/me/app:v1"]);
        assert_eq!(own.workload(std::iter::empty()).health, None);
    }
}
