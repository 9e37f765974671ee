use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use steadfs_namenode_core::blocks::Wish;
use steadfs_namenode_core::locality::{Asked, Pods, Role, renames};

use super::facts::{NodeFacts, PodFacts, Stay, Watched};
use super::objects::{NodeObject, PodObject, SpaceObject};
use super::picture::picture;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod_facts(value: Value) -> Option<PodFacts> {
    serde_json::from_value::<PodObject>(value).unwrap().facts(&[])
}

fn node_facts(value: Value, labels: &[&str]) -> Option<NodeFacts> {
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    serde_json::from_value::<NodeObject>(value).unwrap().facts(&labels)
}

/// A pod as the API server tells it, with more than is read.
fn pod(namespace: &str, name: &str, address: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}"),
            "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"team": "a"},
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}}]
        },
        "spec": {
            "nodeName": node, "serviceAccountName": "default",
            "containers": [{"name": "main", "image": "x", "env": [
                {"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
            ]}]
        },
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.168.0.1"}
    })
}

fn with(mut pod: Value, path: &str, value: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = pod.pointer_mut(parent).unwrap();
    parent[key] = value;
    pod
}

fn labelled(pod: Value, app: &str, role: &str) -> Value {
    with(
        pod,
        "/metadata/labels",
        json!({"spark-app-selector": app, "spark-role": role, "spark-exec-id": "1"}),
    )
}

fn executor(namespace: &str, name: &str, address: &str, app: &str) -> Value {
    labelled(pod(namespace, name, address, "node-1"), app, "executor")
}

fn driven_by(pod: Value, host: &str) -> Value {
    let url = format!("spark://CoarseGrainedScheduler@{host}:7078");
    with(
        pod,
        "/spec/containers",
        json!([{"name": "spark", "env": [{"name": "SPARK_DRIVER_URL", "value": url}]}]),
    )
}

fn picture_of(pods: &[Value]) -> Pods {
    let facts: Vec<PodFacts> = pods.iter().cloned().filter_map(pod_facts).collect();
    picture(facts.iter(), [].into_iter(), &BTreeSet::new()).unwrap()
}

/// The application that hears executors' names from this address, and in which role.
fn heard<'a>(pods: &'a Pods, address: &str) -> Option<(&'a str, Role)> {
    let reader = pods.reader(ip(address))?;
    reader.application().map(|application| (application, reader.role))
}

#[test]
fn what_matters_of_a_pod_is_kept() {
    let facts = pod_facts(driven_by(executor("jobs", "exec-1", "10.0.0.1", "spark-1"), "10.0.0.9")).unwrap();
    assert_eq!(
        (facts.node.as_str(), facts.role, facts.driver.as_str()),
        ("node-1", Role::Executor, "10.0.0.9")
    );
    assert_eq!(
        (facts.ips.as_slice(), facts.leaves, facts.opted_out),
        ([ip("10.0.0.1")].as_slice(), false, false)
    );
    assert_eq!(facts.made, 1_767_323_045);
    let six = driven_by(executor("jobs", "e", "fd00::5", "a"), "[fd00::9]");
    assert_eq!(pod_facts(six).unwrap().driver, "fd00::9");
    let dual = with(
        pod("jobs", "p", "10.0.0.1", "n"),
        "/status/podIPs",
        json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]),
    );
    assert_eq!(pod_facts(dual).unwrap().ips, [ip("10.0.0.1"), ip("fd00::1")]);
}

#[test]
fn pods_without_a_place_and_ended_ones_are_nobody() {
    let ordinary = || pod("a", "p", "10.0.0.1", "n");
    assert!(pod_facts(ordinary()).is_some());
    assert!(pod_facts(with(ordinary(), "/status/phase", json!("Pending"))).is_some(), "it has an address");
    for ended in ["Succeeded", "Failed"] {
        assert_eq!(pod_facts(with(ordinary(), "/status/phase", json!(ended))), None);
    }
    assert_eq!(pod_facts(with(ordinary(), "/spec/nodeName", json!(null))), None);
    assert_eq!(pod_facts(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "n"}})), None);
    let odd = with(ordinary(), "/status/podIP", json!("what"));
    assert_eq!(pod_facts(with(odd, "/status/podIPs", json!([{"ip": "no"}]))), None);
}

#[test]
fn spark_names_its_application_by_a_label() {
    let pods = picture_of(&[
        labelled(pod("jobs", "driver", "10.0.0.9", "n"), "spark-1", "driver"),
        executor("jobs", "exec-1", "10.0.0.1", "spark-1"),
        executor("other", "exec-1", "10.0.0.2", "spark-1"),
        pod("jobs", "shell", "10.0.0.3", "n"),
    ]);
    assert_eq!(heard(&pods, "10.0.0.9"), Some(("jobs/spark-1", Role::Driver)));
    assert_eq!(heard(&pods, "10.0.0.1"), Some(("jobs/spark-1", Role::Executor)));
    assert_eq!(
        heard(&pods, "10.0.0.2"),
        Some(("other/spark-1", Role::Executor)),
        "ids of others do not count"
    );
    assert_eq!(heard(&pods, "10.0.0.3"), None, "these executors have a driver");
    assert_eq!(pods.reader(ip("10.0.0.3")).unwrap().node, "n", "but its node is known");
}

#[test]
fn a_driver_without_a_label_is_found_by_its_executors() {
    let notebook = || pod("lab", "notebook-0", "10.0.0.9", "n");
    let owners =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "notebook-0", "uid": "uid-lab-notebook-0"}]);
    let bystander = || pod("lab", "bystander", "10.0.0.8", "n");
    for exec in [
        with(executor("lab", "e", "10.0.0.1", "spark-1"), "/metadata/ownerReferences", owners),
        driven_by(executor("lab", "e", "10.0.0.1", "spark-1"), "10.0.0.9"),
        driven_by(executor("lab", "e", "10.0.0.1", "spark-1"), "notebook-0.lab.svc.cluster.local"),
        driven_by(executor("lab", "e", "10.0.0.1", "spark-1"), "notebook-0"),
    ] {
        let pods = picture_of(&[notebook(), bystander(), exec]);
        assert_eq!(heard(&pods, "10.0.0.9"), Some(("lab/spark-1", Role::Driver)));
        assert_eq!(heard(&pods, "10.0.0.8"), None, "it has a driver");
        assert!(renames(Asked::BlockLocations, &pods.reader(ip("10.0.0.9")).unwrap()));
    }
    let elsewhere = driven_by(executor("runs", "e", "10.0.0.1", "spark-1"), "10.0.0.9");
    let pods = picture_of(&[notebook(), elsewhere]);
    assert_eq!(
        heard(&pods, "10.0.0.9"),
        Some(("runs/spark-1", Role::Driver)),
        "an address is one in all namespaces"
    );
}

#[test]
fn executors_of_nobody_are_those_of_their_namespace() {
    let behind_a_service = |name: &str, address: &str, app: &str| {
        driven_by(executor("lab", name, address, app), "driver-svc.lab.svc")
    };
    let notebook = || pod("lab", "notebook-0", "10.0.0.9", "n");
    let one = picture_of(&[
        notebook(),
        behind_a_service("e", "10.0.0.1", "spark-1"),
        pod("x", "p", "10.0.0.7", "n"),
    ]);
    assert_eq!(heard(&one, "10.0.0.9"), Some(("lab/spark-1", Role::Driver)));
    assert_eq!(heard(&one, "10.0.0.7"), None);
    let two = picture_of(&[
        notebook(),
        behind_a_service("e", "10.0.0.1", "spark-1"),
        behind_a_service("f", "10.0.0.2", "spark-2"),
    ]);
    assert_eq!(heard(&two, "10.0.0.9"), Some(("lab/", Role::Driver)));
    assert_eq!(heard(&two, "10.0.0.1"), Some(("lab/spark-1", Role::Executor)));
}

#[test]
fn who_leaves_is_known_but_not_named() {
    let reader = || labelled(pod("jobs", "driver", "10.0.0.9", "n"), "spark-1", "driver");
    let named = |pods: &Pods| {
        let reader = pods.reader(ip("10.0.0.9")).unwrap();
        let block = steadfs_common::BlockId(1);
        steadfs_namenode_core::locality::named(pods, &reader, block, &["node-1"])[0].host.to_owned()
    };
    let exec = || executor("jobs", "e", "10.0.0.1", "spark-1");
    assert_eq!(named(&picture_of(&[reader(), exec()])), "10.0.0.1");
    let inactive = with(exec(), "/metadata/labels/spark-exec-inactive", json!("true"));
    let ending = with(exec(), "/metadata/deletionTimestamp", json!("2026-01-02T03:04:05Z"));
    for gone in [inactive, ending] {
        let pods = picture_of(&[reader(), gone]);
        assert_eq!(named(&pods), "localhost");
        assert_eq!(pods.reader(ip("10.0.0.1")).unwrap().node, "node-1", "it may still read");
    }
}

#[test]
fn opting_out_works_on_pods_and_namespaces() {
    let exec = || executor("jobs", "e", "10.0.0.1", "spark-1");
    let out = json!({"steadfs.dev/locality": "false"});
    assert_eq!(heard(&picture_of(&[with(exec(), "/metadata/annotations", out.clone())]), "10.0.0.1"), None);
    let on = json!({"steadfs.dev/locality": "true"});
    assert!(heard(&picture_of(&[with(exec(), "/metadata/annotations", on)]), "10.0.0.1").is_some());
    let facts = [pod_facts(exec()).unwrap()];
    let pods = picture(facts.iter(), [].into_iter(), &BTreeSet::from(["jobs"])).unwrap();
    assert_eq!(heard(&pods, "10.0.0.1"), None);
    assert_eq!(pods.reader(ip("10.0.0.1")).unwrap().node, "node-1");
    let space = |annotations: Value| {
        let object =
            json!({"metadata": {"name": "jobs", "uid": "u", "annotations": annotations}, "spec": {}});
        serde_json::from_value::<SpaceObject>(object).unwrap().facts(&[])
    };
    assert_eq!(space(out), Some("jobs".to_owned()));
    assert_eq!((space(json!({})), space(json!(null))), (None, None));
}

#[test]
fn pods_in_their_nodes_network_have_no_application() {
    let host =
        |name: &str| with(executor("jobs", name, "192.168.0.1", "spark-1"), "/spec/hostNetwork", json!(true));
    let pods = picture_of(&[host("a"), host("b")]);
    let reader = pods.reader(ip("192.168.0.1")).unwrap();
    assert_eq!((reader.node, reader.application()), ("node-1", None));
}

#[test]
fn an_address_belongs_to_who_lives_and_to_the_younger() {
    let old = with(
        pod("a", "old", "10.0.0.1", "node-old"),
        "/metadata/creationTimestamp",
        json!("2025-01-01T00:00:00Z"),
    );
    let young = pod("a", "young", "10.0.0.1", "node-young");
    assert_eq!(picture_of(&[old.clone(), young.clone()]).reader(ip("10.0.0.1")).unwrap().node, "node-young");
    let ending = with(young, "/metadata/deletionTimestamp", json!("2026-01-02T03:04:05Z"));
    assert_eq!(picture_of(&[ending, old]).reader(ip("10.0.0.1")).unwrap().node, "node-old");
}

#[test]
fn racks_are_made_of_labels() {
    let node = |labels: Value| {
        json!({"metadata": {"name": "n", "uid": "u", "labels": labels}, "spec": {},
               "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"},
                                         {"type": "Hostname", "address": "n"}]}})
    };
    let keys = ["topology.kubernetes.io/zone", "rack"];
    let rack = |labels: Value| node_facts(node(labels), &keys).unwrap().rack.map(|rack| rack.to_string());
    assert_eq!(rack(json!({keys[0]: "zone-a", "rack": "r1"})).as_deref(), Some("/zone-a/r1"));
    assert_eq!(rack(json!({"rack": "r1"})).as_deref(), Some("/unlabelled/r1"));
    assert_eq!(rack(json!({keys[0]: "zone-a"})).as_deref(), Some("/zone-a/unlabelled"));
    assert_eq!((rack(json!({})), rack(json!(null))), (None, None));
    let ranged = with(node(json!({})), "/spec/podCIDR", json!("10.244.1.0/24"));
    let facts = node_facts(with(ranged, "/spec/podCIDRs", json!(["10.244.1.0/24", "odd"])), &keys).unwrap();
    assert_eq!((facts.ips, facts.stay), (vec![ip("192.168.0.1")], Stay::Stays));
    assert_eq!(facts.ranges, ["10.244.1.0/24".parse().unwrap()]);
}

#[test]
fn cordoned_nodes_rest_and_removed_ones_are_emptied() {
    let node = |spec: Value| {
        let value = json!({"metadata": {"name": "n", "uid": "u"}, "spec": spec, "status": {}});
        node_facts(value, &[]).unwrap().stay
    };
    assert_eq!(
        node(json!({"unschedulable": true, "taints": [{"key": "x", "effect": "NoSchedule"}]})),
        Stay::Cordoned
    );
    let taints = json!([{"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule"}]);
    assert_eq!(node(json!({"unschedulable": true, "taints": taints})), Stay::Removed);
    assert_eq!(node(json!({})), Stay::Stays);
    let leaving = BTreeMap::from([("a".to_owned(), Stay::Cordoned), ("b".to_owned(), Stay::Removed)]);
    let wishes = super::leave::wishes(leaving);
    assert_eq!(wishes["a"], Wish::Maintenance { until: None });
    assert_eq!(wishes["b"], Wish::Decommission);
}

/// Pods that share too few names, addresses and nodes.
fn some_pod() -> impl Strategy<Value = PodFacts> {
    let texts = (0_u8..6, 0_u8..3, 0_u8..3, 0_u8..4, 0_u8..5);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0_i64..3);
    (texts, prop::collection::vec(0_u8..5, 1..3), flags).prop_map(
        |((uid, space, node, app, driver), ips, flags)| {
            let (host_network, leaves, opted_out, made) = flags;
            let role = [Role::Driver, Role::Executor, Role::Executor, Role::Other][usize::from(app)];
            PodFacts {
                uid: format!("u{uid}"),
                namespace: format!("s{space}"),
                name: format!("p{uid}"),
                node: format!("n{node}"),
                ips: ips.into_iter().map(|last| IpAddr::from([10, 0, 0, last])).collect(),
                host_network,
                application: if app == 3 { String::new() } else { format!("spark-{app}") },
                role,
                leaves,
                owners: vec![format!("u{driver}")],
                driver: if driver > 2 { format!("10.0.0.{driver}") } else { format!("p{driver}.s0.svc") },
                opted_out,
                made,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_told_makes_a_picture(pods in prop::collection::vec(some_pod(), 0..12)) {
        let made = picture(pods.iter(), [].into_iter(), &BTreeSet::new());
        prop_assert!(made.is_ok(), "{:?}", made.err());
        let made = made.unwrap();
        let mut back = pods.clone();
        back.reverse();
        // Two pods with one uid do not exist; which of them is believed may depend on the order.
        let uids: BTreeSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        if uids.len() == pods.len() {
            let again = picture(back.iter(), [].into_iter(), &BTreeSet::new()).unwrap();
            for last in 0..5_u8 {
                let ip = IpAddr::from([10, 0, 0, last]);
                prop_assert_eq!(made.reader(ip), again.reader(ip));
            }
        }
    }
}
