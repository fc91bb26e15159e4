//! The storage handles of one instance: a table with room for what its calls come with and for what
//! the guest asks for, that says when a guest does not let go of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};

/// The handles that a guest has.
pub(super) struct Handles {
    table: ResourceTable,
    /// For whoever wants to know; only here it changes.
    held: Arc<AtomicUsize>,
    /// `Limits::handles`.
    most: usize,
    worn: CancellationToken,
}

impl Handles {
    /// A table for a guest that may hold so many. Calls come with as many besides at most, so what
    /// one call has left behind is never the end of the next.
    pub(super) fn at_most(most: usize, worn: CancellationToken) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(2 * most);
        Self { table, held: Arc::default(), most, worn }
    }

    /// How many there are, also later.
    pub(super) fn held(&self) -> Arc<AtomicUsize> {
        self.held.clone()
    }

    /// A handle that a call comes with: its place is reserved by the call's seat.
    pub(super) fn push<T: Send + 'static>(
        &mut self,
        entry: T,
    ) -> Result<Resource<T>, ResourceTableError> {
        let handle = self.table.push(entry)?;
        let held = self.held.fetch_add(1, Ordering::Relaxed) + 1;
        // Half is far more than running calls need for long: a guest that keeps handles is replaced
        // before anybody misses one. To be replaced without need costs a moment.
        if held > self.most / 2 {
            self.worn.cancel();
        }
        Ok(handle)
    }

    /// A handle that the guest asks for.
    pub(super) fn offer<T: Send + 'static>(
        &mut self,
        entry: T,
    ) -> Result<Resource<T>, ResourceTableError> {
        match self.held.load(Ordering::Relaxed) < self.most {
            true => self.push(entry),
            false => Err(ResourceTableError::Full),
        }
    }

    pub(super) fn get<T: 'static>(&self, handle: &Resource<T>) -> Result<&T, ResourceTableError> {
        self.table.get(handle)
    }

    pub(super) fn delete<T: 'static>(
        &mut self,
        handle: Resource<T>,
    ) -> Result<T, ResourceTableError> {
        let entry = self.table.delete(handle)?;
        self.held.fetch_sub(1, Ordering::Relaxed);
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_its_handle_also_when_the_guest_gets_no_more() {
        let worn = CancellationToken::new();
        let mut handles = Handles::at_most(2, worn.clone());
        let first = handles.offer(1).unwrap();
        assert!(!worn.is_cancelled());
        handles.offer(2).unwrap();
        assert!(worn.is_cancelled());
        assert!(matches!(handles.offer(3), Err(ResourceTableError::Full)));
        handles.push(4).unwrap();
        handles.push(5).unwrap();
        assert!(matches!(handles.push(6), Err(ResourceTableError::Full)));
        handles.delete(first).unwrap();
        handles.push(7).unwrap();
    }
}
