//! The links between nodes, crashes, and what clients are told.

use postroom_core::cluster::{
    Action, Attempt, CallId, CallKind, Input, Origin, PeerAnswer, Standing,
};
use postroom_core::types::{Epoch, ModSeq};

use crate::Plant;
use crate::node::{Caller, Node, Order, id};
use crate::world::{Broken, Flight, Reply, Shown, World};

impl World {
    pub fn deliver(&mut self, flight: usize, once: bool, plant: Option<Plant>) {
        let Some(flight) = self.flights.iter().nth(flight).cloned() else { return };
        if once {
            self.flights.remove(&flight);
        }
        match flight {
            Flight::Request {
                from,
                generation,
                to,
                call,
                attempt,
                order: (transaction, kind),
                open,
            } => {
                if !self.nodes[to].up {
                    self.flights.remove(&Flight::Request {
                        from,
                        generation,
                        to,
                        call,
                        attempt,
                        order: (transaction, kind),
                        open,
                    });
                    return self.peer_answer(
                        from,
                        generation,
                        call,
                        attempt,
                        PeerAnswer::Refused,
                        None,
                        plant,
                    );
                }
                let caller = Caller::Peer { node: from, generation, call, attempt };
                self.arrive(
                    to,
                    Order { caller, transaction, kind },
                    Origin::Peer { open },
                    None,
                    plant,
                );
            }
            Flight::Reply { to, generation, call, attempt, answer } => {
                let (answer, shown) = match answer {
                    Reply::Shown(shown) => (PeerAnswer::Done, Some(shown)),
                    Reply::NotMine(hint) => (PeerAnswer::NotMine { hint: hint.map(id) }, None),
                    Reply::Unreachable | Reply::Failed => (PeerAnswer::Unreachable, None),
                };
                self.peer_answer(to, generation, call, attempt, answer, shown, plant);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a frame")]
    pub fn peer_answer(
        &mut self,
        at: usize,
        generation: u64,
        call: CallId,
        attempt: Attempt,
        answer: PeerAnswer,
        shown: Option<Shown>,
        plant: Option<Plant>,
    ) {
        if self.nodes[at].generation != generation || !self.nodes[at].up {
            return;
        }
        if let (PeerAnswer::NotMine { hint: Some(hint) }, Some(Plant::ObeyPeers)) = (&answer, plant)
            && self.nodes[at].machine.calls().get(call).is_some_and(|it| it.attempts == attempt)
        {
            let action = Action::SendTo { call, attempt, node: hint.clone(), open: false };
            return self.act(at, action, None, plant);
        }
        self.input_with(
            at,
            Input::PeerAnswered(call, attempt, answer),
            None,
            Standing::Live,
            shown,
            plant,
        );
    }

    /// No answer comes over the link. A request may still arrive; a reply is lost.
    pub fn cut(&mut self, flight: usize, plant: Option<Plant>) {
        self.left.faults -= 1;
        let Some(flight) = self.flights.iter().nth(flight).cloned() else { return };
        let (at, generation, call, attempt) = match &flight {
            Flight::Request { from, generation, call, attempt, .. } => {
                (*from, *generation, *call, *attempt)
            }
            Flight::Reply { to, generation, call, attempt, .. } => {
                (*to, *generation, *call, *attempt)
            }
        };
        if matches!(flight, Flight::Reply { .. }) {
            self.flights.remove(&flight);
        }
        let answer = PeerAnswer::Unreachable;
        self.peer_answer(at, generation, call, attempt, answer, None, plant);
    }

    pub fn crash(&mut self, at: usize) {
        let jobs = std::mem::take(&mut self.nodes[at].jobs);
        jobs.into_iter().for_each(|job| self.orphan(at, job));
        let orders = std::mem::take(&mut self.nodes[at].orders);
        let node = &mut self.nodes[at];
        *node = Node { up: false, ..Node::new(at, node.generation) };
        for order in orders.into_values() {
            match order.caller {
                Caller::Client(client) => self.clients[client].gone = true,
                Caller::Peer { node: to, generation, call, attempt } => {
                    let answer = Reply::Unreachable;
                    self.flights.insert(Flight::Reply { to, generation, call, attempt, answer });
                }
            }
        }
        self.clients
            .iter_mut()
            .filter(|client| client.node == at)
            .for_each(|client| client.gone = true);
    }

    /// An answer goes to its caller.
    pub fn tell(&mut self, caller: Caller, reply: Reply, plant: Option<Plant>) {
        let client = match caller {
            Caller::Peer { node: to, generation, call, attempt } => {
                self.flights.insert(Flight::Reply { to, generation, call, attempt, answer: reply });
                return;
            }
            Caller::Client(client) => client,
        };
        let head = self.storage.head();
        let it = &mut self.clients[client];
        if !it.waits {
            if plant != Some(Plant::AnswerBeforeCommit) {
                self.broken.insert(Broken::AnsweredTwice);
            }
            return;
        }
        it.waits = false;
        let kind = it.wants[it.done];
        it.done += 1;
        let Reply::Shown(shown) = reply else { return };
        if shown.value > head {
            self.broken.insert(Broken::ShownBeforeCommit);
        }
        if kind == CallKind::Write {
            it.acknowledged = Some(shown.value);
            return;
        }
        let admitted = it.seen.admit(Epoch(shown.epoch), ModSeq(shown.value.into())).is_ok();
        if !admitted && plant != Some(Plant::NoWatermark) {
            return;
        }
        if shown.value < it.shown {
            self.broken.insert(Broken::ShownWentBack);
        }
        if kind == CallKind::Validated && shown.value < it.floor {
            self.broken.insert(Broken::StaleSelect);
        }
        it.shown = shown.value;
    }
}
