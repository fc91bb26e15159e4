//! In which schema a store's rows are written, as far as this node knows, and how it is told.
//!
//! The record of a store's deployments says it (`core::deploy`), and the task that follows the record
//! passes it on. What is written where counts in *rounds*: a node that was halted, or is late, may
//! know of an earlier one only. So whoever opens an account, or changes the directory, holds the round
//! that is known here against the one in storage first ([`Round::key`]).

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::storage::{Area, Key};

/// Longest name of a store in octets: it is a part of keys.
pub const MAX_STORE_OCTETS: usize = 256;

/// What a store is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The schema in which it writes; `None`: in its own.
    pub schema: Option<u32>,
    /// The round in which that is right.
    pub round: u64,
}

/// What is known of a store's round.
#[derive(Clone)]
pub struct Round {
    /// Where it stands in the directory's ledger: eight octets, most significant first.
    pub key: Key,
    /// What this node knows.
    pub known: watch::Receiver<Told>,
    /// To be notified when storage knows of a later one.
    pub outdated: Arc<Notify>,
}

/// The key of a store's round.
pub fn round_key(store: &str) -> Key {
    let name: String = store.chars().take(MAX_STORE_OCTETS).collect();
    Key { area: Area::Ledger, octets: [b"R", name.as_bytes()].concat().into() }
}

/// What a store is told, and who waits for it.
pub(super) struct Telling {
    key: Key,
    told: watch::Sender<Told>,
    outdated: Arc<Notify>,
}

impl Telling {
    pub(super) fn new(store: &str) -> Self {
        let (told, outdated) = (watch::Sender::default(), Arc::default());
        Self { key: round_key(store), told, outdated }
    }

    /// Tells something else, if it is that.
    pub(super) fn tell(&self, told: Told) {
        self.told.send_if_modified(|known| std::mem::replace(known, told) != told);
    }

    pub(super) fn told(&self) -> Told {
        *self.told.borrow()
    }

    pub(super) fn round(&self) -> Round {
        Round {
            key: self.key.clone(),
            known: self.told.subscribe(),
            outdated: self.outdated.clone(),
        }
    }

    pub(super) fn outdated(&self) -> Arc<Notify> {
        self.outdated.clone()
    }
}
