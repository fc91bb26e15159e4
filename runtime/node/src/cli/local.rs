//! An operator's commands on a data folder whose node is not running.

use std::path::Path;

use anyhow::{Context, Result, bail};
use futures::future::BoxFuture;
use postroom_core::archive::ArchivedMessage;
use postroom_core::calls::{NewMessage, Secret};
use postroom_core::error::StoreError;
use postroom_core::types::MailboxName;

use super::compose::Composed;
use super::operator::{CheckLine, Exported, Operator};
use crate::front::admin::wire::{Domain, Mailbox, NewUser, User};
use crate::message_store::{CheckEvent, MessageStore};
use crate::storage::keeping::BackupPiece;

/// Records asked for at once when listing.
const PAGE: u32 = 500;

/// A node without doors, for one command.
pub struct Local {
    runtime: tokio::runtime::Runtime,
    node: Composed,
}

impl Local {
    /// Opens a data folder; fails when it is not there or a node has it.
    pub fn open(data: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
        let node = runtime.block_on(Composed::for_command(data))?;
        Ok(Self { runtime, node })
    }

    fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&MessageStore) -> Result<T, StoreError>,
    ) -> Result<T> {
        Ok(self.runtime.block_on(work(&self.node.message_store))?)
    }
}

/// Who hears of findings.
type Sink<'a> = &'a mut (dyn FnMut(CheckEvent) + Send);

impl Local {
    /// Does work that tells of findings as it goes.
    fn told(
        &mut self,
        take: &mut dyn FnMut(CheckLine),
        work: impl for<'a> FnOnce(&'a MessageStore, Sink<'a>) -> BoxFuture<'a, Result<(), StoreError>>
        + Send
        + 'static,
    ) -> Result<()> {
        // The store wants a sink that can cross threads; ours prints, so it gets the lines after.
        let (send, lines) = std::sync::mpsc::sync_channel(CHECK_LINES);
        let store = self.node.message_store.clone();
        let work = self.runtime.spawn(async move {
            let mut sink = move |event| {
                let line = match event {
                    CheckEvent::Progress { checked } => CheckLine::Checked(checked),
                    CheckEvent::Finding(found) => CheckLine::Finding(found.into()),
                };
                // The command has stopped listening only when it is about to end.
                let _ = send.send(line);
            };
            work(&store, &mut sink).await
        });
        lines.into_iter().for_each(take);
        Ok(self.runtime.block_on(work).context("the work stopped")??)
    }
}

impl Operator for Local {
    fn users(&mut self) -> Result<Vec<User>> {
        self.run(async |store| {
            let (mut lines, mut after) = (Vec::new(), None);
            loop {
                let page = store.users(after, PAGE).await?;
                after = page.rows.last().map(|row| row.name.clone());
                lines.extend(page.rows.into_iter().map(User::from));
                if !page.more {
                    return Ok(lines);
                }
            }
        })
    }

    fn add_user(&mut self, user: NewUser) -> Result<User> {
        self.run(async |store| store.create_user(user.into()).await.map(User::from))
    }

    fn set_password(&mut self, user: &str, password: &str) -> Result<()> {
        let password = Secret(password.to_owned());
        self.run(async |store| store.set_password(user, password).await)
    }

    fn remove_user(&mut self, user: &str) -> Result<()> {
        self.run(async |store| store.remove_user(user).await)
    }

    fn domains(&mut self) -> Result<Vec<Domain>> {
        self.run(async |store| {
            let (mut lines, mut after) = (Vec::new(), None);
            loop {
                let page = store.domains(after, PAGE).await?;
                after = page.rows.last().map(|row| row.name.clone());
                lines.extend(page.rows.into_iter().map(Domain::from));
                if !page.more {
                    return Ok(lines);
                }
            }
        })
    }

    fn add_domain(&mut self, name: &str, alias_of: Option<&str>) -> Result<Domain> {
        let row = self.run(async |store| store.create_domain(name, alias_of).await)?;
        Ok(row.into())
    }

    fn remove_domain(&mut self, name: &str) -> Result<()> {
        self.run(async |store| store.remove_domain(name).await)
    }

    fn mailboxes(&mut self, user: &str) -> Result<Vec<Mailbox>> {
        let rows = self.run(async |store| store.mailboxes_of(user).await)?;
        Ok(rows.into_iter().map(Mailbox::from).collect())
    }

    fn ensure_mailbox(&mut self, user: &str, mailbox: &MailboxName) -> Result<()> {
        self.run(async |store| store.ensure_mailbox(user, mailbox).await)
    }

    fn import(
        &mut self,
        user: &str,
        mailbox: &MailboxName,
        messages: Vec<ArchivedMessage>,
    ) -> Result<()> {
        let new = |message: ArchivedMessage| NewMessage {
            flags: message.flags,
            internal_date: message.date,
            body: message.octets.into(),
        };
        let messages = messages.into_iter().map(new).collect();
        self.run(async |store| store.import(user, mailbox, messages).await.map(|_| ()))
    }

    fn export(
        &mut self,
        user: &str,
        mailbox: &MailboxName,
        take: &mut dyn FnMut(Exported) -> Result<()>,
    ) -> Result<()> {
        let store = &self.node.message_store;
        self.runtime.block_on(async {
            let mut export = store.export(user, mailbox).await?;
            take(Exported::Total(export.total()))?;
            while let Some(item) = export.next().await {
                take(match item {
                    Ok(message) => Exported::Message(ArchivedMessage {
                        octets: message.body.to_vec(),
                        date: Some(message.internal_date),
                        flags: message.flags,
                    }),
                    Err(StoreError::Damaged(what)) => Exported::Damaged(what),
                    Err(error) => return Err(error.into()),
                })?;
            }
            Ok(())
        })
    }

    fn check(&mut self, repair: bool, take: &mut dyn FnMut(CheckLine)) -> Result<()> {
        self.told(take, move |store, sink| Box::pin(async move { store.check(repair, sink).await }))
    }

    fn scrub(&mut self, take: &mut dyn FnMut(CheckLine)) -> Result<()> {
        self.told(take, |store, sink| Box::pin(async move { store.scrub(sink).await }))
    }

    fn backup(&mut self, take: &mut dyn FnMut(BackupPiece) -> Result<()>) -> Result<()> {
        let store = &self.node.message_store;
        let mut pieces = self.runtime.block_on(store.backup())?;
        while let Some(piece) = pieces.blocking_recv() {
            let piece = piece?;
            let done = piece == BackupPiece::Done;
            take(piece)?;
            if done {
                return Ok(());
            }
        }
        bail!("the backup was cut off")
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Self { runtime, node } = *self;
        runtime.block_on(node.close())
    }
}

/// Lines of a check that wait to be printed.
const CHECK_LINES: usize = 1024;
