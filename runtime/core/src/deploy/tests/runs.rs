//! Whole deployments over nodes that act in any order, die, are started anew and meet faults.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What happens to a node.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// It looks at the record and does its duty.
    Acts,
    /// It looks at the record and moves it on, if it can.
    Moves,
    /// It dies.
    Dies,
    /// It is started, or started anew.
    Starts,
    /// The version traps there.
    Traps,
    /// Time passes.
    Waits,
    /// It is halted: nobody hears it, and it does nothing, but it has what it had.
    Halts,
    /// It goes on.
    Wakes,
    /// It writes in one of three accounts.
    Writes(usize),
    /// It does the next part of a sweep, if that is its to do.
    Sweeps,
    /// An operator deploys one of the versions there.
    Deploys(u32),
    /// An operator goes back to the configuration there, which names the first one.
    Forgets,
}

fn event() -> impl Strategy<Value = (usize, Event)> {
    let event = prop_oneof![
        6 => Just(Event::Acts),
        6 => Just(Event::Moves),
        1 => Just(Event::Dies),
        1 => Just(Event::Starts),
        1 => Just(Event::Traps),
        2 => Just(Event::Waits),
    ];
    (0..3usize, event)
}

/// The same, with versions that follow each other and write.
fn event_of_many() -> impl Strategy<Value = (usize, Event)> {
    let more = prop_oneof![
        1 => Just(Event::Halts),
        2 => Just(Event::Wakes),
        8 => (0..3usize).prop_map(Event::Writes),
        8 => Just(Event::Sweeps),
        2 => (1..=VERSIONS).prop_map(Event::Deploys),
        1 => Just(Event::Forgets),
    ];
    prop_oneof![1 => event(), 1 => (0..3usize, more)]
}

/// Versions by their numbers, of which each reads other schemas.
const VERSIONS: u32 = 5;

fn schema(number: u32) -> Schema {
    let (reads, writes, writes_from) = match number {
        1 => ((1, 1), 1, Some(1)),
        2 => ((1, 2), 2, Some(1)),
        3 => ((2, 3), 3, Some(2)),
        // It can be told nothing.
        4 => ((1, 3), 2, None),
        _ => ((1, 3), 1, Some(1)),
    };
    Schema { reads, writes, writes_from }
}

fn numbered(number: u32) -> Version {
    Version { schema: schema(number), ..version(number) }
}

fn number(version: &Version) -> u32 {
    (1..=VERSIONS).find(|n| numbered(*n).digest == version.digest).expect("it is one of ours")
}

const NODES: [&str; 3] = ["a", "b", "c"];

/// Nodes as their drivers are: each keeps in storage how far it was, and in memory what serves.
struct Run {
    world: World,
    record: StoreRecord,
    /// In memory: which of two versions serves; none: the node is dead.
    serving: [Option<u32>; 3],
    generation: [u64; 3],
    trapped: [bool; 3],
    /// In memory: in which schema they write, and in which round.
    told: [(u32, u64); 3],
    halted: [bool; 3],
    /// By account: which schemas its rows may have, and who has it open.
    stored: [BTreeSet<u32>; 3],
    owners: [Option<usize>; 3],
}

impl Run {
    fn new(canary: Option<usize>) -> Self {
        let world = World::of(&NODES);
        let mut run = Self {
            world,
            record: StoreRecord::default(),
            serving: [Some(1); 3],
            generation: [1; 3],
            trapped: [false; 3],
            told: [(1, 0); 3],
            halted: [false; 3],
            stored: Default::default(),
            owners: [None; 3],
        };
        run.deploys(2, canary);
        run
    }

    fn permanent(&self) -> u32 {
        self.record.permanent.as_ref().map_or(1, number)
    }

    fn deploys(&mut self, number: u32, canary: Option<usize>) {
        let canary = canary.map(|node| NODES[node].to_owned());
        self.begins(Deployment { canary, version: numbered(number), ..deployment(number) });
    }

    fn begins(&mut self, deployment: Deployment) {
        let serves = numbered(self.permanent());
        let begun = self.world.seen(|seen| begin(&self.record, &serves, deployment, seen));
        if let Ok(begun) = begun {
            self.record = begun;
            self.world.phase_for = Duration::ZERO;
            self.world.reports.clear();
            self.trapped = [false; 3];
        }
    }

    /// Whether it was started anew after the version had served there.
    fn held(&self, node: usize) -> bool {
        let mine = self.world.reports.get(NODES[node]);
        mine.is_some_and(|mine| match mine.progress {
            Progress::Held | Progress::Tripped(_) => true,
            Progress::Serving => mine.generation != self.generation[node],
            Progress::Staged | Progress::Refused(_) => false,
        })
    }

    fn acts(&mut self, node: usize) {
        if self.serving[node].is_none() || self.halted[node] {
            return;
        }
        self.serves(node);
        self.listens(node);
    }

    /// Lets the version serve that the record wants.
    fn serves(&mut self, node: usize) {
        let under_way = self.record.under_way.as_ref().map(|under_way| number(&under_way.version));
        let held = self.held(node);
        let duty = duty(&self.record, NODES[node], held);
        let tripped = matches!(
            self.world.reports.get(NODES[node]),
            Some(Report { progress: Progress::Tripped(_), .. })
        );
        let before = self.permanent();
        let new = under_way.unwrap_or(before);
        let (serve, progress) = match (duty.serve, duty.stage) {
            (Some(_), _) if self.trapped[node] => (before, Progress::Tripped("a trap".into())),
            (Some(_), _) => (new, Progress::Serving),
            (None, Some(_)) if tripped => (before, Progress::Tripped("a trap".into())),
            (None, Some(_)) if held => (before, Progress::Held),
            (None, Some(_)) => (before, Progress::Staged),
            (None, None) => {
                self.serving[node] = Some(before);
                return;
            }
        };
        self.serving[node] = Some(serve);
        self.world.says(NODES[node], progress);
        let report = self.world.reports.get_mut(NODES[node]).unwrap();
        report.generation = self.generation[node];
    }

    /// Writes from now on as the record says, if what serves can, and says so.
    fn listens(&mut self, node: usize) {
        let (rows, schema) = (self.rows(), schema(self.serving[node].expect("it lives")));
        if schema.can_write(rows.writes) || !schema.listens() {
            self.told[node] = (rows.writes, rows.round);
        }
        let writer = Writer { schema, round: self.told[node].1 };
        self.world.writers.insert(NODES[node].to_owned(), writer);
    }

    fn rows(&self) -> Rows {
        self.record.rows(&numbered(1))
    }

    /// Whether a node has an account open, or opens it: who has another view of the rows may not.
    fn opens(&mut self, node: usize, account: usize) -> bool {
        let lives = self.world.live.contains(NODES[node]) && self.serving[node].is_some();
        if self.owners[account] == Some(node) {
            return lives;
        }
        // Nobody takes from one that lives.
        let owner = self.owners[account];
        let taken = owner.is_some_and(|owner| self.world.live.contains(NODES[owner]));
        let opens = lives && !taken && self.told[node].1 >= self.rows().round;
        if opens {
            self.owners[account] = Some(node);
        }
        opens
    }

    fn writes(&mut self, node: usize, account: usize) {
        if self.opens(node, account) {
            let (schema, told) = (schema(self.serving[node].expect("it lives")), self.told[node].0);
            let written = if schema.can_write(told) { told } else { schema.writes };
            self.stored[account].insert(written);
        }
    }

    /// The next account, by whoever has it open.
    fn sweeps(&mut self, node: usize) {
        let swept =
            self.world.rows_seen(|seen| sweeps(&self.record, &numbered(1), NODES[node], seen));
        let Some(round) = swept else { return };
        let sweep = self.world.sweep.take().filter(|sweep| sweep.round == round);
        let mut sweep = sweep.unwrap_or(Sweep { round, ..Sweep::default() });
        let account = sweep.accounts as usize;
        if account < self.stored.len() {
            let there =
                self.owners[account].filter(|owner| self.world.live.contains(NODES[*owner]));
            let owner = there.unwrap_or(node);
            if self.opens(owner, account) && self.told[owner].1 == round {
                let only = self.told[owner].0;
                if !self.stored[account].is_empty() {
                    self.stored[account] = BTreeSet::from([only]);
                }
                sweep.accounts += 1;
            }
        }
        sweep.done = sweep.accounts as usize == self.stored.len();
        self.world.sweep = Some(sweep);
    }

    /// Nobody serves an account that he could not read, and the record tells of all that is there.
    fn check(&self) {
        let rows = self.rows();
        for (account, stored) in self.stored.iter().enumerate() {
            for kept in stored {
                assert!((rows.first..=rows.last).contains(kept), "{kept} is not in {rows:?}");
            }
            let Some(owner) = self.owners[account] else { continue };
            let Some(serving) = self.serving[owner] else { continue };
            if let (Some(first), Some(last)) = (stored.first(), stored.last()) {
                let reads = schema(serving).reads_all((*first, *last));
                assert!(reads, "{} serves {serving} over {stored:?}", NODES[owner]);
            }
        }
        for (node, name) in NODES.iter().enumerate() {
            // Whoever may open any account reads whatever may be in it.
            let current = self.told[node].1 >= rows.round;
            if let Some(serving) = self.serving[node].filter(|_| current && !self.halted[node]) {
                let reads = schema(serving).reads_all(rows.span());
                assert!(reads, "{name} serves {serving} over {rows:?}");
            }
        }
    }

    fn moves(&mut self, node: usize) {
        if self.serving[node].is_none() || self.halted[node] {
            return;
        }
        let onward = self.world.rows_seen(|seen| next_rows(&self.record, &numbered(1), seen));
        if let Some(onward) = onward {
            self.record = onward;
        }
        let before = self.record.under_way.as_ref().map(|under_way| under_way.phase);
        let serves = self.permanent();
        let to = self.record.under_way.as_ref().map(|under_way| number(&under_way.version));
        if let Some(record) = self.world.seen(|seen| next(&self.record, seen)) {
            let ended = record.history.len() > self.record.history.len();
            let permanent = record.history.last().map(|ended| &ended.outcome);
            // Where it serves already only the record changes.
            if ended && permanent == Some(&Outcome::Permanent) && to != Some(serves) {
                assert_eq!(before, Some(Phase::Probation));
                for (node, live) in
                    NODES.iter().enumerate().filter(|(_, n)| self.world.live.contains(**n))
                {
                    let progress = &self.world.reports[*live].progress;
                    assert!(matches!(progress, Progress::Serving | Progress::Held), "{node}");
                }
            }
            self.record = record;
            self.world.phase_for = Duration::ZERO;
        }
    }

    fn apply(&mut self, node: usize, event: Event) {
        match event {
            Event::Acts => self.acts(node),
            Event::Moves => self.moves(node),
            Event::Dies => {
                // Somebody lives, or nothing goes on.
                if self.world.live.iter().any(|live| live != NODES[node]) {
                    self.world.live.remove(NODES[node]);
                    (self.serving[node], self.halted[node]) = (None, false);
                    self.let_go(node);
                }
            }
            Event::Starts => {
                self.world.live.insert(NODES[node].to_owned());
                self.generation[node] += 1;
                (self.serving[node], self.halted[node]) = (Some(self.permanent()), false);
                self.let_go(node);
                self.world.writers.remove(NODES[node]);
                let rows = self.rows();
                self.told[node] = (rows.writes, rows.round);
            }
            Event::Halts => {
                let others = self.world.live.iter().any(|live| live != NODES[node]);
                if others && self.serving[node].is_some() {
                    self.world.live.remove(NODES[node]);
                    self.halted[node] = true;
                }
            }
            Event::Wakes => {
                if self.halted[node] {
                    self.halted[node] = false;
                    self.world.live.insert(NODES[node].to_owned());
                    // It says what it said before, until it looks.
                }
            }
            Event::Writes(account) => self.writes(node, account),
            Event::Sweeps if !self.halted[node] && self.serving[node].is_some() => {
                self.sweeps(node);
            }
            Event::Sweeps => {}
            Event::Deploys(number) => self.deploys(number, None),
            Event::Forgets => {
                let version = numbered(1);
                self.begins(Deployment { version, configured: true, ..deployment(1) });
            }
            Event::Traps => self.trapped[node] = true,
            Event::Waits => self.world.phase_for += Duration::from_secs(4),
        }
    }

    /// What a node had open is nobody's.
    fn let_go(&mut self, node: usize) {
        self.owners
            .iter_mut()
            .filter(|owner| **owner == Some(node))
            .for_each(|owner| *owner = None);
    }

    /// Everybody acts until nothing changes.
    fn settle(&mut self) {
        for _ in 0..200 {
            for node in 0..NODES.len() {
                self.acts(node);
                self.moves(node);
                self.sweeps(node);
            }
            self.world.phase_for += Duration::from_secs(4);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn every_deployment_ends_and_all_nodes_serve_the_same(
        canary in prop::option::of(0..3usize),
        events in prop::collection::vec(event(), 0..80),
    ) {
        let mut run = Run::new(canary);
        for (node, event) in events {
            run.apply(node, event);
            // Two generations at most, and the new one only where the record says so.
            if run.record.under_way.is_none() && run.record.permanent.is_none() {
                prop_assert!(run.record.history.len() == 1);
            }
        }
        run.settle();
        prop_assert_eq!(&run.record.under_way, &None, "it has ended");
        prop_assert_eq!(run.record.history.len(), 1);
        for (node, serving) in run.serving.iter().enumerate() {
            if run.world.live.contains(NODES[node]) {
                prop_assert_eq!(*serving, Some(run.permanent()), "{}", NODES[node]);
            }
        }
    }

    #[test]
    fn no_version_ever_serves_that_cannot_read_what_may_be_in_storage(
        events in prop::collection::vec(event_of_many(), 0..300),
    ) {
        let mut run = Run::new(None);
        for (node, event) in events {
            run.apply(node, event);
            run.check();
        }
        for node in 0..NODES.len() {
            run.apply(node, Event::Starts);
        }
        run.settle();
        run.check();
        prop_assert_eq!(&run.record.under_way, &None, "it has ended");
        let (rows, serves) = (run.rows(), numbered(run.permanent()));
        prop_assert_eq!(rows.writes, serves.schema.writes, "what is permanent writes as it wants to");
        prop_assert!(rows.are_settled() || !serves.schema.listens(), "{rows:?}");
        prop_assert_eq!(run.serving, [Some(run.permanent()); 3]);
    }
}
