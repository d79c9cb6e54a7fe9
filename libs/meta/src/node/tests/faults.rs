//! Crashes, partitions, lost disks.

use super::*;

#[tokio::test(start_paused = true)]
async fn when_the_leader_dies_another_leads_and_nothing_answered_is_lost() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    let mut sequence = 0;
    for _ in 0..3 {
        let leader = leader_of(&nodes);
        sequence += 1;
        insist(&leader, flush(1, sequence, &[])).await;
        let address = address(&leader);
        world.kill(&address);
        nodes.retain(|node| node.id() != leader.id());
        drop(leader);
        sequence += 1;
        insist(&nodes[0], flush(1, sequence, &[])).await;
        assert_eq!(nodes[0].catalog().covered[&1].below, sequence + 1);
        nodes.push(world.start(&address, INGESTER).await);
        assert_eq!(nodes[2].catalog().covered[&1].below, sequence + 1);
    }
    same_catalogs(&nodes).await;
    assert_eq!(
        nodes[0].catalog().last_node,
        3,
        "they came back as themselves"
    );
}

#[tokio::test(start_paused = true)]
async fn all_can_be_killed_at_once() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    insist(&nodes[1], flush(1, 1, &["x"])).await;
    let before = nodes[1].catalog();
    nodes.clear();
    for address in ["a", "b", "c"] {
        world.kill(address);
    }
    for address in ["a", "b", "c"] {
        nodes.push(world.open(address, INGESTER).await);
    }
    let (a, b, c) = tokio::join!(nodes[0].join(), nodes[1].join(), nodes[2].join());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    for node in &nodes {
        assert_eq!(node.catalog(), before, "as new as what was answered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_does_not_answer_and_the_others_go_on() {
    let mut world = World::new(&["a", "b", "c"]);
    let nodes = world.three().await;
    let leader = leader_of(&nodes);
    let rest: Vec<Node> = nodes
        .iter()
        .filter(|node| node.id() != leader.id())
        .cloned()
        .collect();
    for node in &rest {
        world.cut(&address(&leader), &address(node));
    }
    let alone = leader.propose(flush(1, 1, &["alone"])).await;
    assert!(
        matches!(alone, Err(rpc::Error::Unavailable(_))),
        "{alone:?}"
    );
    insist(&rest[0], flush(1, 1, &["others"])).await;
    world.heal();
    same_catalogs(&nodes).await;
    let catalog = leader.catalog();
    let paths: Vec<_> = catalog
        .segments
        .values()
        .map(|s| s.path.to_string())
        .collect();
    assert_eq!(paths, ["others"]);
    let terms: BTreeSet<u64> = nodes.iter().map(|node| node.status().term).collect();
    assert_eq!(terms.len(), 1);
    let leaders = nodes
        .iter()
        .filter(|n| matches!(n.owner.core.leader(), Lead::Me));
    assert_eq!(leaders.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_away_for_long_gets_a_snapshot() {
    let mut world = World::new(&["a", "b", "c"]);
    world.snapshot_commands = Some(20);
    let mut nodes = world.three().await;
    let away = nodes
        .iter()
        .position(|node| node.id() != leader_of(&nodes).id());
    let gone = nodes.remove(away.unwrap());
    let address = address(&gone);
    world.kill(&address);
    drop(gone);
    for sequence in 1..=150 {
        insist(&nodes[0], flush(1, sequence, &[])).await;
    }
    nodes.push(world.start(&address, INGESTER).await);
    until(&nodes[2], |status| status.snapshot > Some(100)).await;
    insist(&nodes[2], flush(2, 1, &[])).await;
    same_catalogs(&nodes).await;
}

#[tokio::test(start_paused = true)]
async fn an_ingester_that_lost_its_disk_comes_back_as_another() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    let at = nodes
        .iter()
        .position(|node| node.id() != leader_of(&nodes).id());
    let gone = nodes.remove(at.unwrap());
    let (address, id) = (address(&gone), gone.id().unwrap());
    world.kill(&address);
    world.lose_disk(&address);
    drop(gone);
    nodes.push(world.start(&address, INGESTER).await);
    let new = nodes[2].id().unwrap();
    assert_eq!(new, NodeId(4));
    let status = until(&nodes[0], |status| {
        status.voters.len() == 3 && status.voters.contains(&new.0)
    });
    assert!(!status.await.voters.contains(&id.0));
    let catalog = nodes[0].catalog();
    let past = catalog.cluster.past_rings.values();
    assert!(past.into_iter().any(|past| past.lost.contains(&id)));
    insist(&nodes[2], form()).await;
    same_catalogs(&nodes).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_the_place_of_an_ingester_that_lives() {
    let mut world = World::new(&["a", "b", "c"]);
    let nodes = world.three().await;
    let mut others = nodes.iter();
    let old = others.find(|node| node.id() != leader_of(&nodes).id());
    let old = old.unwrap().clone();
    let (address, id) = (address(&old), old.id().unwrap());
    let wires = Arc::clone(&world.wires);
    let answers = |node: &Node| {
        let mut nodes = wires.nodes.lock().unwrap();
        nodes.insert(address.clone(), node.clone());
    };
    let disk = world.disks.remove(&address).unwrap();
    let newcomer = world.open(&address, INGESTER).await;
    answers(&old);
    let refused = newcomer.join().await.unwrap_err().to_string();
    let named = format!("node {}, at work", id.0);
    assert!(refused.contains(&named), "{refused}");
    let catalog = leader_of(&nodes).catalog();
    assert!(catalog.cluster.members.contains_key(&id));
    assert_eq!(catalog.last_node, 3);
    // When the old one is gone, the address is free.
    disk.close();
    old.owner.core.stopping.send_replace(true);
    answers(&newcomer);
    assert_eq!(newcomer.join().await.unwrap(), NodeId(4));
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_stays_away_is_replaced_by_one_that_is_there() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    nodes.push(world.start("d", INGESTER).await);
    let at = nodes[..3]
        .iter()
        .position(|node| node.id() != leader_of(&nodes).id());
    let gone = nodes.remove(at.unwrap());
    let id = gone.id().unwrap().0;
    world.kill(&address(&gone));
    drop(gone);
    let before = Instant::now();
    let status = until(&leader_of(&nodes), |status| !status.voters.contains(&id)).await;
    assert_eq!(status.voters.len(), 3);
    assert!(before.elapsed() >= Duration::from_secs(290), "not at once");
    let member = status.members.iter().find(|member| member.node == id);
    assert!(
        member.is_some(),
        "an ingester is not forgotten for its silence"
    );
}

#[tokio::test(start_paused = true)]
async fn an_ingester_that_was_forgotten_says_so_and_does_not_go_on() {
    let mut world = World::new(&["a", "b", "c"]);
    let nodes = world.three().await;
    let other = nodes
        .iter()
        .find(|node| node.id() != leader_of(&nodes).id());
    let other = other.unwrap().clone();
    let id = other.id().unwrap();
    leader_of(&nodes)
        .propose(Command::Forget(id))
        .await
        .unwrap();
    let failed = other.failed().await;
    assert!(matches!(failed, Error::Forgotten { .. }), "{failed}");
    let address = address(&other);
    world.kill(&address);
    let again = world.open(&address, INGESTER).await.join().await;
    assert!(matches!(again, Err(Error::Forgotten { .. })), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_comes_back_elsewhere_is_found() {
    let mut world = World::new(&["a", "b", "c"]);
    let mut nodes = world.three().await;
    nodes.clear();
    // All at once, so that nobody can tell the cluster before it has a leader.
    for (old, new) in [("a", "a2"), ("b", "b2"), ("c", "c2")] {
        world.kill(old);
        let disk = world.disks.remove(old).unwrap();
        world.disks.insert(new.to_owned(), disk);
    }
    world.join = ["a2", "b2", "c2"].map(Arc::from).to_vec();
    for address in ["a2", "b2", "c2"] {
        nodes.push(world.open(address, INGESTER).await);
    }
    let (a, b, c) = tokio::join!(nodes[0].join(), nodes[1].join(), nodes[2].join());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    same_catalogs(&nodes).await;
    let catalog = nodes[0].catalog();
    let addresses: Vec<_> = catalog
        .cluster
        .members
        .values()
        .map(|m| &*m.address)
        .collect();
    let found: BTreeSet<_> = addresses.into_iter().collect();
    assert_eq!(found, ["a2", "b2", "c2"].into());
}
