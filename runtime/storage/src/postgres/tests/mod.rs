//! The shared engine: what its own promises add to the contract that all engines keep.

use std::sync::Arc;

use postroom_postgres::Postgres;

use super::*;

/// An engine over a new, empty database of the server that the tests of this process share.
pub async fn empty_engine() -> Arc<PostgresEngine> {
    let database = tokio::task::spawn_blocking(|| Postgres::shared().database());
    let database = database.await.expect("it does not panic").expect("there is room for it");
    let engine = PostgresEngine::open(PostgresOptions::new(database)).await;
    Arc::new(engine.expect("an empty database opens"))
}
