//! Sessions as the message store knows them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use postroom_core::calls::Principal;
use postroom_core::error::StoreError;
use postroom_core::types::{ModSeq, SessionId};
use tokio::sync::{Notify, watch};

use crate::mailbox::News;
use crate::router::Router;

/// One client connection (or command), as the message store knows it. Dropping it leaves its active
/// mailbox; calls that it has made go on to their end.
pub struct SessionHandle {
    id: SessionId,
    router: Router,
    state: Mutex<State>,
    /// Another mailbox is active than the one that is waited for.
    reselected: Notify,
}

#[derive(Default)]
struct State {
    principal: Option<Principal>,
    /// Of the active mailbox.
    watch: Option<watch::Receiver<News>>,
    /// Up to here the session has been told or woken.
    told: ModSeq,
    /// The last [`News::missed`] that it was woken for.
    missed: u32,
}

impl SessionHandle {
    pub(super) fn new(id: SessionId, router: Router) -> Self {
        Self { id, router, state: Mutex::default(), reselected: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its number, for logs.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// From now on calls are made for this user. What was active before is left.
    pub fn log_in(&self, principal: Principal) {
        self.leave();
        self.state().principal = Some(principal);
    }

    /// Resolves when the active mailbox has news that this session has neither been told
    /// ([`postroom_core::calls::Reply::Changes`]) nor been woken for yet; never while none is
    /// active. Cancel-safe; at most one waiter at a time.
    pub async fn changed(&self) {
        loop {
            let reselected = self.reselected.notified();
            let watch = self.state().watch.clone();
            match watch {
                // Cancel-safe both: nothing is taken before the branch is chosen.
                Some(watch) => tokio::select! {
                    () = reselected => {}
                    () = self.news(watch) => return,
                },
                None => reselected.await,
            }
        }
    }

    async fn news(&self, mut watch: watch::Receiver<News>) {
        loop {
            let latest = *watch.borrow_and_update();
            {
                let mut state = self.state();
                if latest.at > state.told || latest.missed != state.missed {
                    state.told = state.told.max(latest.at);
                    state.missed = latest.missed;
                    return;
                }
            }
            if watch.changed().await.is_err() {
                // The mailbox is gone; that was said with the last value.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Who has logged in.
    pub(super) fn principal(&self) -> Result<Principal, StoreError> {
        let principal = self.state().principal.clone();
        principal.ok_or_else(|| StoreError::Denied("nobody has logged in".into()))
    }

    /// A mailbox has been made active, as it was at a mod-sequence.
    pub(super) fn selected(&self, watch: watch::Receiver<News>, at: ModSeq) {
        let mut state = self.state();
        state.missed = watch.borrow().missed;
        state.watch = Some(watch);
        state.told = at;
        drop(state);
        self.reselected.notify_one();
    }

    /// Everything up to here has been told.
    pub(super) fn told(&self, upto: ModSeq) {
        self.state().told = upto;
    }

    /// Leaves the active mailbox.
    pub(super) fn leave(&self) {
        let left = {
            let mut state = self.state();
            state.watch.take().and(state.principal.clone())
        };
        if let Some(principal) = left {
            self.router.leave(principal.account, self.id);
        }
        self.reselected.notify_one();
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.leave();
    }
}
