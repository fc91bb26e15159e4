//! A history of commits that follows from account and number alone, so that what a disk holds can
//! be compared with what it must hold, after whatever happened to it.

use std::collections::BTreeMap;

use postroom_core::types::AccountId;

use super::*;
use crate::{ScanLimit, Write};

/// Commits after which a body's name is unlinked again.
const BODY_LIFE: u64 = 5;
/// Rows that a history of an account writes over and over.
const COUNTERS: u64 = 4;
/// Sizes of bodies: inline, and on both sides of a chunk.
const BODY_SIZES: [usize; 5] = [0, 700, 5_000, 16 << 10, 40_000];
const LOTS: ScanLimit = ScanLimit { items: 10_000, octets: 16 << 20 };

/// One account, committed to by one caller after the other.
#[derive(Clone)]
pub struct History {
    account: AccountId,
    fence: Option<Fence>,
    /// Commits that were acknowledged.
    pub acknowledged: u64,
    /// The last commit that was handed over.
    pub attempted: u64,
}

/// What was met while everything was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Errors.
    pub errors: usize,
    /// What is not there though nothing says so.
    pub missing: Vec<String>,
}

impl Looked {
    /// Something else than what must be there is never read.
    fn note<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: String,
        read: Result<Option<T>, StorageError>,
        must: &T,
    ) {
        match read {
            Ok(Some(read)) => assert_eq!(read, *must, "{what}"),
            Ok(None) => self.missing.push(what),
            Err(_) => self.errors += 1,
        }
    }
}

impl History {
    /// Of an account that nothing has been written to yet.
    pub fn new(account: u8) -> Self {
        Self { account: AccountId([account; 16]), fence: None, acknowledged: 0, attempted: 0 }
    }

    /// The account's space.
    pub fn space(&self) -> Space {
        Space::Account(self.account)
    }

    fn octets(&self, n: u64) -> Bytes {
        let size = BODY_SIZES[((n * 7 + u64::from(self.account.0[0])) % 5) as usize];
        let seed = n.to_le_bytes();
        (0..size)
            .map(|i| seed[i % 8] ^ (i / 8) as u8 ^ self.account.0[0])
            .collect::<Vec<_>>()
            .into()
    }

    fn transaction(&self, n: u64) -> TransactionId {
        TransactionId::from_u128(
            u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835),
        )
    }

    /// The rows that the first `n` commits leave.
    fn rows(n: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut rows = BTreeMap::new();
        for n in 1..=n {
            rows.insert(vec![0, (n % COUNTERS) as u8], n.to_be_bytes().to_vec());
            rows.insert([&[1], &n.to_be_bytes()[..]].concat(), vec![n as u8; 200]);
            if n % 10 == 0 {
                rows.retain(|key, _| key[0] == 0 || key[1..] >= (n - 5).to_be_bytes()[..]);
            }
        }
        rows
    }

    fn writes(n: u64) -> Vec<Write> {
        let put = |octets: Vec<u8>, value: Vec<u8>| {
            let at = Key { area: Area::Message, octets: octets.into() };
            Write::Put(at, value.into())
        };
        let mut writes = vec![
            put(vec![0, (n % COUNTERS) as u8], n.to_be_bytes().to_vec()),
            put([&[1], &n.to_be_bytes()[..]].concat(), vec![n as u8; 200]),
        ];
        if n.is_multiple_of(10) {
            let end = [&[1], &(n - 5).to_be_bytes()[..]].concat();
            let area = Area::Message;
            writes.push(Write::DeleteRange { area, start: vec![1].into(), end: end.into() });
        }
        writes
    }

    /// Takes the account's slot. Repeatable.
    pub async fn claim(&mut self, engine: &RedbEngine) -> Result<(), StorageError> {
        let slot = Slot::of(self.account);
        let previous = engine.claimed(slot).await?.map(|(epoch, _)| epoch);
        let claimant = Claimant { node: "node".to_owned(), generation: 1, nonce: [3; 16] };
        self.fence = Some(engine.claim(slot, claimant, previous).await?);
        Ok(())
    }

    /// Hands the next commit over.
    pub async fn commit(&mut self, engine: &RedbEngine) -> Result<(), StorageError> {
        let n = self.acknowledged + 1;
        let body = engine.new_body(self.space(), self.octets(n)).await?;
        let mut writes = Self::writes(n);
        writes.push(Write::LinkBody { name: format!("m{n}"), body });
        if n > BODY_LIFE {
            writes.push(Write::UnlinkBody { name: format!("m{}", n - BODY_LIFE) });
        }
        let result = Bytes::from(n.to_string());
        let commit = Commit {
            space: self.space(),
            fence: self.fence,
            expected_head: Some(n - 1),
            preconditions: Vec::new(),
            transactions: vec![crate::Idempotency { transaction: self.transaction(n), result }],
            writes,
            now: 0,
        };
        self.attempted = n;
        match engine.commit(commit).await {
            Ok(committed) => {
                assert_eq!(committed.head, n);
                self.acknowledged = n;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// As a caller above does it: what is unknown is found out, what failed is tried again.
    pub async fn commit_until_done(&mut self, engine: &RedbEngine) -> usize {
        /// Tries after which a test is not going to end.
        const TRIES: usize = 100;
        let mut last = None;
        for failures in 0..TRIES {
            let outcome = self.commit(engine).await;
            last = outcome.clone().err();
            match outcome {
                Ok(()) => return failures,
                Err(StorageError::Unavailable(_)) => {}
                Err(StorageError::UnknownOutcome(_)) => {
                    let Ok(head) = engine.head(self.space()).await else { continue };
                    assert!(head == self.acknowledged || head == self.attempted);
                    if head == self.attempted {
                        self.acknowledged = head;
                        return failures;
                    }
                }
                Err(error) => panic!("commit {}: {error}", self.attempted),
            }
        }
        panic!("commit {} never succeeds: {last:?}", self.attempted);
    }

    /// Whether more commits are known to be there than were acknowledged to `before`.
    pub fn is_ahead_of(&self, before: &Self) -> bool {
        self.acknowledged > before.acknowledged
    }

    /// As [`check`](Self::check), when everything that was ever tried has been looked for before.
    pub async fn check_same(&mut self, engine: &RedbEngine) {
        let before = self.acknowledged;
        self.check(engine).await;
        assert_eq!(self.acknowledged, before, "what was answered from is not there");
    }

    /// Compares what the engine holds with what it must hold: every acknowledged commit whole, one
    /// more at most, whole or not at all. Goes on from what is there.
    pub async fn check(&mut self, engine: &RedbEngine) {
        let head = engine.head(self.space()).await.unwrap();
        let (least, most) = (self.acknowledged, self.attempted.max(self.acknowledged));
        assert!(least <= head && head <= most, "{least} acknowledged, {head} there, {most} tried");
        (self.acknowledged, self.attempted) = (head, head);
        let page = engine
            .scan(self.space(), Area::Message, Bytes::new(), Bytes::new(), LOTS)
            .await
            .unwrap();
        let rows: BTreeMap<_, _> =
            page.items.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(rows, Self::rows(head));
        for n in 1..=head + 1 {
            let result = engine.transaction(self.space(), self.transaction(n)).await.unwrap();
            assert_eq!(result, (n <= head).then(|| Bytes::from(n.to_string())), "transaction {n}");
            let body = engine.body(self.space(), &format!("m{n}")).await.unwrap();
            let lives = n <= head && n + BODY_LIFE > head;
            assert_eq!(body.is_some(), lives, "body {n} at {head}");
            if let Some(body) = body {
                let octets = engine.read_body(self.space(), &body, 0, u64::MAX).await;
                assert_eq!(octets.as_ref(), Ok(&self.octets(n)), "body {n}");
            }
        }
    }

    /// Looks at everything of a history without open ends. Panics when anything is read that was
    /// never written there.
    pub async fn look(&self, engine: &RedbEngine) -> Looked {
        let (mut looked, head, space) = (Looked::default(), self.acknowledged, self.space());
        looked.note("head".to_owned(), engine.head(space).await.map(Some), &head);
        let must = Self::rows(head);
        for (octets, value) in &must {
            let at = Key { area: Area::Message, octets: octets.clone().into() };
            let read = engine.get_many(space, vec![at]).await.map(|mut read| read.remove(0));
            looked.note(format!("row {octets:?}"), read, &value.clone().into());
        }
        match engine.scan(space, Area::Message, Bytes::new(), Bytes::new(), LOTS).await {
            Ok(page) => {
                for (octets, value) in &page.items {
                    assert_eq!(must.get(&octets[..]).map(|must| &must[..]), Some(&value[..]));
                }
                if page.items.len() < must.len() {
                    looked.missing.push("scan".to_owned());
                }
            }
            Err(_) => looked.errors += 1,
        }
        for n in 1..=head {
            let result = engine.transaction(space, self.transaction(n)).await;
            looked.note(format!("transaction {n}"), result, &n.to_string().into());
        }
        for n in head - BODY_LIFE + 1..=head {
            let octets = match engine.body(space, &format!("m{n}")).await {
                Ok(Some(body)) => engine.read_body(space, &body, 0, u64::MAX).await.map(Some),
                absent => absent.map(|_| None),
            };
            looked.note(format!("body {n}"), octets, &self.octets(n));
        }
        looked
    }
}
