//! A store over a map, right in everything but the one flaw that it is given, and its host.

pub mod messages;
pub mod users;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use postroom_kit::records::CheckPage;
use postroom_kit::{Fault, Host, Knobs, Result, StoreError};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    // Any store.
    CreateClears,
    EmptyInsertFails,
    InsertLosesTheLastRow,
    InsertDropsProperties,
    DeleteDeletesNothing,
    SelectSorts,
    SelectAnswersOnce,
    SelectOfMissingFails,
    ListIsInDisorder,
    ListRepeatsTheCursor,
    ListSkipsAfterTheCursor,
    ListIgnoresTheLimit,
    ListSaysMoreOfNothing,
    ListEndsAtAGoneName,
    ListNeverEnds,
    DropTwiceFails,
    DropNeedsCreate,
    WritesAreUnsupported,
    AllWritesButDeleteAreUnsupported,
    UpdateIsUnsupported,
    ListIsUnsupported,
    WritesAtOnce,
    HidesAFailure,
    ForgetsWithItsInstance,
    RemembersWhatItListed,
    CheckFindsNothing,
    CheckRepairsUnasked,
    CheckNeverEnds,
    RepairLeavesRubbish,
    RepairWipes,
    // Of users.
    InsertOverwrites,
    InsertAddsSomeBeforeItRefuses,
    UpdateInserts,
    UpdateKeepsAnOldField,
    DeleteOfMissingFails,
    DropLeavesOne,
    CutsLongNames,
    // Of messages.
    UpdateLosesAFlag,
    UpdateTouchesAnotherField,
    ListMixesMailboxes,
    DropTakesTheNextMailbox,
    DropTakesBodies,
    FetchIgnoresTheBeginning,
    FetchBehindTheEndFails,
    FetchCutsTheEnd,
    DeleteTakesTheBody,
    SettleOfUnknownFails,
    CheckOverlooksBodies,
}

/// A stored row; `None`: rubbish.
pub type Rows<R> = BTreeMap<Vec<u8>, Option<R>>;

/// The store and its host.
pub struct Shelf<R> {
    pub flaw: Flaw,
    committed: RefCell<State<R>>,
    knobs: Cell<Knobs>,
    met: Cell<Option<Fault>>,
    /// What each instance has listed once, where that is its flaw.
    remembered: RefCell<[Option<Rows<R>>; 2]>,
    turn: Cell<usize>,
}

/// What is committed, or what a transaction makes of it.
#[derive(Clone)]
pub struct State<R> {
    pub rows: Rows<R>,
    pub bodies: BTreeMap<String, Vec<u8>>,
    /// Whether it was dropped last, where dropping twice is the flaw.
    pub dropped: bool,
}

/// A transaction.
pub struct Txn<R>(pub RefCell<State<R>>);

/// The value of every row that is none of rubbish.
const VALUE: &[u8] = b"row";

impl<R: Clone> Shelf<R> {
    pub fn new(flaw: Flaw) -> Self {
        let empty = State { rows: BTreeMap::new(), bodies: BTreeMap::new(), dropped: false };
        Self {
            flaw,
            committed: RefCell::new(empty),
            knobs: Cell::new(Knobs::EASY),
            met: Cell::new(None),
            remembered: RefCell::default(),
            turn: Cell::new(0),
        }
    }

    pub fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    /// Counts a capability call.
    fn enter(&self) -> Option<Fault> {
        let mut knobs = self.knobs.get();
        let (left, fault) = knobs.fault.as_mut()?;
        if *left > 0 {
            *left -= 1;
            self.knobs.set(knobs);
            return None;
        }
        let fault = *fault;
        if fault == Fault::Fail {
            self.knobs.set(Knobs { fault: None, ..knobs });
        }
        self.met.set(Some(fault));
        Some(fault)
    }

    /// A capability call that may wait: the state that is read.
    pub async fn read(&self, txn: Option<&Txn<R>>) -> Result<State<R>> {
        match self.enter() {
            Some(Fault::Fail) => return Err(StoreError::Unavailable("storage".into())),
            Some(Fault::Hold) => std::future::pending().await,
            None => {}
        }
        Ok(match txn {
            Some(txn) => txn.0.borrow().clone(),
            None => self.committed.borrow().clone(),
        })
    }

    /// A capability call that cannot wait: changes the transaction's state.
    pub fn write(&self, txn: &Txn<R>, change: impl Fn(&mut State<R>)) -> Result<()> {
        if self.enter().is_some() {
            return Err(StoreError::Unavailable("storage".into()));
        }
        if self.has(Flaw::WritesAtOnce) {
            change(&mut self.committed.borrow_mut());
        }
        change(&mut txn.0.borrow_mut());
        Ok(())
    }

    /// The rows of a list, which an instance may remember wrongly.
    pub async fn listed(&self, txn: Option<&Txn<R>>) -> Result<Rows<R>> {
        let rows = match self.read(txn).await {
            Err(_) if self.has(Flaw::HidesAFailure) => Rows::new(),
            state => state?.rows,
        };
        if !self.has(Flaw::RemembersWhatItListed) || txn.is_some() || rows.is_empty() {
            return Ok(rows);
        }
        Ok(self.remembered.borrow_mut()[self.turn.get()].get_or_insert(rows).clone())
    }

    /// What an instance remembers is right only as long as it is the one that writes.
    pub fn forget_listed(&self) {
        self.remembered.borrow_mut()[self.turn.get()] = None;
    }

    /// Looks at all rows; rubbish is wrong, and what lacks something.
    pub async fn check_rows(
        &self,
        txn: &Txn<R>,
        repair: bool,
        lacks: impl Fn(&R, &State<R>) -> bool,
    ) -> Result<CheckPage> {
        let state = self.read(Some(txn)).await?;
        let mut page = CheckPage { checked: state.rows.len() as u64, ..CheckPage::empty() };
        let wrong = |row: &Option<R>| row.as_ref().is_none_or(|row| lacks(row, &state));
        let rubbish = state.rows.iter().filter(|(_, row)| wrong(row)).map(|(key, _)| key);
        for key in rubbish.filter(|_| !self.has(Flaw::CheckFindsNothing)) {
            let name = key.escape_ascii();
            page.findings.push(postroom_kit::records::Finding::new(name, "cannot be read"));
            let leave = self.has(Flaw::RepairLeavesRubbish);
            if (repair && !leave) || self.has(Flaw::CheckRepairsUnasked) {
                self.write(txn, |state| match self.has(Flaw::RepairWipes) {
                    true => state.rows.clear(),
                    false => drop(state.rows.remove(key)),
                })?;
            }
        }
        page.next = self.has(Flaw::CheckNeverEnds).then(|| "again".to_owned());
        Ok(page)
    }
}

impl<R: Clone> Host for Shelf<R> {
    type Txn = Txn<R>;

    fn begin(&self) -> Txn<R> {
        Txn(RefCell::new(self.committed.borrow().clone()))
    }

    async fn commit(&self, txn: Txn<R>) -> Result<()> {
        *self.committed.borrow_mut() = txn.0.into_inner();
        self.forget_listed();
        Ok(())
    }

    fn set(&self, knobs: Knobs) {
        self.knobs.set(knobs);
        self.met.set(None);
    }

    fn met(&self) -> bool {
        self.met.get().is_some()
    }

    fn held(&self) -> impl Future<Output = ()> {
        std::future::poll_fn(|_| match self.met.get() {
            Some(Fault::Hold) => Poll::Ready(()),
            Some(Fault::Fail) | None => Poll::Pending,
        })
    }

    async fn restart(&self) -> Result<()> {
        *self.remembered.borrow_mut() = [None, None];
        if self.has(Flaw::ForgetsWithItsInstance) {
            self.committed.borrow_mut().rows.clear();
        }
        Ok(())
    }

    async fn other_instance(&self) -> Result<()> {
        self.turn.set(1 - self.turn.get());
        Ok(())
    }

    async fn stored(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let committed = self.committed.borrow();
        Ok(committed.rows.keys().map(|key| (key.clone(), VALUE.to_vec())).collect())
    }

    async fn tamper(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<()> {
        let rows = &mut self.committed.borrow_mut().rows;
        match value.as_deref() {
            None => drop(rows.remove(&key)),
            Some(VALUE) if rows.contains_key(&key) => {}
            Some(_) => drop(rows.insert(key, None)),
        }
        Ok(())
    }

    async fn unlink(&self, name: &str) -> Result<()> {
        self.committed.borrow_mut().bodies.remove(name);
        Ok(())
    }
}

/// What a store never does.
pub fn unsupported<T>() -> Result<T> {
    Err(StoreError::Unsupported("as the flaw says".into()))
}

/// A row that is there and no rubbish.
pub fn sound<R: Clone>(rows: &Rows<R>, key: &[u8]) -> Result<Option<R>> {
    match rows.get(key) {
        None => Ok(None),
        Some(Some(row)) => Ok(Some(row.clone())),
        Some(None) => Err(StoreError::damaged(key.escape_ascii())),
    }
}

/// Runs a case to its end: nothing here ever waits without being given up.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a store over a map has nothing to wait for"),
    }
}
