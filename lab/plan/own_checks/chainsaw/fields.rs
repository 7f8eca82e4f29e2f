//! The fields of Chainsaw's API `v1alpha1`: those that the lab reads, and those that it refuses by name.

/// The fields of one mapping.
pub(super) struct Fields {
    /// How messages name the mapping.
    pub(super) of: &'static str,
    pub(super) read: &'static [&'static str],
    pub(super) refused: &'static [&'static str],
}

pub(super) const DOCUMENT: Fields =
    Fields { of: "a test", read: &["apiVersion", "kind", "metadata", "spec"], refused: &["status"] };

pub(super) const SPEC: Fields = Fields {
    of: "spec",
    // `concurrent` is about other tests, and tests of the lab run one after the other.
    read: &["description", "concurrent", "failFast", "namespace", "timeouts", "steps"],
    refused: &[
        "bindings",
        "catch",
        "cluster",
        "clusters",
        "compiler",
        "delayBeforeCleanup",
        "deletionPropagationPolicy",
        "error",
        "forceTerminationGracePeriod",
        "namespaceTemplate",
        "namespaceTemplateCompiler",
        "scenarios",
        "skip",
        "skipDelete",
        "template",
        "timeout",
    ],
};

pub(super) const STEP: Fields = Fields {
    of: "a step",
    read: &["name", "description", "timeouts", "try"],
    refused: &[
        "bindings",
        "catch",
        "cleanup",
        "cluster",
        "clusters",
        "compiler",
        "deletionPropagationPolicy",
        "finally",
        "outputs",
        "skipDelete",
        "template",
        "use",
    ],
};

/// `description` stands beside the operation.
pub(super) const OPERATION: Fields = Fields {
    of: "an operation",
    read: &["apply", "assert", "delete", "error", "script", "wait", "description"],
    refused: &[
        "bindings",
        "command",
        "compiler",
        "continueOnError",
        "create",
        "describe",
        "events",
        "get",
        "outputs",
        "patch",
        "podLogs",
        "proxy",
        "sleep",
        "timeout",
        "update",
    ],
};

pub(super) const APPLY: Fields = Fields {
    of: "apply",
    read: &["file", "resource", "timeout"],
    refused: &["bindings", "cluster", "clusters", "compiler", "dryRun", "expect", "outputs", "template"],
};

pub(super) const ASSERT: Fields = Fields {
    of: "assert and error",
    read: &["file", "resource", "timeout"],
    refused: &["bindings", "cluster", "clusters", "compiler", "template"],
};

pub(super) const DELETE: Fields = Fields {
    of: "delete",
    read: &["file", "ref", "timeout"],
    refused: &[
        "bindings",
        "cluster",
        "clusters",
        "compiler",
        "deletionPropagationPolicy",
        "expect",
        "template",
    ],
};

pub(super) const REFERENCE: Fields =
    Fields { of: "ref", read: &["apiVersion", "kind", "name", "namespace", "labels"], refused: &[] };

pub(super) const SCRIPT: Fields = Fields {
    of: "script",
    read: &["content", "env", "timeout"],
    refused: &[
        "bindings",
        "check",
        "cluster",
        "clusters",
        "compiler",
        "outputs",
        "shell",
        "shellArgs",
        "skipCommandOutput",
        "skipLogOutput",
        "workDir",
    ],
};

pub(super) const VARIABLE: Fields = Fields { of: "env", read: &["name", "value"], refused: &["compiler"] };

pub(super) const WAIT: Fields = Fields {
    of: "wait",
    read: &["apiVersion", "kind", "name", "namespace", "selector", "for", "timeout"],
    refused: &["cluster", "clusters", "format"],
};

pub(super) const FOR: Fields =
    Fields { of: "for", read: &["condition", "deletion", "jsonPath"], refused: &[] };

pub(super) const CONDITION: Fields = Fields { of: "condition", read: &["name", "value"], refused: &[] };

pub(super) const JSON_PATH: Fields = Fields { of: "jsonPath", read: &["path", "value"], refused: &[] };

pub(super) const TIMEOUTS: Fields =
    Fields { of: "timeouts", read: &["apply", "assert", "cleanup", "delete", "error", "exec"], refused: &[] };
