//! The watch against a pretend API server.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use steadfs_daemon::shutdown::Shutdown;
use steadfs_namenode_core::locality::Asked;
use tokio::sync::broadcast;

use super::watch::watch;
use crate::config::KubernetesConfig;
use crate::{Namenode, NamenodeConfig};

/// What the pretend API server says.
struct Api {
    objects: Mutex<BTreeMap<&'static str, Vec<Value>>>,
    refused: Mutex<Vec<&'static str>>,
    changes: broadcast::Sender<(&'static str, Value)>,
}

impl Api {
    async fn start() -> (Arc<Self>, kube::Client) {
        let api = Arc::new(Self {
            objects: Mutex::default(),
            refused: Mutex::default(),
            changes: broadcast::channel(64).0,
        });
        let router = Router::new()
            .route("/api/v1/{resource}", axum::routing::get(everything))
            .route("/api/v1/namespaces/{space}/{resource}", axum::routing::get(one_space))
            .with_state(api.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        (api, client)
    }

    fn put(&self, resource: &'static str, object: Value) {
        self.objects.lock().entry(resource).or_default().push(object);
    }

    /// Tells those who watch.
    fn tell(&self, resource: &'static str, kind: &str, object: &Value) {
        let _ = self.changes.send((resource, json!({"type": kind, "object": object})));
    }

    fn refuse(&self, resources: &[&'static str]) {
        *self.refused.lock() = resources.to_vec();
    }
}

type Asking = Query<BTreeMap<String, String>>;

async fn everything(
    State(api): State<Arc<Api>>,
    Path(resource): Path<String>,
    asked: Asking,
) -> Response<Body> {
    answer(&api, &resource, &asked, |_| true)
}

async fn one_space(
    State(api): State<Arc<Api>>,
    Path((space, resource)): Path<(String, String)>,
    asked: Asking,
) -> Response<Body> {
    answer(&api, &resource, &asked, |object| object["metadata"]["namespace"] == space.as_str())
}

fn answer(api: &Api, resource: &str, asked: &Asking, wanted: impl Fn(&Value) -> bool) -> Response<Body> {
    let response = |code: StatusCode, body: Body| {
        Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
    };
    if api.refused.lock().contains(&resource) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
            "reason": "Forbidden", "message": format!("{resource} is forbidden: no rights")});
        return response(StatusCode::FORBIDDEN, status.to_string().into());
    }
    if asked.contains_key("watch") {
        let resource = resource.to_owned();
        let changes = tokio_stream::wrappers::ReceiverStream::new(forward(api.changes.subscribe(), resource));
        return response(StatusCode::OK, Body::from_stream(changes.map(Ok::<_, std::io::Error>)));
    }
    let objects = api.objects.lock();
    let items: Vec<&Value> =
        objects.get(resource).into_iter().flatten().filter(|object| wanted(object)).collect();
    let list =
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
    response(StatusCode::OK, list.to_string().into())
}

fn forward(
    mut changes: broadcast::Receiver<(&'static str, Value)>,
    resource: String,
) -> tokio::sync::mpsc::Receiver<Bytes> {
    let (lines, out) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((kind, change)) = changes.recv().await {
            if kind == resource && lines.send(Bytes::from(format!("{change}\n"))).await.is_err() {
                return;
            }
        }
    });
    out
}

struct Bench {
    namenode: Namenode,
    api: Arc<Api>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn start(config: KubernetesConfig, prepare: impl FnOnce(&Api)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (api, client) = Api::start().await;
        prepare(&api);
        let mut settings = NamenodeConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            http_listen: ([127, 0, 0, 1], 0).into(),
            data_dirs: vec![folder.path().join("a")],
            ..NamenodeConfig::default()
        };
        settings.insecure.simple = true;
        let namenode = Namenode::start(settings, Shutdown::new()).await.unwrap();
        tokio::spawn(watch(client, namenode.service().clone(), config));
        Self { namenode, api, _folder: folder }
    }

    fn peers(&self, node: &str) -> Vec<String> {
        self.namenode.service().locality().peers_on(node)
    }

    fn names(&self, address: &str) -> bool {
        let caller: IpAddr = address.parse().unwrap();
        self.namenode.service().locality().namer(Some(caller), Asked::Listing).is_some()
    }

    fn problem(&self, resource: &str) -> Option<String> {
        self.namenode.service().kubernetes().problems().get(resource).cloned()
    }
}

/// Waits until it is true.
async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let wait = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "never: {what}");
}

fn pod(name: &str, address: &str, node: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "jobs", "uid": name, "resourceVersion": version.to_string(),
            "labels": {"spark-app-selector": "spark-1", "spark-role": "executor"}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    })
}

fn node(name: &str, unschedulable: bool, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "resourceVersion": version.to_string(),
            "labels": {"topology.kubernetes.io/zone": "zone-a"}},
        "spec": {"unschedulable": unschedulable},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]}
    })
}

#[tokio::test]
async fn what_changes_is_seen() {
    let bench = Bench::start(KubernetesConfig::default(), |api| {
        api.put("pods", pod("a", "10.0.0.1", "n-1", 1));
        api.put("nodes", node("n-1", false, 1));
    })
    .await;
    until("the first list", || async { bench.peers("n-1") == ["10.0.0.1", "192.168.0.1"] }).await;
    assert!(bench.names("10.0.0.1"));
    // Who watches begins after the list: told until it is heard.
    until("a new pod", || async {
        bench.api.tell("pods", "ADDED", &pod("b", "10.0.0.2", "n-2", 2));
        bench.peers("n-2") == ["10.0.0.2"]
    })
    .await;
    bench.api.tell("pods", "DELETED", &pod("a", "10.0.0.1", "n-1", 3));
    until("a pod that went", || async { !bench.peers("n-1").contains(&"10.0.0.1".to_owned()) }).await;
    let ended = json!({"phase": "Succeeded", "podIP": "10.0.0.2"});
    let mut pod = pod("b", "10.0.0.2", "n-2", 4);
    pod["status"] = ended;
    bench.api.tell("pods", "MODIFIED", &pod);
    until("a pod that ended", || async { bench.peers("n-2").is_empty() }).await;
    let silent = json!({"metadata": {"name": "jobs", "uid": "s", "resourceVersion": "9",
        "annotations": {"steadfs.dev/locality": "false"}}, "spec": {}, "apiVersion": "v1", "kind": "Namespace"});
    bench.api.tell("pods", "ADDED", &super::watch_test::pod("c", "10.0.0.3", "n-3", 5));
    until("one more", || async { bench.names("10.0.0.3") }).await;
    until("a namespace that opts out", || async {
        bench.api.tell("namespaces", "ADDED", &silent);
        !bench.names("10.0.0.3")
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_is_said_and_what_was_known_holds() {
    let bench = Bench::start(KubernetesConfig::default(), |api| {
        api.put("pods", pod("a", "10.0.0.1", "n-1", 1));
        api.refuse(&["nodes", "namespaces"]);
    })
    .await;
    until("pods alone", || async { bench.peers("n-1") == ["10.0.0.1"] }).await;
    until("the refusal", || async { bench.problem("nodes").is_some_and(|told| told.contains("forbidden")) })
        .await;
    assert_eq!(bench.problem("pods"), None);
    // The rights to see pods go: the stream breaks and is refused from then on.
    bench.api.refuse(&["pods", "nodes", "namespaces"]);
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version"});
    until("pods are refused", || async {
        bench.api.tell("pods", "ERROR", &gone);
        bench.problem("pods").is_some()
    })
    .await;
    assert_eq!(bench.peers("n-1"), ["10.0.0.1"], "what was known holds");
    // Meanwhile the pod went and another came; and the rights come back.
    bench.api.objects.lock().insert("pods", vec![pod("b", "10.0.0.2", "n-2", 7)]);
    bench.api.refuse(&[]);
    bench.api.put("nodes", node("n-1", false, 1));
    until("all is well", || async {
        bench.problem("pods").is_none()
            && bench.peers("n-2") == ["10.0.0.2"]
            && bench.peers("n-1") == ["192.168.0.1"]
    })
    .await;
}

#[tokio::test]
async fn some_namespaces_are_enough() {
    let config =
        KubernetesConfig { namespaces: vec!["jobs".into(), "none".into()], ..KubernetesConfig::default() };
    let bench = Bench::start(config, |api| {
        api.put("pods", pod("a", "10.0.0.1", "n-1", 1));
        let mut other = pod("b", "10.0.0.2", "n-1", 1);
        other["metadata"]["namespace"] = json!("other");
        api.put("pods", other);
        api.refuse(&["nodes", "namespaces"]);
    })
    .await;
    until("the pods of jobs", || async { bench.peers("n-1") == ["10.0.0.1"] }).await;
    assert_eq!(bench.problem("namespaces"), None, "nobody asked for them");
}
