//! WebAssembly workloads run on every node, of whatever role, and answer ordinary pods.

use lab_cluster::kubernetes::{EchoPod, EchoWorkload};

use super::{
    Observation,
    asker::Asker,
    fixtures::{Fixtures, on_every_node},
    text,
};

/// The namespace of the modules.
const NAMESPACE: &str = "lab-wasm-check";

pub(super) async fn look(fixtures: &Fixtures<'_>) -> Observation {
    let mut observation = Observation::default();
    if let Err(error) = ask_all(fixtures, &mut observation).await {
        observation.problem(error);
    }
    observation
}

async fn ask_all(fixtures: &Fixtures<'_>, observation: &mut Observation) -> Result<(), String> {
    let (cluster, api) = (fixtures.cluster, fixtures.api());
    let modules = EchoWorkload::create_wasm(api, NAMESPACE).await.map_err(text)?;
    let ready = async { tokio::try_join!(on_every_node(cluster, &modules), fixtures.echo()) };
    let (module_pods, callers) = tokio::select! {
        ready = ready => ready?,
        refused = modules.start_refused() => {
            observation.problem(refused);
            return Ok(());
        }
    };
    let asker = Asker::new(api, &cluster.plan().budgets);
    for pod in &module_pods {
        observation.fact(format!("{}: a WebAssembly module runs", pod.node));
        observation.fact(format!("{}: an ordinary pod runs beside it", pod.node));
    }
    let asked = callers.pods.iter().map(|from| ask_from(&asker, from, &module_pods, &modules.cluster_ip));
    for seen in futures::future::join_all(asked).await {
        observation.merge(seen);
    }
    Ok(())
}

/// Asks the modules on the other nodes, and the service over all of them.
async fn ask_from(asker: &Asker, from: &EchoPod, modules: &[EchoPod], service: &str) -> Observation {
    let mut observation = Observation::default();
    for module in modules.iter().filter(|module| module.node != from.node) {
        let url = EchoWorkload::url(&module.address);
        let way = format!("{} -> module {} on {}", from.node, module.address, module.node);
        match asker.ask(from, &url, &observation, |node| node == module.node).await {
            Ok(node) => observation.fact(format!("{way}: answered on {node}")),
            Err(cause) => observation.problem(format!("{way}: {cause}")),
        }
    }
    let way = format!("{} -> service {service}", from.node);
    let is_module = |node: &str| modules.iter().any(|module| module.node == node);
    match asker.ask(from, &EchoWorkload::url(service), &observation, is_module).await {
        Ok(node) => observation.fact(format!("{way}: answered by the module on {node}")),
        Err(cause) => observation.problem(format!("{way}: {cause}")),
    }
    observation
}
