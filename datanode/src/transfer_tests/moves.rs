//! Moves that a balancer orders.

use steadfs_wire::transfer::{CopyBlock, ReplaceBlock};

use super::*;

const ELSEWHERE: &str = "00000000-0000-0000-0000-000000000009";

fn moved(from: &TestNode) -> ReplaceBlock {
    ReplaceBlock {
        block: block_ref(STAMP, 0),
        token: Token::default(),
        instead_of: ELSEWHERE.into(),
        source: from.peer(),
        storage_type: 1,
        storage_id: None,
    }
}

async fn answer(node: &TestNode, op: Op) -> OpResponse {
    let mut connection = node.connect().await;
    connection.send(&op.encode(), PATIENCE).await.unwrap();
    connection.receive(deadline(), OpResponse::decode).await.unwrap()
}

#[tokio::test]
async fn a_replica_is_taken_over_and_the_namenode_will_hear_instead_of_which() {
    for bytes in [9, 3_000_000] {
        let nodes = [TestNode::start().await, TestNode::start().await];
        let data = pattern(bytes);
        nodes[0].put(&data, SPEC).await;
        let answered = answer(&nodes[1], Op::Replace(Box::new(moved(&nodes[0])))).await;
        assert_eq!((answered.status, answered.message), (Status::Success, None));
        nodes[1].expect(ReplicaState::Finalized, STAMP, data.len() as u64);
        assert_eq!(nodes[1].content(), data);
        assert_eq!(nodes[1].node.moves.instead_of(BLOCK), ELSEWHERE.parse().ok());
        nodes[0].expect(ReplicaState::Finalized, STAMP, data.len() as u64);
    }
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused_and_leaves_nothing() {
    let nodes = [TestNode::start().await, TestNode::start().await];
    let nothing = answer(&nodes[1], Op::Replace(Box::new(moved(&nodes[0])))).await;
    assert_eq!(nothing.status, Status::Error);
    assert!(nothing.message.unwrap().contains("not finalized"));
    assert_eq!(nodes[1].node.store.status(BLOCK), None);
    assert_eq!(nodes[1].node.moves.instead_of(BLOCK), None);
    nodes[0].put(&pattern(9), SPEC).await;
    let twice = answer(&nodes[0], Op::Replace(Box::new(moved(&nodes[0])))).await;
    assert_eq!(twice.status, Status::ErrorUnsupported);
    nodes[1].put(&pattern(9), SPEC).await;
    let there = answer(&nodes[1], Op::Replace(Box::new(moved(&nodes[0])))).await;
    assert_ne!(there.status, Status::Success, "it has one already");
    let copy = CopyBlock { block: block_ref(GenStamp(7), 0), token: Token::default() };
    assert_eq!(answer(&nodes[0], Op::Copy(Box::new(copy))).await.status, Status::Error);
}
