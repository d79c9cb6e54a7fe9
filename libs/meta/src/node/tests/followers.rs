//! Processes that do not vote: they follow, and come and go as they like.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_querier_follows_and_proposes_through_the_leader() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    nodes.push(world.start("q", QUERIER).await);
    let version = insist(&nodes[3], flush(1, 1, &["x"])).await;
    assert!(nodes[3].catalog().version >= version);
    let refused = nodes[3].propose(flush(1, 1, &["y"])).await;
    assert!(
        matches!(refused, Err(rpc::Error::Conflict(_))),
        "{refused:?}"
    );
    insist(&nodes[0], flush(1, 2, &["z"])).await;
    same_catalogs(&nodes).await;
    let status = nodes[3].status();
    assert!(status.leader.is_some() && status.members.len() == 4);
    assert_eq!(status.voters, [1, 2, 3]);
    let seen = nodes[3].cluster_status().await;
    assert_eq!(seen.node, status.leader.map(|leader| leader.node));
    let heard = seen.members.iter().filter(|m| m.silent_millis.is_some());
    assert_eq!(heard.count(), 4, "a leader hears of all: {seen:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_finds_another_voter_when_its_own_is_gone() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    let querier = world.start("q", QUERIER).await;
    let mut sequence = 0;
    for address in ["a", "b", "c"] {
        for far in ["a", "b", "c"] {
            if far != address {
                world.cut("q", far);
            }
        }
        sequence += 1;
        insist(&nodes[0], flush(1, sequence, &[])).await;
        nodes.push(querier.clone());
        same_catalogs(&nodes).await;
        nodes.pop();
        world.heal();
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_away_for_long_gets_the_whole_catalog() {
    let mut world = World::new(&["a"]);
    let a = world.start("a", INGESTER).await;
    let querier = world.start("q", QUERIER).await;
    world.cut("q", "a");
    for sequence in 1..=50 {
        insist(&a, flush(1, sequence, &[])).await;
    }
    // A process that was restarted has no old commands to send.
    world.kill("a");
    drop(a);
    let a = world.start("a", INGESTER).await;
    world.heal();
    insist(&a, flush(1, 51, &[])).await;
    until(&querier, |status| status.version >= a.catalog().version).await;
    assert_eq!(querier.catalog().covered[&1].below, 52);
}

#[tokio::test(start_paused = true)]
async fn a_silent_querier_is_forgotten_and_joins_anew_by_itself() {
    let mut world = World::new(&["a"]);
    let a = world.start("a", INGESTER).await;
    let querier = world.start("q", QUERIER).await;
    let id = querier.id().unwrap();
    world.cut("q", "a");
    until(&a, |status| status.members.len() == 1).await;
    world.heal();
    until(&a, |status| status.members.len() == 2).await;
    until(&querier, |status| status.members.len() == 2).await;
    let new = querier.id().unwrap();
    assert!(new > id, "{new:?}");
    assert!(querier.catalog().cluster.members.contains_key(&new));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_querier_is_the_same_member() {
    let mut world = World::new(&["a"]);
    let a = world.start("a", INGESTER).await;
    let id = world.start("q", QUERIER).await.id();
    world.kill("q");
    let again = world.start("q", QUERIER).await;
    assert_eq!(again.id(), id);
    assert_eq!(a.catalog().cluster.members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused() {
    let mut world = World::new(&["a"]);
    let a = world.start("a", INGESTER).await;
    let mut other = World::new(&["z"]);
    let z = other.start("z", INGESTER).await;
    let cluster = z.status().cluster.unwrap();
    let ask = crate::peer::ProposeAsk {
        protocol: crate::peer::PROTOCOL,
        cluster,
        proposal: crate::raft::Proposal::new(&form(), None),
    };
    let body = crate::peer::encode(&ask).unwrap();
    let refused = a.call(MetaCall::Propose, body).await;
    assert!(
        matches!(refused, Err(rpc::Error::Invalid(_))),
        "{refused:?}"
    );
    let newer = Bytes::from_static(br#"{"protocol":99}"#);
    let refused = a.call(MetaCall::Status, newer).await;
    assert!(
        matches!(refused, Err(rpc::Error::Invalid(_))),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_does_not_vote_passes_no_changes_on() {
    let mut world = World::new(&["a"]);
    let _a = world.start("a", INGESTER).await;
    let querier = world.start("q", QUERIER).await;
    let refused = querier.watch(0).await.map(|_| ());
    assert!(
        matches!(refused, Err(rpc::Error::Unavailable(_))),
        "{refused:?}"
    );
}
