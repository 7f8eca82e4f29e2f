//! WebAssembly workloads run on every node of every role, and respond to ordinary pods.

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    kubernetes::{EchoPod, EchoWorkload},
    wait::Wait,
};
use lab_model::workloads::{ECHO_IMAGE, WASM_IMAGE};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{
    Check, CheckError, Observation,
    asker::Asker,
    fixtures::{Fixtures, on_every_node},
    patient,
};

const NAMESPACE: &str = "lab-wasm-check";

/// The check has no parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wasm {}

impl CheckKind for Wasm {
    const NAME: &'static str = "wasm";
    type Written = Self;

    fn read(written: Self, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(written)
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        let nodes = Words::count_nodes(cluster);
        Words::new(
            format!("a WebAssembly module with the runtime class wasmtime-spin-v2 on each of {nodes}"),
            "pods of the ordinary runtime on other nodes call it",
            "it answers, directly and through a service",
        )
    }

    fn images(&self) -> &'static [&'static str] {
        &[ECHO_IMAGE, WASM_IMAGE]
    }
}

impl Check for Wasm {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let (cluster, api) = (fixtures.cluster(), fixtures.api());
            let modules = EchoWorkload::create_wasm(api, NAMESPACE).await?;
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
                .map(|from| ask_from(&asker, from, &module_pods, &modules.cluster_ip, patience.clone()));
            for answers in futures::future::join_all(asked).await {
                seen.merge(answers);
            }
            Ok(())
        }
        .boxed()
    }
}

/// Sends requests to the modules on the other nodes, and to the service of all modules. After the first wrong
/// response, the check has failed, and the remaining requests have no retries.
async fn ask_from(
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
        match asker.ask(from, &url, &patience, |node| node == module.node).await {
            Ok(node) => seen.fact(format!("{way}: answered on {node}")),
            Err(error) => {
                seen.problem(format!("{way}: {error}"));
                patience = Wait::once();
            }
        }
    }
    let way = format!("{} -> service {service}", from.node);
    let is_module = |node: &str| modules.iter().any(|module| module.node == node);
    match asker.ask(from, &EchoWorkload::url(service), &patience, is_module).await {
        Ok(node) => seen.fact(format!("{way}: answered by the module on {node}")),
        Err(error) => seen.problem(format!("{way}: {error}")),
    }
    seen
}
