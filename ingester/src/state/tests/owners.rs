//! Goal: several owners, faults of every kind: each acknowledged batch is in a committed segment in
//! the end, a commit covers only heads whose batches are all stored, nothing is filed in a covered
//! head or in a drained ring, log files outlive their heads; without faults there is one segment per
//! key. Method: random histories of several states with the coordinator's real rules; every message
//! between them, every write to a log and every commit is a step of its own.

use std::collections::{BTreeMap, BTreeSet};

use meta::StateMachine;
use model::Signal;
use proptest::prelude::*;
use rpc::{
    ClusterShape, Command, FlushCommit, Member, MemberState, Ring, RoleSet, SegmentId, SegmentMeta,
    TenantSegment,
};

use super::*;
use crate::flush::gather::{Gathering, Write as ToWrite};
use crate::placement::place;

const SLOT: i64 = 60 * SECOND;
const SHARDS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A batch by number (again, perhaps), to some of its owners, by the newest ring or the one before.
    Send(u8, u8, bool),
    /// A log finishes so many of its writes, well or not.
    Log(usize, usize, bool),
    /// A flush goes one step further; its commit may fail, before or after it was done.
    Advance(usize, Luck),
    /// A node hears of the newest catalog.
    Hear(usize),
    /// Milliseconds pass.
    Wait(u32),
    Flush(usize),
    /// So many writes of a node's log are on disk, and nobody knows.
    Crash(usize, usize),
    Start(usize),
    /// Two nodes reach each other no more, or again.
    Cut(usize, usize),
    /// A fourth node joins; the third leaves.
    Join,
    Leave,
    /// There are to be so many shards more.
    Raise(u32),
}

#[derive(Clone, Copy, Debug)]
enum Luck {
    Done,
    AnswerLost,
    Refused,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..4_usize;
    let luck =
        prop_oneof![8 => Just(Luck::Done), 1 => Just(Luck::AnswerLost), 1 => Just(Luck::Refused)];
    let step = prop_oneof![
        8 => (0..40_u8, 1..8_u8, prop::bool::weighted(0.2)).prop_map(|(n, to, old)| Step::Send(n, to, old)),
        8 => (node(), 1..5_usize, prop::bool::weighted(0.9)).prop_map(|(at, n, ok)| Step::Log(at, n, ok)),
        12 => (node(), luck).prop_map(|(at, luck)| Step::Advance(at, luck)),
        4 => node().prop_map(Step::Hear),
        4 => (1..30_000_u32).prop_map(Step::Wait),
        1 => node().prop_map(Step::Flush),
        1 => (node(), 0..3_usize).prop_map(|(at, n)| Step::Crash(at, n)),
        2 => node().prop_map(Step::Start),
        1 => (node(), node()).prop_map(|(a, b)| Step::Cut(a, b)),
        1 => Just(Step::Join),
        1 => Just(Step::Leave),
        1 => (1..4_u32).prop_map(Step::Raise),
    ];
    prop::collection::vec(step, 1..150)
}

/// One flush under way.
#[derive(Debug)]
struct Run {
    job: FlushJob,
    gathering: Option<Gathering>,
    /// Owners still to be asked, in this round.
    ask: Vec<NodeId>,
    /// The one that is thinking.
    asked: Option<(usize, Ticket)>,
    first_round: bool,
    write: Option<ToWrite>,
}

/// What a node has on disk, and the process, if it runs.
#[derive(Default)]
struct Node {
    state: Option<State>,
    rings: Option<Rings>,
    /// Records by log file.
    log: BTreeMap<u64, Vec<(Filing, IngestRequest)>>,
    file: u64,
    writes: VecDeque<AppendJob>,
    runs: Vec<Run>,
    answers: BTreeMap<Ticket, bool>,
    told: BTreeMap<Ticket, Result<Reconciled, Error>>,
    leaving: Option<Ticket>,
    gone: bool,
}

struct World {
    nodes: Vec<Node>,
    meta: StateMachine,
    now: i64,
    tickets: Ticket,
    /// Where each batch was filed first.
    filed: BTreeMap<u8, (Shard, Slot)>,
    sent: BTreeMap<(usize, Ticket), u8>,
    acknowledged: BTreeSet<BatchId>,
    /// How often each batch was stored, and each key.
    stored: BTreeMap<BatchId, usize>,
    uploads: BTreeMap<HeadKey, usize>,
    cuts: BTreeSet<(usize, usize)>,
    paths: u64,
}

fn number(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

fn at(node: NodeId) -> usize {
    node.0 as usize - 1
}

impl World {
    fn new(nodes: usize) -> Self {
        let mut world = World {
            nodes: (0..4).map(|_| Node::default()).collect(),
            meta: StateMachine::default(),
            now: 0,
            tickets: 0,
            filed: BTreeMap::new(),
            sent: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            stored: BTreeMap::new(),
            uploads: BTreeMap::new(),
            cuts: BTreeSet::new(),
            paths: 0,
        };
        let shape = ClusterShape {
            shards: SHARDS,
            replicas: 3,
            slot_nanos: SLOT,
        };
        world.meta.apply(&Command::FormCluster(shape)).unwrap();
        for _ in 0..nodes {
            world.join();
        }
        // Rings wait from here on.
        let knows = Command::Knows(number(0), RingVersion(0));
        world.meta.apply(&knows).unwrap();
        for node in 0..nodes {
            world.start(node);
        }
        world
    }

    fn join(&mut self) {
        let joined = self.meta.catalog().last_node;
        let member = Member {
            id: NodeId(0),
            address: format!("node-{joined}").into(),
            zone: "z".into(),
            roles: RoleSet {
                ingester: true,
                ..RoleSet::default()
            },
            state: MemberState::Joining,
        };
        self.meta.apply(&Command::Join(member)).unwrap();
        let active = Command::SetState(NodeId(joined + 1), MemberState::Active);
        self.meta.apply(&active).unwrap();
    }

    fn config() -> Config {
        Config {
            slot_length: SlotLength(SLOT),
            head_bytes_max: 6_000,
            takeover_delay: Duration::from_secs(10),
            ..config()
        }
    }

    fn on(&mut self, node: usize, event: Event) {
        let Some(mut state) = self.nodes[node].state.take() else {
            return;
        };
        let mut out = Vec::new();
        state.on(self.now, event, &mut out);
        self.nodes[node].state = Some(state);
        for action in out {
            self.act(node, action);
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        let this = &mut self.nodes[node];
        match action {
            Action::Append(job) => this.writes.push_back(job),
            Action::Answer { ticket, result } => {
                let before = this.answers.insert(ticket, result.is_ok());
                assert_eq!(before, None, "answered twice");
                if let Some(batch) = self.sent.remove(&(node, ticket))
                    && result.is_ok()
                {
                    self.acknowledged.insert(BatchId(batch.into()));
                }
            }
            Action::StartFlush(job) => {
                let under_way = |write: &AppendJob| job.heads.contains(&write.filing.head);
                assert!(!this.writes.iter().any(under_way), "a write is under way");
                this.runs.push(Run {
                    ask: job.others.clone(),
                    gathering: None,
                    job,
                    asked: None,
                    first_round: true,
                    write: None,
                });
                assert!(this.runs.len() <= 1, "one worker");
            }
            Action::RemoveLogFilesThrough(file) => {
                let later = this.log.split_off(&(file + 1));
                let removed = std::mem::replace(&mut this.log, later);
                let catalog = self.meta.catalog();
                let mut records = removed.values().flatten();
                assert!(records.all(|(filing, _)| catalog.covers(filing.head)));
            }
            Action::Reconciled { ticket, result } => {
                this.told.insert(ticket, result);
            }
            Action::Knows(ring) => {
                let knows = Command::Knows(number(node), ring);
                self.meta.apply(&knows).unwrap();
            }
            Action::Drained(ring) => {
                let catalog = self.meta.catalog();
                let mut records = this.log.values().flatten();
                assert!(
                    records.all(|(filing, _)| {
                        filing.key.ring > ring || catalog.covers(filing.head)
                    }),
                    "a head of a drained ring is left"
                );
                let drained = Command::Drained(number(node), ring);
                self.meta.apply(&drained).unwrap();
            }
            Action::Publish(_) | Action::Duplicate | Action::CoveredByOthers(_) => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(batch, to, old) => self.send(batch, to, old),
            Step::Log(node, count, ok) => self.log(node, count, ok),
            Step::Advance(node, luck) => self.advance(node, luck),
            Step::Hear(node) => self.hear(node),
            Step::Wait(millis) => {
                self.now += i64::from(millis) * 1_000_000;
                for node in 0..4 {
                    self.on(node, Event::Tick);
                }
            }
            Step::Flush(node) => {
                let ticket = self.ticket();
                self.on(node, Event::Flush { ticket });
            }
            Step::Crash(node, durable) => self.crash(node, durable),
            Step::Start(node) => self.start(node),
            Step::Cut(a, b) => {
                let link = (a.min(b), a.max(b));
                if !self.cuts.remove(&link) {
                    self.cuts.insert(link);
                }
            }
            Step::Join => {
                if self.meta.catalog().last_node == 3 {
                    self.join();
                    self.start(3);
                }
            }
            Step::Leave => self.leave(2),
            Step::Raise(more) => {
                let shape = self.meta.catalog().cluster.shape.unwrap();
                let raise = Command::RaiseShards(shape.shards + more);
                self.meta.apply(&raise).unwrap();
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.tickets
    }

    /// Bits of `to` say which owners are reached.
    fn send(&mut self, batch: u8, to: u8, old: bool) {
        let cluster = &self.meta.catalog().cluster;
        let past = cluster.past_rings.values().next_back();
        let ring: &Ring = match past.filter(|_| old) {
            Some(past) => &past.ring,
            None => &cluster.ring,
        };
        // One that was filed under fewer shards keeps its own when it is sent again.
        let shard = Shard(u32::from(batch) % ring.shards);
        let (ring, version) = (place(ring, &cluster.shape.unwrap()), ring.version);
        let now = Slot(self.now / SLOT);
        let (shard, slot) = *self.filed.entry(batch).or_insert((shard, now));
        for (bit, owner) in ring.owners(shard).iter().enumerate() {
            if to & (1 << bit) == 0 || self.nodes[at(*owner)].state.is_none() {
                continue;
            }
            let mut request = request(batch.into(), shard.0, slot.0, 1000);
            request.ring = version;
            let ticket = self.ticket();
            self.sent.insert((at(*owner), ticket), batch);
            let requests = vec![request];
            self.on(at(*owner), Event::Ingest { ticket, requests });
        }
    }

    fn log(&mut self, node: usize, count: usize, ok: bool) {
        let this = &mut self.nodes[node];
        let jobs: Vec<AppendJob> = this.writes.drain(..count.min(this.writes.len())).collect();
        if jobs.is_empty() {
            return;
        }
        let writes = jobs.iter().map(|job| job.write).collect();
        if !ok {
            let error = Error::OutOfSpace("full".to_owned());
            return self.on(node, Event::AppendFailed { writes, error });
        }
        self.write(node, jobs);
        let file = self.nodes[node].file;
        self.on(node, Event::Appended { writes, file });
    }

    /// Puts the records on disk, two in a file.
    fn write(&mut self, node: usize, jobs: Vec<AppendJob>) {
        let catalog = self.meta.catalog();
        let past = &catalog.cluster.past_rings;
        let this = &mut self.nodes[node];
        this.file += u64::from(this.log.get(&this.file).is_some_and(|file| file.len() > 1));
        for job in jobs {
            let Filing { head, key, .. } = job.filing;
            assert!(!catalog.covers(head), "a commit covers all of a head");
            let open = catalog.cluster.ring.version <= key.ring
                || past
                    .get(&key.ring)
                    .is_some_and(|past| past.undrained.contains(&number(node)));
            assert!(open, "written for a ring that is drained");
            let request = IngestRequest {
                batch_id: job.filing.batch_id,
                shard: key.shard,
                slot: key.slot,
                ring: key.ring,
                batch: job.batch,
            };
            let records = this.log.entry(this.file).or_default();
            records.push((job.filing, request));
        }
    }

    fn hear(&mut self, node: usize) {
        let catalog = std::sync::Arc::clone(self.meta.catalog());
        let this = &mut self.nodes[node];
        let Some(known) = &this.rings else { return };
        let rings = known.changed(&catalog.cluster, place);
        if let Some(rings) = &rings {
            this.rings = Some(rings.clone());
        }
        let covered = catalog.covered.get(&number(node).0);
        let covered = covered.cloned().unwrap_or_default();
        self.on(node, Event::Catalog { covered, rings });
        self.go(node, &catalog);
    }

    /// Who is to leave goes on when it has heard of a ring without it.
    fn go(&mut self, node: usize, heard: &rpc::Catalog) {
        let cluster = &heard.cluster;
        let member = cluster.members.get(&number(node));
        if member.is_some_and(|member| member.state == MemberState::Leaving)
            && !cluster.ring.members.contains_key(&number(node))
            && self.nodes[node].leaving.is_none()
        {
            let ticket = self.ticket();
            self.nodes[node].leaving = Some(ticket);
            self.on(node, Event::Leave { ticket });
        }
    }

    fn leave(&mut self, node: usize) {
        if self.nodes[node].state.is_none() {
            return;
        }
        let leaving = Command::SetState(number(node), MemberState::Leaving);
        if self.meta.apply(&leaving).is_ok() {
            self.hear(node);
        }
    }

    fn left(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        let left = this
            .leaving
            .is_some_and(|ticket| this.answers.get(&ticket) == Some(&true));
        if !left || this.gone {
            return;
        }
        this.gone = true;
        let ring = self.meta.catalog().cluster.ring.version;
        self.act(node, Action::Drained(ring));
        self.meta.apply(&Command::Forget(number(node))).unwrap();
    }

    fn crash(&mut self, node: usize, durable: usize) {
        if self.nodes[node].state.is_none() {
            return;
        }
        let this = &mut self.nodes[node];
        let jobs: Vec<AppendJob> = std::mem::take(&mut this.writes).into();
        let jobs = jobs.into_iter().take(durable).collect();
        self.write(node, jobs);
        let this = &mut self.nodes[node];
        this.state = None;
        this.runs.clear();
        this.told.clear();
        this.leaving = None;
        let runs = self.nodes.iter().flat_map(|node| &node.runs);
        let asked = runs.filter_map(|run| run.asked.filter(|(other, _)| *other == node));
        let asked: Vec<Ticket> = asked.map(|(_, ticket)| ticket).collect();
        for ticket in asked {
            let gone = Err(Error::Unavailable("crashed".to_owned()));
            self.nodes[node].told.insert(ticket, gone);
        }
        self.sent.retain(|(at, _), _| *at != node);
    }

    fn start(&mut self, node: usize) {
        let catalog = std::sync::Arc::clone(self.meta.catalog());
        let this = &mut self.nodes[node];
        if this.state.is_some() || catalog.last_node < number(node).0 || this.gone {
            return;
        }
        let covered = catalog.covered.get(&number(node).0);
        let covered = covered.cloned().unwrap_or_default();
        let records: Vec<(u64, Filing, IngestRequest)> = this
            .log
            .iter()
            .flat_map(|(file, records)| records.iter().map(|(f, r)| (*file, *f, r.clone())))
            .collect();
        let logged = records
            .iter()
            .map(|(_, filing, _)| filing.head.sequence + 1);
        let also = covered.also.last().map_or(0, |last| last + 1);
        let none = Rings::none(number(node));
        let rings = none.changed(&catalog.cluster, place).unwrap();
        let files: Vec<u64> = this.log.keys().copied().collect();
        this.file = files.last().map_or(1, |last| last + 1);
        let next_head = logged
            .max()
            .unwrap_or(1)
            .max(covered.below)
            .max(also)
            .max(1);
        let in_log: BTreeSet<u64> = records.iter().map(|(_, f, _)| f.head.sequence).collect();
        let used = |head: &u64| covered.contains(*head) || in_log.contains(head);
        let free = (covered.below.max(1)..next_head).filter(|head| !used(head));
        let start = Start {
            ingester: number(node).0,
            next_head,
            free: free.collect(),
            next_file: this.file,
            files,
            covered: covered.clone(),
            rings: rings.clone(),
        };
        this.rings = Some(rings);
        this.state = Some(State::new(&World::config(), start));
        let mut left: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, filing, _) in &records {
            *left.entry(filing.head.sequence).or_default() += 1;
        }
        for (file, filing, request) in records {
            let left = left.get_mut(&filing.head.sequence).unwrap();
            *left -= 1;
            let record = match covered.contains(filing.head.sequence) {
                true => Replayed::Covered(filing),
                false => Replayed::Batch {
                    file,
                    filing,
                    batch: request.batch,
                    last_of_head: *left == 0,
                },
            };
            let ticket = self.ticket();
            self.on(node, Event::Replayed { ticket, record });
        }
        self.on(node, Event::ReplayDone);
        self.go(node, &catalog);
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        !self.cuts.contains(&(a.min(b), a.max(b))) && self.nodes[b].state.is_some()
    }

    fn advance(&mut self, node: usize, luck: Luck) {
        let Some(mut run) = self.nodes[node].runs.pop() else {
            return;
        };
        match self.work(node, &mut run, luck) {
            None => self.nodes[node].runs.push(run),
            Some(result) => {
                let job = run.job;
                self.on(node, Event::Flushed { job, result });
                self.left(node);
            }
        }
    }

    /// One step of what the flusher does.
    fn work(
        &mut self,
        node: usize,
        run: &mut Run,
        luck: Luck,
    ) -> Option<Result<Vec<BatchId>, Error>> {
        if run.job.others.is_empty() && run.write.is_none() {
            run.write = Some(run.job.clone().whole());
        }
        if let Some(write) = run.write.take() {
            return Some(self.commit(run, write, luck));
        }
        let job = &run.job;
        let gathering = run
            .gathering
            .get_or_insert_with(|| Gathering::new(job.clone()));
        if let Some((other, ticket)) = run.asked {
            let told = self.nodes[other].told.remove(&ticket);
            let reaches = self.reaches(node, other);
            let thinks = told.is_none() && reaches;
            if thinks {
                return None;
            }
            run.asked = None;
            match told.filter(|_| reaches) {
                Some(Ok(answer)) if run.first_round => {
                    gathering.reconciled(number(other), answer, self.meta.catalog());
                }
                Some(Ok(answer)) => gathering.learn(answer.flushed),
                Some(Err(error @ Error::Conflict(_))) => return Some(Err(error)),
                _ => {}
            }
            return None;
        }
        if let Some(other) = run.ask.pop() {
            let ids = match run.first_round {
                true => gathering.own_ids(),
                false => gathering.wanted(),
            };
            let request = ReconcileRequest {
                key: run.job.key,
                ids,
            };
            if self.reaches(node, at(other)) {
                let ticket = self.ticket();
                run.asked = Some((at(other), ticket));
                self.on(at(other), Event::Reconcile { ticket, request });
            }
            return None;
        }
        if run.first_round {
            run.first_round = false;
            if !gathering.wanted().is_empty() {
                run.ask = gathering.others();
                return None;
            }
        }
        if let Some((other, ids)) = gathering.next_pull(20_000) {
            let state = self.nodes[at(other)].state.as_ref();
            let state = state.filter(|_| self.reaches(node, at(other)));
            let batches = state.map(|state| state.pull(&run.job.key, &ids, 1));
            gathering.pulled(other, batches.unwrap_or_default());
            return None;
        }
        run.write = run.gathering.take().map(Gathering::finish);
        None
    }

    fn commit(&mut self, run: &Run, write: ToWrite, luck: Luck) -> Result<Vec<BatchId>, Error> {
        let unavailable = || Error::Unavailable("the answer was lost".to_owned());
        if matches!(luck, Luck::Refused) {
            return Err(unavailable());
        }
        let ids = self.ids_of(&write);
        let segment = (!write.batches.is_empty()).then(|| self.segment());
        let commit = FlushCommit {
            key: write.key,
            heads: write.heads.clone(),
            digest: write.digest,
            segments: segment.into_iter().collect(),
        };
        self.meta
            .apply(&Command::CommitFlush(commit))
            .map_err(Error::from)?;
        for id in &ids {
            *self.stored.entry(*id).or_default() += 1;
        }
        *self.uploads.entry(write.key).or_default() += usize::from(!ids.is_empty());
        for head in &write.heads {
            let node = &self.nodes[head.ingester as usize - 1];
            let records = node.log.values().flatten();
            let mut of_head = records.filter(|(filing, _)| filing.head == *head);
            assert!(
                of_head.all(|(filing, _)| self.stored.contains_key(&filing.batch_id)),
                "{head:?} is covered, and not all of it is stored: {:?}",
                run.job.key
            );
        }
        match luck {
            Luck::AnswerLost => Err(unavailable()),
            _ => Ok(write.stored),
        }
    }

    /// Which batches a write holds.
    fn ids_of(&self, write: &ToWrite) -> BTreeSet<BatchId> {
        let ids: BTreeSet<BatchId> = write.batches.iter().map(|held| held.id).collect();
        let mut digest = Digest::default();
        for id in &ids {
            digest.add(*id);
        }
        assert_eq!((digest, ids.len()), (write.digest, write.batches.len()));
        ids
    }

    fn segment(&mut self) -> SegmentMeta {
        self.paths += 1;
        SegmentMeta {
            id: SegmentId(0),
            signal: Signal::Logs,
            path: format!("{}", self.paths).into(),
            object_bytes: 1,
            created: 0,
            level: 0,
            tenants: vec![TenantSegment {
                tenant: TenantId::default(),
                records: 1,
                content_bytes: 1,
                first: 0,
                last: 0,
            }],
        }
    }

    /// Everything works again, and time passes.
    fn settle(&mut self) {
        self.cuts.clear();
        for node in 0..4 {
            self.start(node);
        }
        for _ in 0..200 {
            self.now += SECOND;
            for node in 0..4 {
                self.hear(node);
                self.log(node, usize::MAX, true);
                self.on(node, Event::Tick);
                for _ in 0..10 {
                    self.advance(node, Luck::Done);
                }
            }
        }
    }

    fn heads(&self) -> usize {
        let states = self.nodes.iter().filter_map(|node| node.state.as_ref());
        states.map(State::heads).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_to_owners_every_acknowledged_batch_is_stored_in_the_end(steps in steps()) {
        let mut world = World::new(3);
        for step in steps {
            world.step(step);
        }
        world.settle();
        for id in &world.acknowledged {
            prop_assert!(world.stored.contains_key(id), "{id:?} is lost");
        }
        prop_assert_eq!(world.heads(), 0, "every head is covered in the end");
        let past = world.meta.catalog().cluster.past_rings.len();
        prop_assert_eq!(past, 0, "every past ring is drained in the end");
    }

    #[test]
    fn without_faults_each_key_is_stored_once(
        batches in prop::collection::vec((0..30_u8, 0..12_u32), 1..40),
        order in prop::collection::vec((0..3_usize, 0..3_usize), 0..200),
    ) {
        let mut world = World::new(3);
        // As a distributor's batches: each to all owners, at a time within its slot.
        for (number, second) in batches {
            world.step(Step::Wait(second * 1000));
            world.send(number, 7, false);
            for node in 0..3 {
                world.log(node, usize::MAX, true);
            }
        }
        world.step(Step::Wait(100_000));
        let mut order = order.into_iter().cycle();
        for step in 0..5000 {
            match order.next().unwrap_or((step % 3, step % 2)) {
                (node, 0) => world.hear(node),
                (node, _) => world.advance(node, Luck::Done),
            }
        }
        world.settle();
        prop_assert_eq!(world.heads(), 0);
        prop_assert!(world.stored.values().all(|copies| *copies == 1), "{:?}", world.stored);
        prop_assert!(world.uploads.values().all(|uploads| *uploads == 1), "{:?}", world.uploads);
    }
}
