//! What a keeper does about the schema of its store's rows: it passes on what the record says, says how
//! this node writes, moves the record on where that is due, and sweeps where that is this node's to do.

use std::collections::BTreeSet;

use postroom_core::deploy::{
    Rows, RowsSeen, Schema, StoreRecord, Sweep, Writer, next_rows, sweeps, waited_for,
};
use postroom_core::error::StoreError;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keeper::Keeper;
use super::shelf::Found;
use super::sweep::Sweeper;
use crate::guest::Told;
use crate::mailbox::error::read;
use crate::storage::Space;

/// A sweep of this node; dropping it stops it.
pub(super) struct Sweeping {
    round: u64,
    _stop: DropGuard,
}

impl Keeper {
    /// What serves writes as the record says, if it can: what cannot yet is about to go, and writes as it
    /// did until then.
    pub(super) fn tell_schema(&self, record: &StoreRecord) {
        let rows = record.rows(&self.store.configured);
        if let Some(told) = told(rows, self.schema()) {
            self.store.swappable.tell(told);
        }
    }

    /// What this node said of rows before it was started is of what served then.
    pub(super) async fn renew_writer(&self) -> Result<(), StoreError> {
        let said = match self.shelf.rows(&[&self.node]).await {
            Ok((mut said, _)) => said.pop().flatten(),
            // Whoever needs it says so.
            Err(StoreError::Damaged(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mine = Writer { schema: self.schema(), round: self.store.swappable.told().round };
        match said {
            Some(said) if said != mine => self.shelf.say_writer(&self.node, &mine).await,
            Some(_) | None => Ok(()),
        }
    }

    fn schema(&self) -> Schema {
        super::version(self.store.swappable.serving().inspection()).schema
    }

    /// While nothing is deployed: whether something of the rows moves on now.
    pub(super) async fn keep_rows(
        &self,
        found: &Found,
        live: &BTreeSet<String>,
        calm: bool,
        sweeping: &mut Option<Sweeping>,
    ) -> Result<bool, StoreError> {
        let (record, configured) = (&found.record, &self.store.configured);
        let asked = record.asks_writers(configured);
        if !asked && record.rows.is_some() {
            *sweeping = None;
            return Ok(false);
        }
        // Nothing is stored yet, so there is nothing to note; and the first commit is the directory's.
        if read(self.shelf.engine().head(Space::Directory)).await? == 0 {
            return Ok(false);
        }
        let nodes: Vec<&str> = live.iter().map(String::as_str).collect();
        let (mut writers, sweep) = self.shelf.rows(&nodes).await?;
        let mine = Writer { schema: self.schema(), round: self.store.swappable.told().round };
        let me = nodes.iter().position(|node| *node == self.node);
        if let Some(said) =
            me.map(|me| &mut writers[me]).filter(|said| said.as_ref() != Some(&mine))
        {
            if asked {
                self.shelf.say_writer(&self.node, &mine).await?;
            }
            *said = Some(mine);
        }
        let seen = RowsSeen { live: &nodes, writers: &writers, sweep: sweep.sweep.as_ref() };
        if !calm {
            return Ok(asked);
        }
        if let Some(changed) = next_rows(record, configured, &seen) {
            *sweeping = None;
            if self.shelf.replace(found, &changed, None).await? {
                self.noted(changed.rows(configured));
            }
            return Ok(true);
        }
        let round = sweeps(record, configured, &self.node, &seen);
        match round {
            Some(round) if sweeping.as_ref().is_some_and(|going| going.round == round) => {}
            Some(round) => *sweeping = Some(self.sweep(round)),
            None => *sweeping = None,
        }
        Ok(asked && (round.is_some() || record.rows(configured).writes != self.goal(record)))
    }

    fn goal(&self, record: &StoreRecord) -> u32 {
        record.permanent.as_ref().unwrap_or(&self.store.configured).schema.writes
    }

    fn noted(&self, rows: Rows) {
        let (store, kept, writes, round) =
            (&*self.store.name, rows.shown(), rows.writes, rows.round);
        tracing::info!(store, kept, writes, round, "the rows of a store");
        self.nudge.notify_one();
    }

    fn sweep(&self, round: u64) -> Sweeping {
        let stop = CancellationToken::new();
        let sweeper = Sweeper {
            shelf: self.shelf.clone(),
            mail: self.mail.clone(),
            kinds: self.store.kinds.clone(),
            store: self.store.name.clone(),
            node: self.node.clone(),
            round,
        };
        tracing::info!(store = &*self.store.name, round, "this node sweeps the rows of a store");
        self.tasks.spawn(sweeper.run(stop.clone()));
        Sweeping { round, _stop: stop.drop_guard() }
    }

    /// How far the sweep of this round is, or what it came to, if one has begun; and who is waited for.
    pub(super) async fn swept(
        &self,
        record: &StoreRecord,
        live: &[&str],
    ) -> Result<(Option<Sweep>, Vec<String>), StoreError> {
        let (writers, found) = self.shelf.rows(live).await?;
        let configured = &self.store.configured;
        let seen = RowsSeen { live, writers: &writers, sweep: found.sweep.as_ref() };
        let waits = waited_for(record, configured, &seen).into_iter().map(str::to_owned).collect();
        let round = record.rows(configured).round;
        Ok((found.sweep.filter(|sweep| sweep.round == round), waits))
    }
}

/// What a component is told of rows; none: it would listen, and cannot do it. One that does not listen is
/// told too, for the one that may follow it.
pub fn told(rows: Rows, schema: Schema) -> Option<Told> {
    let Rows { writes, round, .. } = rows;
    let can = schema.can_write(writes) || !schema.listens();
    can.then_some(Told { schema: Some(writes), round })
}
