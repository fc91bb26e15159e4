//! Checks what is stored (E15): the directory, then account after account.

use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, SessionId};

use crate::guest::Finding;
use crate::mailbox::error::{read, storage_error};
use crate::mailbox::{Answer, Ask, CheckStep, Request};
use crate::storage::Space;
use crate::storage::keeping::{Backup, Damage, ScrubEvent};

use super::MessageStore;
use super::calls::mixed_up;
use super::directory::Kind;

/// Accounts in one page of a check.
const SPACES: usize = 100;

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CheckFinding {
    /// `domain`, `user`, `mailbox`, `message` or `ledger`; of a scrub `rows`, `snapshot`, `log`, `segment` or
    /// `body`.
    pub kind: String,
    /// The account; `None` for the directory.
    pub account: Option<String>,
    /// Which record.
    pub name: String,
    /// What is wrong.
    pub problem: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

impl From<Damage> for CheckFinding {
    fn from(damage: Damage) -> Self {
        Self {
            kind: damage.kind.to_owned(),
            account: damage.account.map(|account| account.to_string()),
            name: damage.name,
            problem: damage.problem,
            repaired: damage.mended,
        }
    }
}

/// What a check says while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckEvent {
    /// So many records were looked at since the last event.
    Progress {
        /// Records.
        checked: u64,
    },
    /// Something is wrong.
    Finding(CheckFinding),
}

/// Whom a check tells.
type Listener<'a> = &'a mut (dyn FnMut(CheckEvent) + Send);

impl MessageStore {
    /// Checks everything that is stored (E15), calling `event` as it goes; with `repair`, mends what
    /// can be mended. Goes on after damage, in small steps beside other calls.
    ///
    /// # Errors
    /// When storage or a store component is away.
    pub async fn check(&self, repair: bool, event: Listener<'_>) -> Result<(), StoreError> {
        for kind in [Kind::Domains, Kind::Users] {
            self.check_directory(kind, repair, event).await?;
        }
        let mut after = None;
        loop {
            let spaces = read(self.inner.engine.spaces(after, SPACES)).await?;
            let Some(last) = spaces.last() else { return Ok(()) };
            after = Some(*last);
            for space in spaces {
                if let Space::Account(account) = space {
                    self.check_account(account, repair, event).await?;
                }
            }
        }
    }

    /// Reads everything that is stored and holds it against its checksums; calls `event` as it goes, with
    /// octets for records. What is there twice is made whole again.
    ///
    /// # Errors
    /// When storage is away.
    pub async fn scrub(&self, event: Listener<'_>) -> Result<(), StoreError> {
        let mut scrub = read(self.inner.engine.scrub()).await?;
        while let Some(said) = scrub.recv().await {
            match said {
                ScrubEvent::Progress(checked) => event(CheckEvent::Progress { checked }),
                ScrubEvent::Damage(damage) => event(CheckEvent::Finding(damage.into())),
                ScrubEvent::Failed(error) => return Err(storage_error(error)),
            }
        }
        Ok(())
    }

    /// Begins a backup of everything as it is now.
    ///
    /// # Errors
    /// When storage is away, or keeps nothing.
    pub async fn backup(&self) -> Result<Backup, StoreError> {
        read(self.inner.engine.backup()).await
    }

    async fn check_directory(
        &self,
        kind: Kind,
        repair: bool,
        event: Listener<'_>,
    ) -> Result<(), StoreError> {
        let mut cursor = None;
        loop {
            let page = match self.inner.directory.check(kind, cursor, repair).await {
                Ok(page) => page,
                Err(StoreError::Damaged(problem)) => {
                    let finding = Finding { name: String::new(), problem, repaired: false };
                    tell(event, kind.name(), None, finding);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            event(CheckEvent::Progress { checked: page.checked });
            page.findings.into_iter().for_each(|found| tell(event, kind.name(), None, found));
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn check_account(
        &self,
        account: AccountId,
        repair: bool,
        event: Listener<'_>,
    ) -> Result<(), StoreError> {
        let mut step = Some(CheckStep::Mailboxes(None));
        while let Some(next) = step.take() {
            let request = Request {
                account,
                session: SessionId(0),
                transaction: self.transaction(),
                quota: None,
                ask: Ask::Check { step: next, repair },
            };
            let Answer::Checked(checked) = self.inner.router.call(request).await? else {
                return Err(mixed_up());
            };
            event(CheckEvent::Progress { checked: checked.checked });
            for (kind, finding) in checked.findings {
                tell(event, &kind, Some(account), finding);
            }
            step = checked.next;
        }
        Ok(())
    }
}

fn tell(event: Listener<'_>, kind: &str, account: Option<AccountId>, finding: Finding) {
    event(CheckEvent::Finding(CheckFinding {
        kind: kind.to_owned(),
        account: account.map(|account| account.to_string()),
        name: finding.name,
        problem: finding.problem,
        repaired: finding.repaired,
    }));
}
