//! Copies Kubernetes Events into the recording of the run.

use std::collections::HashMap;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use lab_model::{
    events::{EventKind, Recorder, Subject},
    node::NodeName,
};
use tokio_util::task::AbortOnDropHandle;

use super::access::KubernetesApi;

/// Records the Events of all namespaces until the handle is dropped. A repeated Event is recorded again only
/// when its count has doubled.
pub fn record_kubernetes_events(api: &KubernetesApi, recorder: Recorder) -> AbortOnDropHandle<()> {
    let events = Api::<Event>::all(api.client());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut changes = watcher(events, watcher::Config::default()).default_backoff().boxed();
        let mut told = Reported::default();
        while let Some(change) = changes.next().await {
            if let Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) = change
                && told.is_news(&event)
            {
                recorder.record(event_kind(event));
            }
        }
    }))
}

/// The count of each Event, by UID, at the time of its last recording.
#[derive(Default)]
struct Reported(HashMap<String, u32>);

/// The maximum number of different Events that are told apart. An API server can invent them.
const MOST: usize = 10_000;

impl Reported {
    fn is_news(&mut self, event: &Event) -> bool {
        let Some(uid) = event.metadata.uid.clone() else { return true };
        let count = count(event);
        if self.0.len() >= MOST && !self.0.contains_key(&uid) {
            return false;
        }
        let before = self.0.get(&uid).copied().unwrap_or(0);
        let news = count >= before.saturating_mul(2).max(before + 1);
        if news {
            self.0.insert(uid, count);
        }
        news
    }
}

/// The number of occurrences. `core/v1` stores it in `count`, `events.k8s.io/v1` in `series`. An Event that
/// occurred once may have neither.
fn count(event: &Event) -> u32 {
    let series = event.series.as_ref().and_then(|series| series.count);
    series.or(event.count).and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1)
}

fn event_kind(event: Event) -> EventKind {
    let count = count(&event);
    let about = event.involved_object;
    let parts = [about.kind, about.namespace, about.name];
    let name = match &parts {
        [Some(kind), _, Some(name)] if kind == "Node" => Some(name.clone()),
        _ => event.source.and_then(|source| source.host),
    };
    EventKind::KubernetesEvent {
        subject: name.and_then(|name| NodeName::new(name).ok()).map_or(Subject::Cluster, Subject::Node),
        warning: event.type_.as_deref() == Some("Warning"),
        object: parts.into_iter().flatten().collect::<Vec<_>>().join("/"),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        count,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{EventSource, ObjectReference},
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    };

    use super::*;

    fn event(count: i32) -> Event {
        Event {
            metadata: ObjectMeta { uid: Some("u".into()), ..ObjectMeta::default() },
            involved_object: ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("kube-system".into()),
                name: Some("coredns-1".into()),
                ..ObjectReference::default()
            },
            source: Some(EventSource { host: Some("cp-1".into()), ..EventSource::default() }),
            type_: Some("Warning".into()),
            reason: Some("BackOff".into()),
            count: Some(count),
            ..Event::default()
        }
    }

    #[test]
    fn an_event_that_repeats_is_news_when_its_count_has_doubled() {
        let mut told = Reported::default();
        let news: Vec<_> = (1..=9).filter(|count| told.is_news(&event(*count))).collect();
        assert_eq!(news, [1, 2, 4, 8]);
        assert!(!told.is_news(&event(8)), "a restarted watch lists known Events again");
    }

    #[test]
    fn an_event_is_its_nodes_and_says_what_it_is_about() {
        let EventKind::KubernetesEvent { subject, warning, object, reason, .. } = event_kind(event(1)) else {
            panic!("another happening");
        };
        let node = NodeName::new("cp-1").expect("name");
        assert_eq!((subject, warning), (Subject::Node(node), true));
        assert_eq!((object.as_str(), reason.as_str()), ("Pod/kube-system/coredns-1", "BackOff"));
        // The Event of a controller has no host, so its subject is the cluster.
        let mut hostless = event(1);
        hostless.source = None;
        assert!(matches!(event_kind(hostless), EventKind::KubernetesEvent { subject: Subject::Cluster, .. }));
    }
}
