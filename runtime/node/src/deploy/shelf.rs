//! What nodes have in common about one store's deployments, in the directory's space of the engine.
//!
//! | key | value |
//! |---|---|
//! | `S` store | the record, JSON: few and rare, and an operator can read it in a damaged cluster |
//! | `T` store, 0, node | the node's report, JSON |
//! | `R` store | the round of the store's rows as the record has it: what others hold theirs against |
//! | `V` store, 0, node | how the node writes rows, JSON; only while that changes |
//! | `W` store | how far the sweep of the rows is, JSON |
//! | `X` store, 0, digest | the signature of a component's file, as it was given; none: it was not signed |
//!
//! A component's file is a body under the name `component/STORE/DIGEST`, linked in the commit that
//! begins its deployment and unlinked when nothing names it any more; its signature comes and goes with it.
//! So whoever reads the record finds the file, and no node has to be there for another one to start.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_core::deploy::{Report, StoreRecord, Sweep, Writer};
use postroom_core::error::StoreError;

use crate::guest::{MAX_STORE_OCTETS, round_key};
use crate::mailbox::error::{read, storage_error};
use crate::mailbox::now;
use crate::storage::{Area, Commit, Engine, Key, Space, StorageError, Write};

/// Octets of a component that are read at a time.
const PIECE: u64 = 8 << 20;
/// Longest wait for a commit: far above what a healthy one takes, and a keeper that hangs in one
/// follows no deployment.
const COMMIT_TIME: Duration = Duration::from_secs(10);
/// Longest wait for one that brings a component's file, which may be tens of megabytes on a slow link.
const FILE_TIME: Duration = Duration::from_secs(60);
/// Times that a row is written which only this node writes, when it is not known whether it was.
const MAX_ATTEMPTS: usize = 2;

/// The shelf of one store.
#[derive(Clone)]
pub(super) struct Shelf {
    engine: Arc<dyn Engine>,
    store: String,
}

/// A record, and the octets that it was read from: what compare-and-set compares.
pub(super) struct Found {
    pub(super) record: StoreRecord,
    octets: Option<Bytes>,
}

/// The file of a component, and what signs it: the text of minisign's `.minisig` file.
#[derive(Clone, Debug)]
pub struct File {
    /// Its octets.
    pub octets: Bytes,
    /// Its signature, if it has one.
    pub signature: Option<String>,
}

/// A sweep, and the octets that it was read from.
pub(super) struct FoundSweep {
    pub(super) sweep: Option<Sweep>,
    octets: Option<Bytes>,
}

impl Shelf {
    pub(super) fn new(engine: Arc<dyn Engine>, store: &str) -> Self {
        Self { engine, store: store.chars().take(MAX_STORE_OCTETS).collect() }
    }

    /// The engine below.
    pub(super) fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    fn record_key(&self) -> Key {
        Key { area: Area::Ledger, octets: [b"S", self.store.as_bytes()].concat().into() }
    }

    fn report_key(&self, node: &str) -> Key {
        let octets = [b"T", self.store.as_bytes(), &[0], node.as_bytes()].concat();
        Key { area: Area::Ledger, octets: octets.into() }
    }

    fn writer_key(&self, node: &str) -> Key {
        let octets = [b"V", self.store.as_bytes(), &[0], node.as_bytes()].concat();
        Key { area: Area::Ledger, octets: octets.into() }
    }

    fn signature_key(&self, digest: &str) -> Key {
        let octets = [b"X", self.store.as_bytes(), &[0], digest.as_bytes()].concat();
        Key { area: Area::Ledger, octets: octets.into() }
    }

    fn sweep_key(&self) -> Key {
        Key { area: Area::Ledger, octets: [b"W", self.store.as_bytes()].concat().into() }
    }

    fn body_name(&self, digest: &str) -> String {
        format!("component/{}/{digest}", self.store)
    }

    /// The record; an empty one where there is none yet.
    pub(super) async fn record(&self) -> Result<StoreRecord, StoreError> {
        Ok(self.look(&[]).await?.0.record)
    }

    /// The record and the reports of these nodes, in their order, as of one moment.
    pub(super) async fn look(
        &self,
        nodes: &[&str],
    ) -> Result<(Found, Vec<Option<Report>>), StoreError> {
        let mut keys = vec![self.record_key()];
        keys.extend(nodes.iter().map(|node| self.report_key(node)));
        let mut rows = read(self.engine.get_many(Space::Directory, keys)).await?.into_iter();
        let octets = rows.next().flatten();
        let record = match &octets {
            None => StoreRecord::default(),
            Some(octets) => parse("the record", &self.store, octets)?,
        };
        let reports =
            rows.map(|row| row.map(|row| parse("a report", &self.store, &row)).transpose());
        Ok((Found { record, octets }, reports.collect::<Result<_, _>>()?))
    }

    /// Replaces the record, if it is still what was found; false: it is another one by now. With the
    /// file of the component that it names for the first time.
    pub(super) async fn replace(
        &self,
        found: &Found,
        record: &StoreRecord,
        file: Option<(&str, &File)>,
    ) -> Result<bool, StoreError> {
        let mut writes = vec![Write::Put(self.record_key(), json(record)?)];
        if let Some(rows) = record.rows.filter(|rows| Some(*rows) != found.record.rows) {
            let round = Bytes::copy_from_slice(&rows.round.to_be_bytes());
            writes.push(Write::Put(round_key(&self.store), round));
        }
        if let Some((digest, File { octets, signature })) = file {
            if let Some(signature) = signature {
                let text = Bytes::copy_from_slice(signature.as_bytes());
                writes.push(Write::Put(self.signature_key(digest), text));
            }
            let name = self.body_name(digest);
            if read(self.engine.body(Space::Directory, &name)).await?.is_none() {
                let body = read(self.engine.new_body(Space::Directory, octets.clone())).await?;
                writes.push(Write::LinkBody { name, body });
            }
        }
        // Those that nobody has to load any more.
        let gone = found.record.digests().filter(|old| !record.digests().any(|new| new == *old));
        let gone = gone.flat_map(|digest| {
            let file = Write::UnlinkBody { name: self.body_name(digest) };
            [file, Write::Delete(self.signature_key(digest))]
        });
        writes.extend(gone);
        let time = if file.is_some() { FILE_TIME } else { COMMIT_TIME };
        self.commit(vec![(self.record_key(), found.octets.clone())], writes, time).await
    }

    /// Says how far this node is; nobody else writes that row.
    pub(super) async fn say(&self, node: &str, report: &Report) -> Result<(), StoreError> {
        self.put(self.report_key(node), json(report)?).await
    }

    /// How these nodes write rows, in their order, and how far the sweep is.
    pub(super) async fn rows(
        &self,
        nodes: &[&str],
    ) -> Result<(Vec<Option<Writer>>, FoundSweep), StoreError> {
        let mut keys = vec![self.sweep_key()];
        keys.extend(nodes.iter().map(|node| self.writer_key(node)));
        let mut rows = read(self.engine.get_many(Space::Directory, keys)).await?.into_iter();
        let octets = rows.next().flatten();
        let sweep = octets.as_ref().map(|octets| parse("the sweep", &self.store, octets));
        let found = FoundSweep { sweep: sweep.transpose()?, octets };
        let writers =
            rows.map(|row| row.map(|row| parse("a writer", &self.store, &row)).transpose());
        Ok((writers.collect::<Result<_, _>>()?, found))
    }

    /// Says how this node writes; nobody else writes that row.
    pub(super) async fn say_writer(&self, node: &str, writer: &Writer) -> Result<(), StoreError> {
        self.put(self.writer_key(node), json(writer)?).await
    }

    /// Says how far the sweep is, if nobody else has since it was found; false: somebody has.
    pub(super) async fn say_sweep(
        &self,
        found: &mut FoundSweep,
        sweep: &Sweep,
    ) -> Result<bool, StoreError> {
        let octets = json(sweep)?;
        let write = Write::Put(self.sweep_key(), octets.clone());
        let before = vec![(self.sweep_key(), found.octets.clone())];
        let said = self.commit(before, vec![write], COMMIT_TIME).await?;
        if said {
            *found = FoundSweep { sweep: Some(sweep.clone()), octets: Some(octets) };
        }
        Ok(said)
    }

    /// The file of a component, held against its digest, and its signature, held against nothing.
    pub(super) async fn component(&self, digest: &str) -> Result<File, StoreError> {
        let rows = self.engine.get_many(Space::Directory, vec![self.signature_key(digest)]);
        let signature = read(rows).await?.into_iter().next().flatten();
        // What is no text is no signature either, which whoever asks for one finds.
        let signature = signature.map(|octets| String::from_utf8_lossy(&octets).into_owned());
        let body = read(self.engine.body(Space::Directory, &self.body_name(digest))).await?;
        let body = body.ok_or_else(|| {
            StoreError::Unavailable(format!("the file of component {digest} is not in storage"))
        })?;
        let mut octets = Vec::new();
        while (octets.len() as u64) < body.size {
            let at = octets.len() as u64;
            let piece = read(self.engine.read_body(Space::Directory, &body, at, PIECE)).await?;
            if piece.is_empty() {
                return Err(StoreError::Damaged(format!(
                    "the file of component {digest} ends early"
                )));
            }
            octets.extend_from_slice(&piece);
        }
        match blake3::hash(&octets).to_hex().as_str() == digest {
            true => Ok(File { octets: octets.into(), signature }),
            false => Err(StoreError::Damaged(format!(
                "the file of component {digest} does not have its digest"
            ))),
        }
    }

    /// Writes a row that nobody else writes.
    async fn put(&self, key: Key, octets: Bytes) -> Result<(), StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let write = Write::Put(key.clone(), octets.clone());
            // Without preconditions false means that nobody knows.
            if self.commit(Vec::new(), vec![write], COMMIT_TIME).await? {
                return Ok(());
            }
        }
        Err(StoreError::UnknownOutcome)
    }

    /// False: a precondition does not hold, or it is not known whether it was committed.
    async fn commit(
        &self,
        preconditions: Vec<(Key, Option<Bytes>)>,
        writes: Vec<Write>,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let commit = Commit {
            space: Space::Directory,
            fence: None,
            expected_head: None,
            preconditions,
            transactions: Vec::new(),
            writes,
            now: now(),
        };
        let committed = tokio::time::timeout(time, self.engine.commit(commit)).await;
        // Nobody knows whether it happens: who asked looks at the record before it goes on.
        let Ok(committed) = committed else { return Err(StoreError::UnknownOutcome) };
        match committed {
            Ok(_) => Ok(true),
            Err(StorageError::Conflict | StorageError::HeadMoved { .. }) => Ok(false),
            Err(StorageError::UnknownOutcome(_)) => {
                // What was under way has had its effect after this, or never has: the next look says.
                read(self.engine.head(Space::Directory)).await.map(|_| false)
            }
            Err(error) => Err(storage_error(error)),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    what: &str,
    store: &str,
    octets: &[u8],
) -> Result<T, StoreError> {
    serde_json::from_slice(octets)
        .map_err(|error| StoreError::Damaged(format!("{what} of store {store}: {error}")))
}

fn json<T: serde::Serialize>(value: &T) -> Result<Bytes, StoreError> {
    let octets = serde_json::to_vec(value);
    octets.map(Bytes::from).map_err(|error| StoreError::Broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use postroom_core::deploy::Schema;

    use super::*;

    #[test]
    fn a_record_of_before_is_read() {
        let octets = br#"{"permanent":{"digest":"d","label":"l","octets":1,
            "schema":{"reads":[1,2],"writes":2}},"under_way":null,"history":[]}"#;
        let record: StoreRecord = parse("the record", "mail", octets).unwrap();
        assert_eq!(record.rows, None);
        let schema = Schema { reads: (1, 2), writes: 2, writes_from: None };
        assert_eq!(record.permanent.unwrap().schema, schema);
    }
}
