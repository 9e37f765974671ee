use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use steadfs_common::BlockId;

use super::*;

const APP: &str = "spark-1";

fn pod(id: &str, ip: &str, node: &str, application: &str, role: Role) -> Pod {
    Pod {
        id: id.into(),
        ips: vec![ip.parse().unwrap()],
        node: node.into(),
        host_network: false,
        application: application.into(),
        also_for: String::new(),
        role,
        opted_out: false,
    }
}

fn driver() -> Pod {
    pod("driver", "10.9.9.9", "node-x", APP, Role::Driver)
}

/// `per_node[n]` executors on node `n-<n>`.
fn executors(per_node: &[usize]) -> Vec<Pod> {
    let on = |(node, count): (usize, &usize)| {
        let count = *count;
        (0..count).map(move |at| {
            let ip = format!("10.0.{node}.{}", at + 1);
            pod(&format!("exec-{node}-{at}"), &ip, &format!("n-{node}"), APP, Role::Executor)
        })
    };
    per_node.iter().enumerate().flat_map(on).collect()
}

fn picture(mut pods: Vec<Pod>) -> Pods {
    pods.push(driver());
    Pods::new(pods).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn real<'a>(entries: &[Entry<'a>]) -> Vec<&'a str> {
    entries.iter().map(|entry| entry.host).filter(|host| *host != NO_PREFERENCE).collect()
}

fn names<'a>(pods: &'a Pods, block: u64, nodes: &[&str]) -> Vec<(usize, &'a str)> {
    let reader = pods.reader(ip("10.9.9.9")).unwrap();
    named(pods, &reader, BlockId(block), nodes).into_iter().map(|entry| (entry.replica, entry.host)).collect()
}

#[test]
fn a_replica_without_an_executor_has_no_preference() {
    let pods = picture(executors(&[1, 0, 1]));
    assert_eq!(names(&pods, 7, &["n-1", "n-0", ""]), [(0, "localhost"), (1, "10.0.0.1"), (2, "localhost")]);
    assert_eq!(names(&pods, 7, &["n-1"]), [(0, "localhost")]);
    assert!(names(&pods, 7, &[]).is_empty());
}

#[test]
fn one_replica_is_topped_up_with_the_other_pods_of_its_node() {
    let pods = picture(executors(&[5]));
    let entries = names(&pods, 1, &["n-0"]);
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|(replica, _)| *replica == 0));
    assert_eq!(entries.iter().map(|(_, host)| host).collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn addresses_of_version_6_are_named_in_brackets() {
    let mut pods = executors(&[]);
    pods.push(pod("six", "fd00::11", "n-0", APP, Role::Executor));
    pods.push(pod("mapped", "::ffff:10.1.1.1", "n-1", APP, Role::Executor));
    let pods = picture(pods);
    assert_eq!(names(&pods, 1, &["n-0", "n-1"]), [(0, "[fd00::11]"), (1, "10.1.1.1")]);
    assert_eq!(pods.reader(ip("10.1.1.1")).unwrap().node, "n-1");
    assert_eq!(pods.reader(ip("::ffff:10.1.1.1")).unwrap().node, "n-1");
}

#[test]
fn what_is_renamed_for_whom() {
    let pods = picture(executors(&[1]));
    let driver = pods.reader(ip("10.9.9.9")).unwrap();
    let executor = pods.reader(ip("10.0.0.1")).unwrap();
    for (asked, of_driver, of_executor) in [
        (Asked::Listing, true, true),
        (Asked::LocatedStatus, true, true),
        (Asked::BlockLocations, true, false),
        (Asked::Write, false, false),
    ] {
        assert_eq!(
            (renames(asked, &driver), renames(asked, &executor)),
            (of_driver, of_executor),
            "{asked:?}"
        );
    }
    assert_eq!(pods.reader(ip("10.0.0.77")), None);
}

#[test]
fn whoever_opts_out_and_whoever_has_no_application_hears_registered_names() {
    let mut all = executors(&[2]);
    all.push(pod("lonely", "10.3.0.1", "n-0", "", Role::Other));
    all.push(Pod { opted_out: true, ..pod("other-driver", "10.3.0.2", "n-0", "spark-2", Role::Driver) });
    all.push(pod("other-exec", "10.3.0.3", "n-0", "spark-2", Role::Executor));
    let pods = picture(all);
    for address in ["10.3.0.1", "10.3.0.2", "10.3.0.3"] {
        let reader = pods.reader(ip(address)).unwrap();
        assert_eq!((reader.node, reader.application()), ("n-0", None), "{address}");
        assert!(!renames(Asked::Listing, &reader));
    }
    assert_eq!(pods.reader(ip("10.0.0.1")).unwrap().application(), Some(APP));
}

#[test]
fn pods_of_a_shared_address_have_a_node_and_an_application_only_if_they_agree() {
    let same = |application: &str, id: &str| pod(id, "192.168.0.1", "n-0", application, Role::Executor);
    let agree = Pods::new(vec![same(APP, "a"), same(APP, "b")]).unwrap();
    let reader = agree.reader(ip("192.168.0.1")).unwrap();
    assert_eq!(reader.application(), Some(APP));
    let entries = named(&agree, &reader, BlockId(1), &["n-0"]);
    assert_eq!(entries.as_slice(), [Entry { replica: 0, host: "192.168.0.1" }]);
    let differ = Pods::new(vec![same(APP, "a"), same("spark-2", "b")]).unwrap();
    let reader = differ.reader(ip("192.168.0.1")).unwrap();
    assert_eq!((reader.node, reader.application()), ("n-0", None));
}

#[test]
fn what_is_no_picture_is_refused_by_the_pod() {
    let good = || pod("a", "10.0.0.1", "n", APP, Role::Other);
    for (pods, part) in [
        (vec![good(), good()], "`a` is there twice"),
        (vec![Pod { id: String::new(), ..good() }], "no id"),
        (vec![Pod { node: String::new(), ..good() }], "`a` has no node"),
        (vec![Pod { ips: Vec::new(), ..good() }], "`a` has 0 addresses"),
        (vec![good(), Pod { id: "b".into(), node: "m".into(), ..good() }], "also on node `n`"),
    ] {
        let error = Pods::new(pods).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_pod_in_its_nodes_network_is_named_but_nobody_calls_as_it() {
    let shared = Pod { host_network: true, ..pod("h", "192.168.0.1", "n-0", APP, Role::Executor) };
    let pods = picture(vec![shared]);
    assert_eq!(names(&pods, 1, &["n-0"]), [(0, "192.168.0.1")]);
    let reader = pods.reader(ip("192.168.0.1")).unwrap();
    assert_eq!((reader.node, reader.application()), ("n-0", None));
}

#[test]
fn who_calls_from_a_nodes_address_is_on_that_node() {
    let rack: std::sync::Arc<str> = "/zone-a".into();
    let node = |name: &str, at: &str, rack| HostNode {
        name: name.into(),
        ips: vec![ip(at)],
        ranges: Vec::new(),
        rack,
    };
    let pods = picture(executors(&[1]))
        .with_nodes(vec![node("n-0", "192.168.0.1", Some(rack.clone())), node("n-1", "192.168.0.2", None)]);
    let reader = pods.reader(ip("::ffff:192.168.0.1")).unwrap();
    assert_eq!((reader.node, reader.role, reader.application()), ("n-0", Role::Other, None));
    assert_eq!((pods.rack("n-0"), pods.rack("n-1"), pods.rack("n-2")), (Some(&rack), None, None));
    assert_eq!(pods.addresses_on("n-0"), [ip("10.0.0.1"), ip("192.168.0.1")]);
    assert_eq!(pods.reader(ip("10.0.0.1")).unwrap().application(), Some(APP), "pods are as they were");
}

#[test]
fn a_pod_that_is_not_known_yet_is_where_its_range_is() {
    let node = |name: &str, range: &str| HostNode {
        name: name.into(),
        ips: Vec::new(),
        ranges: vec![range.parse().unwrap()],
        rack: None,
    };
    // The executors of `n-0` and `n-1` have 10.0.0.x and 10.0.1.x; there is none on `n-2`.
    let ranges = vec![node("n-0", "10.0.0.0/24"), node("n-1", "10.0.1.0/24"), node("n-2", "10.0.2.0/24")];
    let at = |pods: &Pods, address: &str| pods.reader(ip(address)).map(|reader| reader.node.to_owned());
    let pods = picture(executors(&[1, 1])).with_nodes(ranges.clone());
    let reader = pods.reader(ip("10.0.0.77")).unwrap();
    assert_eq!((reader.node, reader.role, reader.application()), ("n-0", Role::Other, None));
    assert_eq!(at(&pods, "10.0.2.77"), None, "nobody shows that it is used");
    assert_eq!(pods.ranges_of("n-1").map(|range| range.to_string()).collect::<Vec<_>>(), ["10.0.1.0/24"]);
    // Something else gives the addresses: a pod of another node is in the range.
    let mut all = executors(&[1, 1]);
    all.push(pod("astray", "10.0.1.9", "n-0", "", Role::Other));
    let pods = picture(all).with_nodes(ranges);
    assert_eq!((at(&pods, "10.0.0.77").as_deref(), at(&pods, "10.0.1.77")), (Some("n-0"), None));
    // Two nodes tell the same range.
    let pods =
        picture(executors(&[1])).with_nodes(vec![node("n-0", "10.0.0.0/24"), node("n-1", "10.0.0.0/24")]);
    assert_eq!(at(&pods, "10.0.0.77"), None);
}

#[test]
fn an_executor_may_be_named_for_a_second_application() {
    let mut all = executors(&[1]);
    all[0].also_for = "space/".into();
    all.push(pod("notebook", "10.3.0.9", "n-5", "space/", Role::Driver));
    let pods = picture(all);
    let reader = pods.reader(ip("10.3.0.9")).unwrap();
    let entries = named(&pods, &reader, BlockId(1), &["n-0"]);
    assert_eq!(entries.as_slice(), [Entry { replica: 0, host: "10.0.0.1" }]);
    assert_eq!(names(&pods, 1, &["n-0"]), [(0, "10.0.0.1")]);
}

#[test]
fn blocks_spread_over_the_pods_of_a_node() {
    let pods = picture(executors(&[4]));
    let mut wins = std::collections::BTreeMap::new();
    for block in 0..4_000 {
        *wins.entry(names(&pods, 1 << 30 | block, &["n-0"])[0].1).or_insert(0) += 1;
    }
    assert_eq!(wins.len(), 4);
    assert!(wins.values().all(|count| (850..1_150).contains(count)), "{wins:?}");
}

fn some_replicas() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0_usize..6, 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn three_names_if_there_are_three_pods_and_each_replica_once_before_any_repeats(
        per_node in prop::collection::vec(0_usize..5, 6),
        replicas in some_replicas(),
        block: u64,
    ) {
        let pods = picture(executors(&per_node));
        let nodes: Vec<String> = replicas.iter().map(|node| format!("n-{node}")).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let reader = pods.reader(ip("10.9.9.9")).unwrap();
        let entries = named(&pods, &reader, BlockId(block), &nodes);

        let beside: usize = replicas.iter().collect::<BTreeSet<_>>().iter().map(|node| per_node[**node]).sum();
        let hosts = real(&entries);
        prop_assert_eq!(hosts.len(), beside.min(MAX_NAMES));
        prop_assert_eq!(hosts.iter().collect::<BTreeSet<_>>().len(), hosts.len(), "no pod twice");
        let firsts: Vec<usize> = entries.iter().take(nodes.len()).map(|entry| entry.replica).collect();
        prop_assert_eq!(firsts, (0..nodes.len()).collect::<Vec<_>>());
        for entry in &entries[nodes.len()..] {
            prop_assert_ne!(entry.host, NO_PREFERENCE);
        }
        for entry in entries.iter().filter(|entry| entry.host != NO_PREFERENCE) {
            prop_assert_eq!(pods.reader(ip(entry.host)).unwrap().node, nodes[entry.replica]);
        }
    }

    #[test]
    fn the_pods_do_not_depend_on_the_order_of_replicas_nor_of_pods(
        per_node in prop::collection::vec(0_usize..4, 6),
        replicas in some_replicas(),
        block: u64,
    ) {
        let (forth, mut back) = (executors(&per_node), executors(&per_node));
        back.reverse();
        let (forth, back) = (picture(forth), picture(back));
        let nodes: Vec<String> = replicas.iter().map(|node| format!("n-{node}")).collect();
        let mut nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let hosts = |pods: &Pods, nodes: &[&str]| -> BTreeSet<String> {
            let named = names(pods, block, nodes);
            named.into_iter().map(|(_, host)| host.to_owned()).filter(|host| host != NO_PREFERENCE).collect()
        };
        let first = hosts(&forth, &nodes);
        nodes.reverse();
        prop_assert_eq!(first, hosts(&back, &nodes));
    }

    #[test]
    fn a_pod_that_goes_moves_only_the_blocks_that_it_had(
        per_node in prop::collection::vec(1_usize..4, 3),
        gone in 0_usize..3,
        block: u64,
    ) {
        let all = executors(&per_node);
        let gone = all[gone].clone();
        let less = picture(all.iter().filter(|pod| pod.id != gone.id).cloned().collect());
        let all = picture(all);
        let before = names(&all, block, &["n-0", "n-1", "n-2"]);
        if before.iter().all(|(_, host)| ip(host) != gone.ips[0]) {
            prop_assert_eq!(before, names(&less, block, &["n-0", "n-1", "n-2"]));
        }
    }
}
