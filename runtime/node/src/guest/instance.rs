//! One running copy of a store component: a `wasmtime::Store` of its own and the one task that owns
//! it.
//!
//! The task sits in one long `run_concurrent`, takes calls from a bounded queue and lets them run
//! side by side. Nothing that a caller waits for is inside the `wasmtime::Store`: a trap or a
//! deadline drops it whole, and each caller then finds its reply slot closed.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use wasmtime::component::{Accessor, AccessorTask, InstancePre, Resource, ResourceTable};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::bindings::exports::postroom::store as exports;
use super::bindings::postroom::host::settings;
use super::bindings::postroom::store::types as wit;
use super::convert;
use super::engine::{TABLE_ELEMENTS, root};
use super::host::{BodyHandle, OpenCall, TxnHandle, ViewHandle};
use super::limits::Limits;
use super::wasi::{Granted, HttpGrants, Log};
use crate::storage::Body;

/// Handles of wasmtime's own that one call has at a time: host calls under way and sets of them.
const CALL_WAITS: usize = 16;
/// Resources of WASI (streams, files, pollables) of one instance.
const MAX_WASI_RESOURCES: usize = 4096;

/// What a guest's host functions work on.
pub(super) struct InstanceState {
    /// The guest's storage handles.
    pub(super) handles: ResourceTable,
    import_time: Duration,
    wasi: WasiCtx,
    wasi_resources: ResourceTable,
    http: WasiHttpCtx,
    http_grants: HttpGrants,
    settings: Arc<BTreeMap<String, String>>,
    memory: Memory,
}

impl InstanceState {
    /// Looks something up for a host call that waits, and says how long it may wait.
    pub(super) fn import<T>(
        &mut self,
        find: impl FnOnce(&mut Self) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<(T, Duration)> {
        Ok((find(self)?, self.import_time))
    }
}

impl settings::Host for InstanceState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.settings.get(&name).cloned())
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.wasi_resources }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.http_grants,
            table: &mut self.wasi_resources,
            ctx: &mut self.http,
        }
    }
}

/// The linear memory of an instance: all its memories together.
struct Memory {
    used: usize,
    most: usize,
    /// What the growth under way adds, in case it fails.
    growing: usize,
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growing = desired.saturating_sub(current);
        if growing > self.most.saturating_sub(self.used) {
            return Ok(false);
        }
        self.used += growing;
        self.growing = growing;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.growing));
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

/// Where the exported interfaces of a component are; found once, when it is loaded.
pub(super) struct Indices {
    pub(super) domains: Option<exports::domains::GuestIndices>,
    pub(super) users: Option<exports::users::GuestIndices>,
    pub(super) mailboxes: Option<exports::mailboxes::GuestIndices>,
    pub(super) messages: Option<exports::messages::GuestIndices>,
}

/// The exported interfaces of one instance.
pub(super) struct Exports {
    domains: Option<exports::domains::Guest>,
    users: Option<exports::users::Guest>,
    mailboxes: Option<exports::mailboxes::Guest>,
    messages: Option<exports::messages::Guest>,
}

macro_rules! interface {
    ($($kind:ident),*) => {
        impl Exports {
            $(
                /// The interface; the pool admits no call to one that is not exported.
                pub(super) fn $kind(&self) -> wasmtime::Result<&exports::$kind::Guest> {
                    self.$kind.as_ref().ok_or_else(|| {
                        wasmtime::format_err!(concat!(stringify!($kind), " is not exported"))
                    })
                }
            )*
        }

        impl Indices {
            fn load(
                &self,
                store: &mut Store<InstanceState>,
                instance: &wasmtime::component::Instance,
            ) -> wasmtime::Result<Exports> {
                Ok(Exports {
                    $($kind: match &self.$kind {
                        Some(indices) => Some(indices.load(&mut *store, instance)?),
                        None => None,
                    },)*
                })
            }
        }
    };
}

interface!(domains, users, mailboxes, messages);

/// All that a fresh instance is made of.
pub(super) struct Template {
    pub(super) name: Arc<str>,
    pub(super) pre: InstancePre<InstanceState>,
    pub(super) indices: Indices,
    pub(super) granted: Granted,
    pub(super) limits: Limits,
    /// Calls that one instance takes at a time.
    pub(super) concurrency: u32,
    /// Live instances of the whole node: below what the pooling allocator holds.
    pub(super) room: Arc<Semaphore>,
}

impl Template {
    /// Makes an instance: some 90 µs. Start-up code of the guest runs here, within the wall time of
    /// a call.
    pub(super) async fn make(&self) -> Result<Made, NotMade> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return Err(NotMade::NoRoom);
        };
        let failed = |error: wasmtime::Error| NotMade::Failed(trap(&error));
        let mut store = self.store(number).map_err(failed)?;
        let start = self.pre.instantiate_async(&mut store);
        let Ok(started) = tokio::time::timeout(self.limits.call_time(), start).await else {
            return Err(NotMade::Slow(self.limits.call_ms));
        };
        let exports = self.indices.load(&mut store, &started.map_err(failed)?);
        let exports = Arc::new(exports.map_err(|error| NotMade::Differs(root(&error)))?);
        let (calls, queue) = mpsc::channel(self.concurrency as usize);
        let instance = Arc::new(Instance {
            number,
            born: Instant::now(),
            calls,
            places: Arc::new(Semaphore::new(self.concurrency as usize)),
            handles: Arc::new(Semaphore::new(self.limits.handles as usize)),
            running: Arc::default(),
            taken: AtomicU64::new(0),
            closing: CancellationToken::new(),
            killing: CancellationToken::new(),
            kill_reason: OnceLock::new(),
            ended: Arc::default(),
        });
        let span = tracing::info_span!(parent: None, "guest", component = &*self.name, number);
        let (name, places) = (self.name.clone(), self.concurrency);
        let driver = drive(name, instance.clone(), store, exports, queue, places, room);
        Ok((instance, tokio::spawn(driver.instrument(span))))
    }

    fn store(&self, number: u64) -> wasmtime::Result<Store<InstanceState>> {
        let log = Log::new(self.name.clone(), number, self.limits.log_lines);
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(self.limits.handles as usize);
        let mut wasi_resources = ResourceTable::new();
        wasi_resources.set_max_capacity(MAX_WASI_RESOURCES);
        let state = InstanceState {
            handles,
            import_time: self.limits.import_time(),
            wasi: self.granted.context(&log)?,
            wasi_resources,
            http: WasiHttpCtx::new(),
            http_grants: self.granted.http(),
            settings: self.granted.settings(),
            memory: Memory { used: 0, most: self.limits.memory(), growing: 0 },
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.limits.transfer());
        // Wasmtime also counts what is lent to host calls and what calls wait for. It is to come
        // second: whoever passes it traps instead of being told.
        let waits = CALL_WAITS * self.concurrency as usize;
        store.set_max_component_handles(2 * self.limits.handles as usize + waits);
        // Each epoch it lets other tasks run. What stops a guest for good is the caller's deadline.
        store.set_epoch_deadline(1);
        // tokio's yield, not wasmtime's: that one wakes itself at once, and the runtime would look
        // at sockets and timers only every 61st time.
        store.epoch_deadline_callback(|_| {
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        Ok(store)
    }
}

/// A fresh instance and the task that drives it.
pub(super) type Made = (Arc<Instance>, JoinHandle<()>);

/// Why there is no fresh instance.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NotMade {
    /// The node has as many as it may.
    #[error("all of this node's instances (max_instances) are in use")]
    NoRoom,
    /// Its start-up code takes too long.
    #[error("it did not start within {0} ms")]
    Slow(u64),
    /// Its exports have other types than this node's.
    #[error("its exports differ: {0}")]
    Differs(String),
    /// Its start-up code failed, or there is nothing to make it of.
    #[error("{0}")]
    Failed(String),
}

/// A running instance, as the pool sees it.
pub(super) struct Instance {
    /// Unique in this process; for logs.
    pub(super) number: u64,
    /// When it was made.
    pub(super) born: Instant,
    calls: mpsc::Sender<Task>,
    /// Free places; a call holds its place until it has left the instance.
    places: Arc<Semaphore>,
    /// Handles that no call has reserved.
    handles: Arc<Semaphore>,
    running: Arc<Running>,
    taken: AtomicU64,
    closing: CancellationToken,
    killing: CancellationToken,
    kill_reason: OnceLock<String>,
    ended: Arc<OnceLock<Ended>>,
}

/// How an instance came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was closed, and its calls have finished.
    Closed,
    /// The guest trapped, with so many calls in it.
    Trapped {
        /// The trap.
        why: String,
        /// How many calls were in the instance: where there was one, it was the reason.
        running: usize,
    },
    /// It was dropped from outside: a deadline.
    Killed(String),
}

/// A call's place in an instance, with the handles that the host makes for it: free again when the
/// call has left. A full table of handles would cost the whole instance.
pub(super) struct Seat {
    _place: OwnedSemaphorePermit,
    _handles: OwnedSemaphorePermit,
}

/// Calls in the instance with their beginnings, in order.
#[derive(Default)]
struct Running(Mutex<BTreeMap<u64, Instant>>);

/// A call's place among the running ones.
struct RunningEntry {
    running: Arc<Running>,
    number: u64,
}

impl Drop for RunningEntry {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

impl Instance {
    /// Whether it takes calls.
    pub(super) fn is_open(&self) -> bool {
        !self.closing.is_cancelled() && !self.calls.is_closed()
    }

    /// Takes no more calls; those that run may finish.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Drops it with all its calls, as soon as the guest looks up (an epoch).
    pub(super) fn kill(&self, why: String) {
        // The first reason is the true one.
        let _ = self.kill_reason.set(why);
        self.killing.cancel();
    }

    /// How it ended, once it has.
    pub(super) fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// Calls it has been given.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Calls in it now.
    pub(super) fn running(&self) -> usize {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// For how long its oldest call has been running.
    pub(super) fn oldest(&self) -> Option<Duration> {
        let running = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.first_key_value().map(|(_, since)| since.elapsed())
    }

    /// Waits for a place and so many handles, of which there must be as many. `None` when it closes
    /// its places, which it never does.
    pub(super) async fn seat(&self, handles: u32) -> Option<Seat> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        let handles = self.handles.clone().acquire_many_owned(handles).await.ok()?;
        Some(Seat { _place: place, _handles: handles })
    }

    /// Gives it a call. `None` when it takes no more: nothing has been done then.
    pub(super) fn start<R: Send + 'static>(
        &self,
        call: Arc<OpenCall>,
        enter: Enter<R>,
        seat: Seat,
    ) -> Option<oneshot::Receiver<Outcome<R>>> {
        if self.closing.is_cancelled() {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let mut running = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(number, Instant::now());
        drop(running);
        let entry = RunningEntry { running: self.running.clone(), number };
        let run = Box::new(Call { call, enter, reply });
        // Never full: there are as many places as the queue is long.
        self.calls.try_send(Task { run, exports: None, _entry: entry, _seat: seat }).ok()?;
        Some(answer)
    }
}

/// What became of a call in an instance.
pub(super) enum Outcome<R> {
    /// The guest answered.
    Answered(Result<R, wit::StoreError>),
    /// This call is what the instance failed on.
    Failed(String),
}

/// What is at hand inside an instance for one call.
pub(super) struct Inside<'a> {
    pub(super) accessor: &'a Accessor<InstanceState>,
    pub(super) exports: &'a Exports,
    call: &'a Arc<OpenCall>,
}

impl Inside<'_> {
    /// What every call carries.
    pub(super) fn info(&self) -> wit::Call {
        convert::call(self.call.info)
    }

    /// The transaction's handle.
    pub(super) fn txn(&self) -> wasmtime::Result<Resource<TxnHandle>> {
        let txn = self.call.txn().ok_or_else(|| wasmtime::format_err!("the call only reads"))?;
        self.accessor.with(|mut access| Ok(access.get().handles.push(txn)?))
    }

    /// The view's handle.
    pub(super) fn view(&self) -> wasmtime::Result<Resource<ViewHandle>> {
        let view = self.call.view();
        self.accessor.with(|mut access| Ok(access.get().handles.push(view)?))
    }

    /// A body's handle.
    pub(super) fn body(&self, body: Body) -> wasmtime::Result<Resource<BodyHandle>> {
        let body = self.call.body(body);
        let body = body.ok_or_else(|| wasmtime::format_err!("too many bodies in one call"))?;
        self.accessor.with(|mut access| Ok(access.get().handles.push(body)?))
    }

    /// The body behind a handle that the guest answered; `None` when it is of another call.
    pub(super) fn take(&self, body: Resource<BodyHandle>) -> wasmtime::Result<Option<Body>> {
        let handle = self.accessor.with(|mut access| access.get().handles.delete(body))?;
        Ok(self.call.given_back(&handle))
    }
}

/// A call on its way through the guest.
pub(super) type Entry<'a, R> =
    Pin<Box<dyn Future<Output = wasmtime::Result<Result<R, wit::StoreError>>> + Send + 'a>>;
/// How a call enters the guest.
pub(super) type Enter<R> = Box<dyn for<'a> FnOnce(Inside<'a>) -> Entry<'a, R> + Send>;

/// Gives a closure the type that [`Enter`] needs.
pub(super) fn enter<R, F>(entry: F) -> Enter<R>
where
    F: for<'a> FnOnce(Inside<'a>) -> Entry<'a, R> + Send + 'static,
{
    Box::new(entry)
}

/// A call in the queue, whatever it answers.
struct Task {
    run: Box<dyn Run>,
    exports: Option<Arc<Exports>>,
    _entry: RunningEntry,
    _seat: Seat,
}

trait Run: Send {
    fn run<'a>(
        self: Box<Self>,
        accessor: &'a Accessor<InstanceState>,
        exports: &'a Exports,
    ) -> Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>;
}

struct Call<R> {
    call: Arc<OpenCall>,
    enter: Enter<R>,
    reply: oneshot::Sender<Outcome<R>>,
}

impl<R: Send + 'static> Run for Call<R> {
    fn run<'a>(
        self: Box<Self>,
        accessor: &'a Accessor<InstanceState>,
        exports: &'a Exports,
    ) -> Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let Self { call, enter, reply } = *self;
            let result = enter(Inside { accessor, exports, call: &call }).await;
            // Closes the call's handles before anyone hears of the answer.
            drop(call);
            // A caller that has gone needs no answer.
            match result {
                Ok(answer) => {
                    let _ = reply.send(Outcome::Answered(answer));
                    Ok(())
                }
                Err(error) => {
                    let _ = reply.send(Outcome::Failed(root(&error)));
                    Err(error)
                }
            }
        })
    }
}

impl AccessorTask<InstanceState> for Task {
    async fn run(self, accessor: &Accessor<InstanceState>) -> wasmtime::Result<()> {
        match &self.exports {
            Some(exports) => self.run.run(accessor, exports).await,
            None => Ok(()),
        }
    }
}

/// Counts a live instance.
struct Live(Arc<str>);

impl Live {
    fn new(component: Arc<str>) -> Self {
        metrics::gauge!("postroom_guest_instances", "component" => component.to_string())
            .increment(1.0);
        Self(component)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        metrics::gauge!("postroom_guest_instances", "component" => self.0.to_string())
            .decrement(1.0);
    }
}

/// Owns the `wasmtime::Store` until the instance has ended.
async fn drive(
    component: Arc<str>,
    instance: Arc<Instance>,
    mut store: Store<InstanceState>,
    exports: Arc<Exports>,
    mut queue: mpsc::Receiver<Task>,
    places: u32,
    _room: OwnedSemaphorePermit,
) {
    let _live = Live::new(component);
    let end = {
        let run = store.run_concurrent(async |accessor| -> wasmtime::Result<()> {
            loop {
                // Cancel-safe: a received call is spawned before the next await.
                tokio::select! {
                    biased;
                    task = queue.recv() => match task {
                        Some(task) => {
                            accessor.spawn(Task { exports: Some(exports.clone()), ..task })?;
                        }
                        None => break,
                    },
                    () = instance.closing.cancelled(), if !queue.is_closed() => queue.close(),
                }
            }
            // Every call has left when all places are free; what guests still do after their
            // answers gets its time too.
            let _ = instance.places.acquire_many(places).await;
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(())
        });
        tokio::select! {
            biased;
            () = instance.killing.cancelled() => {
                Ended::Killed(instance.kill_reason.get().cloned().unwrap_or_default())
            }
            result = run => match result {
                Ok(Ok(())) => Ended::Closed,
                Ok(Err(error)) | Err(error) => {
                    Ended::Trapped { why: trap(&error), running: instance.running() }
                }
            },
        }
    };
    queue.close();
    // Before the callers find their reply slots closed, which dropping the store does.
    let _ = instance.ended.set(end);
    drop(store);
}

/// A trap in one line, with the innermost function of the guest that has a name.
fn trap(error: &wasmtime::Error) -> String {
    let frames = error.downcast_ref::<wasmtime::WasmBacktrace>();
    let named = frames.and_then(|trace| trace.frames().iter().find_map(|f| f.func_name()));
    match named {
        Some(function) => {
            let function: String = function.chars().take(120).collect();
            format!("{} (in {})", root(error), convert::line(&function))
        }
        None => root(error),
    }
}
