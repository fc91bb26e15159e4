//! Sessions and where their mailboxes are active, at both ends: what the node's `router/attached.rs`,
//! `router/visitors.rs` and the calls of `router/cluster/mod.rs` do, around the shipped `Seen` and `Visitors`.

use std::collections::BTreeSet;
use std::time::Duration;

use postroom_core::cluster::{Fence, Input, Left, PeerAnswer, Ran, Seen, Visitor};
use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, Epoch, MailboxId, ModSeq, SessionId, Slot, UidValidity};

use crate::Plant;
use crate::ask::{Answer, Answered, Ask, Request, Response};
use crate::client::ClientEvent;
use crate::links::{Tag, What};
use crate::office::{Job, MAX_FETCHED};
use crate::process::{From, Stage, Step, name_of};
use crate::world::{Event, Pid, World, account_id};

/// A session of this node and its active mailbox.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub account: usize,
    pub mailbox: MailboxId,
    pub uid_validity: UidValidity,
    pub released: ModSeq,
    pub seen: Seen,
    /// Where it is registered: at which node, under which claim.
    pub at: (usize, Epoch),
}

/// The number of an account that the registry of sessions names.
fn account_of(id: AccountId) -> usize {
    (0..).find(|account| account_id(*account) == id).expect("an account of this run")
}

impl Attachment {
    fn request(&self, of: &Request) -> Request {
        let Self { account, mailbox, uid_validity, released, .. } = *self;
        let ask = Ask::Attach { mailbox, uid_validity, released };
        Request { account, session: of.session, transaction: of.transaction, ask }
    }

    /// What makes the mailbox active here, if it is registered somewhere else.
    pub fn to_attach(&self, of: &Request, here: (usize, Epoch)) -> Option<Request> {
        (self.at != here).then(|| self.request(of))
    }
}

impl World {
    /// Takes an answer's epoch and the mod-sequence that it shows.
    fn admit(
        &mut self,
        pid: Pid,
        session: SessionId,
        epoch: Epoch,
        modseq: Option<ModSeq>,
    ) -> bool {
        let plant = self.setup.plant;
        let Some(attachment) = self.processes[pid].attachments.get_mut(&session) else {
            return true;
        };
        let modseq = modseq.unwrap_or(attachment.seen.modseq());
        let admitted = attachment.seen.admit(epoch, modseq).is_ok();
        if !admitted {
            self.note(format_args!("{pid}: an answer at {} is behind", epoch.0));
        }
        admitted || plant == Some(Plant::NoFloor)
    }

    /// The mailbox that a session has selected, at a node and under a claim.
    fn selected(&mut self, pid: Pid, request: &Request, answer: &Answer, at: (usize, Epoch)) {
        let Answer::Selected(selected) = answer else { return };
        let status = &selected.status;
        let mut seen = Seen::default();
        let _ = seen.admit(at.1, status.highest_modseq);
        let attachment = Attachment {
            account: request.account,
            mailbox: status.mailbox,
            uid_validity: status.uid_validity,
            released: status.highest_modseq,
            seen,
            at,
        };
        self.processes[pid].attachments.insert(request.session, attachment);
    }

    /// Looks at an answer on its way to a session of this node.
    fn said(&mut self, pid: Pid, request: &Request, answer: &Answer, at: (usize, Epoch)) -> bool {
        match answer {
            Answer::Selected(_) => {
                self.selected(pid, request, answer, at);
                true
            }
            Answer::Changes(changes) => self.admit(pid, request.session, at.1, Some(changes.upto)),
            Answer::Attached | Answer::Fetched(_) | Answer::Status(_) | Answer::Done(_) => {
                self.admit(pid, request.session, at.1, None)
            }
        }
    }

    /// What an account answers to a call that ran here.
    pub fn job_done(&mut self, pid: Pid, job: Job, answered: Answered) {
        let at = (self.processes[pid].name, job.fence.epoch);
        let Some(carried) = self.processes[pid].calls.get_mut(&job.call) else { return };
        if !matches!(carried.step, Step::Here(attempt) if attempt == job.attempt) {
            return;
        }
        let (from, request) = (carried.from, carried.request.clone());
        let ran = match (from, answered) {
            (_, Err(StoreError::Fenced)) => Ran::Fenced,
            (From::Peer { pid: peer, .. }, answered) => {
                let response = match answered {
                    Ok(answer) => {
                        self.visitor_attached(pid, peer, &request, &answer, at.1);
                        Response::Answered(at.1, answer)
                    }
                    Err(error) => Response::Failed(error),
                };
                if let Some(carried) = self.processes[pid].calls.get_mut(&job.call) {
                    carried.response = Some(response);
                }
                Ran::Done
            }
            (From::Client(..), answered) => {
                if job.attach.is_some()
                    && let Some(it) = self.processes[pid].attachments.get_mut(&request.session)
                {
                    it.at = at;
                }
                let stands = match &answered {
                    Ok(answer) => self.said(pid, &request, answer, at),
                    Err(_) => true,
                };
                if let Some(carried) = self.processes[pid].calls.get_mut(&job.call) {
                    carried.answered = Some(answered);
                }
                if stands { Ran::Done } else { Ran::Fenced }
            }
        };
        self.input(pid, Input::RanHere(job.call, job.attempt, ran));
    }

    fn visitor_attached(
        &mut self,
        pid: Pid,
        peer: Pid,
        request: &Request,
        answer: &Answer,
        epoch: Epoch,
    ) {
        let mailbox = match (answer, &request.ask) {
            (Answer::Selected(selected), _) => selected.status.mailbox,
            (Answer::Attached, Ask::Attach { mailbox, .. }) => *mailbox,
            _ => return,
        };
        let node = name_of(self.processes[peer].name);
        let (account, session) = (account_id(request.account), request.session);
        // Offices know sessions by the numbers of their own nodes.
        let visitor =
            Visitor { local: session, account, mailbox, epoch, under: request.transaction };
        self.processes[pid].visitors.attached(&node, session, visitor);
    }

    /// What another node answers to a question of a call.
    pub fn peer_answered(&mut self, pid: Pid, node: usize, tag: Tag, response: Response) {
        let Some(carried) = self.processes[pid].calls.get(&tag.call) else { return };
        let Step::There { open, stage, .. } = carried.step else { return };
        if !carried.is_at(&tag) {
            return;
        }
        let request = carried.request.clone();
        let not_mine = PeerAnswer::NotMine { hint: None };
        let gone = || Err(StoreError::NotFound("the selected mailbox".into()));
        let done = match (stage, response) {
            (Stage::First, Response::NotAttached) => {
                match self.processes[pid].attachments.get(&request.session) {
                    Some(it) => {
                        let attach = it.request(&request);
                        return self.ask_further(pid, node, tag, Stage::Attaching, attach, open);
                    }
                    None => Ok(gone()),
                }
            }
            (Stage::Attaching, Response::Answered(epoch, Answer::Attached)) => {
                if let Some(it) = self.processes[pid].attachments.get_mut(&request.session) {
                    it.at = (node, epoch);
                }
                return self.ask_further(pid, node, tag, Stage::Second, request, open);
            }
            (Stage::Attaching, Response::Failed(error)) => Ok(Err(error)),
            (Stage::Attaching, _) => Err(not_mine),
            (Stage::First | Stage::Second, Response::Answered(epoch, answer)) => {
                match self.said(pid, &request, &answer, (node, epoch)) {
                    true => Ok(Ok(answer)),
                    false => Err(not_mine),
                }
            }
            (_, Response::Failed(error)) => Ok(Err(error)),
            (_, Response::NotAttached) => Ok(gone()),
            (_, Response::NotMine(hint)) => Err(PeerAnswer::NotMine { hint: hint.map(name_of) }),
        };
        let answer = match done {
            Ok(answered) => {
                if let Some(carried) = self.processes[pid].calls.get_mut(&tag.call) {
                    carried.answered = Some(answered);
                }
                PeerAnswer::Done
            }
            Err(answer) => answer,
        };
        self.input(pid, Input::PeerAnswered(tag.call, tag.attempt, answer));
    }

    fn ask_further(
        &mut self,
        pid: Pid,
        node: usize,
        tag: Tag,
        stage: Stage,
        request: Request,
        open: bool,
    ) {
        if let Some(carried) = self.processes[pid].calls.get_mut(&tag.call) {
            carried.step = Step::There { attempt: tag.attempt, open, stage };
        }
        self.question(pid, node, (tag.call, tag.attempt, stage), request, open);
    }

    /// A node says which of its sessions have something active here.
    pub fn named(&mut self, pid: Pid, node: usize, sessions: &[SessionId]) {
        let (left, _) = self.processes[pid].visitors.named(&name_of(node), sessions);
        self.have_left(pid, left);
    }

    /// A node is gone, with all its sessions.
    pub fn node_gone(&mut self, pid: Pid, node: usize) {
        let left = self.processes[pid].visitors.gone(&name_of(node));
        self.have_left(pid, left);
    }

    fn have_left(&mut self, pid: Pid, left: Left) {
        for (session, visitor) in left.visitors {
            self.leave_office(pid, account_of(visitor.account), session);
        }
    }

    /// A session of this node ends.
    pub fn session_ends(&mut self, pid: Pid, account: usize, session: SessionId) {
        self.processes[pid].attachments.remove(&session);
        self.leave_office(pid, account, session);
    }

    /// Whoever has something active in a slot that has left this node looks again.
    pub fn tell_moved(&mut self, pid: Pid, slot: Slot) {
        let nodes = self.processes[pid].visitors.nodes_with(|account| Slot::of(account) == slot);
        let nodes: BTreeSet<usize> = nodes.map(crate::process::index_of).collect();
        nodes.into_iter().for_each(|node| self.push(pid, node, What::Moved(slot.0)));
        self.wake_slot(pid, slot.0);
    }

    /// Something has changed in an account that is open here.
    pub fn tell_changed(&mut self, pid: Pid, account: usize, mailboxes: &BTreeSet<MailboxId>) {
        let mut nodes = BTreeSet::new();
        for mailbox in mailboxes {
            let watchers = self.processes[pid].visitors.watchers(*mailbox);
            nodes.extend(watchers.map(crate::process::index_of));
        }
        nodes.into_iter().for_each(|node| self.push(pid, node, What::Changed(account)));
        self.wake(pid, account);
    }

    pub fn wake_slot(&mut self, pid: Pid, slot: u16) {
        let accounts: BTreeSet<usize> =
            self.processes[pid].attachments.values().map(|it| it.account).collect();
        for account in accounts {
            if self.slot(account).0 == slot {
                self.wake(pid, account);
            }
        }
    }

    /// Wakes the sessions of this node that have something of an account active.
    pub fn wake(&mut self, pid: Pid, account: usize) {
        let sessions = self.processes[pid].attachments.iter();
        let sessions =
            sessions.filter(|(_, it)| it.account == account).map(|(session, _)| *session);
        for session in sessions.collect::<Vec<_>>() {
            if let Some(client) = self.clients.iter().position(|it| it.session == session) {
                self.after(
                    Duration::from_micros(30),
                    Event::Client(client, ClientEvent::Woken(session)),
                );
            }
        }
    }

    /// Wakes those that have something active at a node.
    pub fn wake_at(&mut self, pid: Pid, node: usize) {
        let attachments = self.processes[pid].attachments.values();
        let accounts: BTreeSet<usize> =
            attachments.filter(|it| it.at.0 == node).map(|it| it.account).collect();
        accounts.into_iter().for_each(|account| self.wake(pid, account));
    }

    /// Whether a fence that calls are started under is one that this process has claimed.
    pub fn check_run_here(&mut self, pid: Pid, fence: &Fence) {
        let process = &self.processes[pid];
        let claimant = self.check.claimant_of(fence);
        let its = claimant.is_some_and(|it| {
            it.node == name_of(process.name) && it.generation.0 == process.generation
        });
        if !its {
            self.check.broken(format!("{pid} runs a call under a claim that it never made"));
        }
    }

    /// Whether a session has been served under a later claim: what it is answered under this one is refused.
    fn has_seen_later(&self, session: SessionId, epoch: Epoch) -> bool {
        let seen = |it: &crate::process::Process| {
            it.attachments.get(&session).is_some_and(|attachment| attachment.at.1 > epoch)
        };
        self.processes.iter().any(seen)
    }

    /// A node that lies answers reads from what it had, for slots that it has let go or lost.
    pub fn lie(&mut self, pid: Pid, request: &Request) -> Option<Response> {
        let process = &self.processes[pid];
        let slot = self.slot(request.account);
        if !process.lies || process.machine.open_slots().contains(slot) {
            return None;
        }
        let (epoch, state) = process.bygone.get(&request.account)?;
        // No protocol protects others from an owner that lies about what only it can know.
        if !self.has_seen_later(request.session, *epoch) {
            return None;
        }
        let mailbox = |id: &MailboxId| state.mailbox(*id);
        let active = self.check.active.get(&request.session)?;
        let answer = match &request.ask {
            Ask::Changes { since, known, .. } => {
                Answer::Changes(mailbox(active)?.changes(*since, *known))
            }
            Ask::Fetch(uids) => {
                let open = mailbox(active)?.open.as_ref()?;
                Answer::Fetched(open.visible(uids, ModSeq(0), MAX_FETCHED).0)
            }
            _ => return None,
        };
        Some(Response::Answered(*epoch, answer))
    }
}
