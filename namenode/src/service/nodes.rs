//! Datanodes that leave service by order, and whether they may be stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use steadfs_common::{BlockId, DatanodeUuid, FsError, FsErrorKind, FsResult};
use steadfs_namenode_core::blocks::{BalanceGoal, BalanceStatus, Lacking, StopCheck, Wish};
use steadfs_namenode_core::{Caller, Command};

use super::Service;
use super::types::Node;

/// Datanodes by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNames {
    /// Uuid, address, `address:port`, host name, `host:port` or Kubernetes node; each must mean one datanode.
    pub names: Vec<String>,
    /// The names are those of Kubernetes nodes, and mean all datanodes there.
    pub by_node: bool,
}

/// What a datanode holds that others lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStop {
    /// Which.
    pub node: Arc<Node>,
    /// The blocks that would have too few replicas without it and the others.
    pub lacking: Lacking,
}

/// Whether datanodes may be stopped at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopAnswer {
    /// Why not; none if they may.
    pub reason: Option<String>,
    /// The datanodes that were asked for.
    pub nodes: Vec<NodeStop>,
    /// Some of the blocks that would have too few replicas.
    pub examples: Vec<BlockId>,
}

impl Service {
    /// Decommissions a datanode, puts it into maintenance, or back into service: as [`Service::set_admin_states`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_node_wish(&self, caller: &Caller, name: &str, wish: Wish) -> FsResult<DatanodeUuid> {
        let names = NodeNames { names: vec![name.to_owned()], by_node: false };
        let uuids = self.set_admin_states(caller, &names, wish).await?;
        uuids.first().copied().ok_or_else(|| unknown(name))
    }

    /// Decommissions datanodes, puts them into maintenance, or back into service; kept over restarts. What the hosts files
    /// say and what is known of cordoned nodes holds besides: of all wishes the one that goes furthest.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; NotFound: no datanode is called so; InvalidArgument: several are. Then
    /// nothing is changed.
    pub async fn set_admin_states(
        &self,
        caller: &Caller,
        names: &NodeNames,
        wish: Wish,
    ) -> FsResult<Vec<DatanodeUuid>> {
        let started = self.audit.start();
        let result = async {
            self.check_operator(caller, "setNodeState")?;
            let uuids = self.nodes_called(names, wish == Wish::InService)?;
            for node in uuids.iter().copied() {
                let command = Command::SetNodeWish { node, wish };
                self.commits.submit(caller.clone(), None, command, None).await?;
            }
            // Whoever has the turn before has seen the wishes in the store, or sets the roster before it is read here.
            let _turn = self.desk.roster_turn.lock().await;
            let mut roster = self.blocks.roster();
            for uuid in &uuids {
                match wish {
                    Wish::InService => roster.named.remove(uuid),
                    _ => roster.named.insert(*uuid, wish),
                };
            }
            self.blocks.set_roster(roster);
            Ok(uuids)
        };
        let result = result.await;
        self.audit.changed(&started, "set_node_state", caller, &names.names.join(" "), &result);
        result
    }

    /// Takes the whole present picture of (Kubernetes) nodes that are not to serve, in place of the one before. It is not
    /// kept over restarts: who watches the nodes tells it again. Of what is wanted by it, by operators' orders and by hosts
    /// files the one that goes furthest holds, so that nothing here undoes an order.
    pub async fn set_cordoned(&self, nodes: BTreeMap<String, Wish>) {
        let _turn = self.desk.roster_turn.lock().await;
        let mut roster = self.blocks.roster();
        if roster.cordoned != nodes {
            tracing::info!(nodes = ?nodes.keys().collect::<Vec<_>>(), "these nodes are cordoned");
            roster.cordoned = nodes;
            self.blocks.set_roster(roster);
        }
    }

    /// Whether datanodes may be stopped at the same time: every block on them has enough live replicas on others
    /// (`min_maintenance_replication`, or as many as are wanted), and every open file enough of its pipeline.
    ///
    /// # Errors
    /// NotFound: no datanode is called so; InvalidArgument: several are.
    pub async fn safe_to_stop(&self, caller: &Caller, names: &NodeNames) -> FsResult<StopAnswer> {
        let started = self.audit.start();
        let result = async {
            let uuids = self.nodes_called(names, false)?;
            let _turn = self.desk.stop_turn.lock().await;
            let (blocks, asked) = (Arc::clone(&self.blocks), uuids.clone());
            let check = self.pool.run(move || blocks.check_stop(&asked)).await?;
            let known = self.datanodes();
            let find = |uuid: &DatanodeUuid| known.iter().find(|node| node.uuid == *uuid).cloned();
            let nodes = uuids
                .iter()
                .zip(&check.lacking)
                .filter_map(|(uuid, lacking)| find(uuid).map(|node| NodeStop { node, lacking: *lacking }));
            Ok(StopAnswer { reason: reason(&check), nodes: nodes.collect(), examples: check.examples })
        };
        let result = result.await;
        self.audit.asked(&started, "safe_to_stop", caller, &names.names.join(" "), &result);
        result
    }

    /// Orders balance between datanodes, or (by none) the end of what was ordered; what is under way comes to its end.
    ///
    /// # Errors
    /// AccessDenied: the caller is no superuser; InvalidArgument: a threshold that makes no sense.
    pub fn order_balance(&self, caller: &Caller, goal: Option<BalanceGoal>) -> FsResult<()> {
        let started = self.audit.start();
        let result = self.check_operator(caller, "balance").and_then(|()| {
            if goal.is_some_and(|goal| !(0.1..=100.0).contains(&goal.threshold)) {
                return Err(FsError::invalid_argument("a threshold for balance is 0.1 to 100 percent"));
            }
            self.blocks.order_balance(goal);
            Ok(())
        });
        self.audit.changed(&started, "balance", caller, &"/", &result);
        result
    }

    /// How far balancing is.
    #[must_use]
    pub fn balance_status(&self) -> BalanceStatus {
        self.blocks.balance_status()
    }

    /// The datanodes with these names, each once. One that is `gone` may be named by its uuid although it is not known,
    /// if something was ordered of it.
    fn nodes_called(&self, names: &NodeNames, gone: bool) -> FsResult<Vec<DatanodeUuid>> {
        let nodes = self.datanodes();
        let mut uuids = Vec::new();
        for name in &names.names {
            let found: Vec<DatanodeUuid> = nodes
                .iter()
                .filter(|node| if names.by_node { node.node == *name } else { is_called(node, name) })
                .map(|node| node.uuid)
                .collect();
            match (found.as_slice(), name.parse()) {
                ([], Ok(uuid)) if gone && self.blocks.roster().named.contains_key(&uuid) => uuids.push(uuid),
                ([], _) if names.by_node => {
                    let text = format!("no known datanode runs on node `{name}`");
                    return Err(FsError::new(FsErrorKind::NotFound, text));
                }
                ([], _) => return Err(unknown(name)),
                ([_, _, ..], _) if !names.by_node => {
                    return Err(FsError::invalid_argument(format!(
                        "{} datanodes are called `{name}`: name one by uuid or address:port",
                        found.len()
                    )));
                }
                _ => uuids.extend(found),
            }
        }
        uuids.sort_unstable();
        uuids.dedup();
        Ok(uuids)
    }
}

/// By uuid, address, `address:port`, host name, `host:port` or Kubernetes node.
fn is_called(node: &Node, name: &str) -> bool {
    node.uuid.to_string().eq_ignore_ascii_case(name)
        || [node.ip.to_string(), node.host_name.clone(), node.node.clone()]
            .iter()
            .any(|host| !host.is_empty() && (host == name || format!("{host}:{}", node.data_port) == name))
}

fn unknown(name: &str) -> FsError {
    FsError::new(
        FsErrorKind::NotFound,
        format!("no known datanode is called `{name}`: name it by uuid, address:port or host name"),
    )
}

/// Why datanodes may not be stopped.
fn reason(check: &StopCheck) -> Option<String> {
    if let Some(unknown) = &check.unknown {
        return Some(unknown.clone());
    }
    if check.is_safe() {
        return None;
    }
    let most = |what: fn(&Lacking) -> u64| check.lacking.iter().map(what).max().unwrap_or_default();
    let (blocks, only, open) = (most(|one| one.blocks), most(|one| one.only_here), most(|one| one.open));
    let mut parts = Vec::new();
    if blocks > 0 {
        parts.push(format!("{blocks} blocks have too few replicas elsewhere ({only} of them none)"));
    }
    if open > 0 {
        parts.push(format!("{open} blocks of open files have too little of their pipeline elsewhere"));
    }
    Some(parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_counts_what_is_held_back() {
        let one = Lacking { blocks: 3, only_here: 1, open: 0 };
        let check = StopCheck { lacking: vec![one, Lacking { open: 2, ..one }], ..StopCheck::default() };
        let text = reason(&check).unwrap();
        assert_eq!(
            text,
            "3 blocks have too few replicas elsewhere (1 of them none); 2 blocks of open files have too little of their \
             pipeline elsewhere"
        );
        assert_eq!(reason(&StopCheck::default()), None);
        let unknown = StopCheck { unknown: Some("because".into()), ..StopCheck::default() };
        assert_eq!(reason(&unknown).unwrap(), "because");
    }
}
