use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use smallvec::smallvec;
use steadfs_common::{DatanodeUuid, StorageId, StorageType};

use super::{Machine, PlacementRequest, Topology, Volume};

const GIB: u64 = 1 << 30;

fn uuid(number: u32) -> DatanodeUuid {
    format!("00000000-0000-0000-0000-{number:012}").parse().unwrap()
}

fn storage(number: u32) -> StorageId {
    format!("DS-00000000-0000-0000-0001-{number:012}").parse().unwrap()
}

fn ip(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0A00_0000 + number).into()
}

fn machine(number: u32, rack: &str) -> Machine {
    Machine {
        uuid: uuid(number),
        ip: ip(number),
        host: format!("host-{number}"),
        port: 9866,
        rack: rack.into(),
        node: String::new(),
        live: true,
        open: true,
        stale: false,
        slow: false,
        volumes: smallvec![Volume {
            id: storage(number),
            kind: StorageType::Disk,
            free: 100 * GIB,
            promised: 0
        }],
    }
}

fn request(wanted: usize, seed: u64) -> PlacementRequest<'static> {
    PlacementRequest {
        wanted,
        least: 1,
        writer: None,
        existing: &[],
        excluded: &[],
        favored: &[],
        avoid_local: false,
        block_size: GIB,
        policy: 0,
        seed,
    }
}

/// Two racks of three.
fn racks() -> Topology {
    Topology::new((0..6).map(|number| machine(number, if number < 3 { "/a" } else { "/b" })).collect())
}

fn rack_of(topology: &Topology, id: StorageId) -> &str {
    &topology.machine_of(id).unwrap().rack
}

#[test]
fn own_node_then_another_rack_then_the_seconds_rack() {
    let topology = racks();
    for seed in 0..200 {
        let chosen = topology.choose(&PlacementRequest { writer: Some(ip(1)), ..request(3, seed) });
        assert_eq!(chosen[0], storage(1));
        assert_eq!(rack_of(&topology, chosen[1]), "/b");
        assert_eq!(rack_of(&topology, chosen[2]), "/b");
    }
}

#[test]
fn a_full_own_node_gives_way_to_its_rack() {
    let mut machines = racks().machines;
    machines[1].volumes[0].free = GIB - 1;
    let topology = Topology::new(machines);
    for seed in 0..100 {
        let chosen = topology.choose(&PlacementRequest { writer: Some(ip(1)), ..request(1, seed) });
        assert!([storage(0), storage(2)].contains(&chosen[0]));
    }
}

#[test]
fn a_new_replica_of_a_block_on_one_rack_goes_to_another() {
    let topology = racks();
    for seed in 0..100 {
        let existing = [storage(0), storage(1)];
        let chosen = topology.choose(&PlacementRequest { existing: &existing, ..request(1, seed) });
        assert_eq!(rack_of(&topology, chosen[0]), "/b");
    }
}

#[test]
fn avoiding_the_own_node_is_a_wish() {
    let topology = racks();
    for seed in 0..100 {
        let away = PlacementRequest { writer: Some(ip(1)), avoid_local: true, ..request(3, seed) };
        assert!(!topology.choose(&away).contains(&storage(1)));
    }
    let alone = Topology::new(vec![machine(1, "/a")]);
    let away = PlacementRequest { writer: Some(ip(1)), avoid_local: true, ..request(3, 1) };
    assert_eq!(alone.choose(&away)[..], [storage(1)]);
}

#[test]
fn favoured_nodes_come_first() {
    let topology = racks();
    let favored = ["host-4:9866".into(), "10.0.0.2:9866".into(), "host-5:1".into(), "nobody:9866".into()];
    let chosen = topology.choose(&PlacementRequest { favored: &favored, ..request(3, 9) });
    assert_eq!(chosen[..2], [storage(4), storage(2)]);
}

#[test]
fn stale_nodes_are_used_only_when_nobody_else_is_there() {
    let chosen = |stale: usize, request: PlacementRequest<'_>| -> Vec<StorageId> {
        let mut machines = racks().machines;
        machines[..stale].iter_mut().for_each(|machine| machine.stale = true);
        Topology::new(machines).choose(&request).to_vec()
    };
    for seed in 0..20 {
        let two = chosen(4, request(3, seed));
        assert_eq!(
            two.iter().collect::<BTreeSet<_>>(),
            [storage(4), storage(5)].iter().collect(),
            "a third would be stale"
        );
        let three = chosen(4, PlacementRequest { least: 3, ..request(3, seed) });
        assert_eq!((three.len(), &three[..2]), (3, &two[..]), "less than three is no block");
        let one_fresh = chosen(5, request(3, seed));
        assert_eq!((one_fresh.len(), one_fresh[0]), (3, storage(5)), "one on a fresh node is not enough");
        assert_eq!(chosen(6, request(3, seed)).len(), 3, "who says nothing may be the namenode itself");
        let existing = [storage(4), storage(5)];
        assert_eq!(chosen(4, PlacementRequest { existing: &existing, ..request(1, seed) }), []);
        let existing = [storage(0), storage(5)];
        assert_eq!(chosen(4, PlacementRequest { existing: &existing, ..request(1, seed) }), [storage(4)]);
        assert_eq!(chosen(5, PlacementRequest { existing: &existing, ..request(1, seed) }).len(), 1);
    }
}

#[test]
fn free_space_decides_the_share() {
    let mut machines: Vec<_> = (0..2).map(|number| machine(number, "/a")).collect();
    machines[0].volumes[0].free = 300 * GIB;
    let topology = Topology::new(machines);
    let hits = (0..2_000).filter(|seed| topology.choose(&request(1, *seed))[0] == storage(0)).count();
    assert!((1_400..1_600).contains(&hits), "{hits} of 2,000 on three quarters of the space");
}

#[test]
fn readers_get_the_nearest_first() {
    let mut machines = racks().machines;
    machines[1].stale = true;
    machines[5].live = false;
    let topology = Topology::new(machines);
    let mut firsts = BTreeMap::new();
    for seed in 0..200 {
        let mut order = [storage(9), storage(5), storage(1), storage(3), storage(4), storage(2), storage(0)];
        topology.order(Some(ip(0)), &mut order, seed);
        assert_eq!(order[..2], [storage(0), storage(2)]);
        assert_eq!(order[4], storage(1), "stale after fresh");
        *firsts.entry(order[2]).or_insert(0) += 1;
    }
    assert_eq!(firsts.len(), 2, "equals take turns");
}

/// A machine with everything that matters drawn.
fn any_machine() -> impl Strategy<Value = (u8, bool, bool, Vec<u64>)> {
    (0_u8..3, any::<bool>(), any::<bool>(), prop::collection::vec(0..4 * GIB, 0..3))
}

/// Nodes, each with a volume of each of these types.
fn typed(kinds: Vec<Vec<StorageType>>) -> Topology {
    let machines = kinds.iter().zip(0_u32..).map(|(kinds, number)| {
        let volume = |(kind, at): (&StorageType, u32)| Volume {
            id: storage(number * 8 + at),
            kind: *kind,
            free: 100 * GIB,
            promised: 0,
        };
        let volumes = kinds.iter().zip(0..).map(volume).collect();
        Machine { volumes, ..machine(number, if number % 2 == 0 { "/a" } else { "/b" }) }
    });
    Topology::new(machines.collect())
}

/// The types that a policy's replicas get, sorted.
fn types_on(topology: &Topology, policy: &str, existing: &[StorageId], wanted: usize) -> Vec<StorageType> {
    let policy = crate::policy::by_name(policy).unwrap().id;
    let mut found: Vec<_> = (0..20)
        .map(|seed| {
            let request = PlacementRequest { policy, existing, writer: Some(ip(1)), ..request(wanted, seed) };
            let mut kinds: Vec<_> =
                topology.choose(&request).iter().map(|id| topology.kind_of(*id).unwrap()).collect();
            kinds.sort();
            kinds
        })
        .collect();
    found.dedup();
    assert_eq!(found.len(), 1, "whatever the seed");
    found.remove(0)
}

#[test]
fn replicas_go_to_the_types_of_their_policy() {
    use StorageType::{Archive, Disk, RamDisk, Ssd};
    let all = typed(vec![vec![Disk, Ssd, Archive, RamDisk]; 5]);
    assert_eq!(types_on(&all, "HOT", &[], 3), [Disk, Disk, Disk]);
    assert_eq!(types_on(&all, "COLD", &[], 3), [Archive, Archive, Archive]);
    assert_eq!(types_on(&all, "WARM", &[], 3), [Disk, Archive, Archive]);
    assert_eq!(types_on(&all, "ONE_SSD", &[], 3), [Disk, Disk, Ssd]);
    assert_eq!(types_on(&all, "ALL_SSD", &[], 3), [Ssd, Ssd, Ssd]);
    assert_eq!(types_on(&all, "LAZY_PERSIST", &[], 3), [Disk, Disk, Disk], "nothing is left in memory alone");
}

#[test]
fn where_a_type_is_missing_the_policy_says_what_else() {
    use StorageType::{Archive, Disk, Ssd};
    let disks = typed(vec![vec![Disk]; 4]);
    for policy in ["WARM", "ONE_SSD", "ALL_SSD", "ALL_NVDIMM", "PROVIDED"] {
        assert_eq!(types_on(&disks, policy, &[], 3), [Disk, Disk, Disk], "{policy}");
    }
    assert_eq!(types_on(&disks, "COLD", &[], 3), []);
    let archives = typed(vec![vec![Archive]; 4]);
    assert_eq!(types_on(&archives, "HOT", &[], 3), [], "a new block has no fallback");
    assert_eq!(types_on(&archives, "HOT", &[storage(0)], 2), [Archive, Archive], "a lost replica has one");
    let one = typed(vec![vec![Disk], vec![Disk], vec![Disk, Ssd], vec![Disk]]);
    assert_eq!(types_on(&one, "ALL_SSD", &[], 3), [Disk, Disk, Ssd]);
}

#[test]
fn a_lost_replica_gets_the_type_that_is_lacking() {
    use StorageType::{Archive, Disk, Ssd};
    let all = typed(vec![vec![Disk, Ssd, Archive]; 5]);
    let (disk, ssd, other_disk) = (storage(0), storage(9), storage(16));
    assert_eq!(types_on(&all, "ONE_SSD", &[disk, other_disk], 1), [Ssd]);
    assert_eq!(types_on(&all, "ONE_SSD", &[disk, ssd], 1), [Disk]);
    assert_eq!(types_on(&all, "WARM", &[disk], 2), [Archive, Archive]);
}

#[test]
fn the_type_of_a_replica_that_leaves_is_made_good_for() {
    use StorageType::{Disk, Ssd};
    let kinds = [vec![Ssd], vec![Disk], vec![Disk, Ssd], vec![Disk, Ssd]];
    let staying = typed(kinds.to_vec());
    let existing = [storage(0), storage(8)];
    assert_eq!(types_on(&staying, "ONE_SSD", &existing, 1), [Disk]);
    let mut machines = staying.machines;
    machines[0].open = false;
    assert_eq!(types_on(&Topology::new(machines), "ONE_SSD", &existing, 1), [Ssd]);
}

proptest! {
    #[test]
    fn every_choice_is_allowed(
        drawn in prop::collection::vec(any_machine(), 0..12),
        wanted in 0_usize..6,
        writer in prop::option::of(0_u32..14),
        existing in prop::collection::vec(0_u32..30, 0..3),
        excluded in prop::collection::vec(0_u32..12, 0..4),
        avoid_local: bool,
        seed: u64,
    ) {
        let machines: Vec<Machine> = drawn.into_iter().zip(0..).map(|((rack, live, stale, free), number)| {
            let volumes = free.into_iter().zip(0..).map(|(free, at)| Volume { id: storage(number * 2 + at), kind: StorageType::Disk, free, promised: 0 }).collect();
            Machine { live, stale, volumes, ..machine(number, &format!("/{rack}")) }
        }).collect();
        let topology = Topology::new(machines.clone());
        let existing: Vec<StorageId> = existing.into_iter().map(storage).collect();
        let excluded: Vec<DatanodeUuid> = excluded.into_iter().map(uuid).collect();
        let request = PlacementRequest {
            writer: writer.map(ip), existing: &existing, excluded: &excluded, avoid_local, ..request(wanted, seed)
        };
        let chosen = topology.choose(&request);
        prop_assert_eq!(&chosen, &topology.choose(&request), "the same arguments, the same choice");
        let holds = |machine: &Machine| machine.volumes.iter().any(|volume| existing.contains(&volume.id));
        let able = machines.iter().filter(|machine| {
            machine.live && !excluded.contains(&machine.uuid) && !holds(machine)
                && machine.volumes.iter().any(|volume| volume.free >= GIB)
        }).map(|machine| machine.uuid).collect::<BTreeSet<_>>();
        let mut used = BTreeSet::new();
        for id in &chosen {
            let machine = topology.machine_of(*id).unwrap();
            prop_assert!(able.contains(&machine.uuid));
            prop_assert!(machine.volumes.iter().any(|volume| volume.id == *id && volume.free >= GIB));
            prop_assert!(used.insert(machine.uuid), "distinct nodes");
        }
        let stale = |id: &StorageId| topology.is_stale(*id);
        let idle = machines.iter().any(|machine| able.contains(&machine.uuid) && !machine.stale && !used.contains(&machine.uuid));
        prop_assert!(avoid_local || !(idle && chosen.iter().any(stale)), "a stale one in place of a fresh one");
        if chosen.len() < wanted.min(able.len()) {
            let there = existing.iter().filter(|id| topology.machine_of(**id).is_some_and(|machine| machine.live));
            let fresh = there.chain(&chosen).filter(|id| !stale(id)).count();
            prop_assert!(!idle && fresh >= 2, "as many as can be");
        }
    }
}

/// Who calls from 10.9.9.`host` is a pod on `node`.
fn pods(callers: &[(u8, &str)], racks: &[(&str, &str)]) -> std::sync::Arc<crate::locality::Pods> {
    use crate::locality::{HostNode, Pod, Pods, Role};
    let pod = |(host, node): &(u8, &str)| Pod {
        id: host.to_string(),
        ips: vec![IpAddr::from([10, 9, 9, *host])],
        node: (*node).to_owned(),
        host_network: false,
        application: String::new(),
        also_for: String::new(),
        role: Role::Other,
        opted_out: false,
    };
    let node = |(name, rack): &(&str, &str)| HostNode {
        name: (*name).to_owned(),
        ips: Vec::new(),
        ranges: Vec::new(),
        rack: Some((*rack).into()),
    };
    let pods = Pods::new(callers.iter().map(pod).collect()).unwrap();
    std::sync::Arc::new(pods.with_nodes(racks.iter().map(node).collect()))
}

/// Two racks of three nodes, `n-0` to `n-5`, with pods of theirs at 10.9.9.0 to 10.9.9.5, and one on a node without a
/// datanode in the second rack.
fn nodes_with_pods() -> Topology {
    let mut machines = racks().machines;
    for (number, machine) in machines.iter_mut().enumerate() {
        machine.node = format!("n-{number}");
    }
    let callers = [(0, "n-0"), (1, "n-1"), (2, "n-2"), (3, "n-3"), (4, "n-4"), (5, "n-5"), (6, "n-6")];
    Topology::new(machines).among(pods(&callers, &[("n-6", "/b")]))
}

fn pod_ip(number: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 9, 9, number]))
}

#[test]
fn a_pods_first_replica_is_on_its_node() {
    let topology = nodes_with_pods();
    for seed in 0..100 {
        let by = |number| PlacementRequest { writer: pod_ip(number), ..request(3, seed) };
        assert_eq!(topology.choose(&by(4))[0], storage(4));
        assert_eq!(rack_of(&topology, topology.choose(&by(4))[1]), "/a");
        let without = topology.choose(&by(6));
        assert_eq!(rack_of(&topology, without[0]), "/b", "a node without a datanode: its rack");
        let away = PlacementRequest { avoid_local: true, ..by(4) };
        assert!(!topology.choose(&away).contains(&storage(4)));
    }
    let unknown = |seed| topology.choose(&PlacementRequest { writer: pod_ip(77), ..request(1, seed) })[0];
    assert!((0..100).map(unknown).collect::<BTreeSet<_>>().len() > 3, "anywhere");
}

#[test]
fn two_datanodes_of_a_node_are_both_the_writers_own() {
    let mut machines = racks().machines;
    for machine in &mut machines[2..4] {
        machine.node = "n".into();
    }
    let topology = Topology::new(machines).among(pods(&[(1, "n")], &[]));
    let own = |seed| topology.choose(&PlacementRequest { writer: pod_ip(1), ..request(1, seed) })[0];
    assert_eq!((0..100).map(own).collect::<BTreeSet<_>>(), [storage(2), storage(3)].into());
}

#[test]
fn a_pod_reads_on_its_node_then_in_its_rack() {
    let topology = nodes_with_pods();
    for seed in 0..100 {
        let mut order = [storage(0), storage(4), storage(5), storage(1)];
        topology.order(pod_ip(5), &mut order, seed);
        assert_eq!(order[..2], [storage(5), storage(4)]);
        topology.order(pod_ip(1), &mut order, seed);
        assert_eq!(order[..2], [storage(1), storage(0)]);
        topology.order(pod_ip(6), &mut order, seed);
        assert_eq!(order[..2].iter().collect::<BTreeSet<_>>(), [storage(4), storage(5)].iter().collect());
    }
}

#[test]
fn a_silent_datanode_of_the_own_node_is_not_preferred() {
    let mut machines = nodes_with_pods().machines;
    machines[5].stale = true;
    let topology = Topology::new(machines).among(pods(&[(5, "n-5")], &[]));
    let mut order = [storage(5), storage(0)];
    topology.order(pod_ip(5), &mut order, 1);
    assert_eq!(order, [storage(0), storage(5)]);
}

#[test]
fn a_slow_machine_is_read_by_its_own_and_last_by_others() {
    let mut machines: Vec<Machine> = (0..3).map(|number| machine(number, "/a")).collect();
    machines[0].slow = true;
    let mut topology = Topology::new(machines.clone());
    for seed in 0..30 {
        let mut order = [storage(2), storage(1), storage(0)];
        topology.order(Some(ip(0)), &mut order, seed);
        assert_eq!(order[0], storage(0));
        topology.order(Some(ip(1)), &mut order, seed);
        assert_eq!(order, [storage(1), storage(2), storage(0)]);
    }
    machines[0].stale = true;
    topology = Topology::new(machines);
    let mut order = [storage(0), storage(1), storage(2)];
    topology.order(Some(ip(0)), &mut order, 1);
    assert_eq!(order[2], storage(0), "who may be gone is tried last by everybody");
}

#[test]
fn room_that_is_promised_is_left_alone_as_long_as_there_is_other_room() {
    let mut machines: Vec<Machine> = (0..4).map(|number| machine(number, "/a")).collect();
    machines[0].volumes[0].promised = 100 * GIB - 1;
    machines[1].slow = true;
    let topology = Topology::new(machines);
    for seed in 0..30 {
        let two = topology.choose(&request(2, seed));
        assert!(!two.contains(&storage(0)) && !two.contains(&storage(1)), "{two:?}");
        assert_eq!(topology.choose(&request(4, seed)).len(), 4, "better there than nowhere");
    }
}

#[test]
fn two_replicas_are_on_one_machine_only_if_there_is_no_other() {
    let mut machines: Vec<Machine> = (0..6).map(|number| machine(number, "/a")).collect();
    for (number, machine) in machines.iter_mut().enumerate() {
        machine.node = format!("n-{}", number / 2);
    }
    let nodes = |topology: &Topology, wanted, seed| {
        let chosen = topology.choose(&request(wanted, seed));
        assert_eq!(chosen.len(), wanted);
        chosen.iter().map(|id| topology.machine_of(*id).unwrap().node.clone()).collect::<BTreeSet<_>>().len()
    };
    let topology = Topology::new(machines.clone());
    assert!((0..100).all(|seed| nodes(&topology, 3, seed) == 3));
    assert!((0..100).all(|seed| nodes(&topology, 5, seed) == 3), "more than there are machines");
    // Rather a slow machine than one that has the block; and where all are on one, the slow datanode last.
    machines.truncate(4);
    machines[2].slow = true;
    machines[3].slow = true;
    let topology = Topology::new(machines.clone());
    assert!((0..100).all(|seed| nodes(&topology, 2, seed) == 2));
    machines.iter_mut().for_each(|machine| machine.node = "n".into());
    let topology = Topology::new(machines);
    let chosen = (0..100).map(|seed| topology.choose(&request(2, seed)));
    assert!(chosen.flatten().all(|id| [storage(0), storage(1)].contains(&id)));
}

#[test]
fn the_second_replica_is_in_another_zone_if_there_is_one() {
    let racks = ["/east/1", "/east/2", "/east/2", "/west/1", "/west/2"];
    let machines: Vec<Machine> = racks.iter().zip(0..).map(|(rack, number)| machine(number, rack)).collect();
    let topology = Topology::new(machines.clone());
    for seed in 0..100 {
        let chosen = topology.choose(&PlacementRequest { writer: Some(ip(0)), ..request(3, seed) });
        assert!(chosen[0] == storage(0) && rack_of(&topology, chosen[1]).starts_with("/west"), "{chosen:?}");
        let existing = [storage(0), storage(1)];
        let made_again = topology.choose(&PlacementRequest { existing: &existing, ..request(1, seed) });
        assert!(rack_of(&topology, made_again[0]).starts_with("/west"));
        let mut order = [storage(4), storage(2), storage(0)];
        topology.order(Some(ip(1)), &mut order, seed);
        assert_eq!(order, [storage(2), storage(0), storage(4)], "its rack, its zone, elsewhere");
    }
    let east = Topology::new(machines[..3].to_vec());
    let chosen = east.choose(&PlacementRequest { writer: Some(ip(0)), ..request(2, 1) });
    assert_eq!(rack_of(&east, chosen[1]), "/east/2", "another rack at least");
}
