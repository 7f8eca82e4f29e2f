//! An HTTP request from a place in or outside of the cluster, and the answer that the user expects.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use lab_cluster::{
    formation::Cluster,
    kubernetes::{EchoPod, KubernetesApi, KubernetesError, ProbeReply},
    tailnet::OutsideClient,
    wait::Wait,
};
use lab_model::{Diagnostic, node::NodeName, visible, words::chain, workloads::ECHO_IMAGE};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Text, Words},
};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::{
    Check, CheckError, Fixtures, Observation, asked::AskError, asker::Asker, tailnet_routing::tailnet_of,
};

/// The time limit of one request.
const REQUEST: Duration = Duration::from_secs(10);
/// Limits of an answer: the bytes that are read, and the characters that are quoted.
const LONGEST_ANSWER: usize = 64 << 10;
const QUOTED: usize = 200;

#[derive(Debug, Serialize)]
pub struct Http {
    url: String,
    from: Place,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    contains: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Duration>,
}

/// The place of the client.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    /// The host, through a forwarded port of the node.
    Host { node: NodeName },
    /// The client outside of the cluster in the tailnet.
    Tailnet,
    /// The pod on the node.
    Pod(NodeName),
    /// The network of the node itself.
    Node(NodeName),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    url: Text,
    from: WrittenPlace,
    status: Option<Spanned<u16>>,
    contains: Option<String>,
    limit: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenPlace {
    Host,
    Tailnet,
    Pod(Text),
    Node(Text),
}

impl CheckKind for Http {
    const NAME: &'static str = "http";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let url = match Url::parse(&written.url.value) {
            Ok(url) if url.scheme() == "http" && url.host_str().is_some() && url.username().is_empty() => url,
            _ => {
                let problem = Diagnostic::at(&written.url, "this is not a URL for a check");
                context.report(problem.help("write http://HOST:PORT/PATH; HTTPS is not supported"));
                return None;
            }
        };
        let from = match &written.from {
            WrittenPlace::Tailnet => Place::Tailnet,
            WrittenPlace::Pod(node) => Place::Pod(context.node(node)?),
            WrittenPlace::Node(node) => Place::Node(context.node(node)?),
            WrittenPlace::Host => {
                let host = url.host_str().unwrap_or_default();
                let node = context.cluster().nodes.iter().find(|node| node.name.as_str() == host);
                let Some(node) = node else {
                    let message =
                        format!("the host reaches only nodes, and {host} is not the name of a node");
                    let help = "write http://NODE:PORT/ with the name of a node, for example of a NodePort";
                    context.report(Diagnostic::at(&written.url, message).help(help));
                    return None;
                };
                Place::Host { node: node.name.clone() }
            }
        };
        let status = match &written.status {
            None => 200,
            Some(status) if (100..600).contains(&status.value) => status.value,
            Some(status) => {
                let message = format!("{} is not a status of HTTP", status.value);
                context.report(Diagnostic::at(status, message).help("write a number from 100 to 599"));
                return None;
            }
        };
        let limit = context.limit(written.limit.as_ref())?;
        Some(Self { url: url.into(), from, status, contains: written.contains, limit })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        let then = match &self.contains {
            None => format!("the status is {}", self.status),
            Some(text) => format!("the status is {} and the answer contains \"{text}\"", self.status),
        };
        Words::new(Words::formed(cluster), format!("{} requests {}", self.from, self.url), then)
    }

    fn nodes(&self) -> Vec<&NodeName> {
        match &self.from {
            Place::Tailnet => Vec::new(),
            Place::Host { node } | Place::Pod(node) | Place::Node(node) => vec![node],
        }
    }

    fn images(&self) -> Vec<&str> {
        match &self.from {
            Place::Pod(_) | Place::Node(_) => vec![ECHO_IMAGE],
            Place::Host { .. } | Place::Tailnet => Vec::new(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host { .. } => f.write_str("the host"),
            Self::Tailnet => f.write_str("the tailnet client"),
            Self::Pod(node) => write!(f, "the pod on {node}"),
            Self::Node(node) => write!(f, "{node}"),
        }
    }
}

impl Check for Http {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let budgets = &fixtures.cluster().plan().budgets;
            let limit = self.limit.map_or(budgets.patience(), |limit| budgets.on_this_host(limit));
            let began = Instant::now();
            let body = self.answer(fixtures, &Wait::up_to(limit)).await?;
            let quoted = visible(&body, QUOTED);
            let after = began.elapsed().as_secs_f64();
            let (from, url, status) = (&self.from, &self.url, self.status);
            seen.fact(format!("{from} got status {status} of {url} after {after:.1} s: \"{quoted}\""));
            Ok(())
        }
        .boxed()
    }
}

impl Http {
    /// Repeats the request until the answer is the expected one, and returns its body.
    async fn answer(&self, fixtures: &Fixtures, wait: &Wait) -> Result<String, CheckError> {
        let cluster = fixtures.cluster();
        match &self.from {
            Place::Pod(node) => {
                let url = self.url_of_nodes(cluster)?;
                let pods = fixtures.echo().await?.pods;
                self.ask_in_pod(fixtures.api(), pod_on(&pods, node)?, url.as_str(), wait).await
            }
            Place::Node(node) => {
                let url = self.resolved(cluster, fixtures.api()).await?;
                let pods = fixtures.node_echo().await?;
                self.ask_in_pod(fixtures.api(), pod_on(&pods, node)?, url.as_str(), wait).await
            }
            Place::Host { node } => {
                let mut url = self.parsed()?;
                let port = url.port_or_known_default().unwrap_or(80);
                let address = cluster.lan().add_forward(node, port).await?;
                let replaced =
                    url.set_ip_host(address.ip()).and_then(|()| url.set_port(Some(address.port())));
                replaced.map_err(|()| CheckError::seen(format!("{} has no host", self.url)))?;
                let _ = rustls::crypto::ring::default_provider().install_default();
                let http = reqwest::Client::builder()
                    .no_proxy()
                    .redirect(reqwest::redirect::Policy::none())
                    .timeout(REQUEST)
                    .pool_max_idle_per_host(0)
                    .build()?;
                self.ask_here(&http, &url, wait).await
            }
            Place::Tailnet => {
                let tailnet = tailnet_of(cluster)?;
                let url = self.resolved(cluster, fixtures.api()).await?;
                // Other traffic of the client leaves through the network of this host.
                let address = address_of(&url);
                let routes = tailnet.document().routes().unwrap_or_default();
                if !address
                    .is_some_and(|address| routes.iter().any(|route| route.contains(&IpAddr::V4(address))))
                {
                    let message =
                        format!("no route of the gateway leads to {url}; name a pod, a service or a node");
                    return Err(CheckError::seen(message));
                }
                let client = tailnet.routed_client(cluster.plan().budgets.patience()).await?;
                self.ask_in_tailnet(&client, url.as_str(), wait).await
            }
        }
    }

    async fn ask_in_pod(
        &self,
        api: &KubernetesApi,
        pod: &EchoPod,
        url: &str,
        wait: &Wait,
    ) -> Result<String, CheckError> {
        let judge = |reply: ProbeReply| match reply.error {
            error if !error.is_empty() => Err(AskError::Request(error)),
            _ => self.judged(reply.status, reply.body),
        };
        Ok(Asker::new(api).judged(pod, url, wait, judge).await?)
    }

    async fn ask_here(&self, http: &reqwest::Client, url: &Url, wait: &Wait) -> Result<String, CheckError> {
        let attempt = async || {
            let failed = |error: reqwest::Error| AskError::Request(chain(&error));
            let mut answer = http.get(url.clone()).send().await.map_err(failed)?;
            let status = answer.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(failed)? {
                body.extend(chunk.iter().take(LONGEST_ANSWER - body.len()));
                if body.len() == LONGEST_ANSWER {
                    break;
                }
            }
            self.judged(status, String::from_utf8_lossy(&body).into_owned())
        };
        Ok(wait.retry(attempt).await.map_err(AskError::from)?)
    }

    async fn ask_in_tailnet(
        &self,
        client: &OutsideClient,
        url: &str,
        wait: &Wait,
    ) -> Result<String, CheckError> {
        let attempt = async || {
            let asked = client.ask(url, REQUEST).await;
            let (status, body) = asked.map_err(|error| AskError::Request(error.to_string()))?;
            self.judged(status.as_u16(), String::from_utf8_lossy(&body).into_owned())
        };
        Ok(wait.retry(attempt).await.map_err(AskError::from)?)
    }

    fn judged(&self, status: u16, body: String) -> Result<String, AskError> {
        let has_text = self.contains.as_ref().is_none_or(|text| body.contains(text.as_str()));
        if status == self.status && has_text {
            return Ok(body);
        }
        Err(AskError::OtherAnswer { status, body: visible(&body, QUOTED) })
    }

    fn parsed(&self) -> Result<Url, CheckError> {
        Url::parse(&self.url).map_err(|error| CheckError::seen(format!("{}: {error}", self.url)))
    }

    /// The URL with the address in place of the name of a node.
    fn url_of_nodes(&self, cluster: &Cluster) -> Result<Url, CheckError> {
        let mut url = self.parsed()?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let node = cluster.plan().nodes.iter().find(|node| node.spec.name.as_str() == host);
        if let Some(node) = node {
            replace_host(&mut url, node.address)?;
        }
        Ok(url)
    }

    /// The URL with the address in place of the name of a node or a service, for a client without the DNS of the
    /// cluster.
    async fn resolved(&self, cluster: &Cluster, api: &KubernetesApi) -> Result<Url, CheckError> {
        let mut url = self.url_of_nodes(cluster)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let Some((name, namespace)) = service_of(&host, &cluster.plan().spec.network.dns_domain) else {
            return Ok(url);
        };
        let services: Api<Service> = Api::namespaced(api.client(), namespace);
        let service = services
            .get(name)
            .await
            .map_err(KubernetesError::request(format!("get the service {namespace}/{name}")))?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).and_then(|ip| ip.parse().ok());
        let Some(address) = address else {
            return Err(CheckError::seen(format!("the service {namespace}/{name} has no IPv4 address")));
        };
        replace_host(&mut url, address)?;
        Ok(url)
    }
}

fn replace_host(url: &mut Url, address: Ipv4Addr) -> Result<(), CheckError> {
    url.set_ip_host(address.into()).map_err(|()| CheckError::seen(format!("{url} has no host")))
}

/// Name and namespace of a service out of its DNS name.
fn service_of<'a>(host: &'a str, domain: &str) -> Option<(&'a str, &'a str)> {
    let host = host.strip_suffix(domain).and_then(|host| host.strip_suffix('.')).unwrap_or(host);
    host.strip_suffix(".svc")?.split_once('.')
}

fn address_of(url: &Url) -> Option<Ipv4Addr> {
    url.host_str()?.parse().ok()
}

fn pod_on<'a>(pods: &'a [EchoPod], node: &NodeName) -> Result<&'a EchoPod, CheckError> {
    let pod = pods.iter().find(|pod| pod.node == node.as_str());
    pod.ok_or_else(|| CheckError::lacks(format!("there is no pod on {node}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, contains: Option<&str>) -> Http {
        Http {
            url: "http://worker-1:30080/".into(),
            from: Place::Tailnet,
            status,
            contains: contains.map(str::to_owned),
            limit: None,
        }
    }

    #[test]
    fn status_and_text_must_both_be_right() {
        assert!(http(200, Some("hello")).judged(200, "hello there".into()).is_ok());
        assert!(http(200, Some("hello")).judged(200, "bye".into()).is_err());
        assert!(http(200, None).judged(404, String::new()).is_err());
        assert!(http(404, None).judged(404, String::new()).is_ok());
        let other = http(200, None).judged(503, "no\x1b[0m".into()).expect_err("503").to_string();
        assert_eq!(other, "status 503 and not the expected answer: \"no\\u{1b}[0m\"");
    }

    #[test]
    fn a_service_is_known_by_its_dns_name() {
        assert_eq!(service_of("web.shop.svc.cozy.local", "cozy.local"), Some(("web", "shop")));
        assert_eq!(service_of("web.shop.svc", "cluster.local"), Some(("web", "shop")));
        assert_eq!(service_of("10.96.0.1", "cluster.local"), None);
        assert_eq!(service_of("web.example.org", "cluster.local"), None);
    }
}
