//! Whole deployments over nodes that act in any order, die, are started anew and meet faults.

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

const NODES: [&str; 3] = ["a", "b", "c"];

/// Nodes as their drivers are: each keeps in storage how far it was, and in memory what serves.
struct Run {
    world: World,
    record: StoreRecord,
    /// In memory: which of two versions serves; none: the node is dead.
    serving: [Option<u32>; 3],
    generation: [u64; 3],
    trapped: [bool; 3],
}

impl Run {
    fn new(canary: Option<usize>) -> Self {
        let world = World::of(&NODES);
        let canary = canary.map(|node| NODES[node].to_owned());
        let deployment = Deployment { canary, ..deployment(2) };
        let record = world
            .seen(|seen| begin(&StoreRecord::default(), &version(1), deployment, seen))
            .unwrap();
        Self { world, record, serving: [Some(1); 3], generation: [1; 3], trapped: [false; 3] }
    }

    fn permanent(&self) -> u32 {
        if self.record.permanent.is_some() { 2 } else { 1 }
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
        if self.serving[node].is_none() {
            return;
        }
        let held = self.held(node);
        let duty = duty(&self.record, NODES[node], held);
        let tripped = matches!(
            self.world.reports.get(NODES[node]),
            Some(Report { progress: Progress::Tripped(_), .. })
        );
        let (serve, progress) = match (duty.serve, duty.stage) {
            (Some(_), _) if self.trapped[node] => (1, Progress::Tripped("a trap".into())),
            (Some(_), _) => (2, Progress::Serving),
            (None, Some(_)) if tripped => (1, Progress::Tripped("a trap".into())),
            (None, Some(_)) if held => (1, Progress::Held),
            (None, Some(_)) => (1, Progress::Staged),
            (None, None) => {
                self.serving[node] = Some(self.permanent());
                return;
            }
        };
        self.serving[node] = Some(serve);
        self.world.says(NODES[node], progress);
        let report = self.world.reports.get_mut(NODES[node]).unwrap();
        report.generation = self.generation[node];
    }

    fn moves(&mut self, node: usize) {
        if self.serving[node].is_none() {
            return;
        }
        let before = self.record.under_way.as_ref().map(|under_way| under_way.phase);
        if let Some(record) = self.world.seen(|seen| next(&self.record, seen)) {
            let ended = record.history.len() > self.record.history.len();
            if ended && record.permanent.is_some() {
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
                if self.world.live.len() > 1 {
                    self.world.live.remove(NODES[node]);
                    self.serving[node] = None;
                }
            }
            Event::Starts => {
                self.world.live.insert(NODES[node].to_owned());
                self.generation[node] += 1;
                self.serving[node] = Some(self.permanent());
            }
            Event::Traps => self.trapped[node] = true,
            Event::Waits => self.world.phase_for += Duration::from_secs(4),
        }
    }

    /// Everybody acts until nothing changes.
    fn settle(&mut self) {
        for _ in 0..200 {
            for node in 0..NODES.len() {
                self.acts(node);
                self.moves(node);
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
}
