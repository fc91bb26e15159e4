//! The host side of `postroom:host/storage`: what a guest's handles do.
//!
//! A handle knows its call by a weak reference only. When the call has returned, or its caller has
//! gone, there is nothing behind the handle any more: it answers `closed`, however long a guest
//! keeps it. That is also what keeps accounts apart: a handle reaches the space and area of its own
//! call and no other.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tracing::{Instrument, Span};
use wasmtime::component::{Accessor, HasSelf, Resource, ResourceTableError};

use super::api::CallInfo;
use super::bindings::postroom::host::storage as wit;
use super::handles::Handles;
use super::pool::Verb;
use super::quarantine::{Operation, Subject};
use super::state::InstanceState;
use crate::storage::{
    Area, Body, Key, MAX_KEY_OCTETS, MAX_VALUE_OCTETS, ScanLimit, StorageError, Txn, View, Write,
};

/// Longest key that a guest may use, in octets: the area takes one. As the WIT says.
const MAX_GUEST_KEY_OCTETS: usize = MAX_KEY_OCTETS - 1;
/// Most keys of one `get-many`, as the WIT says.
const MAX_KEYS: usize = 4096;
/// Most items of one page, as the WIT says.
const MAX_ITEMS: usize = 4096;
/// Most octets of one page, as the WIT says.
const MAX_SCAN_OCTETS: usize = 4 << 20;
/// Most octets of one read of a body, as the WIT says.
const MAX_READ_OCTETS: u32 = 1 << 20;
/// Most bodies that one call may have handles to: a page of messages and slack.
const MAX_BODIES: usize = 8192;
/// Handles that the host makes for a call besides those of the bodies it comes with: to its
/// transaction or view, and to one more view or body.
const CALL_HANDLES: u32 = 2;

/// One call under way: all that its handles can reach. Lives as long as the call does in the
/// instance.
pub(super) struct OpenCall {
    /// What the guest is told.
    pub(super) info: CallInfo,
    area: Area,
    reach: Reach,
    bodies: Mutex<Vec<Body>>,
    /// Names under which bodies may be linked: those of the rows of this call.
    links: HashSet<String>,
    /// What it is about, for telling whether it is the same call again.
    subject: Subject,
    /// Its host calls that wait now.
    waiting: AtomicU32,
    /// The caller has gone: nothing is done for it any more.
    abandoned: AtomicBool,
    span: Span,
}

/// What a call was given.
enum Reach {
    Txn(Txn),
    View(View),
}

impl OpenCall {
    /// A call that writes.
    pub(super) fn writing(info: CallInfo, area: Area, txn: &Txn) -> Self {
        Self::new(info, area, Reach::Txn(txn.clone()))
    }

    /// A call that reads.
    pub(super) fn reading(info: CallInfo, area: Area, view: &View) -> Self {
        Self::new(info, area, Reach::View(view.clone()))
    }

    fn new(info: CallInfo, area: Area, reach: Reach) -> Self {
        Self {
            info,
            area,
            reach,
            bodies: Mutex::default(),
            links: HashSet::new(),
            subject: Subject::default(),
            waiting: AtomicU32::new(0),
            abandoned: AtomicBool::new(false),
            span: Span::current(),
        }
    }

    /// Lets it link bodies under these names.
    pub(super) fn linking(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.links.extend(names);
        self
    }

    /// Says what it is about.
    pub(super) fn about(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// What is the same when it is made again.
    pub(super) fn operation(&self, verb: Verb) -> Operation {
        Operation { account: self.info.account, verb, subject: self.subject }
    }

    /// Whether the guest waits for the host on its behalf: then the guest is not what is slow.
    pub(super) fn waits_for_host(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Handles that the host makes for it: those of the bodies that it may link, and a few.
    pub(super) fn handles(&self) -> u32 {
        u32::try_from(self.links.len()).unwrap_or(u32::MAX).saturating_add(CALL_HANDLES)
    }

    /// From now on its handles are closed.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// A handle to its transaction. `None` when it was given none.
    pub(super) fn txn(self: &Arc<Self>) -> Option<TxnHandle> {
        matches!(self.reach, Reach::Txn(_)).then(|| TxnHandle { call: Arc::downgrade(self) })
    }

    /// A handle to a view of what it may read.
    pub(super) fn view(self: &Arc<Self>) -> ViewHandle {
        ViewHandle { call: Arc::downgrade(self) }
    }

    /// A handle to a body. `None` when it has too many.
    pub(super) fn body(self: &Arc<Self>, body: Body) -> Option<BodyHandle> {
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        if bodies.len() >= MAX_BODIES {
            return None;
        }
        let (size, digest) = (body.size(), body.digest());
        bodies.push(body);
        Some(BodyHandle { call: Arc::downgrade(self), at: bodies.len() - 1, size, digest })
    }

    /// The body behind a handle that the guest gave back; `None` unless it is of this very call.
    pub(super) fn given_back(self: &Arc<Self>, handle: &BodyHandle) -> Option<Body> {
        if !Weak::ptr_eq(&Arc::downgrade(self), &handle.call) {
            return None;
        }
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).get(handle.at).cloned()
    }

    fn reads(&self) -> View {
        match &self.reach {
            Reach::Txn(txn) => txn.view(),
            Reach::View(view) => view.clone(),
        }
    }

    fn key(&self, octets: Vec<u8>) -> Result<Key, wit::StorageError> {
        match octets.len() {
            0 => Err(wit::StorageError::Invalid("a key has at least one octet".to_owned())),
            1..=MAX_GUEST_KEY_OCTETS => Ok(Key { area: self.area, octets: octets.into() }),
            _ => Err(wit::StorageError::Invalid(format!(
                "a key has at most {MAX_GUEST_KEY_OCTETS} octets"
            ))),
        }
    }

    fn write(&self, write: Write) -> Result<(), wit::StorageError> {
        match &self.reach {
            Reach::Txn(txn) => txn.write(write).map_err(storage_error),
            Reach::View(_) => Err(wit::StorageError::Invalid("this call only reads".to_owned())),
        }
    }
}

/// What a guest's `view` is.
pub struct ViewHandle {
    call: Weak<OpenCall>,
}

/// What a guest's `txn` is.
pub struct TxnHandle {
    call: Weak<OpenCall>,
}

/// What a guest's `body` is. Size and digest stay known when the call is over: they are harmless.
pub struct BodyHandle {
    call: Weak<OpenCall>,
    at: usize,
    size: u64,
    digest: [u8; 32],
}

type Answer<T> = wasmtime::Result<Result<T, wit::StorageError>>;

/// The call behind a handle, if it is still under way.
fn open(call: &Weak<OpenCall>) -> Result<Arc<OpenCall>, wit::StorageError> {
    let call = call.upgrade().filter(|call| !call.abandoned.load(Ordering::Acquire));
    call.ok_or_else(|| wit::StorageError::Closed("the handle's call is over".to_owned()))
}

/// `?` for the inner result of an [`Answer`].
macro_rules! give {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        }
    };
}

impl InstanceState {
    fn view_call(&mut self, view: &Resource<ViewHandle>) -> Answer<Arc<OpenCall>> {
        Ok(open(&self.handles.get(view)?.call))
    }

    fn txn_call(&mut self, txn: &Resource<TxnHandle>) -> Answer<Arc<OpenCall>> {
        Ok(open(&self.handles.get(txn)?.call))
    }
}

impl wit::HostViewWithStore<InstanceState> for HasSelf<InstanceState> {
    async fn get_many(
        accessor: &Accessor<InstanceState, Self>,
        view: Resource<ViewHandle>,
        keys: Vec<Vec<u8>>,
    ) -> Answer<Vec<Option<Vec<u8>>>> {
        let (call, limit) =
            accessor.with(|mut a| a.get().import(|state| state.view_call(&view)))?;
        let call = give!(call);
        if keys.len() > MAX_KEYS {
            return Ok(Err(wit::StorageError::Limit(format!("at most {MAX_KEYS} keys a call"))));
        }
        let keys = keys.into_iter().map(|key| call.key(key)).collect::<Result<Vec<_>, _>>();
        let keys = give!(keys);
        let values = give!(within(limit, &call, call.reads().get_many(keys)).await);
        Ok(Ok(values.into_iter().map(|value| value.map(Vec::from)).collect()))
    }

    async fn scan(
        accessor: &Accessor<InstanceState, Self>,
        view: Resource<ViewHandle>,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        items: u32,
        octets: u32,
    ) -> Answer<wit::ScanPage> {
        let (call, limit) =
            accessor.with(|mut a| a.get().import(|state| state.view_call(&view)))?;
        let call = give!(call);
        if items == 0 {
            return Ok(Err(wit::StorageError::Invalid("zero items".to_owned())));
        }
        let Some((start, end)) = give!(range(start, end)) else {
            return Ok(Ok(wit::ScanPage { items: Vec::new(), more: false }));
        };
        let most = ScanLimit {
            items: (items as usize).min(MAX_ITEMS),
            octets: (octets as usize).min(MAX_SCAN_OCTETS),
        };
        let page =
            give!(within(limit, &call, call.reads().scan(call.area, start, end, most)).await);
        let items = page.items.into_iter().map(|(key, value)| (key.into(), value.into()));
        Ok(Ok(wit::ScanPage { items: items.collect(), more: page.more }))
    }

    async fn get_body(
        accessor: &Accessor<InstanceState, Self>,
        view: Resource<ViewHandle>,
        name: String,
    ) -> Answer<Option<Resource<BodyHandle>>> {
        let (call, limit) =
            accessor.with(|mut a| a.get().import(|state| state.view_call(&view)))?;
        let call = give!(call);
        if call.area != Area::Message {
            return Ok(Ok(None));
        }
        let view = call.reads();
        let Some(body) = give!(within(limit, &call, view.body(&name)).await) else {
            return Ok(Ok(None));
        };
        let Some(handle) = call.body(body) else {
            let why = format!("at most {MAX_BODIES} bodies in one call");
            return Ok(Err(wit::StorageError::Limit(why)));
        };
        let offered = accessor.with(|mut a| offered(&mut a.get().handles, handle))?;
        Ok(offered.map(Some))
    }
}

impl wit::HostView for InstanceState {
    fn drop(&mut self, view: Resource<ViewHandle>) -> wasmtime::Result<()> {
        self.handles.delete(view)?;
        Ok(())
    }
}

impl wit::HostTxn for InstanceState {
    fn view(&mut self, txn: Resource<TxnHandle>) -> wasmtime::Result<Resource<ViewHandle>> {
        let call = self.handles.get(&txn)?.call.clone();
        Ok(self.handles.offer(ViewHandle { call })?)
    }

    fn put(&mut self, txn: Resource<TxnHandle>, key: Vec<u8>, value: Vec<u8>) -> Answer<()> {
        let call = give!(self.txn_call(&txn)?);
        if value.len() > MAX_VALUE_OCTETS {
            let why = format!("a value has at most {MAX_VALUE_OCTETS} octets");
            return Ok(Err(wit::StorageError::Limit(why)));
        }
        Ok(call.key(key).and_then(|key| call.write(Write::Put(key, value.into()))))
    }

    fn delete(&mut self, txn: Resource<TxnHandle>, key: Vec<u8>) -> Answer<()> {
        let call = give!(self.txn_call(&txn)?);
        Ok(call.key(key).and_then(|key| call.write(Write::Delete(key))))
    }

    fn delete_range(
        &mut self,
        txn: Resource<TxnHandle>,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
    ) -> Answer<()> {
        let call = give!(self.txn_call(&txn)?);
        match give!(range(start, end)) {
            Some((start, end)) => {
                Ok(call.write(Write::DeleteRange { area: call.area, start, end }))
            }
            None => Ok(Ok(())),
        }
    }

    fn put_body(
        &mut self,
        txn: Resource<TxnHandle>,
        name: String,
        body: Resource<BodyHandle>,
    ) -> Answer<()> {
        let body = self.handles.delete(body)?;
        let call = give!(self.txn_call(&txn)?);
        let Some(body) = call.given_back(&body) else {
            let why = "the body is of another call".to_owned();
            return Ok(Err(wit::StorageError::Invalid(why)));
        };
        if call.area != Area::Message || !call.links.contains(&name) {
            let why = "bodies are linked under names of rows that are being inserted".to_owned();
            return Ok(Err(wit::StorageError::Invalid(why)));
        }
        Ok(call.write(Write::LinkBody { name, body }))
    }

    fn drop(&mut self, txn: Resource<TxnHandle>) -> wasmtime::Result<()> {
        self.handles.delete(txn)?;
        Ok(())
    }
}

impl wit::HostBodyWithStore<InstanceState> for HasSelf<InstanceState> {
    async fn read(
        accessor: &Accessor<InstanceState, Self>,
        body: Resource<BodyHandle>,
        at: u64,
        max: u32,
    ) -> Answer<Vec<u8>> {
        let (found, limit) = accessor.with(|mut a| {
            a.get().import(|state| {
                let handle = state.handles.get(&body)?;
                Ok(open(&handle.call).map(|call| (call.given_back(handle), call)))
            })
        })?;
        let (Some(body), call) = give!(found) else {
            return Ok(Err(wit::StorageError::Closed("the body is gone".to_owned())));
        };
        let max = u64::from(max.min(MAX_READ_OCTETS));
        let view = call.reads();
        let octets = give!(within(limit, &call, view.read_body(&body, at, max)).await);
        Ok(Ok(octets.into()))
    }
}

impl wit::HostBody for InstanceState {
    fn size(&mut self, body: Resource<BodyHandle>) -> wasmtime::Result<u64> {
        Ok(self.handles.get(&body)?.size)
    }

    fn digest(&mut self, body: Resource<BodyHandle>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.handles.get(&body)?.digest.to_vec())
    }

    fn drop(&mut self, body: Resource<BodyHandle>) -> wasmtime::Result<()> {
        self.handles.delete(body)?;
        Ok(())
    }
}

impl wit::Host for InstanceState {}

/// A handle that the guest has asked for. It is told of a full table: it may let go of others.
fn offered<T: Send + 'static>(table: &mut Handles, entry: T) -> Answer<Resource<T>> {
    match table.offer(entry) {
        Ok(handle) => Ok(Ok(handle)),
        Err(ResourceTableError::Full) => {
            Ok(Err(wit::StorageError::Limit("the store component holds too many handles".into())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits for storage, but not for ever: an epoch never stops a host call.
async fn within<T>(
    limit: Duration,
    call: &OpenCall,
    work: impl Future<Output = Result<T, StorageError>> + Send,
) -> Result<T, wit::StorageError> {
    let _waiting = Waits::begin(call);
    // Wasmtime polls this outside the call's own future, so the span has to be carried.
    let work = work.instrument(call.span.clone());
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(storage_error),
        Err(_) => {
            let why = format!("storage did not answer within {} ms", limit.as_millis());
            Err(wit::StorageError::Unavailable(why))
        }
    }
}

/// Counts a host call that waits.
struct Waits<'a>(&'a OpenCall);

impl<'a> Waits<'a> {
    fn begin(call: &'a OpenCall) -> Self {
        call.waiting.fetch_add(1, Ordering::AcqRel);
        Self(call)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A range of keys: `None` when there is no key in it.
type Range = Option<(Bytes, Bytes)>;

/// A guest's range as storage has it, where an empty end means the end of the area.
fn range(start: Vec<u8>, end: Option<Vec<u8>>) -> Result<Range, wit::StorageError> {
    // One more than a key has: the first key after the longest one ends with a zero octet.
    let most = MAX_GUEST_KEY_OCTETS + 1;
    if start.len().max(end.as_ref().map_or(0, Vec::len)) > most {
        let why = format!("the end of a range has at most {most} octets");
        return Err(wit::StorageError::Invalid(why));
    }
    match end {
        None => Ok(Some((start.into(), Bytes::new()))),
        Some(end) if end < start => {
            Err(wit::StorageError::Invalid("the range ends before its start".to_owned()))
        }
        Some(end) if end == start => Ok(None),
        Some(end) => Ok(Some((start.into(), end.into()))),
    }
}

/// What a guest is told of an error of storage. It never hears of fences and unknown outcomes:
/// reading cannot meet them, and the host commits.
fn storage_error(error: StorageError) -> wit::StorageError {
    match error {
        StorageError::Limit(why) => wit::StorageError::Limit(why),
        StorageError::Unavailable(why) => wit::StorageError::Unavailable(why),
        StorageError::Damaged(why) => wit::StorageError::Damaged(why),
        StorageError::Fenced
        | StorageError::HeadMoved { .. }
        | StorageError::Conflict
        | StorageError::AlreadyDone(_)
        | StorageError::WentBack(_)
        | StorageError::UnknownOutcome(_) => wit::StorageError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn a_full_table_of_handles_is_a_limit_that_the_guest_is_told() {
        let mut table = Handles::at_most(1, CancellationToken::new());
        let first = offered(&mut table, 1).unwrap().unwrap();
        let second = offered(&mut table, 2).unwrap();
        assert!(matches!(second, Err(wit::StorageError::Limit(_))), "{second:?}");
        table.delete(first).unwrap();
        assert!(offered(&mut table, 3).unwrap().is_ok());
    }
}
