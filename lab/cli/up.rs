//! `lab up`: a cluster for hands-on work.

use std::process::ExitCode;

use clap::Args;
use lab::{
    cluster::ClusterSpec,
    events::Outcome,
    host::Ending,
    node::NodeName,
    session::{ClusterRequest, Session, SessionOptions, write_bundle},
};

/// Form a cluster and keep it until Ctrl-C.
#[derive(Args)]
pub struct Up {
    /// Number of nodes: one control plane, the rest workers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
}

impl Up {
    pub fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(self.up())
    }

    async fn up(self) -> ExitCode {
        let session = Session::open(SessionOptions::new("up")).await.expect("session");
        let spec = ClusterSpec::of_compute_nodes(
            NodeName::new("lab").expect("name"),
            1,
            usize::from(self.nodes) - 1,
        )
        .expect("spec");
        let running = session.start(ClusterRequest::new(spec)).await.expect("start");
        if let Err(failure) = running.cluster.form().await {
            eprintln!("{failure}");
            let _ = write_bundle(&running.cluster, &failure.to_string()).await;
            for line in &failure.console {
                eprintln!("  {line}");
            }
        } else {
            println!(
                "kubeconfig {}",
                session.save_kubeconfig(&running.cluster).expect("kubeconfig").display()
            );
            if std::env::var_os("LAB_ONCE").is_none() {
                let _ = tokio::signal::ctrl_c().await;
            }
        }
        running.shut_down().await;
        let _ = session.close(Outcome::Passed, Ending::Interrupted).await;
        ExitCode::SUCCESS
    }
}
