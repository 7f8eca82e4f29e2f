//! What an object must show.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{
    cel::{Cel, CelError},
    json_path::JsonPath,
};

/// A condition of one object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// The object exists.
    Exists,
    /// The object does its work: all its replicas are available, or its condition `Available`, `Ready` or `Established`
    /// is true.
    Available,
    /// The object has done its work: a Job is complete, or a Pod has succeeded.
    Complete,
    /// The condition of this type has this status.
    Status { kind: String, status: String },
    /// The expression is true of the object.
    Cel(Cel),
    /// Each value that the path selects is `value`.
    JsonPath { path: JsonPath, value: Option<String> },
}

/// Why an object does not meet a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// It may meet the condition later.
    #[error("{0}")]
    NotYet(String),
    /// It will not meet the condition.
    #[error("{0}")]
    Never(String),
}

impl Condition {
    /// Checks an object in its JSON form.
    ///
    /// # Errors
    /// The reason why the object does not meet the condition.
    pub fn check(&self, object: &Value) -> Result<(), Unmet> {
        match self {
            Self::Exists => Ok(()),
            Self::Available => is_available(object),
            Self::Complete => is_complete(object),
            Self::Status { kind, status } => has_status(object, kind, status).map_err(Unmet::NotYet),
            Self::Cel(expression) => expression.holds(object).map_err(|error| match error {
                CelError::NotTrue(cause) => Unmet::NotYet(cause),
                CelError::Never(cause) => Unmet::Never(cause),
            }),
            Self::JsonPath { path, value } => match path.selects(object, value.as_deref()) {
                Ok(selected) => selected.map_err(Unmet::NotYet),
                Err(exceeded) => Err(Unmet::Never(exceeded)),
            },
        }
    }

    /// The condition that an object of a kind meets when it works, or `None` for a kind without a state, for example a
    /// ConfigMap.
    pub fn usual(kind: &str) -> Option<Self> {
        match kind {
            "Job" => Some(Self::Complete),
            "Deployment"
            | "StatefulSet"
            | "DaemonSet"
            | "ReplicaSet"
            | "ReplicationController"
            | "Pod"
            | "APIService"
            | "CustomResourceDefinition" => Some(Self::Available),
            _ => None,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("exists"),
            Self::Available => f.write_str("is available"),
            Self::Complete => f.write_str("is complete"),
            Self::Status { kind, status } => write!(f, "has the condition {kind}={status}"),
            Self::Cel(expression) => write!(f, "meets {expression}"),
            Self::JsonPath { path, value: Some(value) } => write!(f, "has {path} = {value}"),
            Self::JsonPath { path, value: None } => write!(f, "has {path}"),
        }
    }
}

fn is_available(object: &Value) -> Result<(), Unmet> {
    let later = |cause: String| Err(Unmet::NotYet(cause));
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    if let (Some(seen), Some(wanted)) = (number("/status/observedGeneration"), number("/metadata/generation"))
        && seen < wanted
    {
        return later("its controller has not seen the last change".to_owned());
    }
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
            let wanted = number("/spec/replicas").unwrap_or(1);
            let available =
                number("/status/availableReplicas").or_else(|| number("/status/readyReplicas")).unwrap_or(0);
            let updated = number("/status/updatedReplicas").unwrap_or(available);
            if available >= wanted && updated >= wanted {
                return Ok(());
            }
            later(format!("{available} of {wanted} replicas are available"))
        }
        "DaemonSet" => {
            let wanted = number("/status/desiredNumberScheduled").unwrap_or(0);
            let available = number("/status/numberAvailable").unwrap_or(0);
            let updated = number("/status/updatedNumberScheduled").unwrap_or(available);
            if wanted > 0 && available >= wanted && updated >= wanted {
                return Ok(());
            }
            later(format!("its pods are available on {available} of {wanted} nodes"))
        }
        "Pod" if object["status"]["phase"] == "Failed" => Err(Unmet::Never("the pod has failed".to_owned())),
        "Pod" => has_status(object, "Ready", "True").map_err(Unmet::NotYet),
        _ => {
            let known = ["Available", "Ready", "Established"];
            match known.iter().find(|kind| has_status(object, kind, "True").is_ok()) {
                Some(_) => Ok(()),
                None => later("none of its conditions Available, Ready and Established is True".to_owned()),
            }
        }
    }
}

fn is_complete(object: &Value) -> Result<(), Unmet> {
    if object["kind"] == "Pod" {
        return match object["status"]["phase"].as_str() {
            Some("Succeeded") => Ok(()),
            Some("Failed") => Err(Unmet::Never("the pod has failed".to_owned())),
            phase => Err(Unmet::NotYet(format!("the pod is {}", phase.unwrap_or("pending")))),
        };
    }
    if has_status(object, "Failed", "True").is_ok() {
        let why =
            condition(object, "Failed").and_then(|failed| failed["message"].as_str()).unwrap_or("no message");
        return Err(Unmet::Never(format!("it has failed: {}", lab_model::visible(why, 200))));
    }
    has_status(object, "Complete", "True").map_err(Unmet::NotYet)
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn has_status(object: &Value, kind: &str, status: &str) -> Result<(), String> {
    match condition(object, kind) {
        None => Err(format!("it has no condition {kind}")),
        Some(condition) if condition["status"] == status => Ok(()),
        Some(condition) => {
            let text = |key: &str| lab_model::visible(condition[key].as_str().unwrap_or_default(), 200);
            let reason = [text("reason"), text("message")].join(" ");
            Err(format!("its condition {kind} is {}: {}", text("status"), reason.trim()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unmet(condition: &Condition, object: Value) -> String {
        condition.check(&object).expect_err("met").to_string()
    }

    #[test]
    fn a_deployment_is_available_when_its_controller_has_seen_it_and_all_replicas_are() {
        let deployment = |generation: i64, available: i64| {
            json!({
                "kind": "Deployment", "metadata": { "generation": generation }, "spec": { "replicas": 2 },
                "status": { "observedGeneration": 1, "availableReplicas": available, "updatedReplicas": 2 },
            })
        };
        assert_eq!(Condition::Available.check(&deployment(1, 2)), Ok(()));
        assert_eq!(unmet(&Condition::Available, deployment(1, 1)), "1 of 2 replicas are available");
        assert!(unmet(&Condition::Available, deployment(2, 2)).contains("has not seen the last change"));
        let fresh = json!({ "kind": "Deployment", "spec": {} });
        assert_eq!(unmet(&Condition::Available, fresh), "0 of 1 replicas are available");
    }

    #[test]
    fn a_daemon_set_without_nodes_is_not_available() {
        let set = |wanted: i64, available: i64| json!({ "kind": "DaemonSet", "status": { "desiredNumberScheduled": wanted, "numberAvailable": available } });
        assert_eq!(Condition::Available.check(&set(3, 3)), Ok(()));
        assert!(Condition::Available.check(&set(0, 0)).is_err());
        assert_eq!(unmet(&Condition::Available, set(3, 2)), "its pods are available on 2 of 3 nodes");
    }

    #[test]
    fn a_job_that_failed_is_not_waited_for() {
        let job = |kind: &str| json!({ "kind": "Job", "status": { "conditions": [{ "type": kind, "status": "True", "message": "m" }] } });
        assert_eq!(Condition::Complete.check(&job("Complete")), Ok(()));
        assert_eq!(Condition::Complete.check(&job("Failed")), Err(Unmet::Never("it has failed: m".into())));
        assert!(matches!(Condition::Complete.check(&json!({ "kind": "Job" })), Err(Unmet::NotYet(_))));
    }

    #[test]
    fn pods_and_other_kinds_are_judged_by_their_conditions() {
        let pod = |ready: &str| {
            json!({ "kind": "Pod", "status": { "phase": "Running",
            "conditions": [{ "type": "Ready", "status": ready, "reason": "ContainersNotReady" }] } })
        };
        assert_eq!(Condition::Available.check(&pod("True")), Ok(()));
        assert_eq!(
            unmet(&Condition::Available, pod("False")),
            "its condition Ready is False: ContainersNotReady"
        );
        let definition = json!({ "kind": "CustomResourceDefinition",
            "status": { "conditions": [{ "type": "Established", "status": "True" }] } });
        assert_eq!(Condition::Available.check(&definition), Ok(()));
        assert!(Condition::Available.check(&json!({ "kind": "Gateway" })).is_err());
        let status = Condition::Status { kind: "Ready".into(), status: "False".into() };
        assert_eq!(status.check(&pod("False")), Ok(()));
        assert!(status.check(&pod("True")).is_err());
    }
}
