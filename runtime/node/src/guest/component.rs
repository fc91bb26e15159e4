//! A loaded store component: the node's store traits, carried out by its pool of instances.

use std::sync::Arc;

use async_trait::async_trait;
use postroom_core::deploy::evidence::Wear;
use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, UserRow};
use postroom_core::types::{MailboxId, Uid};

use super::api::{CallInfo, CheckPage, MessagePlace, Messages, Page, Part, Records, Stores};
use super::bindings::exports::postroom::store::messages::{NewMessage, Part as WitPart};
use super::convert::{self, Convert, breaks, broken, checked, listed, selected};
use super::host::OpenCall;
use super::inspect::Inspection;
use super::instance::enter;
use super::journal::Pen;
use super::manifest::{Kind, Medium};
use super::pool::{Pool, Verb};
use super::quarantine::{Quarantined, Subject};
use crate::storage::{Area, Body, Txn, View};

/// A store component that is loaded and runs. Implements [`Records`] and [`Messages`] for every
/// kind, and [`Hook`](super::Hook); a call for what the component does not export is `Unsupported`.
pub struct StoreComponent {
    pub(super) name: Arc<str>,
    pub(super) inspection: Inspection,
    pub(super) pool: Pool,
    pub(super) pen: Pen,
}

/// How busy a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Live instances.
    pub instances: usize,
    /// Calls in them.
    pub calls: usize,
}

impl StoreComponent {
    pub(super) fn new(name: Arc<str>, inspection: Inspection, pool: Pool, pen: Pen) -> Self {
        Self { name, inspection, pool, pen }
    }

    /// What it is called in logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its file says.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Whether it keeps this kind of record.
    pub fn keeps(&self, kind: Kind) -> bool {
        self.inspection.kinds.contains(&kind)
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let (instances, calls) = self.pool.load();
        Load { instances, calls }
    }

    /// Handles of the host that its instances hold.
    pub fn handles(&self) -> usize {
        self.pool.handles()
    }

    /// Operations that are refused because they have cost it instances.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.pool.quarantined()
    }

    /// It goes on probation, or has passed it.
    pub(super) fn set_probation(&self, is_on: bool) {
        self.pool.set_probation(is_on);
    }

    /// Instances that went before their time.
    pub(super) fn wear(&self) -> Wear {
        self.pool.wear()
    }

    /// How long calls may take to finish when their generation or instance goes.
    pub(super) fn drain_time(&self) -> std::time::Duration {
        self.pool.drain_time()
    }

    /// Whether it takes no more calls.
    pub fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// Takes no more calls; returns when the running ones have finished or their time is over.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn verb(&self, kind: Kind, name: &'static str) -> Result<Verb, StoreError> {
        match self.keeps(kind) {
            true => Ok(Verb { interface: kind.name(), name }),
            false => {
                let (store, kind) = (&self.name, kind.name());
                Err(StoreError::Unsupported(format!("store component {store} keeps no {kind}")))
            }
        }
    }
}

impl Stores {
    /// One component for every kind of record.
    pub fn all(component: Arc<StoreComponent>) -> Self {
        Self {
            domains: component.clone(),
            users: component.clone(),
            mailboxes: component.clone(),
            messages: component,
        }
    }
}

/// [`Records`] by one exported interface; they differ in their types only.
macro_rules! records {
    ($row:ty, $name:ty, $kind:expr, $area:expr, $interface:ident) => {
        #[async_trait]
        impl Records<$row, $name> for StoreComponent {
            async fn create(&self, info: CallInfo, txn: &Txn) -> Result<(), StoreError> {
                let verb = self.verb($kind, "create")?;
                let enter = enter(|inside| {
                    Box::pin(async move {
                        let guest = inside.exports.$interface()?;
                        guest.call_create(inside.accessor, inside.info(), inside.txn()?).await
                    })
                });
                self.pool.write(verb, OpenCall::writing(info, $area, txn), enter).await
            }

            async fn drop_all(&self, info: CallInfo, txn: &Txn) -> Result<(), StoreError> {
                let verb = self.verb($kind, "drop")?;
                let enter = enter(|inside| {
                    Box::pin(async move {
                        let guest = inside.exports.$interface()?;
                        guest.call_drop(inside.accessor, inside.info(), inside.txn()?).await
                    })
                });
                self.pool.write(verb, OpenCall::writing(info, $area, txn), enter).await
            }

            async fn insert(
                &self,
                info: CallInfo,
                txn: &Txn,
                rows: Vec<$row>,
            ) -> Result<(), StoreError> {
                let verb = self.verb($kind, "insert")?;
                let about = Subject::of_each(rows.iter().map(Convert::name));
                let rows: Vec<_> = rows.into_iter().map(Convert::to_wit).collect();
                let enter = enter(move |inside| {
                    Box::pin(async move {
                        let guest = inside.exports.$interface()?;
                        let txn = inside.txn()?;
                        guest.call_insert(inside.accessor, inside.info(), txn, rows).await
                    })
                });
                let call = OpenCall::writing(info, $area, txn).about(about);
                self.pool.write(verb, call, enter).await
            }

            async fn update(
                &self,
                info: CallInfo,
                txn: &Txn,
                rows: Vec<$row>,
            ) -> Result<(), StoreError> {
                let verb = self.verb($kind, "update")?;
                let about = Subject::of_each(rows.iter().map(Convert::name));
                let rows: Vec<_> = rows.into_iter().map(Convert::to_wit).collect();
                let enter = enter(move |inside| {
                    Box::pin(async move {
                        let guest = inside.exports.$interface()?;
                        let txn = inside.txn()?;
                        guest.call_update(inside.accessor, inside.info(), txn, rows).await
                    })
                });
                let call = OpenCall::writing(info, $area, txn).about(about);
                self.pool.write(verb, call, enter).await
            }

            async fn delete(
                &self,
                info: CallInfo,
                txn: &Txn,
                names: Vec<$name>,
            ) -> Result<(), StoreError> {
                let verb = self.verb($kind, "delete")?;
                let about = Subject::of_each(&names);
                let names: Vec<_> = names.into_iter().map(<$row>::name_to_wit).collect();
                let enter = enter(move |inside| {
                    Box::pin(async move {
                        let guest = inside.exports.$interface()?;
                        let txn = inside.txn()?;
                        guest.call_delete(inside.accessor, inside.info(), txn, names).await
                    })
                });
                let call = OpenCall::writing(info, $area, txn).about(about);
                self.pool.write(verb, call, enter).await
            }

            async fn select(
                &self,
                info: CallInfo,
                view: &View,
                names: Vec<$name>,
            ) -> Result<Vec<Option<$row>>, StoreError> {
                let verb = self.verb($kind, "select")?;
                let about = Subject::of_each(&names);
                let asked: Vec<_> = names.iter().cloned().map(<$row>::name_to_wit).collect();
                let attempt = || {
                    let asked = asked.clone();
                    enter(move |inside| {
                        Box::pin(async move {
                            let guest = inside.exports.$interface()?;
                            let view = inside.view()?;
                            guest.call_select(inside.accessor, inside.info(), view, asked).await
                        })
                    })
                };
                let call = || OpenCall::reading(info, $area, view).about(about);
                selected(&names, self.pool.read(verb, call, attempt).await?)
            }

            async fn list(
                &self,
                info: CallInfo,
                view: &View,
                after: Option<$name>,
                limit: u32,
            ) -> Result<Page<$row>, StoreError> {
                let verb = self.verb($kind, "list")?;
                let limit = limit.clamp(1, MAX_LIST);
                let about = Subject::of(&after);
                let from = after.clone().map(<$row>::name_to_wit);
                let attempt = || {
                    let from = from.clone();
                    enter(move |inside| {
                        Box::pin(async move {
                            let guest = inside.exports.$interface()?;
                            let (info, view) = (inside.info(), inside.view()?);
                            guest.call_list(inside.accessor, info, view, from, limit).await
                        })
                    })
                };
                let call = || OpenCall::reading(info, $area, view).about(about);
                let page = self.pool.read(verb, call, attempt).await?;
                let more = page.more;
                Ok(Page { rows: listed(after, limit, page.rows, more)?, more })
            }

            async fn check(
                &self,
                info: CallInfo,
                txn: &Txn,
                after: Option<String>,
                repair: bool,
            ) -> Result<CheckPage, StoreError> {
                let verb = self.verb($kind, "check")?;
                let from = after.clone();
                let enter = enter(move |inside| {
                    Box::pin(async move {
                        let guest = inside.exports.$interface()?;
                        let (info, txn) = (inside.info(), inside.txn()?);
                        guest.call_check(inside.accessor, info, txn, from, repair).await
                    })
                });
                let call = OpenCall::writing(info, $area, txn).about(Subject::of(&after));
                checked(after.as_deref(), self.pool.write(verb, call, enter).await?)
            }
        }
    };
}

records!(DomainRow, String, Kind::Domains, Area::Domain, domains);
records!(UserRow, String, Kind::Users, Area::User, users);
records!(MailboxRow, MailboxId, Kind::Mailboxes, Area::Mailbox, mailboxes);

/// Most rows of one page, as the WIT says.
const MAX_LIST: u32 = 4096;

#[async_trait]
impl Messages for StoreComponent {
    fn medium(&self) -> Medium {
        self.inspection.manifest.as_ref().map_or(Medium::Host, |manifest| manifest.medium)
    }

    async fn create(&self, info: CallInfo, txn: &Txn) -> Result<(), StoreError> {
        let verb = self.verb(Kind::Messages, "create")?;
        let enter = enter(|inside| {
            Box::pin(async move {
                let guest = inside.exports.messages()?;
                guest.call_create(inside.accessor, inside.info(), inside.txn()?).await
            })
        });
        self.pool.write(verb, OpenCall::writing(info, Area::Message, txn), enter).await
    }

    async fn drop_mailbox(
        &self,
        info: CallInfo,
        txn: &Txn,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        let verb = self.verb(Kind::Messages, "drop")?;
        let enter = enter(move |inside| {
            Box::pin(async move {
                let guest = inside.exports.messages()?;
                let (info, txn) = (inside.info(), inside.txn()?);
                guest.call_drop(inside.accessor, info, txn, convert::id(mailbox.0)).await
            })
        });
        let call = OpenCall::writing(info, Area::Message, txn).about(Subject::of(mailbox));
        self.pool.write(verb, call, enter).await
    }

    async fn insert(
        &self,
        info: CallInfo,
        txn: &Txn,
        rows: Vec<MessageRow>,
        bodies: Vec<Body>,
    ) -> Result<(), StoreError> {
        let verb = self.verb(Kind::Messages, "insert")?;
        if rows.len() != bodies.len() {
            let why = format!("{} messages with {} bodies", rows.len(), bodies.len());
            return Err(StoreError::Invalid(why));
        }
        // Names and UIDs are new each time: it is the octets that come again.
        let about = Subject::of_each(bodies.iter().map(Body::digest));
        let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
        let enter = enter(move |inside| {
            Box::pin(async move {
                let guest = inside.exports.messages()?;
                let new = rows.into_iter().zip(bodies).map(|(row, body)| {
                    Ok(NewMessage { row: row.to_wit(), body: inside.body(body)? })
                });
                let new = new.collect::<wasmtime::Result<Vec<_>>>()?;
                guest.call_insert(inside.accessor, inside.info(), inside.txn()?, new).await
            })
        });
        let call = OpenCall::writing(info, Area::Message, txn).linking(names).about(about);
        self.pool.write(verb, call, enter).await
    }

    async fn update(
        &self,
        info: CallInfo,
        txn: &Txn,
        changes: Vec<MessageChange>,
    ) -> Result<(), StoreError> {
        let verb = self.verb(Kind::Messages, "update")?;
        let about = Subject::of_each(changes.iter().map(|change| (change.mailbox, change.uid)));
        let changes: Vec<_> = changes.into_iter().map(convert::change).collect();
        let enter = enter(move |inside| {
            Box::pin(async move {
                let guest = inside.exports.messages()?;
                guest.call_update(inside.accessor, inside.info(), inside.txn()?, changes).await
            })
        });
        let call = OpenCall::writing(info, Area::Message, txn).about(about);
        self.pool.write(verb, call, enter).await
    }

    async fn delete(
        &self,
        info: CallInfo,
        txn: &Txn,
        places: Vec<MessagePlace>,
    ) -> Result<(), StoreError> {
        let verb = self.verb(Kind::Messages, "delete")?;
        let about = Subject::of_each(&places);
        let places: Vec<_> = places.into_iter().map(MessageRow::name_to_wit).collect();
        let enter = enter(move |inside| {
            Box::pin(async move {
                let guest = inside.exports.messages()?;
                guest.call_delete(inside.accessor, inside.info(), inside.txn()?, places).await
            })
        });
        let call = OpenCall::writing(info, Area::Message, txn).about(about);
        self.pool.write(verb, call, enter).await
    }

    async fn select(
        &self,
        info: CallInfo,
        view: &View,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<MessageRow>>, StoreError> {
        let verb = self.verb(Kind::Messages, "select")?;
        let asked: Vec<_> = places.iter().copied().map(MessageRow::name_to_wit).collect();
        let attempt = || {
            let asked = asked.clone();
            enter(move |inside| {
                Box::pin(async move {
                    let guest = inside.exports.messages()?;
                    guest.call_select(inside.accessor, inside.info(), inside.view()?, asked).await
                })
            })
        };
        let about = Subject::of_each(&places);
        let call = || OpenCall::reading(info, Area::Message, view).about(about);
        selected(&places, self.pool.read(verb, call, attempt).await?)
    }

    async fn list(
        &self,
        info: CallInfo,
        view: &View,
        mailbox: MailboxId,
        after: Option<Uid>,
        limit: u32,
    ) -> Result<Page<MessageRow>, StoreError> {
        let verb = self.verb(Kind::Messages, "list")?;
        let limit = limit.clamp(1, MAX_LIST);
        let from = after.map(Uid::get);
        let attempt = || {
            enter(move |inside| {
                Box::pin(async move {
                    let guest = inside.exports.messages()?;
                    let (call, view) = (inside.info(), inside.view()?);
                    let mailbox = convert::id(mailbox.0);
                    guest.call_list(inside.accessor, call, view, mailbox, from, limit).await
                })
            })
        };
        let about = Subject::of((mailbox, after));
        let call = || OpenCall::reading(info, Area::Message, view).about(about);
        let page = self.pool.read(verb, call, attempt).await?;
        let after = after.map(|uid| MessagePlace { mailbox, uid });
        let rows: Vec<MessageRow> = listed(after, limit, page.rows, page.more)?;
        match rows.iter().any(|row| row.mailbox != mailbox) {
            true => Err(breaks("list.1", "list answered a message of another mailbox")),
            false => Ok(Page { rows, more: page.more }),
        }
    }

    async fn fetch(
        &self,
        info: CallInfo,
        view: &View,
        mailbox: MailboxId,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Part>, StoreError> {
        let verb = self.verb(Kind::Messages, "fetch")?;
        let attempt = || {
            let name = name.clone();
            enter(move |inside| {
                Box::pin(async move {
                    let guest = inside.exports.messages()?;
                    let (call, view) = (inside.info(), inside.view()?);
                    let mailbox = convert::id(mailbox.0);
                    let part =
                        guest.call_fetch(inside.accessor, call, view, mailbox, name, at, max);
                    Ok(match part.await? {
                        Ok(Some(WitPart::Octets(octets))) => Ok(Some(Fetched::Octets(octets))),
                        Ok(Some(WitPart::Body(body))) => {
                            Ok(Some(Fetched::Body(inside.take(body)?)))
                        }
                        Ok(None) => Ok(None),
                        Err(error) => Err(error),
                    })
                })
            })
        };
        let about = Subject::of((mailbox, &name));
        let call = || OpenCall::reading(info, Area::Message, view).about(about);
        match self.pool.read(verb, call, attempt).await? {
            None => Ok(None),
            Some(Fetched::Octets(octets)) if octets.len() as u64 > max => {
                Err(breaks("fetch.1", "fetch answered more octets than it was asked for"))
            }
            Some(Fetched::Octets(octets)) => Ok(Some(Part::Octets(octets.into()))),
            Some(Fetched::Body(Some(body))) => Ok(Some(Part::Body(body))),
            Some(Fetched::Body(None)) => Err(broken("fetch answered a body of another call")),
        }
    }

    async fn settle(
        &self,
        info: CallInfo,
        view: &View,
        mailbox: MailboxId,
        names: Vec<String>,
    ) -> Result<(), StoreError> {
        let verb = self.verb(Kind::Messages, "settle")?;
        // Repeatable, as a read is.
        let attempt = || {
            let names = names.clone();
            enter(move |inside| {
                Box::pin(async move {
                    let guest = inside.exports.messages()?;
                    let (call, view) = (inside.info(), inside.view()?);
                    let mailbox = convert::id(mailbox.0);
                    guest.call_settle(inside.accessor, call, view, mailbox, names).await
                })
            })
        };
        let about = Subject::of((mailbox, &names));
        let call = || OpenCall::reading(info, Area::Message, view).about(about);
        self.pool.read(verb, call, attempt).await
    }

    async fn check(
        &self,
        info: CallInfo,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage, StoreError> {
        let verb = self.verb(Kind::Messages, "check")?;
        let from = after.clone();
        let enter = enter(move |inside| {
            Box::pin(async move {
                let guest = inside.exports.messages()?;
                let (call, txn) = (inside.info(), inside.txn()?);
                guest.call_check(inside.accessor, call, txn, from, repair).await
            })
        });
        let call = OpenCall::writing(info, Area::Message, txn).about(Subject::of(&after));
        checked(after.as_deref(), self.pool.write(verb, call, enter).await?)
    }
}

/// What a fetch found, outside the instance.
enum Fetched {
    Octets(Vec<u8>),
    /// `None`: the handle was none of this call's.
    Body(Option<Body>),
}
