//! What the host keeps for one instance, inside its `wasmtime::Store`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::bindings::postroom::host::settings;
use super::cpu::Spent;
use super::engine::TABLE_ELEMENTS;
use super::handles::Handles;
use super::wasi::HttpGrants;

/// What a guest's host functions work on.
pub(super) struct InstanceState {
    /// The guest's storage handles.
    pub(super) handles: Handles,
    /// Wall time of one host call.
    pub(super) import_time: Duration,
    pub(super) spent: Arc<Spent>,
    pub(super) wasi: WasiCtx,
    pub(super) wasi_resources: ResourceTable,
    pub(super) http: WasiHttpCtx,
    pub(super) http_grants: HttpGrants,
    pub(super) settings: Arc<BTreeMap<String, String>>,
    pub(super) memory: Memory,
}

impl InstanceState {
    /// Looks something up for a host call that waits, and says how long it may wait.
    pub(super) fn import<T>(
        &mut self,
        find: impl FnOnce(&mut Self) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<(T, Duration)> {
        self.spent.end_run();
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
pub(super) struct Memory {
    used: usize,
    most: usize,
    /// What the growth under way adds, in case it fails.
    growing: usize,
    /// Above this the instance is to be replaced, before a leak is the end of whoever comes then.
    high: usize,
    worn: CancellationToken,
}

impl Memory {
    /// At most so many octets.
    pub(super) fn at_most(most: usize, worn: CancellationToken) -> Self {
        Self { used: 0, most, growing: 0, high: usize::MAX, worn }
    }

    /// Start-up code has run: what it uses every instance uses. Of the rest a quarter is kept for
    /// the calls that are in an instance when it is replaced.
    pub(super) fn started(&mut self) {
        self.high = self.most - self.most.saturating_sub(self.used) / 4;
    }
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
        if self.used > self.high {
            self.worn.cancel();
        }
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
