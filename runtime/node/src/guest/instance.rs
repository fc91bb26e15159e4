//! One running copy of a store component: a `wasmtime::Store` of its own and the one task that owns
//! it.
//!
//! The task sits in one long `run_concurrent`, takes calls from a bounded queue and lets them run
//! side by side. Nothing that a caller waits for is inside the `wasmtime::Store`: a trap or a
//! deadline drops it whole, and each caller then finds its reply slot closed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use wasmtime::component::{Accessor, AccessorTask, InstancePre, Resource, ResourceTable};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::WasiHttpCtx;

use super::bindings::postroom::store::types as wit;
use super::convert;
use super::cpu::{Inside as InsideCpu, Meter, Overrun, Spent};
use super::engine::root;
use super::exports::{Exports, Indices};
use super::handles::Handles;
use super::health::Health;
use super::host::{BodyHandle, OpenCall, TxnHandle, ViewHandle};
use super::journal::Pen;
use super::limits::Limits;
use super::quarantine::{Operation, Quarantine, Suspect};
use super::running::{Oldest, Running, RunningEntry};
use super::state::{InstanceState, Memory};
use super::wasi::{Granted, Listener, Log};
use crate::storage::Body;

/// Handles of wasmtime's own that one call has at a time: host calls under way and sets of them.
const CALL_WAITS: usize = 16;
/// Resources of WASI (streams, files, pollables) of one instance.
const MAX_WASI_RESOURCES: usize = 4096;

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
    /// Who hears what the guests print, beside the log.
    pub(super) listener: Option<Listener>,
    /// Remembers what the guests print and what happens to them.
    pub(super) pen: Pen,
    /// Where lost calls are written down.
    pub(super) quarantine: Arc<Quarantine>,
    /// Where instances that go before their time are counted.
    pub(super) health: Arc<Health>,
}

impl Template {
    /// Writes down that calls have not answered in time. It is certain that one which was alone is to
    /// blame, unless it may have waited for a service or a disk outside: that these were away must not
    /// be held against who asked for them once they are back.
    pub(super) fn overdue(&self, suspects: &[Suspect], alone: bool, why: &str) {
        let certain = alone && !self.granted.reaches_outside();
        self.quarantine.lost(suspects, certain, why, Instant::now());
    }

    /// Makes an instance: some 90 µs. Start-up code of the guest runs here, within the wall and CPU
    /// time of a call.
    pub(super) async fn make(&self) -> Result<Made, NotMade> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return Err(NotMade::NoRoom);
        };
        let failed = |error: wasmtime::Error| NotMade::Failed(trap(&error));
        let spent = Arc::new(Spent::default());
        let worn = CancellationToken::new();
        let mut store = self.store(number, spent.clone(), worn.clone()).map_err(failed)?;
        let held = store.data().handles.held();
        let started = self.start(&mut store, &spent).await?;
        store.data_mut().memory.started();
        let exports = self.indices.load(&mut store, &started);
        let exports = Arc::new(exports.map_err(|error| NotMade::Differs(root(&error)))?);
        let (calls, queue) = mpsc::channel(self.concurrency as usize);
        let instance = Arc::new(Instance {
            number,
            born: Instant::now(),
            calls,
            places: Arc::new(Semaphore::new(self.concurrency as usize)),
            handles: Arc::new(Semaphore::new(self.limits.handles as usize)),
            running: Arc::new(Running::new(spent.clone())),
            taken: AtomicU64::new(0),
            held,
            worn,
            closing: CancellationToken::new(),
            killing: CancellationToken::new(),
            kill_reason: OnceLock::new(),
            ended: Arc::default(),
        });
        let span = tracing::info_span!(parent: None, "guest", component = &*self.name, number);
        let driver = Driver {
            component: self.name.clone(),
            instance: instance.clone(),
            exports,
            queue,
            places: self.concurrency,
            cpu: self.limits.cpu_time(),
            spent,
            quarantine: self.quarantine.clone(),
            health: self.health.clone(),
            pen: self.pen.clone(),
            _room: room,
        };
        Ok((instance, tokio::spawn(driver.drive(store).instrument(span))))
    }

    /// Runs the guest's start-up code.
    async fn start(
        &self,
        store: &mut Store<InstanceState>,
        spent: &Spent,
    ) -> Result<wasmtime::component::Instance, NotMade> {
        let meter = Meter::new(spent, self.limits.cpu_time());
        let alone = || InsideCpu { calls: 1, oldest: Some(Duration::ZERO) };
        let start = meter.within(self.pre.instantiate_async(store), alone);
        match tokio::time::timeout(self.limits.call_time(), start).await {
            Ok(Ok(started)) => started.map_err(|error| NotMade::Failed(trap(&error))),
            Ok(Err(Overrun(_))) => Err(NotMade::Overran(self.limits.cpu_ms)),
            Err(_) => Err(NotMade::Slow(self.limits.call_ms)),
        }
    }

    fn store(
        &self,
        number: u64,
        spent: Arc<Spent>,
        worn: CancellationToken,
    ) -> wasmtime::Result<Store<InstanceState>> {
        let log = Log::new(self.name.clone(), number, self.limits.log_lines);
        let log = log.heard_by(self.listener.clone()).written_by(self.pen.clone());
        let mut wasi_resources = ResourceTable::new();
        wasi_resources.set_max_capacity(MAX_WASI_RESOURCES);
        let state = InstanceState {
            handles: Handles::at_most(self.limits.handles as usize, worn.clone()),
            import_time: self.limits.import_time(),
            spent,
            wasi: self.granted.context(&log)?,
            wasi_resources,
            http: WasiHttpCtx::new(),
            http_grants: self.granted.http(),
            settings: self.granted.settings(),
            memory: Memory::at_most(self.limits.memory(), worn),
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.limits.transfer());
        // Wasmtime also counts what is lent to host calls and what calls wait for. It is to come
        // second: whoever passes it traps instead of being told.
        let waits = CALL_WAITS * self.concurrency as usize;
        store.set_max_component_handles(3 * self.limits.handles as usize + waits);
        // Each epoch it lets other tasks run, and its driver look at the time that it has used.
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
    /// Its start-up code works too long.
    #[error("it used more than {0} ms of CPU time to start")]
    Overran(u64),
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
    /// Handles that the guest has.
    pub(super) held: Arc<AtomicUsize>,
    /// It holds on to much of its memory or handles.
    pub(super) worn: CancellationToken,
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
    /// It was dropped with its calls.
    Lost {
        /// By what.
        by: Loss,
        /// The same in one line.
        why: String,
        /// The operation that was the reason, where that is known.
        culprit: Option<Operation>,
    },
}

/// What ends an instance before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The guest trapped.
    Trap,
    /// It used more CPU time than a call may.
    Cpu,
    /// A call had no answer in time, or a retired instance's calls did not finish. Who it was is
    /// known to whoever set the deadline: the other calls are not suspected.
    Deadline,
}

impl Loss {
    /// In metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Cpu => "cpu",
            Self::Deadline => "deadline",
        }
    }
}

/// A call's place in an instance, with the handles that the host makes for it: free again when the
/// call has left. A full table of handles would cost the whole instance.
pub(super) struct Seat {
    _place: OwnedSemaphorePermit,
    _handles: OwnedSemaphorePermit,
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

    /// Whether it is about to be dropped.
    pub(super) fn is_killed(&self) -> bool {
        self.killing.is_cancelled()
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
        self.running.count()
    }

    /// The call that has been in it longest.
    pub(super) fn oldest(&self) -> Option<Oldest> {
        self.running.oldest()
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
        suspect: Suspect,
        call: Arc<OpenCall>,
        enter: Enter<R>,
        seat: Seat,
    ) -> Option<oneshot::Receiver<Outcome<R>>> {
        if self.closing.is_cancelled() {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let entry = self.running.enter(number, suspect, &call);
        let run = Box::new(Call { call, enter, reply });
        // Never full: there are as many places as the queue is long.
        self.calls.try_send(Task { run, exports: None, entry, _seat: seat }).ok()?;
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
    entry: RunningEntry,
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
        let Some(exports) = &self.exports else { return Ok(()) };
        let result = self.run.run(accessor, exports).await;
        if result.is_err() {
            self.entry.fails();
        }
        result
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
struct Driver {
    component: Arc<str>,
    instance: Arc<Instance>,
    exports: Arc<Exports>,
    queue: mpsc::Receiver<Task>,
    /// As many as the queue is long.
    places: u32,
    /// CPU time of one call.
    cpu: Duration,
    spent: Arc<Spent>,
    quarantine: Arc<Quarantine>,
    health: Arc<Health>,
    pen: Pen,
    _room: OwnedSemaphorePermit,
}

impl Driver {
    async fn drive(mut self, mut store: Store<InstanceState>) {
        let _live = Live::new(self.component.clone());
        let (instance, spent, cpu) = (self.instance.clone(), self.spent.clone(), self.cpu);
        let health = self.health.clone();
        let end = {
            let run = store.run_concurrent(async |accessor| self.serve(accessor).await);
            let meter = Meter::new(&spent, cpu).shorter_while(health.probation());
            let run = meter.within(run, || instance.running.inside());
            tokio::select! {
                biased;
                () = instance.killing.cancelled() => {
                    let why = instance.kill_reason.get().cloned().unwrap_or_default();
                    Err((Loss::Deadline, why))
                }
                result = run => match result {
                    Ok(Ok(Ok(()))) => Ok(()),
                    Ok(Ok(Err(error)) | Err(error)) => Err((Loss::Trap, trap(&error))),
                    Err(Overrun(most)) => {
                        let most = most.as_millis();
                        Err((Loss::Cpu, format!("more than {most} ms of CPU time")))
                    }
                },
            }
        };
        self.queue.close();
        // Before the callers find their reply slots closed, which dropping the store does.
        let end = end.map_or_else(|(by, why)| self.lost(by, why), |()| Ended::Closed);
        let _ = instance.ended.set(end);
        drop(store);
    }

    /// Lets calls in, side by side, until the instance is closed and all of them have left.
    async fn serve(&mut self, accessor: &Accessor<InstanceState>) -> wasmtime::Result<()> {
        loop {
            // Cancel-safe: a received call is spawned before the next await.
            tokio::select! {
                biased;
                task = self.queue.recv() => match task {
                    Some(task) => {
                        accessor.spawn(Task { exports: Some(self.exports.clone()), ..task })?;
                    }
                    None => break,
                },
                () = self.instance.closing.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                }
            }
        }
        // Every call has left when all places are free; what guests still do after their answers
        // gets its time too.
        let _ = self.instance.places.acquire_many(self.places).await;
        poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
        Ok(())
    }

    /// Tells of the loss, and writes down whom it may be held against.
    fn lost(&self, by: Loss, why: String) -> Ended {
        let suspects = match by {
            Loss::Trap | Loss::Cpu => self.instance.running.suspects(),
            Loss::Deadline => Vec::new(),
        };
        self.quarantine.lost(&suspects, suspects.len() == 1, &why, Instant::now());
        // Where nobody answers in time the host may be the reason.
        if !matches!(by, Loss::Deadline) {
            self.health.lost();
        }
        let component = self.component.to_string();
        let (number, served, reason) = (self.instance.number, self.instance.taken(), by.name());
        tracing::warn!(component, number, served, reason, why, "a store instance was lost");
        self.pen
            .event(&format!("instance {number} was lost after {served} calls, {reason}: {why}"));
        let labels = [("component", component), ("reason", reason.to_owned())];
        metrics::counter!("postroom_guest_instances_lost_total", &labels).increment(1);
        let culprit = match suspects.as_slice() {
            [only] => Some(only.operation),
            _ => None,
        };
        Ended::Lost { by, why, culprit }
    }
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
