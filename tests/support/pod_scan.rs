//! A scan of the gateway from an ordinary pod: its packets take the way of a guest's packets, through the pod network and
//! the node's address translation.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use lab_cluster::{
    formation::FormedCluster,
    kubernetes::{EchoWorkload, Prober},
};
use lab_plan::network::REGISTRY_PORT;

/// For one request of the scan, on a slow host.
const PATIENCE: Duration = Duration::from_secs(300);
/// Ports per request.
const BATCH: u16 = 16_384;

/// Asks every TCP and UDP port of the gateway from a pod on `worker-1` of a cluster without a tailnet.
pub async fn finds_only_what_is_served(formed: &FormedCluster) -> Result<()> {
    let plan = formed.cluster().plan();
    let gateway = plan.lan.gateway;
    let mut served: BTreeSet<u16> = plan.mirror_ports().into_keys().collect();
    served.insert(REGISTRY_PORT);
    let echo = EchoWorkload::create(formed.kubernetes(), "scan").await?;
    let worker = formed.node("worker-1")?.name().to_string();
    let pods = echo.ready_pods(std::slice::from_ref(&worker), PATIENCE).await?;
    let [pod] = pods.as_slice() else { anyhow::bail!("{pods:?}") };
    let prober = Prober::new(formed.kubernetes(), PATIENCE);
    for (protocol, open, silent) in [
        ("tcp", served.into_iter().collect::<Vec<_>>(), vec![]),
        // The switch itself serves names, leases and time, and does not answer nonsense.
        ("udp", vec![], vec![53, 67, 123]),
    ] {
        let (mut opened, mut silenced, mut refused) = (Vec::new(), Vec::new(), 0);
        for first in (1..=u16::MAX).step_by(BATCH.into()) {
            let ports = first..=first.saturating_add(BATCH - 1);
            let mut reply = prober.scan(pod, protocol, gateway.into(), ports).await?;
            opened.extend(reply.open);
            // A packet or its answer may get lost, and then it was not a port that was silent.
            for port in reply.silent {
                let again = prober.scan(pod, protocol, gateway.into(), port..=port).await?;
                opened.extend(again.open);
                silenced.extend(again.silent);
                for (reason, count) in again.refused {
                    *reply.refused.entry(reason).or_default() += count;
                }
            }
            // ICMP, destination unreachable, administratively prohibited, as Linux tells it.
            refused += reply.refused.get("no route to host").copied().unwrap_or(0);
            let others: Vec<_> =
                reply.refused.keys().filter(|reason| *reason != "no route to host").collect();
            ensure!(others.is_empty(), "{protocol}: refused by {others:?}, so not by the switch");
        }
        ensure!((&opened, &silenced) == (&open, &silent), "{protocol}: open {opened:?}, silent {silenced:?}");
        ensure!(
            usize::try_from(refused)? + open.len() + silent.len() == 65_535,
            "{protocol}: {refused} refused"
        );
    }
    echo.delete().await?;
    Ok(())
}
