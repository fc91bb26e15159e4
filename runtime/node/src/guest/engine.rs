//! The one engine of a node: how code is compiled, where instances live, what interrupts them.

use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::error::LoadError;
use super::limits::{HostConfig, mib};

/// How often running guest code looks up: it yields to the other tasks of its worker thread then.
/// Short against what a mail client notices, long against the cost of a yield.
pub(super) const EPOCH: Duration = Duration::from_millis(10);

/// Core instances of one component: the module, WASI adapters, and the dynamic libraries that a
/// Python component consists of.
const CORE_INSTANCES: u32 = 64;
/// Core instances that a component has on average: a Rust component has four.
const CORE_INSTANCES_MEAN: u32 = 12;
/// Linear memories of one component: its own and an adapter's.
const MEMORIES: u32 = 4;
/// Tables of one component.
const TABLES: u32 = 16;
/// Elements of one table: a Python component's function table has some 20,000.
pub(super) const TABLE_ELEMENTS: usize = 64 * 1024;
/// Fiber stacks for each live instance: one that runs, and some for sync lifts that wait. Each
/// `wasmtime::Store` keeps one for good, so there must be more of them than instances.
const STACKS: u32 = 4;
/// Least and most of `HostConfig::stack_kib`.
const STACK_KIB: std::ops::RangeInclusive<u32> = 64..=16 << 10;
/// Stack of a fiber besides what guest code may use: for the host's functions, in octets.
const HOST_STACK: usize = 1536 << 10;
/// Host memory for the instance data of one component, in octets.
const INSTANCE_OCTETS: usize = 4 << 20;

/// Makes the engine and the thread that counts its epochs. The thread ends with the engine.
pub(super) fn new_engine(config: &HostConfig) -> Result<Engine, LoadError> {
    if !STACK_KIB.contains(&config.stack_kib) {
        let (stack, least, most) = (config.stack_kib, STACK_KIB.start(), STACK_KIB.end());
        return Err(LoadError::Engine(format!(
            "stack_kib is {stack}, it must be from {least} to {most}"
        )));
    }
    let engine = Engine::new(&settings(config)).map_err(|e| LoadError::Engine(root(&e)))?;
    let weak = engine.weak();
    let tick = move || {
        loop {
            std::thread::sleep(EPOCH);
            match weak.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    };
    // A thread, not a task: it must count while every worker of the runtime is inside guest code.
    let thread = std::thread::Builder::new().name("guest-epochs".to_owned()).spawn(tick);
    thread.map_err(|e| LoadError::Engine(e.to_string()))?;
    Ok(engine)
}

fn settings(config: &HostConfig) -> Config {
    let instances = config.max_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_MEAN))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(TABLES))
        .total_stacks(instances.saturating_mul(STACKS))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES * 2)
        .max_tables_per_module(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_component_instance_size(INSTANCE_OCTETS)
        .max_core_instance_size(INSTANCE_OCTETS)
        .max_memory_size(mib(config.max_memory_mib));
    let stack = (config.stack_kib as usize) << 10;
    let mut settings = Config::new();
    settings
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .max_wasm_stack(stack)
        .async_stack_size(stack + HOST_STACK)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    settings
}

/// The innermost reason of an error, in one line: the outer ones name our own steps.
pub(super) fn root(error: &wasmtime::Error) -> String {
    let text = error.root_cause().to_string();
    text.lines().next().unwrap_or_default().trim().to_owned()
}
