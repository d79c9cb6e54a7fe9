//! Which ingesters vote: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use rpc::MemberState;

/// An ingester that is a member.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its number.
    pub id: NodeId,
    /// Where it runs.
    pub zone: Arc<str>,
    /// How far it is; who leaves is not to vote.
    pub state: MemberState,
    /// For how long nothing was heard of it.
    pub silent: Duration,
}

/// Who votes and who is about to, as the replicated log has it.
#[derive(Clone, Debug, Default)]
pub struct Electorate {
    /// Those who vote; in the middle of a change those before and those after it.
    pub voters: BTreeSet<NodeId>,
    /// Those who get the log and do not vote, with whether they have nearly all of it.
    pub learners: BTreeMap<NodeId, bool>,
    /// Whether a change was begun and not finished.
    pub in_change: bool,
    /// Who leads.
    pub leader: Option<NodeId>,
}

/// By what voters are chosen.
#[derive(Clone, Copy, Debug)]
pub struct VoterRules {
    /// How many there are to be; odd.
    pub wanted: usize,
    /// Who was heard of within this time is alive.
    pub live_within: Duration,
    /// Who was silent for so long loses its vote to one that is alive.
    pub replace_after: Duration,
}

/// The next step towards the right voters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// Send it the log.
    AddLearner(NodeId),
    /// Do not send it the log any more.
    RemoveLearner(NodeId),
    /// These are to vote; all of them have the log.
    Replace(BTreeSet<NodeId>),
}

/// What to do next; `None` when all is well, or nothing can be done yet.
///
/// Voters stay voters as long as they do not leave, are not silent for too long while another could
/// take their place, and do not share a zone while another zone has none. An even number never
/// votes: it would bear the loss of no more voters than one less.
pub fn plan_voters(
    ingesters: &[Candidate],
    electorate: &Electorate,
    rules: &VoterRules,
) -> Option<VoterChange> {
    let target = choose(ingesters, electorate, rules);
    if target.is_empty() {
        return None;
    }
    if target == electorate.voters && !electorate.in_change {
        let mut learners = electorate.learners.keys();
        let stray = learners.find(|id| !target.contains(id));
        return stray.map(|id| VoterChange::RemoveLearner(*id));
    }
    let new = target.difference(&electorate.voters);
    let mut ready = true;
    for id in new {
        match electorate.learners.get(id) {
            None => return Some(VoterChange::AddLearner(*id)),
            Some(has_log) => ready &= has_log,
        }
    }
    let alive = ingesters
        .iter()
        .filter(|one| target.contains(&one.id) && one.silent < rules.live_within);
    let quorum = target.len() / 2 + 1;
    (ready && alive.count() >= quorum).then_some(VoterChange::Replace(target))
}

/// Those who should vote.
fn choose(
    ingesters: &[Candidate],
    electorate: &Electorate,
    rules: &VoterRules,
) -> BTreeSet<NodeId> {
    let votes = |one: &Candidate| electorate.voters.contains(&one.id);
    let mut pool: Vec<&Candidate> = ingesters
        .iter()
        .filter(|one| one.state != MemberState::Leaving)
        .filter(|one| votes(one) || one.silent < rules.live_within)
        .collect();
    let size = largest_odd(rules.wanted.min(pool.len()));
    let mut chosen = BTreeSet::new();
    let mut zones: BTreeSet<&str> = BTreeSet::new();
    while chosen.len() < size {
        let rank = |one: &&Candidate| {
            (
                one.silent >= rules.replace_after,
                zones.contains(&*one.zone),
                electorate.leader != Some(one.id),
                !votes(one),
                one.state == MemberState::Joining,
                one.id,
            )
        };
        let Some(best) = pool.iter().copied().min_by_key(rank) else {
            break;
        };
        pool.retain(|one| one.id != best.id);
        zones.insert(&best.zone);
        chosen.insert(best.id);
    }
    chosen
}

fn largest_odd(most: usize) -> usize {
    match most % 2 {
        0 => most.saturating_sub(1),
        _ => most,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: VoterRules = VoterRules {
        wanted: 3,
        live_within: Duration::from_secs(10),
        replace_after: Duration::from_secs(300),
    };

    fn one(id: u64, zone: &str) -> Candidate {
        Candidate {
            id: NodeId(id),
            zone: zone.into(),
            state: MemberState::Active,
            silent: Duration::ZERO,
        }
    }

    fn silent(id: u64, zone: &str, seconds: u64) -> Candidate {
        Candidate {
            silent: Duration::from_secs(seconds),
            ..one(id, zone)
        }
    }

    fn leaving(id: u64, zone: &str) -> Candidate {
        Candidate {
            state: MemberState::Leaving,
            ..one(id, zone)
        }
    }

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    fn electorate(voters: &[u64], learners: &[(u64, bool)]) -> Electorate {
        Electorate {
            voters: set(voters),
            learners: learners
                .iter()
                .map(|(id, has)| (NodeId(*id), *has))
                .collect(),
            in_change: false,
            leader: voters.first().map(|id| NodeId(*id)),
        }
    }

    /// All steps until nothing is to be done; learners get the log at once.
    fn settle(ingesters: &[Candidate], mut now: Electorate) -> BTreeSet<NodeId> {
        for _ in 0..20 {
            match plan_voters(ingesters, &now, &RULES) {
                Some(VoterChange::AddLearner(id)) => drop(now.learners.insert(id, true)),
                Some(VoterChange::RemoveLearner(id)) => drop(now.learners.remove(&id)),
                Some(VoterChange::Replace(voters)) => {
                    now.learners.retain(|id, _| !voters.contains(id));
                    now.in_change = false;
                    now.voters = voters;
                }
                None => {
                    assert!(now.learners.is_empty());
                    return now.voters;
                }
            }
        }
        panic!("it does not settle: {now:?}");
    }

    #[test]
    fn one_ingester_votes_alone_and_two_have_one_voter() {
        let alone = [one(1, "a")];
        assert_eq!(settle(&alone, electorate(&[1], &[])), set(&[1]));
        let two = [one(1, "a"), one(2, "b")];
        assert_eq!(settle(&two, electorate(&[1], &[])), set(&[1]));
        assert_eq!(settle(&two, electorate(&[2], &[])), set(&[2]));
    }

    #[test]
    fn learners_get_the_log_before_they_vote() {
        let three = [one(1, "a"), one(2, "b"), one(3, "c")];
        let plan =
            |learners: &[(u64, bool)]| plan_voters(&three, &electorate(&[1], learners), &RULES);
        assert_eq!(plan(&[]), Some(VoterChange::AddLearner(NodeId(2))));
        assert_eq!(plan(&[(2, true)]), Some(VoterChange::AddLearner(NodeId(3))));
        assert_eq!(plan(&[(2, true), (3, false)]), None);
        assert_eq!(
            plan(&[(2, true), (3, true)]),
            Some(VoterChange::Replace(set(&[1, 2, 3])))
        );
    }

    #[test]
    fn zones_come_first() {
        let five = [
            one(1, "a"),
            one(2, "a"),
            one(3, "a"),
            one(4, "b"),
            one(5, "c"),
        ];
        assert_eq!(settle(&five, electorate(&[1], &[])), set(&[1, 4, 5]));
        // A zone that appears later gets a vote of those that share a zone.
        assert_eq!(settle(&five, electorate(&[1, 2, 3], &[])), set(&[1, 4, 5]));
        let two_zones = [one(1, "a"), one(2, "a"), one(3, "b"), one(4, "b")];
        let voters = settle(&two_zones, electorate(&[1, 2, 3], &[]));
        assert_eq!(voters, set(&[1, 2, 3]), "nobody is better");
    }

    #[test]
    fn a_silent_voter_keeps_its_vote_until_another_can_take_it() {
        let lost = |seconds| [one(1, "a"), one(2, "b"), silent(3, "c", seconds)];
        for seconds in [0, 299, 300, 10_000] {
            let voters = settle(&lost(seconds), electorate(&[1, 2, 3], &[]));
            assert_eq!(voters, set(&[1, 2, 3]), "nobody else is there");
        }
        let with_spare = |seconds| [&lost(seconds)[..], &[one(4, "c")]].concat();
        let voters = settle(&with_spare(299), electorate(&[1, 2, 3], &[]));
        assert_eq!(voters, set(&[1, 2, 3]));
        let voters = settle(&with_spare(300), electorate(&[1, 2, 3], &[]));
        assert_eq!(voters, set(&[1, 2, 4]));
    }

    #[test]
    fn who_leaves_or_was_forgotten_does_not_vote() {
        let four = [leaving(1, "a"), one(2, "b"), one(3, "c"), one(4, "a")];
        assert_eq!(settle(&four, electorate(&[1, 2, 3], &[])), set(&[2, 3, 4]));
        let forgotten = &four[1..];
        assert_eq!(
            settle(forgotten, electorate(&[1, 2, 3], &[])),
            set(&[2, 3, 4])
        );
        let shrunk = [leaving(1, "a"), leaving(2, "b"), one(3, "c")];
        assert_eq!(settle(&shrunk, electorate(&[1, 2, 3], &[])), set(&[3]));
        let nobody = [leaving(1, "a")];
        assert_eq!(settle(&nobody, electorate(&[1], &[])), set(&[1]));
    }

    #[test]
    fn a_change_that_was_begun_is_finished() {
        let three = [one(1, "a"), one(2, "b"), one(3, "c")];
        let now = Electorate {
            in_change: true,
            ..electorate(&[1, 2, 3], &[])
        };
        let plan = plan_voters(&three, &now, &RULES);
        assert_eq!(plan, Some(VoterChange::Replace(set(&[1, 2, 3]))));
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let state = prop_oneof![
            1 => Just(MemberState::Joining),
            4 => Just(MemberState::Active),
            1 => Just(MemberState::Leaving)
        ];
        let seconds = prop_oneof![3 => Just(0_u64), 1 => Just(100), 1 => Just(1000)];
        let candidate = (state, seconds, "[abc]");
        prop::collection::vec(candidate, 1..9).prop_map(|all| {
            let numbered = (1..).zip(all);
            numbered
                .map(|(id, (state, seconds, zone))| Candidate {
                    state,
                    ..silent(id, &zone, seconds)
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn every_replacement_is_odd_alive_and_the_last(
            ingesters in candidates(),
            voters in prop::collection::btree_set(1..9_u64, 1..5),
        ) {
            let voters: Vec<u64> = voters.into_iter().collect();
            let everyone = (1..9).map(|id| (id, true)).collect::<Vec<_>>();
            let mut now = electorate(&voters, &everyone);
            now.learners.retain(|id, _| !now.voters.contains(id));
            let Some(VoterChange::Replace(target)) = plan_voters(&ingesters, &now, &RULES) else {
                return Ok(());
            };
            prop_assert!(target.len() % 2 == 1 && target.len() <= RULES.wanted);
            let chosen: Vec<_> = ingesters.iter().filter(|one| target.contains(&one.id)).collect();
            prop_assert_eq!(chosen.len(), target.len());
            prop_assert!(chosen.iter().all(|one| one.state != MemberState::Leaving));
            let alive = chosen.iter().filter(|one| one.silent < RULES.live_within).count();
            prop_assert!(alive * 2 > target.len());
            let after = Electorate { voters: target, learners: BTreeMap::new(), ..now };
            prop_assert_eq!(plan_voters(&ingesters, &after, &RULES), None, "it does not flap");
        }
    }
}
