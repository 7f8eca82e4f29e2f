//! Conditions of Kubernetes objects, for [`crate::wait::Wait`].

use super::node::NodeFacts;
use crate::wait::Condition;

/// Holds when the Node's condition `Ready` is `True`.
#[must_use]
pub fn is_ready() -> impl Condition<NodeFacts> {
    |node: &NodeFacts| match node.readiness.ready {
        true => Ok(()),
        false => Err(format!("{}: not Ready: {}", node.name, node.readiness.reason)),
    }
}

/// Holds when the Node object reports the boot ID `id`.
#[must_use]
pub fn has_boot_id(id: String) -> impl Condition<NodeFacts> {
    move |node: &NodeFacts| match node.boot_id == id {
        true => Ok(()),
        false => Err(format!("{}: the Node object reports boot {} instead of {id}", node.name, node.boot_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::NodeReadiness;

    fn node(ready: bool, boot_id: &str) -> NodeFacts {
        NodeFacts {
            name: "worker-1".into(),
            uid: String::new(),
            readiness: NodeReadiness { ready, reason: "NodeStatusUnknown".into(), message: String::new() },
            architecture: String::new(),
            machine_id: String::new(),
            boot_id: boot_id.into(),
            kubelet_version: String::new(),
            os_image: String::new(),
        }
    }

    #[test]
    fn a_ready_node_of_an_earlier_boot_is_not_ready_in_this_one() {
        let back = has_boot_id("2".into()).and(is_ready());
        assert_eq!(back.check(&node(true, "2")), Ok(()));
        assert!(back.check(&node(true, "1")).is_err_and(|cause| cause.contains("reports boot 1")));
        assert_eq!(back.check(&node(false, "2")), Err("worker-1: not Ready: NodeStatusUnknown".into()));
    }
}
