//! The pods of a builder in Kubernetes, as `kubectl` lists them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::instance::Deployment;
use crate::{
    buildkit::{
        address::PodPlace,
        connect_fault::ConnectCause,
        process::{Program, kubectl_args},
        setup::ConnectSetup,
    },
    report::Diagnostic,
};

/// Time for a cluster to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The container that buildx makes in a pod.
const CONTAINER: &str = "buildkitd";

/// The pods of a deployment that run; those that are about to end are left out.
///
/// # Errors
/// The cluster does not answer, or none runs.
pub(super) async fn running(deployment: &Deployment, setup: &ConnectSetup) -> Result<Vec<PodPlace>, Diagnostic> {
    let Deployment { name, namespace, kubeconfig } = deployment;
    let fault = |why: &str| {
        Diagnostic::error("bake::builder::pods", format!("the pods of the deployment `{name}` are not found: {why}"))
    };
    let mut args = kubectl_args(kubeconfig.as_deref(), None, namespace.as_deref());
    args.extend(["get".to_owned(), "pods".to_owned(), format!("--selector=app={name}"), "--output=json".to_owned()]);
    let listed = timeout(ANSWER, Program { name: "kubectl", args }.output(setup)).await;
    let listed = listed.unwrap_or_else(|_| Err(ConnectCause::new("no answer within 5 seconds")));
    let listed = listed.map_err(|ConnectCause { reason, help }| Diagnostic { help, ..fault(&reason) })?;
    let list: Value = serde_json::from_slice(&listed).map_err(|error| fault(&error.to_string()))?;
    let pods: Vec<PodPlace> = names(&list)
        .map(|pod| PodPlace {
            pod: pod.to_owned(),
            context: None,
            namespace: namespace.clone(),
            container: Some(CONTAINER.to_owned()),
            kubeconfig: kubeconfig.clone(),
        })
        .collect();
    if pods.is_empty() {
        return Err(fault("none runs").help("start them with `docker buildx inspect --bootstrap NAME`"));
    }
    Ok(pods)
}

/// The names of the pods of a list that run and stay.
fn names(list: &Value) -> impl Iterator<Item = &str> {
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    let runs = |pod: &&Value| {
        pod.pointer("/status/phase").and_then(Value::as_str) == Some("Running")
            && pod.pointer("/metadata/deletionTimestamp").is_none_or(Value::is_null)
    };
    items.filter(runs).filter_map(|pod| pod.pointer("/metadata/name").and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_end_or_wait_are_left_out() {
        let list = serde_json::json!({ "items": [
            { "metadata": { "name": "a" }, "status": { "phase": "Running" } },
            { "metadata": { "name": "b", "deletionTimestamp": "2026-01-01T00:00:00Z" }, "status": { "phase": "Running" } },
            { "metadata": { "name": "c" }, "status": { "phase": "Pending" } },
        ]});
        assert_eq!(names(&list).collect::<Vec<_>>(), ["a"]);
    }
}
