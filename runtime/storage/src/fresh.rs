//! New bodies in the hands of whoever wants to link them.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use super::{Body, Engine, Space, StorageError};

/// New bodies of one space on their way to a commit. Dropping this gives up those that none has
/// linked by then, so that an operation that is refused, or that nobody waits for any more, leaves
/// nothing behind. It must not be dropped before the operation's commits have been handed over.
pub struct FreshBodies {
    engine: Arc<dyn Engine>,
    space: Space,
    bodies: Vec<Body>,
}

impl FreshBodies {
    /// None yet.
    pub fn none(engine: Arc<dyn Engine>, space: Space) -> Self {
        Self { engine, space, bodies: Vec::new() }
    }

    /// One, of these octets. Fails as [`Engine::new_body`] does.
    pub async fn store(
        engine: Arc<dyn Engine>,
        space: Space,
        octets: Bytes,
    ) -> Result<Self, StorageError> {
        let body = engine.new_body(space, octets).await?;
        Ok(Self { engine, space, bodies: vec![body] })
    }

    /// Takes the bodies of another one over, behind its own. Both are of one space.
    pub fn append(&mut self, mut other: Self) {
        assert!(self.space == other.space, "bodies of two spaces");
        self.bodies.append(&mut other.bodies);
    }

    /// Gives up all but those.
    pub fn keep(&mut self, wanted: impl Fn(&Body) -> bool) {
        let bodies = std::mem::take(&mut self.bodies);
        let (kept, unwanted): (Vec<_>, Vec<_>) = bodies.into_iter().partition(wanted);
        self.bodies = kept;
        self.engine.give_up(self.space, &unwanted);
    }
}

impl Deref for FreshBodies {
    type Target = [Body];

    fn deref(&self) -> &[Body] {
        &self.bodies
    }
}

impl Drop for FreshBodies {
    fn drop(&mut self) {
        if !self.bodies.is_empty() {
            self.engine.give_up(self.space, &self.bodies);
        }
    }
}
