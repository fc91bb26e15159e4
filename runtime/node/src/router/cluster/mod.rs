//! One node among others: calls that are made here go where their account's slot is open.

mod life;

mod meters;

mod service;

mod status;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use postroom_core::cluster::{
    CallKind, Facts, Fence, NewCall, NodeId, NodeState, Origin, Ownership, PeerAnswer, Table,
};
use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, Epoch, MailboxId, SessionId, Slot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::attached::{Attachments, Place};
use super::hub::Hub;
use super::owner::{NoReply, Owner};
use super::record;
use super::visitors::Visitors;
use super::wire::{self, Question, Response, Said};
use crate::cluster::gossip::Scuttlebutt;
use crate::cluster::links::{
    Call, LinkError, LinkServer, Links, NotSent, Presence, Refusal,
    TransactionId as LinkTransaction, WireVersion,
};
use crate::mailbox::{Accounts, Answer, Ask, News, Request, Write};
use crate::storage::Engine;

pub use status::{NodeStatus, SlotPlace};

/// How long a call looks for its account and waits for its answer. A write is asked for again after that,
/// under its id, as long as its caller has time.
const CALL_TIME: Duration = Duration::from_secs(30);
/// How long a peer has for a short message.
const NOTE_TIME: Duration = Duration::from_secs(5);

/// How long a call that has failed waits to hear whether the other node's process is there. One that was
/// killed is known to be gone within a few milliseconds; of a host that is lost nothing is heard so soon.
const SETTLE_TIME: Duration = Duration::from_millis(50);

/// What a node needs to be one of several.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// This node's generation: higher with each start.
    pub generation: u64,
    /// Folder with the certificates that `postroom cluster init` or `join` has made.
    pub certificates: PathBuf,
    /// Where links listen.
    pub listen: SocketAddr,
    /// Where others reach that: `host:port`.
    pub advertise: String,
    /// Nodes to speak with at first, `(name, host:port)`.
    pub seeds: Vec<(String, String)>,
}

/// What is told of each mailbox that is open here, under its claim.
type Fed = HashMap<(MailboxId, Epoch), watch::Receiver<News>>;

/// Whoever feeds from this ends, unless another one has taken its place.
fn unfeed(fed: &mut Fed, what: (MailboxId, Epoch), watch: &watch::Receiver<News>) {
    if fed.get(&what).is_some_and(|there| there.same_channel(watch)) {
        fed.remove(&what);
    }
}

/// A node among others.
pub struct Cluster {
    me: NodeId,
    owner: Arc<Owner>,
    accounts: Accounts,
    engine: Arc<dyn Engine>,
    attachments: Attachments,
    visitors: Arc<Visitors>,
    hub: Hub,
    /// Mailboxes open here whose changes this node's sessions are told of, with the claim.
    fed: Mutex<Fed>,
    links: Links,
    server: OnceLock<LinkServer>,
    gossip: OnceLock<Scuttlebutt>,
    facts: watch::Sender<Facts>,
    /// Peers whose events are read, and where they are.
    heard: Mutex<HashMap<NodeId, String>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Cluster {
    /// Carries a call out where its account is.
    ///
    /// # Errors
    /// Those of the call; `Unavailable` when no owner was found in time; `UnknownOutcome` for a write of
    /// which it is not known whether it took effect.
    pub async fn call(self: &Arc<Self>, request: Request) -> Result<Answer, StoreError> {
        if let Ask::Changes { released, .. } = &request.ask {
            self.attachments.released(request.session, *released);
        }
        let deadline = record::now() + CALL_TIME;
        let call = NewCall {
            transaction: request.transaction,
            slot: Slot::of(request.account),
            kind: kind(&request.ask),
            origin: Origin::Local,
            deadline,
        };
        let here = |fence| self.here(&request, fence).boxed();
        let there = |node, open| self.there(&request, node, open, deadline).boxed();
        let ended = self.owner.carry(call, here, there).await;
        ended.settled(matches!(request.ask, Ask::Write(_))).unwrap_or_else(|| {
            Err(StoreError::Unavailable("the mailbox is on its way to another node".into()))
        })
    }

    async fn here(self: &Arc<Self>, request: &Request, fence: Fence) -> Result<Answer, StoreError> {
        let at = Place { node: self.me.clone(), epoch: fence.epoch };
        let session = request.session;
        if needs_active(&request.ask)
            && let Some(attach) = self.attachments.to_attach(session, request.transaction, &at)
        {
            let Ask::Attach { mailbox, .. } = attach.ask else { return Err(mixed_up()) };
            let Answer::Attached(watch) = self.accounts.ask(attach).await? else {
                return Err(mixed_up());
            };
            self.hub.moved(mailbox, &self.me);
            self.feed(mailbox, at.epoch, watch);
            self.attachments.moved(session, at.clone(), request.transaction);
        }
        let answer = self.accounts.ask(request.clone()).await?;
        let admitted = |modseq| {
            // Storage says what this node holds; that the session has seen more is no reason to give it up.
            let behind = |_| StoreError::Unavailable("the mailbox was seen later elsewhere".into());
            self.attachments.admit(session, at.epoch, modseq).map_err(behind)
        };
        match answer {
            Answer::Selected(selected, watch) => {
                let (mailbox, highest) = (selected.status.mailbox, selected.status.highest_modseq);
                self.attachments.selected(request, &selected, at.clone());
                let news = self.hub.subscribe(mailbox, highest, &self.me);
                self.feed(mailbox, at.epoch, watch);
                Ok(Answer::Selected(selected, news))
            }
            Answer::Changes(changes) => {
                admitted(Some(changes.upto))?;
                Ok(Answer::Changes(changes))
            }
            answer => {
                admitted(None)?;
                Ok(answer)
            }
        }
    }

    fn fed(&self) -> MutexGuard<'_, Fed> {
        self.fed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells this node's sessions of the changes of a mailbox that is open here. They have subscribed.
    fn feed(self: &Arc<Self>, mailbox: MailboxId, epoch: Epoch, mut watch: watch::Receiver<News>) {
        match self.fed().entry((mailbox, epoch)) {
            Entry::Occupied(there) if there.get().same_channel(&watch) => return,
            // The mailbox was closed and opened again: who fed from before is about to end.
            Entry::Occupied(mut there) => drop(there.insert(watch.clone())),
            Entry::Vacant(free) => drop(free.insert(watch.clone())),
        }
        let cluster = self.clone();
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                let at = watch.borrow_and_update().at;
                {
                    let mut fed = cluster.fed();
                    // Under the lock: who subscribes after this finds nobody who feeds.
                    if !cluster.hub.changed(mailbox, at) {
                        return unfeed(&mut fed, (mailbox, epoch), &watch);
                    }
                }
                if watch.changed().await.is_err() {
                    unfeed(&mut cluster.fed(), (mailbox, epoch), &watch);
                    return cluster.hub.wake(mailbox);
                }
            }
        }));
    }

    async fn there(
        &self,
        request: &Request,
        node: NodeId,
        open: bool,
        deadline: Duration,
    ) -> Result<Result<Answer, StoreError>, NoReply> {
        let node = &node;
        let session = request.session;
        // However often it is sent: with the time that is left.
        let ask = |request: Request| {
            let within = deadline.saturating_sub(record::now());
            self.ask(node, Question::Call(request, open), within)
        };
        let mut response = ask(request.clone()).await?;
        if matches!(response, Response::NotAttached)
            && let Some(attach) = self.attachments.again(session, request.transaction)
        {
            let Ask::Attach { mailbox, .. } = attach.ask else { return Ok(Err(mixed_up())) };
            match ask(attach).await? {
                Response::Answered(epoch, said) => {
                    let Said::Attached(upto) = *said else { return Ok(Err(mixed_up())) };
                    let at = Place { node: node.clone(), epoch };
                    self.attachments.moved(session, at, request.transaction);
                    self.hub.moved(mailbox, node);
                    self.hub.changed(mailbox, upto);
                }
                Response::Failed(_, error) => return Ok(Err(error)),
                Response::NotMine
                | Response::NotAttached
                | Response::Noted
                | Response::Unknown(_) => return Err(NoReply::not_mine()),
            }
            response = ask(request.clone()).await?;
            if matches!(response, Response::NotAttached) {
                // It has moved in between: look again.
                return Err(NoReply::not_mine());
            }
        }
        match response {
            Response::Answered(epoch, said) => self.said(request, node, epoch, *said),
            Response::Failed(_, error) => Ok(Err(error)),
            // It has forgotten what nobody here knows of either.
            Response::NotAttached => Ok(Err(StoreError::NotFound("the selected mailbox".into()))),
            Response::NotMine | Response::Noted | Response::Unknown(_) => Err(NoReply::not_mine()),
        }
    }

    fn said(
        &self,
        request: &Request,
        node: &NodeId,
        epoch: Epoch,
        said: Said,
    ) -> Result<Result<Answer, StoreError>, NoReply> {
        let at = Place { node: node.clone(), epoch };
        let modseq = match &said {
            Said::Changes(changes) => Some(changes.upto),
            _ => None,
        };
        if !matches!(said, Said::Selected(..)) {
            // That node has not noticed yet that it is the owner no more.
            let admitted = self.attachments.admit(request.session, epoch, modseq);
            // What it has answered may have been done, before it was the owner no more.
            let uncertain = matches!(said, Said::Done(_));
            admitted.map_err(|_| NoReply { uncertain, ..NoReply::not_mine() })?;
        }
        Ok(Ok(match said {
            Said::Mailboxes(list) => Answer::Mailboxes(list),
            Said::Status(status) => Answer::Status(status),
            Said::Used(octets) => Answer::Used(octets),
            Said::Selected(selected, at_least) => {
                self.attachments.selected(request, &selected, at);
                let news = self.hub.subscribe(selected.status.mailbox, at_least, node);
                Answer::Selected(selected, news)
            }
            Said::Attached(_) => return Ok(Err(mixed_up())),
            Said::Changes(changes) => Answer::Changes(changes),
            Said::Seen(seen, more) => Answer::Seen(seen, more),
            Said::Body(octets) => Answer::Body(octets),
            Said::Done(made) => Answer::Done(made.reply()),
            Said::Checked(checked) => Answer::Checked(checked),
            Said::Swept(swept) => Answer::Swept(swept),
        }))
    }

    /// Asks another node.
    async fn ask(
        &self,
        node: &NodeId,
        question: Question,
        within: Duration,
    ) -> Result<Response, NoReply> {
        let transaction = match &question {
            Question::Call(request, _) => {
                debug!(transaction = %request.transaction, %node, "asked there");
                request.transaction.0
            }
            Question::Leave { .. } | Question::Active(_) => LinkTransaction::random().0,
        };
        let call = Call {
            transaction: LinkTransaction(transaction),
            within,
            version: WireVersion(wire::VERSION),
            trace_parent: Some(trace_parent(transaction)),
            payload: match wire::encode(&question) {
                Ok(payload) => payload,
                Err(error) => return Ok(Response::Failed(Epoch(0), error)),
            },
        };
        let Some(peer) = peer_id(node) else { return Err(NoReply::lost()) };
        match self.links.call(&peer, call).await {
            Ok(reply) => wire::decode(&reply.payload).ok_or_else(NoReply::lost),
            // It lets its slots go, or has: the record says who has this one.
            Err(LinkError::Declined(Refusal::Stopping)) => Err(NoReply::not_mine()),
            // It will not be smaller, or make more sense, the next time.
            Err(error @ LinkError::NotSent(NotSent::TooLarge)) => {
                Ok(Response::Failed(Epoch(0), StoreError::Limit(error.to_string())))
            }
            Err(LinkError::Declined(Refusal::Malformed(why))) => {
                let why = format!("node {node} does not understand the call: {why}");
                Ok(Response::Failed(Epoch(0), StoreError::Broken(why)))
            }
            Err(error) => {
                debug!(%node, %error, "a call to another node has no answer");
                let uncertain = error.may_have_had_effect();
                let is_gone = error == LinkError::Refused || self.refuses(&peer).await;
                let answer = if is_gone { PeerAnswer::Refused } else { PeerAnswer::Unreachable };
                Err(NoReply { answer, uncertain })
            }
        }
    }

    /// Whether nobody listens where a peer was, after a call to it has failed. A link that has just broken is
    /// being made again: the outcome is waited for.
    async fn refuses(&self, peer: &crate::cluster::NodeId) -> bool {
        let mut presence = self.links.presence();
        let settled = presence.wait_for(|known| known.get(peer) != Some(&Presence::Reachable));
        let settled = tokio::time::timeout(SETTLE_TIME, settled).await;
        settled.is_ok_and(|known| {
            known.is_ok_and(|known| known.get(peer) == Some(&Presence::Refusing))
        })
    }

    /// Leaves a session's active mailbox, without waiting for it.
    pub fn leave(self: &Arc<Self>, account: AccountId, session: SessionId) {
        match self.attachments.left(session) {
            Some((at, under)) if at.node != self.me => {
                let cluster = self.clone();
                self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(async move {
                    // In vain is no harm: it is named no more.
                    let _ =
                        cluster.ask(&at.node, Question::Leave { session, under }, NOTE_TIME).await;
                }));
            }
            Some(_) | None => self.accounts.leave(account, session),
        }
    }

    /// This node's name.
    pub fn me(&self) -> &NodeId {
        &self.me
    }

    /// Who has an account's slot open, by the claim in storage.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn place_of(&self, account: AccountId) -> Result<SlotPlace, StoreError> {
        let slot = Slot::of(account);
        let record = record::claim(&*self.engine, slot).await;
        let record =
            record.map_err(|_| StoreError::Unavailable("storage does not answer".into()))?;
        let claim = record.filter(|record| record.released.is_none());
        Ok(SlotPlace {
            account: account.to_string(),
            slot: slot.0,
            epoch: claim.as_ref().map(|claim| claim.epoch.0),
            node: claim.map(|claim| claim.claimant.node.as_str().to_owned()),
        })
    }

    /// Cancelled when a later start of this node has been seen: the process must end.
    pub fn superseded(&self) -> &CancellationToken {
        self.owner.superseded()
    }

    fn state(&self, state: NodeState) {
        self.facts.send_modify(|facts| facts.state = state);
    }

    fn look<T>(&self, look: impl FnOnce(&Table, &Ownership) -> T) -> T {
        self.owner.look(look)
    }
}

/// A node as the links name it.
fn peer_id(node: &NodeId) -> Option<crate::cluster::NodeId> {
    node.as_str().parse().ok()
}

/// What a call needs of the claim.
fn kind(ask: &Ask) -> CallKind {
    match ask {
        Ask::Write(_) | Ask::Check { repair: true, .. } | Ask::Sweep(_) => CallKind::Write,
        Ask::Select { .. } | Ask::Attach { .. } | Ask::Changes { .. } => CallKind::Validated,
        Ask::Mailboxes
        | Ask::Status(_)
        | Ask::Used
        | Ask::Seen { .. }
        | Ask::Body(_)
        | Ask::Check { repair: false, .. } => CallKind::Read,
    }
}

/// Whether a call means the session's active mailbox.
fn needs_active(ask: &Ask) -> bool {
    match ask {
        Ask::Changes { .. } | Ask::Seen { .. } | Ask::Body(_) => true,
        Ask::Write(write) => match write {
            Write::Store { .. }
            | Write::Expunge { .. }
            | Write::Copy { .. }
            | Write::Move { .. } => true,
            Write::Create { .. }
            | Write::Delete(_)
            | Write::Rename { .. }
            | Write::Subscribe { .. }
            | Write::Append { .. } => false,
        },
        Ask::Mailboxes
        | Ask::Status(_)
        | Ask::Used
        | Ask::Select { .. }
        | Ask::Attach { .. }
        | Ask::Check { .. }
        | Ask::Sweep(_) => false,
    }
}

/// A call's trace context (W3C Trace Context §3.2): its trace id is its transaction id, so that whoever
/// follows it through nodes' logs by the one finds it by the other.
fn trace_parent(transaction: [u8; 16]) -> String {
    format!("00-{}-{}-01", hex::encode(transaction), hex::encode(&transaction[8..]))
}

fn mixed_up() -> StoreError {
    StoreError::Broken("the account answered another question".into())
}
