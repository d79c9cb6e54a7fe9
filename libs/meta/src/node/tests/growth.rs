//! Clusters that are made, grow, and shrink.

use super::*;
use crate::peer::{self, PROTOCOL, ProposeAnswer, ProposeAsk};
use crate::raft::{Applied, Proposal};
use crate::testing::join;

#[tokio::test(start_paused = true)]
async fn three_that_start_together_make_one_cluster_and_vote() {
    let mut world = World::new(&["a", "b", "c"]);
    let nodes = world.three().await;
    let ids: BTreeSet<_> = nodes.iter().map(|node| node.id().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3].map(NodeId).into());
    let clusters: BTreeSet<_> = nodes.iter().map(|node| node.status().cluster).collect();
    assert_eq!(clusters.len(), 1);
    for (at, node) in nodes.iter().enumerate() {
        insist(node, flush(at as u64 + 1, 1, &[])).await;
    }
    same_catalogs(&nodes).await;
    let catalog = nodes[0].catalog();
    assert_eq!(catalog.cluster.ring.members.len(), 3);
    assert_eq!(catalog.covered.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_a_cluster_while_one_of_the_list_is_silent() {
    let mut world = World::new(&["a", "b", "c"]);
    let a = world.open("a", INGESTER).await;
    let b = world.open("b", INGESTER).await;
    for node in [&a, &b] {
        let joined = tokio::time::timeout(Duration::from_secs(600), node.join()).await;
        assert!(joined.is_err(), "{joined:?}");
    }
    let c = world.open("c", INGESTER).await;
    let (a, b, c) = tokio::join!(a.join(), b.join(), c.join());
    let ids: BTreeSet<_> = [a, b, c].into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_join_gives_no_second_number() {
    let mut world = World::new(&["a"]);
    let a = world.start("a", INGESTER).await;
    world.wires.lose_answers.store(true, Ordering::SeqCst);
    let b = world.start("b", INGESTER).await;
    assert!(!world.wires.lose_answers.load(Ordering::SeqCst));
    assert_eq!(b.id(), Some(NodeId(2)));
    assert_eq!(a.catalog().last_node, 2);
}

/// The maker votes under number 1 before its catalog has any member.
#[tokio::test(start_paused = true)]
async fn the_maker_has_the_first_number_however_early_others_ask() {
    let mut world = World::new(&["a"]);
    let a = world.open("a", INGESTER).await;
    let early = async {
        let proposal = Proposal::new(&join("b"), None);
        loop {
            if let Some(cluster) = a.status().cluster {
                let ask = ProposeAsk {
                    protocol: PROTOCOL,
                    cluster,
                    proposal: proposal.clone(),
                };
                let ask = peer::encode(&ask).unwrap();
                if let Ok(answer) = a.call(MetaCall::Join, ask).await
                    && let Ok(ProposeAnswer::Applied(Applied::Node { id, .. })) =
                        peer::decode(&answer)
                {
                    return id;
                }
            }
            tokio::time::sleep(Duration::from_micros(10)).await;
        }
    };
    let (made, joined) = tokio::join!(a.join(), early);
    assert_eq!((made.unwrap(), joined), (NodeId(1), 2));
}

#[tokio::test(start_paused = true)]
async fn a_maker_that_crashes_at_any_point_finishes_what_it_began() {
    for wait in 0..25 {
        let mut world = World::new(&["a"]);
        let node = world.open("a", INGESTER).await;
        let crash = tokio::time::timeout(Duration::from_millis(wait), node.join()).await;
        drop(node);
        world.kill("a");
        let node = world.start("a", INGESTER).await;
        assert_eq!(node.id(), Some(NodeId(1)), "{wait}: {crash:?}");
        assert_eq!(node.catalog().cluster.members.len(), 1);
        assert_eq!(node.catalog().cluster.shape, Some(SHAPE));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fourth_ingester_takes_the_vote_of_one_that_leaves() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    nodes.push(world.start("d", INGESTER).await);
    same_catalogs(&nodes).await;
    assert!(!nodes[3].status().voters.contains(&4), "three are enough");
    let leaver = leader_of(&nodes);
    let id = leaver.id().unwrap();
    let leaving = Command::SetState(id, MemberState::Leaving);
    leaver.propose(leaving).await.unwrap();
    released(&leaver).await;
    for ring in 0..9 {
        let drained = Command::Drained(id, model::RingVersion(ring));
        insist(&leaver, drained).await;
    }
    leaver.propose(Command::Forget(id)).await.unwrap();
    nodes.retain(|node| node.id() != Some(id));
    let status = until(&nodes[0], |status| {
        status.voters.len() == 3 && !status.voters.contains(&id.0)
    });
    let voters = status.await.voters;
    assert!(voters.contains(&4), "{voters:?}");
    insist(&nodes[0], form()).await;
    same_catalogs(&nodes).await;
}

#[tokio::test(start_paused = true)]
async fn three_shrink_to_one_and_grow_again() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    for _ in 0..2 {
        let gone = nodes.remove(0);
        let id = gone.id().unwrap();
        insist(&gone, Command::SetState(id, MemberState::Leaving)).await;
        released(&gone).await;
        insist(&gone, Command::Forget(id)).await;
        gone.shutdown().await;
        world.kill(&address(&gone));
        world.lose_disk(&address(&gone));
    }
    until(&nodes[0], |status| status.voters == [status.node.unwrap()]).await;
    insist(&nodes[0], form()).await;
    for address in ["a", "b"] {
        nodes.push(world.start(address, INGESTER).await);
    }
    until(&nodes[0], |status| status.voters.len() == 3).await;
    same_catalogs(&nodes).await;
    assert_eq!(
        nodes[0].catalog().last_node,
        5,
        "numbers are not used again"
    );
}

#[tokio::test(start_paused = true)]
async fn ingesters_of_another_shape_are_refused() {
    let mut world = World::new(&["a"]);
    let _a = world.start("a", INGESTER).await;
    let mut config = world.config("b", INGESTER);
    config.shape.replicas += 1;
    let wires = Arc::clone(&world.wires);
    let dial: Dial = Arc::new(move |to: &str| {
        Arc::new(Wire {
            wires: Arc::clone(&wires),
            from: "b".to_owned(),
            to: to.to_owned(),
        }) as _
    });
    let node = Node::open(config, dial, Arc::new(MemoryStore::default()));
    let refused = node.await.unwrap().join().await;
    assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
}
