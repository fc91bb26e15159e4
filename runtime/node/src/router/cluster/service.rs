//! What this node does for others: calls for slots that are open here, and events.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use postroom_core::cluster::{Fence, NewCall, NodeId, Origin, Visitor};
use postroom_core::error::StoreError;
use postroom_core::types::{Epoch, SessionId, Slot};
use tracing::{Instrument, debug_span};

use super::{Cluster, kind, needs_active};
use crate::cluster::links::{EventSource, IncomingCall, Refusal, Reply, Service};
use crate::mailbox::{Answer, Ask, Request};
use crate::router::owner::NoReply;
use crate::router::record;
use crate::router::wire::{self, Question, Response, Said};

/// The node, as its links see it.
pub(super) struct Serving(pub(super) Arc<Cluster>);

#[async_trait]
impl Service for Serving {
    async fn call(
        &self,
        from: &crate::cluster::NodeId,
        call: IncomingCall,
    ) -> Result<Reply, Refusal> {
        let malformed = || Refusal::Malformed("no question of this version".into());
        let question: Question = wire::decode(&call.payload).ok_or_else(malformed)?;
        let from = node_id(from).ok_or_else(malformed)?;
        let deadline = record::now() + call.remaining;
        let response = match question {
            Question::Call(request, open) => {
                let new = NewCall {
                    transaction: request.transaction,
                    slot: Slot::of(request.account),
                    kind: kind(&request.ask),
                    origin: Origin::Peer { open },
                    deadline,
                };
                let span = debug_span!("serve", transaction = %new.transaction, %from);
                self.0.serve(&from, new, request).instrument(span).await
            }
            Question::Leave { session, under } => {
                self.0.visitors.left(&from, session, under);
                Response::Noted
            }
            Question::Active(sessions) => {
                Response::Unknown(self.0.visitors.named(&from, &sessions))
            }
        };
        let payload = wire::encode(&response).map_err(|_| malformed())?;
        Ok(Reply { payload })
    }

    fn events(&self, from: &crate::cluster::NodeId) -> Result<EventSource, Refusal> {
        let from = node_id(from).ok_or_else(|| Refusal::Malformed("no name of a node".into()))?;
        Ok(self.0.visitors.events(&from))
    }

    fn met(&self, from: &crate::cluster::NodeId, address: &str) {
        // In vain is no harm: gossip says the same.
        let _ = self.0.links.set_address(from, address);
    }

    fn gossip(&self, from: &crate::cluster::NodeId, datagram: Bytes) {
        if let Some(gossip) = self.0.gossip.get() {
            gossip.receive(from, datagram);
        }
    }
}

impl Cluster {
    async fn serve(self: &Arc<Self>, from: &NodeId, new: NewCall, request: Request) -> Response {
        let here = |fence| self.for_visitor(from, &request, fence).boxed();
        // Calls of others are never sent on.
        let there = |_, _| async { Err(NoReply::not_mine()) }.boxed();
        let ended = self.owner.carry(new, here, there).await;
        match ended.settled(matches!(request.ask, Ask::Write(_))) {
            Some(Ok(response)) => response,
            Some(Err(error)) => Response::Failed(Epoch(0), error),
            None => Response::NotMine,
        }
    }

    async fn for_visitor(
        self: &Arc<Self>,
        from: &NodeId,
        request: &Request,
        fence: Fence,
    ) -> Result<Response, StoreError> {
        let (session, epoch) = (request.session, fence.epoch);
        let local = match &request.ask {
            Ask::Select { .. } | Ask::Attach { .. } => match self.visitors.number(from, session) {
                Some(local) => local,
                None => {
                    let full = "too many sessions of that node have mailboxes active here";
                    return Ok(Response::Failed(epoch, StoreError::Busy(full.into())));
                }
            },
            ask if needs_active(ask) => match self.visitors.known(from, session, epoch) {
                Some(local) => local,
                None => return Ok(Response::NotAttached),
            },
            // It needs no session.
            _ => SessionId(0),
        };
        let asked = Request { session: local, ..request.clone() };
        let answer = match self.accounts.ask(asked).await {
            Ok(answer) => answer,
            Err(StoreError::Fenced) => return Err(StoreError::Fenced),
            Err(error) => return Ok(Response::Failed(epoch, error)),
        };
        let active = match (&answer, &request.ask) {
            (Answer::Selected(selected, watch), _) => {
                Some((selected.status.mailbox, watch.clone()))
            }
            (Answer::Attached(watch), Ask::Attach { mailbox, .. }) => {
                Some((*mailbox, watch.clone()))
            }
            _ => None,
        };
        if let Some((mailbox, watch)) = active {
            let (account, under) = (request.account, request.transaction);
            let visitor = Visitor { local, account, mailbox, epoch, under };
            self.visitors.attached(from, session, visitor, watch);
        }
        Ok(match Said::of(answer) {
            Ok(said) => Response::Answered(epoch, Box::new(said)),
            Err(error) => Response::Failed(epoch, error),
        })
    }
}

/// A peer as the table names it.
pub(super) fn node_id(peer: &crate::cluster::NodeId) -> Option<NodeId> {
    peer.as_str().parse().ok()
}
