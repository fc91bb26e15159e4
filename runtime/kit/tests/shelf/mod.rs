//! A store over a map, right in everything but the one flaw that it is given, and its host.

pub mod messages;
pub mod records;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use postroom_kit::records::{CheckPage, Property};
use postroom_kit::{Fault, Host, Knobs, Result, StoreError, Told};

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
    CheckFindsWhatIsSound,
    CheckSkipsRows,
    RepairLeavesRubbish,
    RepairWipes,
    LosesAChangeNowAndThen,
    StaysLockedWhenGivenUp,
    CallsShareTheirArguments,
    RefusesASecondCall,
    KeepsHandles,
    CallsOfManyAreCut,
    CutsLargeRows,
    LargeAnswersAreALimit,
    ChangesLetters,
    ReadsOnlyWhatIsSaid,
    MigratesNothing,
    MigrationLosesRubbish,
    // Of records.
    InsertOverwrites,
    InsertAddsSomeBeforeItRefuses,
    UpdateInserts,
    UpdateKeepsAnOldField,
    DeleteOfMissingFails,
    DropLeavesOne,
    CutsLongNames,
    OrdersAsTexts,
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
    DropOfUnknownFails,
    InsertNeedsAMailbox,
    InsertTwiceFails,
    DeleteReachesOutside,
    SettleIsUnsupported,
    FetchOfMissingFails,
    FetchShowsOrphans,
    SettleOfUnknownFails,
    SettleCannotBeResumed,
    BodiesAreOneByTheirOctets,
    LinksUnderAnotherName,
    CheckOverlooksBodies,
}

/// A stored row; `None`: rubbish.
pub type Rows<R> = BTreeMap<Vec<u8>, Option<R>>;

/// The store and its host.
pub struct Shelf<R> {
    pub flaw: Flaw,
    pub committed: RefCell<State<R>>,
    knobs: Cell<Knobs>,
    met: Cell<Option<Fault>>,
    /// Times that the knobs were set.
    round: Cell<u64>,
    /// Rows that were changed, and handles that were kept.
    changes: Cell<u64>,
    handles: Cell<usize>,
    /// Whether an instance is locked, where that is its flaw.
    locked: Cell<bool>,
    /// The cursor of the last call of `list`, where calls share it.
    pub shared: RefCell<Option<Vec<u8>>>,
    /// Octets of bodies outside, where they are shown; names that are being settled.
    pub outside: RefCell<BTreeMap<String, Vec<u8>>>,
    pub settling: RefCell<BTreeSet<String>>,
    /// Names that were inserted once, also where nothing came of it.
    pub seen: RefCell<BTreeSet<String>>,
    /// What each instance has listed once, where that is its flaw.
    remembered: RefCell<[Option<Rows<R>>; 2]>,
    turn: Cell<usize>,
    told: Cell<Told>,
}

/// What is committed, or what a transaction makes of it.
#[derive(Clone)]
pub struct State<R> {
    pub rows: Rows<R>,
    /// In which schema each was inserted, or to which it was brought.
    pub schemas: BTreeMap<Vec<u8>, u32>,
    pub bodies: BTreeMap<String, Vec<u8>>,
    /// Whether it was dropped last, where dropping twice is the flaw.
    pub dropped: bool,
}

/// A transaction.
pub struct Txn<R>(pub RefCell<State<R>>);

/// Each so manieth change of a row is lost, where that is the flaw: few cases make so many.
const FORGETS: u64 = 13;
/// Rows of a call that are carried out, where more are not.
pub const SOME: usize = 1000;
/// Octets of properties that are kept, where large rows are cut.
pub const CUT: usize = 1 << 20;
/// Octets that are answered, where more are a limit.
pub const ANSWER: usize = 16 << 20;

/// Ends a lock.
struct Unlock<'a>(&'a Cell<bool>);

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Schemas of rows.
const SCHEMAS: [u32; 2] = [1, 2];

/// The value of every row of a schema that is none of rubbish, and of one that is.
fn value(schema: Option<&u32>, is_rubbish: bool) -> Vec<u8> {
    match (schema, is_rubbish) {
        (_, true) => vec![0xff; 3],
        (Some(1), false) => b"old".to_vec(),
        (Some(_) | None, false) => b"row".to_vec(),
    }
}

impl<R: Clone> Shelf<R> {
    pub fn new(flaw: Flaw) -> Self {
        let empty = State {
            rows: BTreeMap::new(),
            schemas: BTreeMap::new(),
            bodies: BTreeMap::new(),
            dropped: false,
        };
        Self {
            flaw,
            committed: RefCell::new(empty),
            knobs: Cell::new(Knobs::EASY),
            met: Cell::new(None),
            round: Cell::new(0),
            changes: Cell::new(0),
            handles: Cell::new(0),
            locked: Cell::new(false),
            shared: RefCell::default(),
            outside: RefCell::default(),
            settling: RefCell::default(),
            seen: RefCell::default(),
            remembered: RefCell::default(),
            turn: Cell::new(0),
            told: Cell::default(),
        }
    }

    pub fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    /// Counts a capability call, which can wait or not.
    fn enter(&self, waits: bool) -> Option<Fault> {
        let mut knobs = self.knobs.get();
        let (left, fault) = knobs.fault.as_mut()?;
        if *fault == Fault::Pause && !waits {
            return None;
        }
        if *left > 0 {
            *left -= 1;
            self.knobs.set(knobs);
            return None;
        }
        let fault = *fault;
        if fault != Fault::Hold {
            self.knobs.set(Knobs { fault: None, ..knobs });
        }
        self.met.set(Some(fault));
        Some(fault)
    }

    /// A capability call that may wait: the state that is read.
    pub async fn read(&self, txn: Option<&Txn<R>>) -> Result<State<R>> {
        if self.has(Flaw::KeepsHandles) {
            self.handles.set(self.handles.get() + 1);
        }
        let locks = self.has(Flaw::StaysLockedWhenGivenUp) || self.has(Flaw::RefusesASecondCall);
        if self.locked.replace(locks) {
            return Err(StoreError::Busy("another call is in here".into()));
        }
        // A guard only where the lock does not outlive the call.
        let _unlock = self.has(Flaw::RefusesASecondCall).then(|| Unlock(&self.locked));
        let waited = self.wait().await;
        self.locked.set(false);
        waited?;
        Ok(match txn {
            Some(txn) => txn.0.borrow().clone(),
            None => self.seen_by(self.committed.borrow().clone()),
        })
    }

    async fn wait(&self) -> Result<()> {
        match self.enter(true) {
            Some(Fault::Fail) => return Err(StoreError::Unavailable("storage".into())),
            Some(Fault::Hold) => std::future::pending().await,
            Some(Fault::Pause) => {
                let round = self.round.get();
                std::future::poll_fn(|_| match self.round.get() == round {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                })
                .await;
            }
            None => {}
        }
        Ok(())
    }

    /// A capability call that cannot wait: changes the transaction's state.
    pub fn write(&self, txn: &Txn<R>, change: impl Fn(&mut State<R>)) -> Result<()> {
        if self.enter(false).is_some() {
            return Err(StoreError::Unavailable("storage".into()));
        }
        if self.has(Flaw::WritesAtOnce) {
            change(&mut self.committed.borrow_mut());
        }
        let mut state = txn.0.borrow_mut();
        change(&mut state);
        // Rows of which nothing is known here are of the newest.
        if self.told.get() == Told::default() {
            return Ok(());
        }
        let State { rows, schemas, .. } = &mut *state;
        schemas.retain(|key, _| rows.contains_key(key));
        let schema = self.schema();
        for key in rows.keys() {
            schemas.entry(key.clone()).or_insert(schema);
        }
        Ok(())
    }

    /// In which schema rows are written.
    fn schema(&self) -> u32 {
        self.told.get().schema.unwrap_or(SCHEMAS[1])
    }

    /// Rows of other schemas than that which is said, where the flaw does not see them.
    fn seen_by(&self, mut state: State<R>) -> State<R> {
        if self.has(Flaw::ReadsOnlyWhatIsSaid) {
            let State { rows, schemas, .. } = &mut state;
            rows.retain(|key, _| schemas.get(key).unwrap_or(&SCHEMAS[1]) == &self.schema());
        }
        state
    }

    /// Whether the next change of a row is lost.
    pub fn forgets(&self) -> bool {
        self.changes.set(self.changes.get() + 1);
        self.has(Flaw::LosesAChangeNowAndThen) && self.changes.get().is_multiple_of(FORGETS)
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
        let looked_at = state.rows.len() / if self.has(Flaw::CheckSkipsRows) { 2 } else { 1 };
        let mut page = CheckPage { checked: looked_at as u64, ..CheckPage::empty() };
        if self.has(Flaw::CheckFindsWhatIsSound) && !state.rows.is_empty() {
            page.findings.push(postroom_kit::records::Finding::new("a row", "looks strange"));
        }
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
        let Told { migrate, .. } = self.told.get();
        if migrate && !self.has(Flaw::MigratesNothing) {
            let schema = self.schema();
            let loses = self.has(Flaw::MigrationLosesRubbish);
            self.write(txn, |state| {
                state.schemas.values_mut().for_each(|has| *has = schema);
                state.rows.retain(|_, row| row.is_some() || !loses);
            })?;
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
        self.round.set(self.round.get() + 1);
    }

    fn met(&self) -> bool {
        self.met.get().is_some()
    }

    fn held(&self) -> impl Future<Output = ()> {
        std::future::poll_fn(|_| match self.met.get().is_some_and(Fault::waits) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    fn handles(&self) -> usize {
        self.handles.get()
    }

    fn schemas(&self) -> Vec<u32> {
        SCHEMAS.to_vec()
    }

    fn tell(&self, told: Told) {
        self.told.set(told);
    }

    fn linked(&self, txn: &Txn<R>) -> Vec<String> {
        let there = &self.committed.borrow().bodies;
        let names = txn.0.borrow().bodies.keys().cloned().collect::<Vec<_>>();
        names.into_iter().filter(|name| !there.contains_key(name)).collect()
    }

    async fn restart(&self) -> Result<()> {
        *self.remembered.borrow_mut() = [None, None];
        self.locked.set(false);
        self.handles.set(0);
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
        let stored = committed
            .rows
            .iter()
            .map(|(key, row)| (key.clone(), value(committed.schemas.get(key), row.is_none())));
        Ok(stored.collect())
    }

    async fn tamper(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<()> {
        let mut committed = self.committed.borrow_mut();
        let State { rows, schemas, .. } = &mut *committed;
        let has = rows.get(&key).map(|row| self::value(schemas.get(&key), row.is_none()));
        match value {
            None => drop((rows.remove(&key), schemas.remove(&key))),
            Some(value) if has == Some(value.clone()) => {}
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

/// Cuts what properties hold.
pub fn cut(extra: &mut [Property]) {
    extra.iter_mut().for_each(|property| property.value.truncate(CUT));
}

/// Whether rows are more than is answered, where that is a limit.
pub fn answer_is_small<'a, R: std::fmt::Debug + 'a>(
    rows: impl Iterator<Item = &'a R>,
    octets: impl Fn(&R) -> usize,
) -> Result<()> {
    match rows.map(octets).sum::<usize>() <= ANSWER {
        true => Ok(()),
        false => Err(StoreError::Limit("more than storage answers at once".into())),
    }
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
