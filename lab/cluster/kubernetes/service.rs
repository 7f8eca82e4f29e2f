//! Waits for ready endpoints of a Service.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, runtime::watcher};

use super::{
    access::{KubernetesApi, KubernetesError},
    watch::shown,
};
use crate::wait::Wait;

/// Namespace and name of the cluster DNS Service. All distributions of Kubernetes use this name.
pub const CLUSTER_DNS: (&str, &str) = ("kube-system", "kube-dns");

/// Time limit for a Service of every cluster to appear after formation.
const APPEARANCE: Duration = Duration::from_secs(15);

/// Watches a Service of a formed cluster until it has a ready endpoint.
///
/// # Errors
/// When the Service does not exist, or has no ready endpoint within `limit`.
pub async fn ready_endpoint(
    api: &KubernetesApi,
    (namespace, service): (&str, &str),
    limit: Duration,
) -> Result<(), KubernetesError> {
    appeared(api, namespace, service).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(api.client(), namespace);
    let of_service = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
    let any_ready = |slice: &EndpointSlice| match is_ready(slice) {
        true => Ok(()),
        false => Err(format!("{} endpoints, none ready", slice.endpoints.len())),
    };
    match Wait::up_to(limit).on(shown(slices, of_service), any_ready).await {
        Ok(_) => Ok(()),
        Err(expired) => Err(KubernetesError::Timeout {
            waited_for: format!("a ready endpoint of the service {namespace}/{service}"),
            limit,
            last_seen: if expired.looks == 0 { "no endpoints".to_owned() } else { expired.last },
        }),
    }
}

async fn appeared(api: &KubernetesApi, namespace: &str, service: &str) -> Result<(), KubernetesError> {
    let services: Api<Service> = Api::namespaced(api.client(), namespace);
    let action = format!("get service {namespace}/{service}");
    if services.get_opt(service).await.map_err(KubernetesError::request(action))?.is_some() {
        return Ok(());
    }
    let of_name = watcher::Config::default().fields(&format!("metadata.name={service}"));
    let there = |_: &Service| Ok(());
    match Wait::up_to(APPEARANCE).on(shown(services, of_name), there).await {
        Ok(_) => Ok(()),
        Err(_) => Err(KubernetesError::NoService { name: format!("{namespace}/{service}") }),
    }
}

/// Whether a slice has a ready endpoint. An endpoint without the condition `ready` counts as ready
/// (EndpointConditions, discovery/v1).
fn is_ready(slice: &EndpointSlice) -> bool {
    let mut endpoints = slice.endpoints.iter();
    endpoints.any(|endpoint| {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
        ready.unwrap_or(true) && !endpoint.addresses.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(endpoints: &serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({ "addressType": "IPv4", "endpoints": endpoints })).expect("slice")
    }

    #[test]
    fn a_slice_is_ready_with_one_endpoint_that_is() {
        let none = slice(&json!([]));
        let starting = slice(&json!([{ "addresses": ["10.244.0.2"], "conditions": { "ready": false } }]));
        let up = slice(&json!([
            { "addresses": ["10.244.0.2"], "conditions": { "ready": false } },
            { "addresses": ["10.244.1.2"], "conditions": { "ready": true } },
        ]));
        assert_eq!([&none, &starting, &up].map(is_ready), [false, false, true]);
    }
}
