//! Brings an account's rows to the schema that is written, in small steps between its other writes.
//!
//! The component writes rows anew whose records stay what they are: nothing of what is in memory
//! changes, nobody is told, and the account stays loaded.

use postroom_core::error::StoreError;
use postroom_core::types::TransactionId;

use crate::guest::CallInfo;
use crate::storage::{Commit, Txn, Write};

use super::actor::Actor;
use super::ask::{SweepStep, Swept, SweptKind};
use super::error::guest;
use super::mint::{now, random};

impl Actor {
    /// One step.
    ///
    /// # Errors
    /// `Unavailable` when this node knows of another round; when storage or a store component is away.
    pub(super) async fn sweep(&mut self, step: SweepStep) -> Result<Swept, StoreError> {
        self.ensure_loaded().await?;
        let env = self.account.env.clone();
        let known = match step.of {
            SweptKind::Mailboxes => env.stores.mailboxes.round(),
            SweptKind::Messages => env.stores.messages.round(),
        };
        // Captured before the component is called, which is told no earlier one then.
        let round = known.map(|round| round.known.borrow().round);
        if round != Some(step.round) {
            return Err(StoreError::Unavailable(format!(
                "the sweep is of round {}, this node is in {}",
                step.round,
                round.unwrap_or(0)
            )));
        }
        let txn = Txn::new(env.engine.clone(), self.account.space());
        let call = self.account.call(TransactionId(random()));
        let call = CallInfo { migrate: true, ..call };
        let page = match step.of {
            SweptKind::Mailboxes => {
                guest(env.stores.mailboxes.check(call, &txn, step.after, false)).await
            }
            SweptKind::Messages => {
                guest(env.stores.messages.check(call, &txn, step.after, false)).await
            }
        }?;
        let writes = txn.take();
        let rewritten = writes.len() as u64;
        if !writes.is_empty() {
            self.commit_swept(writes).await?;
        }
        let problem =
            page.findings.first().map(|found| format!("{}: {}", found.name, found.problem));
        Ok(Swept { records: page.checked, rewritten, problem, next: page.next })
    }

    async fn commit_swept(&mut self, writes: Vec<Write>) -> Result<(), StoreError> {
        let commit = Commit {
            space: self.account.space(),
            fence: self.fence,
            expected_head: Some(self.head),
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes,
            now: now(),
        };
        match self.account.env.commit(commit).await {
            Some(Ok(committed)) => {
                self.head = committed.head;
                Ok(())
            }
            Some(Err(error)) => Err(self.refused(error).error()),
            None => {
                self.account.with(|shared| shared.drop_state());
                Err(StoreError::UnknownOutcome)
            }
        }
    }
}
