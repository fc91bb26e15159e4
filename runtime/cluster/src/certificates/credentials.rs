//! A node's certificates as they are used: read from their directory, and again when they change,
//! without a restart. New ones that make no sense leave the old ones in use, and are reported once.
//!
//! What is revoked counts apart from all that: a list that can be read counts whatever the other files are
//! like, and what a peer brings counts before it is in the file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::material::{Identity, Material};
use super::revoked::Revocations;
use super::{CertificateError, files};

/// How often the files are looked at: a look costs three system calls.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Certificates that follow their directory.
pub struct Credentials {
    directory: PathBuf,
    /// Held while files are read or written, so that what is newer is put in force later.
    known: Mutex<Known>,
    current: watch::Sender<Arc<Material>>,
    /// Whoever takes a peer's list up: one at a time, since it verifies signatures and writes to the disk.
    turn: Arc<Semaphore>,
}

/// What is known of the files.
struct Known {
    /// How they were when what is in force was read from them.
    read: Stamps,
    /// How they were when it was told in the log that they are no good.
    told: Option<Stamps>,
    /// The list of what is revoked, as its file has it.
    kept: Revocations,
    /// What counts beside it, and is to be put into the file: at most as much as the authority may sign.
    unkept: Revocations,
    /// Whether it was told in the log that this cannot be done.
    told_unkept: bool,
}

/// What tells one content of the files from another without reading them.
#[derive(Clone, PartialEq)]
struct Stamps {
    identity: [Stamp; 2],
    list: Stamp,
}

type Stamp = Option<(Option<SystemTime>, u64, u64)>;

impl Stamps {
    fn of(directory: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let stamp = |name| {
            let meta = std::fs::metadata(directory.join(name)).ok()?;
            Some((meta.modified().ok(), meta.len(), meta.ino()))
        };
        Self { identity: [files::NODE, files::AUTHORITY].map(stamp), list: stamp(files::REVOKED) }
    }
}

/// Why a peer's list, or a part of it, was not taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It makes no sense, or is not our authority's: the peer is to blame. What is good of it counts.
    #[error("{0}")]
    Nonsense(String),
    /// It counts as far as there is room, but is not in the file: that is tried again at each look.
    #[error("what a peer knows as revoked is not kept: {0}")]
    NotKept(String),
    /// Another list is being taken up, so this one was not looked at: to be brought again.
    #[error("another list is being taken up")]
    Busy,
}

impl Credentials {
    /// Reads a node's directory.
    pub fn open(directory: &Path) -> Result<Self, CertificateError> {
        // The stamps first: a change while we read is then seen at the next look.
        let read = Stamps::of(directory);
        let identity = Arc::new(Identity::read(directory)?);
        let kept = Revocations::read(&directory.join(files::REVOKED))?;
        let material = Material::new(identity, kept.clone())?;
        let unkept = Revocations::default();
        let known = Known { read, told: None, kept, unkept, told_unkept: false };
        let (known, current) = (Mutex::new(known), watch::Sender::new(Arc::new(material)));
        let (directory, turn) = (directory.to_owned(), Arc::new(Semaphore::new(1)));
        Ok(Self { directory, known, current, turn })
    }

    /// What is in use now.
    pub fn current(&self) -> Arc<Material> {
        self.current.borrow().clone()
    }

    /// Tells of each change.
    pub fn watch(&self) -> watch::Receiver<Arc<Material>> {
        self.current.subscribe()
    }

    /// Looks at the files until `stop`, each [`LOOK_EVERY`].
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let this = self.clone();
            // Cannot fail but by a panic in it, and then the old certificates serve on.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
    }

    /// Reads the files again if they have changed since they were last read, and writes what could not be
    /// written before.
    pub fn look(&self) {
        let mut known = self.known();
        let _ = self.keep(&mut known); // It has told the log.
        let found = Stamps::of(&self.directory);
        if found == known.read {
            return;
        }
        match self.take_files(&mut known, &found) {
            Ok(()) => known.told = None,
            // Not for each look.
            Err(_) if known.told.as_ref() == Some(&found) => {}
            Err(error) => {
                warn!(%error, "not all cluster certificates can be used; the old ones stay in use");
                known.told = Some(found);
            }
        }
    }

    /// The turn to take a peer's list up, for as long as the result lives; `None` when somebody else has it.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turn.clone().try_acquire_owned().ok()
    }

    /// Takes a peer's list up: what the authority has signed counts from now on, and is then kept in the
    /// directory.
    pub(crate) fn take_revocations(&self, text: &str) -> Result<(), NotTaken> {
        let brought = Revocations::parse(text).map_err(NotTaken::Nonsense)?;
        let mut known = self.known();
        let identity = self.current().identity.clone();
        let good = brought.signed(&identity.signers);
        let strange = brought.len() - good.len();
        if known.kept.clone().merge(good.clone(), &identity.signers).new {
            known.unkept.merge(good.clone(), &identity.signers);
        }
        // In force first: no disk keeps anybody in.
        let in_force = self.put_in_force(&known, identity);
        let kept = in_force.and_then(|()| self.keep(&mut known));
        let whole = kept.and_then(|()| match self.current().revoked.covers(&good) {
            true => Ok(()),
            false => Err(CertificateError::TooManyRevoked),
        });
        match strange {
            0 => whole.map_err(|error| NotTaken::NotKept(error.to_string())),
            _ => {
                let why = format!("{strange} revocations are not signed by our authority");
                Err(NotTaken::Nonsense(why))
            }
        }
    }
}

impl Credentials {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up those of the files that have changed, each as far as it is good. Fails when one is not; it
    /// is then read again at the next look.
    fn take_files(&self, known: &mut Known, found: &Stamps) -> Result<(), CertificateError> {
        let mut whole = Ok(());
        let mut list = known.read.list;
        if found.list != list {
            match Revocations::read(&self.directory.join(files::REVOKED)) {
                Ok(kept) => (known.kept, list) = (kept, found.list),
                Err(error) => whole = Err(error),
            }
        }
        if found.identity != known.read.identity {
            let new = Identity::read(&self.directory);
            match new.and_then(|identity| self.put_in_force(known, Arc::new(identity))) {
                Ok(()) => known.read.identity = found.identity,
                Err(error) => whole = Err(error),
            }
        }
        self.put_in_force(known, self.current().identity.clone())?;
        known.read.list = list;
        whole
    }

    /// Makes what is known of the list, with this identity, what is in use.
    fn put_in_force(&self, known: &Known, identity: Arc<Identity>) -> Result<(), CertificateError> {
        let present = self.current();
        let mut list = known.kept.clone();
        list.merge(known.unkept.clone(), &identity.signers);
        let same_identity = Arc::ptr_eq(&identity, &present.identity);
        let same_list = list == *present.revoked;
        if same_identity && same_list {
            return Ok(());
        }
        let material = Material::new(identity, list)?;
        if !same_identity {
            info!(serial = material.holder.serial, "new cluster certificates in use");
        }
        if !same_list {
            info!(entries = material.revoked.len(), "another list of what is revoked in use");
        }
        self.current.send_replace(Arc::new(material));
        Ok(())
    }

    /// Puts into the file what is not in it yet. What fails is told once.
    fn keep(&self, known: &mut Known) -> Result<(), CertificateError> {
        if known.unkept.is_empty() {
            return Ok(());
        }
        let kept = self.write(known);
        if let Err(error) = &kept
            && !known.told_unkept
        {
            warn!(%error, "what is revoked counts, but cannot be kept; it is tried again");
        }
        known.told_unkept = kept.is_err();
        kept
    }

    fn write(&self, known: &mut Known) -> Result<(), CertificateError> {
        let identity = self.current().identity.clone();
        let alone = files::alone_at_once(&self.directory)?;
        let path = self.directory.join(files::REVOKED);
        // Read anew: an operator may have written since.
        let mut list = Revocations::read(&path)?;
        if list.merge(known.unkept.clone(), &identity.signers).new {
            files::write_public(&path, &list.to_text())?;
        }
        drop(alone);
        known.kept = list;
        known.unkept = Revocations::default();
        self.put_in_force(known, identity)
    }
}
