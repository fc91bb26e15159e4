//! The traits of stores and hooks, by the generation that serves.

use async_trait::async_trait;
use postroom_core::error::StoreError;
use postroom_core::hook::{Delivered, Delivery, Verdict};
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, UserRow};
use postroom_core::types::{MailboxId, Uid};

use super::proof::Written;
use super::{SwappableStore, medium};
use crate::guest::api::{CallInfo, CheckPage, Hook, MessagePlace, Messages, Page, Part, Records};
use crate::guest::manifest::{Kind, Medium};
use crate::guest::pool::Verb;
use crate::guest::round::Round;
use crate::storage::{Body, Txn, View};

fn verb(kind: Kind, name: &'static str) -> Verb {
    Verb { interface: kind.name(), name }
}

/// [`Records`] of one kind; they differ in their types only.
macro_rules! records {
    ($row:ty, $name:ty, $kind:expr) => {
        #[async_trait]
        impl Records<$row, $name> for SwappableStore {
            fn round(&self) -> Option<Round> {
                Some(self.telling.round())
            }

            async fn create(&self, info: CallInfo, txn: &Txn) -> Result<(), StoreError> {
                let info = self.as_told(info);
                self.write(verb($kind, "create"), txn, (), |to, txn, ()| async move {
                    Records::<$row, $name>::create(&*to, info, &txn).await
                })
                .await
            }

            async fn drop_all(&self, info: CallInfo, txn: &Txn) -> Result<(), StoreError> {
                let info = self.as_told(info);
                self.write(verb($kind, "drop"), txn, (), |to, txn, ()| async move {
                    Records::<$row, $name>::drop_all(&*to, info, &txn).await
                })
                .await
            }

            async fn insert(
                &self,
                info: CallInfo,
                txn: &Txn,
                rows: Vec<$row>,
            ) -> Result<(), StoreError> {
                let info = self.as_told(info);
                self.write(verb($kind, "insert"), txn, rows, |to, txn, rows| async move {
                    Records::<$row, $name>::insert(&*to, info, &txn, rows).await
                })
                .await
            }

            async fn update(
                &self,
                info: CallInfo,
                txn: &Txn,
                rows: Vec<$row>,
            ) -> Result<(), StoreError> {
                let info = self.as_told(info);
                self.write(verb($kind, "update"), txn, rows, |to, txn, rows| async move {
                    Records::<$row, $name>::update(&*to, info, &txn, rows).await
                })
                .await
            }

            async fn delete(
                &self,
                info: CallInfo,
                txn: &Txn,
                names: Vec<$name>,
            ) -> Result<(), StoreError> {
                let info = self.as_told(info);
                self.write(verb($kind, "delete"), txn, names, |to, txn, names| async move {
                    Records::<$row, $name>::delete(&*to, info, &txn, names).await
                })
                .await
            }

            async fn select(
                &self,
                info: CallInfo,
                view: &View,
                names: Vec<$name>,
            ) -> Result<Vec<Option<$row>>, StoreError> {
                let info = self.as_told(info);
                self.read(verb($kind, "select"), |to| {
                    let names = names.clone();
                    async move { Records::<$row, $name>::select(&*to, info, view, names).await }
                })
                .await
            }

            async fn list(
                &self,
                info: CallInfo,
                view: &View,
                after: Option<$name>,
                limit: u32,
            ) -> Result<Page<$row>, StoreError> {
                let info = self.as_told(info);
                self.read(verb($kind, "list"), |to| {
                            let after = after.clone();
                            async move {
                                Records::<$row, $name>::list(&*to, info, view, after, limit).await
                            }
                        })
                        .await
            }

            async fn check(
                &self,
                info: CallInfo,
                txn: &Txn,
                after: Option<String>,
                repair: bool,
            ) -> Result<CheckPage, StoreError> {
                let info = self.as_told(info);
                self.write(verb($kind, "check"), txn, after, |to, txn, after| async move {
                    Records::<$row, $name>::check(&*to, info, &txn, after, repair).await
                })
                .await
            }
        }
    };
}

records!(DomainRow, String, Kind::Domains);
records!(UserRow, String, Kind::Users);
records!(MailboxRow, MailboxId, Kind::Mailboxes);

#[async_trait]
impl Messages for SwappableStore {
    fn round(&self) -> Option<Round> {
        Some(self.telling.round())
    }

    fn medium(&self) -> Medium {
        // All generations have the same.
        medium(&self.serving())
    }

    async fn create(&self, info: CallInfo, txn: &Txn) -> Result<(), StoreError> {
        let info = self.as_told(info);
        self.write(verb(Kind::Messages, "create"), txn, (), |to, txn, ()| async move {
            Messages::create(&*to, info, &txn).await
        })
        .await
    }

    async fn drop_mailbox(
        &self,
        info: CallInfo,
        txn: &Txn,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        let info = self.as_told(info);
        self.write(verb(Kind::Messages, "drop"), txn, (), |to, txn, ()| async move {
            to.drop_mailbox(info, &txn, mailbox).await
        })
        .await
    }

    async fn insert(
        &self,
        info: CallInfo,
        txn: &Txn,
        rows: Vec<MessageRow>,
        bodies: Vec<Body>,
    ) -> Result<(), StoreError> {
        let info = self.as_told(info);
        let written = Written {
            arguments: (rows, bodies),
            places: |(rows, _): &(Vec<MessageRow>, Vec<Body>)| {
                rows.iter().map(|row| MessagePlace { mailbox: row.mailbox, uid: row.uid }).collect()
            },
            is_kept: |(rows, _): &(Vec<MessageRow>, Vec<Body>), found: &[Option<MessageRow>]| {
                rows.iter().eq(found.iter().flatten())
            },
        };
        let verb = verb(Kind::Messages, "insert");
        self.write_messages(verb, info, txn, written, |to, txn, (rows, bodies)| async move {
            Messages::insert(&*to, info, &txn, rows, bodies).await
        })
        .await
    }

    async fn update(
        &self,
        info: CallInfo,
        txn: &Txn,
        changes: Vec<MessageChange>,
    ) -> Result<(), StoreError> {
        let info = self.as_told(info);
        let written = Written {
            arguments: changes,
            places: |changes: &Vec<MessageChange>| {
                let place = |change: &MessageChange| MessagePlace {
                    mailbox: change.mailbox,
                    uid: change.uid,
                };
                changes.iter().map(place).collect()
            },
            is_kept: |changes: &Vec<MessageChange>, found: &[Option<MessageRow>]| {
                let same = |change: &MessageChange, row: &MessageRow| {
                    (change.uid, change.modseq, &change.flags) == (row.uid, row.modseq, &row.flags)
                };
                changes.len() == found.len()
                    && changes
                        .iter()
                        .zip(found)
                        .all(|(change, row)| row.as_ref().is_some_and(|row| same(change, row)))
            },
        };
        let verb = verb(Kind::Messages, "update");
        self.write_messages(verb, info, txn, written, |to, txn, changes| async move {
            Messages::update(&*to, info, &txn, changes).await
        })
        .await
    }

    async fn delete(
        &self,
        info: CallInfo,
        txn: &Txn,
        places: Vec<MessagePlace>,
    ) -> Result<(), StoreError> {
        let info = self.as_told(info);
        self.write(verb(Kind::Messages, "delete"), txn, places, |to, txn, places| async move {
            Messages::delete(&*to, info, &txn, places).await
        })
        .await
    }

    async fn select(
        &self,
        info: CallInfo,
        view: &View,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<MessageRow>>, StoreError> {
        let info = self.as_told(info);
        self.read(verb(Kind::Messages, "select"), |to| {
            let places = places.clone();
            async move { Messages::select(&*to, info, view, places).await }
        })
        .await
    }

    async fn list(
        &self,
        info: CallInfo,
        view: &View,
        mailbox: MailboxId,
        after: Option<Uid>,
        limit: u32,
    ) -> Result<Page<MessageRow>, StoreError> {
        let info = self.as_told(info);
        self.read(verb(Kind::Messages, "list"), |to| async move {
            Messages::list(&*to, info, view, mailbox, after, limit).await
        })
        .await
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
        let info = self.as_told(info);
        self.read(verb(Kind::Messages, "fetch"), |to| {
            let name = name.clone();
            async move { to.fetch(info, view, mailbox, name, at, max).await }
        })
        .await
    }

    async fn settle(
        &self,
        info: CallInfo,
        view: &View,
        mailbox: MailboxId,
        names: Vec<String>,
    ) -> Result<(), StoreError> {
        let info = self.as_told(info);
        // Repeatable, as a read is.
        self.read(verb(Kind::Messages, "settle"), |to| {
            let names = names.clone();
            async move { to.settle(info, view, mailbox, names).await }
        })
        .await
    }

    async fn check(
        &self,
        info: CallInfo,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage, StoreError> {
        let info = self.as_told(info);
        self.write(verb(Kind::Messages, "check"), txn, after, |to, txn, after| async move {
            Messages::check(&*to, info, &txn, after, repair).await
        })
        .await
    }
}

#[async_trait]
impl Hook for SwappableStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn before_delivery(
        &self,
        info: CallInfo,
        view: &View,
        delivery: &Delivery,
        message: Body,
    ) -> Result<Verdict, StoreError> {
        let asked = Verb { interface: "hooks", name: "before-delivery" };
        self.read(asked, |to| {
            let message = message.clone();
            async move { to.before_delivery(info, view, delivery, message).await }
        })
        .await
    }

    async fn after_delivery(
        &self,
        info: CallInfo,
        view: &View,
        delivered: &Delivered,
    ) -> Result<(), StoreError> {
        let told = Verb { interface: "hooks", name: "after-delivery" };
        // Not repeated: at most once.
        self.once(told, async |to| to.after_delivery(info, view, delivered).await).await
    }
}
