use proptest::prelude::*;

use super::*;

/// A test with these operations.
fn with(operations: &str) -> String {
    format!(
        "apiVersion: chainsaw.kyverno.io/v1alpha1\nkind: Test\nmetadata: {{ name: nodes }}\nspec:\n  steps:\n  - try:\n{operations}"
    )
}

fn read_text(text: &str) -> Result<Vec<ChainsawTest>, Vec<Problem>> {
    read(text, &mut |path| match path {
        "pod.yaml" => Ok("apiVersion: v1\nkind: Pod\nmetadata: { name: a }\nspec: { x: 1 }\n".to_owned()),
        "expression.yaml" => {
            Ok("apiVersion: v1\nkind: Pod\n\nmetadata: { name: (join('-', ['a'])) }\n".to_owned())
        }
        _ => Err("the file cannot be read".to_owned()),
    })
}

fn refused(text: &str) -> String {
    let problems = read_text(text).expect_err("accepted");
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.line, problem.message))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_supported_operation_is_read() {
    let text = with(
        r#"    - apply: { file: pod.yaml }
    - apply:
        resource: { apiVersion: v1, kind: ConfigMap, metadata: { name: m }, data: { a: "1" } }
        timeout: 1m30s
    - assert:
        resource:
          apiVersion: v1
          kind: Pod
          metadata: { labels: { app: web, tier: front } }
          status: { phase: Running }
    - error: { resource: { apiVersion: v1, kind: Pod, metadata: { name: gone } } }
    - script: { content: "exit 0", env: [{ name: A, value: b }] }
    - wait: { apiVersion: apps/v1, kind: Deployment, name: web, for: { condition: { name: Available, value: 'true' } } }
    - wait: { apiVersion: v1, kind: Pod, selector: app=web, timeout: 2m, for: { jsonPath: { path: '{.status.phase}', value: Running } } }
    - wait: { apiVersion: v1, kind: Pod, name: a, for: { deletion: {} } }
    - delete: { ref: { apiVersion: v1, kind: Pod, labels: { app: web } } }
    - delete: { file: pod.yaml }
"#,
    );
    let tests = read_text(&text).expect("read");
    insta::assert_snapshot!(serde_json::to_string_pretty(&tests).expect("plain data"));
}

#[test]
fn limits_of_a_step_precede_those_of_the_test_and_an_own_limit_all() {
    let text = "apiVersion: chainsaw.kyverno.io/v1alpha1\nkind: Test\nmetadata: { name: t }\nspec:\n  timeouts: { assert: 10s, cleanup: 7s }\n  steps:\n  - timeouts: { assert: 20s }\n    try:\n    - assert: { file: pod.yaml }\n    - assert: { file: pod.yaml, timeout: 40s }\n  - try:\n    - assert: { file: pod.yaml }\n";
    let [test] = &read_text(text).expect("read")[..] else { panic!("one") };
    let limits: Vec<_> =
        test.steps.iter().flat_map(|step| &step.operations).map(|one| one.limit.as_secs()).collect();
    assert_eq!((limits, test.cleanup.as_secs()), (vec![20, 40, 10], 7));
}

#[test]
fn what_is_not_supported_is_named_with_its_line() {
    let assert = "    - assert: { file: pod.yaml }\n";
    let texts = [
        with("    - create: { file: pod.yaml }\n"),
        with("    - sleep: { duration: 5s }\n"),
        with("    - script: { content: x, check: { ($error): null } }\n"),
        with(
            "    - assert:\n        resource:\n          apiVersion: v1\n          kind: Pod\n          spec:\n            (length(containers)): 1\n",
        ),
        with("    - assert: { file: expression.yaml }\n"),
        with("    - apply: { file: '*.yaml' }\n"),
        with("    - assert: { file: missing.yaml }\n"),
        with("    - apply: { file: pod.yaml }\n"),
        with("    - assert: { file: pod.yaml, timeout: soon }\n"),
        with("    - wait: { apiVersion: v1, kind: Pod, name: a, for: {} }\n"),
        with(&format!("{assert}    catch: [{{ events: {{}} }}]\n")),
        with(&format!("{assert}    own: 1\n")),
        with(assert).replace("  steps:", "  skip: true\n  steps:"),
        with(assert).replace("v1alpha1", "v1alpha2"),
        with(assert).replace("metadata: { name: nodes }\n", ""),
        "a: [".to_owned(),
        String::new(),
    ];
    let told: Vec<_> = texts.iter().map(|text| refused(text)).collect();
    insta::assert_snapshot!(told.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn damaged_files_end_without_a_panic(at in 0usize..400, text in "[ -~\n&*é]{0,5}") {
        let mut damaged = with("    - assert: { file: pod.yaml }\n    - script: { content: \"exit 0\" }\n");
        let at = at.min(damaged.len() - 1);
        damaged.replace_range(at..=at, &text);
        let _ = read_text(&damaged);
    }
}
