//! One space of a host, kept in maps. It holds every limit that `wit/deps/postroom-host` names.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use postroom_kit::{Fault, Knobs};

use crate::error::StorageError;
use crate::host::{Body, Item, MAX_KEYS, MAX_OCTETS, ScanPage, Txn, View};

/// Longest key in octets.
const MAX_KEY: usize = 2047;
/// Longest value in octets.
const MAX_VALUE: usize = 4 << 20;
/// Most octets of values that one `get-many` answers.
const MAX_ANSWER: usize = 16 << 20;
/// Most octets of keys and values of one transaction.
const MAX_TXN: usize = 64 << 20;
/// Most octets of one read of a body.
const MAX_READ: u32 = 1 << 20;

type HostResult<T> = Result<T, StorageError>;
type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    rows: Map,
    bodies: BTreeMap<String, SpaceBody>,
    knobs: Knobs,
    /// The fault of the knobs, once it has been met.
    met: Option<Fault>,
    /// Times that the knobs were set.
    round: u64,
    /// Each view has a share of it.
    views: Arc<()>,
}

impl State {
    /// Counts a capability call, which can wait or not; the fault that it meets.
    fn enter(&mut self, waits: Waits) -> Option<Fault> {
        let (left, fault) = self.knobs.fault.as_mut()?;
        if *fault == Fault::Pause && waits == Waits::Never {
            return None;
        }
        if *left > 0 {
            *left -= 1;
            return None;
        }
        self.met = Some(*fault);
        if *fault != Fault::Hold {
            self.knobs.fault = None;
        }
        self.met
    }
}

/// Whether a capability call can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Never,
    AsLongAsItTakes,
}

/// What a call with a fault is told.
fn unavailable() -> StorageError {
    StorageError::Unavailable("as the test wants".into())
}

/// The committed state of one space. Clones are the same space.
#[derive(Clone, Debug, Default)]
pub struct Space(Arc<Mutex<State>>);

/// Reads a space.
#[derive(Clone, Debug)]
pub struct SpaceView {
    space: Space,
    pending: Option<Arc<Mutex<Pending>>>,
    /// Counts the views that there are.
    _counted: Arc<()>,
}

/// Writes to a space. Clones are the same transaction.
#[derive(Clone, Debug)]
pub struct SpaceTxn {
    space: Space,
    pending: Arc<Mutex<Pending>>,
}

/// The octets of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceBody(Arc<[u8]>);

#[derive(Debug)]
enum Write {
    Put(Vec<u8>, Vec<u8>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
}

#[derive(Debug, Default)]
struct Pending {
    octets: usize,
    writes: Vec<Write>,
    bodies: BTreeMap<String, SpaceBody>,
}

impl Pending {
    fn add(&mut self, octets: usize, write: Write) -> HostResult<()> {
        self.octets += octets;
        if self.octets > MAX_TXN {
            return Err(StorageError::Limit(format!("{MAX_TXN} octets of a transaction")));
        }
        self.writes.push(write);
        Ok(())
    }

    /// The rows as they are with these writes.
    fn over(&self, rows: &mut Map) {
        for write in &self.writes {
            match write {
                Write::Put(key, value) => {
                    rows.insert(key.clone(), value.clone());
                }
                Write::DeleteRange(start, end) => {
                    rows.retain(|key, _| key < start || end.as_ref().is_some_and(|end| key >= end))
                }
            }
        }
    }
}

/// A test that panicked elsewhere says what was wrong; the state is of no more use to anybody.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Space {
    /// Reads what is committed.
    pub fn view(&self) -> SpaceView {
        SpaceView { space: self.clone(), pending: None, _counted: self.counted() }
    }

    fn counted(&self) -> Arc<()> {
        lock(&self.0).views.clone()
    }

    /// Views that there are.
    pub fn views(&self) -> usize {
        Arc::strong_count(&lock(&self.0).views) - 1
    }

    /// Begins a transaction. Dropping it forgets it.
    pub fn begin(&self) -> SpaceTxn {
        SpaceTxn { space: self.clone(), pending: Arc::default() }
    }

    /// Makes a transaction's writes the state.
    pub fn commit(&self, txn: SpaceTxn) {
        let mut state = lock(&self.0);
        let mut pending = lock(&txn.pending);
        pending.over(&mut state.rows);
        state.bodies.append(&mut pending.bodies);
    }

    /// Takes away the link of a body, as the host does once nobody reads the message any more.
    pub fn unlink(&self, name: &str) {
        lock(&self.0).bodies.remove(name);
    }

    /// What is stored, for tests that damage it.
    pub fn edit(&self, edit: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>)) {
        edit(&mut lock(&self.0).rows);
    }

    /// How the host behaves from now on.
    pub fn set(&self, knobs: Knobs) {
        let mut state = lock(&self.0);
        (state.knobs, state.met, state.round) = (knobs, None, state.round + 1);
    }

    /// Whether the fault that was set last has been met.
    pub fn met(&self) -> bool {
        lock(&self.0).met.is_some()
    }

    /// Comes back once a call is held. Nobody wakes who waits for it: it is asked again after
    /// the call that may meet it.
    pub fn held(&self) -> impl Future<Output = ()> {
        std::future::poll_fn(|_| match lock(&self.0).met.is_some_and(Fault::waits) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    /// A capability call that may wait.
    async fn enter(&self) -> HostResult<()> {
        let (fault, round) = {
            let mut state = lock(&self.0);
            (state.enter(Waits::AsLongAsItTakes), state.round)
        };
        match fault {
            None => Ok(()),
            Some(Fault::Fail) => Err(unavailable()),
            Some(Fault::Hold) => std::future::pending().await,
            Some(Fault::Pause) => {
                std::future::poll_fn(|_| match lock(&self.0).round == round {
                    true => Poll::Pending,
                    false => Poll::Ready(Ok(())),
                })
                .await
            }
        }
    }

    /// A capability call that cannot wait.
    fn enter_now(&self) -> HostResult<()> {
        lock(&self.0).enter(Waits::Never).map_or(Ok(()), |_| Err(unavailable()))
    }
}

fn check_key(key: &[u8]) -> HostResult<()> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        length => Err(StorageError::Invalid(format!("a key of {length} octets"))),
    }
}

fn check_range(start: &[u8], end: Option<&[u8]>) -> HostResult<()> {
    match end {
        Some(end) if end < start => Err(StorageError::Invalid("a range that ends first".into())),
        _ if start.len() > MAX_KEY + 1 => Err(StorageError::Invalid("a start too long".into())),
        _ => Ok(()),
    }
}

impl SpaceView {
    async fn rows(&self) -> HostResult<Map> {
        self.space.enter().await?;
        let mut rows = lock(&self.space.0).rows.clone();
        if let Some(pending) = &self.pending {
            lock(pending).over(&mut rows);
        }
        Ok(rows)
    }
}

impl View for SpaceView {
    type Body = SpaceBody;

    async fn get_many(&self, keys: Vec<Vec<u8>>) -> HostResult<Vec<Option<Vec<u8>>>> {
        if keys.len() > MAX_KEYS {
            return Err(StorageError::Limit(format!("{MAX_KEYS} keys of a get-many")));
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        let rows = self.rows().await?;
        let values: Vec<_> = keys.iter().map(|key| rows.get(key).cloned()).collect();
        match values.iter().flatten().map(Vec::len).sum::<usize>() {
            0..=MAX_ANSWER => Ok(values),
            _ => Err(StorageError::Limit(format!("{MAX_ANSWER} octets of a get-many"))),
        }
    }

    async fn scan(
        &self,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        items: u32,
        octets: u32,
    ) -> HostResult<ScanPage> {
        check_range(&start, end.as_deref())?;
        if items == 0 {
            return Err(StorageError::Invalid("a scan of no items".into()));
        }
        let rows = self.rows().await?;
        let most = items.min(lock(&self.space.0).knobs.scan_items);
        let mut left = octets.min(MAX_OCTETS) as usize;
        let end = end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = rows.range::<Vec<u8>, _>((Bound::Included(&start), end)).peekable();
        let mut page: Vec<Item> = Vec::new();
        while let Some((key, value)) = range.next_if(|(key, value)| {
            let fits = page.len() < most as usize && key.len() + value.len() <= left;
            fits || page.is_empty()
        }) {
            left = left.saturating_sub(key.len() + value.len());
            page.push((key.clone(), value.clone()));
        }
        Ok(ScanPage { items: page, more: range.peek().is_some() })
    }

    async fn get_body(&self, name: String) -> HostResult<Option<SpaceBody>> {
        self.space.enter().await?;
        let state = lock(&self.space.0);
        let pending = self.pending.as_ref().and_then(|txn| lock(txn).bodies.get(&name).cloned());
        Ok(pending.or_else(|| state.bodies.get(&name).cloned()))
    }
}

impl SpaceTxn {
    /// The names of bodies that it links.
    pub fn linked(&self) -> Vec<String> {
        lock(&self.pending).bodies.keys().cloned().collect()
    }

    fn write(&self, octets: usize, write: Write) -> HostResult<()> {
        self.space.enter_now()?;
        lock(&self.pending).add(octets, write)
    }
}

impl Txn for SpaceTxn {
    type Body = SpaceBody;
    type View = SpaceView;

    fn view(&self) -> SpaceView {
        let (space, pending) = (self.space.clone(), Some(self.pending.clone()));
        SpaceView { _counted: space.counted(), space, pending }
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> HostResult<()> {
        check_key(&key)?;
        if value.len() > MAX_VALUE {
            return Err(StorageError::Limit(format!("{MAX_VALUE} octets of a value")));
        }
        self.write(key.len() + value.len(), Write::Put(key, value))
    }

    fn delete(&self, key: Vec<u8>) -> HostResult<()> {
        check_key(&key)?;
        let end = crate::host::key_after(key.clone());
        self.write(key.len(), Write::DeleteRange(key, Some(end)))
    }

    fn delete_range(&self, start: Vec<u8>, end: Option<Vec<u8>>) -> HostResult<()> {
        check_range(&start, end.as_deref())?;
        self.write(start.len(), Write::DeleteRange(start, end))
    }

    fn put_body(&self, name: String, body: SpaceBody) -> HostResult<()> {
        self.space.enter_now()?;
        let state = lock(&self.space.0);
        let used = state.bodies.contains_key(&name);
        if used || lock(&self.pending).bodies.insert(name.clone(), body).is_some() {
            return Err(StorageError::Invalid(format!("the name {name} was used before")));
        }
        Ok(())
    }
}

impl SpaceBody {
    /// A body of these octets.
    pub fn new(octets: &[u8]) -> Self {
        Self(octets.into())
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl Body for SpaceBody {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn digest(&self) -> Vec<u8> {
        blake3::hash(&self.0).as_bytes().to_vec()
    }

    async fn read(&self, at: u64, max: u32) -> HostResult<Vec<u8>> {
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(max.min(MAX_READ) as usize).min(self.0.len());
        Ok(self.0[start..end].to_vec())
    }
}
