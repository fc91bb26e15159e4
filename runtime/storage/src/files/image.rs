//! A disk in memory for tests and simulation. It keeps the *live* contents, which the process sees,
//! apart from the *durable* ones, which survive a loss of power; it counts operations, fails when
//! told to, and makes the image that a crash would leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{File, Files};

/// The unit in which a write reaches the medium whole or not at all, in octets.
const SECTOR: usize = 512;
/// The unit in which room is taken, in octets.
const BLOCK: u64 = 4096;

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct ImageDisk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    disk: Mutex<Disk>,
    /// When an operation is held, and when it may go on.
    holding: Condvar,
}

/// An operation that can be made to fail, or to take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading from a file.
    Read,
    /// Writing to a file or changing its length.
    Write,
    /// Making a file durable. What it should have made durable is then lost, or a part of it, or
    /// nothing; the live contents still show it: as Linux does it.
    Sync,
}

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names since they were made durable, in order.
    renamings: Vec<Naming>,
    files: BTreeMap<u64, Contents>,
    locked: Option<Arc<AtomicBool>>,
    /// Writes and syncs so far.
    operations: u64,
    /// Nothing works any more from this operation on.
    power_off_at: Option<u64>,
    /// Whether an operation has met that.
    off: watch::Sender<bool>,
    /// Operations that fail: how many of the kind go well before, then how many fail.
    failing: Option<(Operation, u64, u64)>,
    /// Operations that wait: how many of the kind go on before.
    holding: Option<(Operation, u64)>,
    /// How many wait.
    held: usize,
    /// Room in octets; `None`: no end.
    room: Option<u64>,
    /// Nothing can be changed.
    read_only: bool,
}

#[derive(Clone, Debug)]
enum Naming {
    Set(String, u64),
    Removed(String),
    Renamed(String, String),
}

#[derive(Clone, Debug, Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync, in order.
    pending: Vec<Change>,
    /// Blocks that take room.
    blocks: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Change {
    fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => {
                let (start, end) = (*offset as usize, *offset as usize + written.len());
                octets.resize(octets.len().max(end), 0);
                octets[start..end].copy_from_slice(written);
            }
            Self::SetLen(length) => octets.resize(*length as usize, 0),
        }
    }
}

impl ImageDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its directory, to be opened.
    pub fn files(&self) -> Arc<dyn Files> {
        Arc::new(ImageFiles { disk: self.clone(), lock: Mutex::default() })
    }

    /// Writes and syncs so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// From the operation of this number on (they are counted from 0) nothing works any more.
    pub fn power_off_at(&self, operation: u64) {
        self.lock().power_off_at = Some(operation);
    }

    /// Whether an operation has met the end of power.
    pub fn is_off(&self) -> bool {
        *self.lock().off.borrow()
    }

    /// Comes back when an operation has met the end of power.
    pub async fn went_off(&self) {
        let mut off = self.lock().off.subscribe();
        // It fails only when the sender is gone, which `self` keeps.
        let _ = off.wait_for(|off| *off).await;
    }

    /// Lets `after` operations of a kind go well, then `failures` fail, then all go well again.
    pub fn fail(&self, operation: Operation, after: u64, failures: u64) {
        self.lock().failing = Some((operation, after, failures));
    }

    /// Lets `after` operations of a kind go on; those that follow wait until
    /// [`release`](Self::release), each with the thread that makes it.
    pub fn hold(&self, operation: Operation, after: u64) {
        self.lock().holding = Some((operation, after));
    }

    /// Comes back when an operation is held. Blocks its thread.
    pub fn wait_for_held(&self) {
        let disk = self.lock();
        let held = self.0.holding.wait_while(disk, |disk| disk.held == 0);
        drop(held.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets whatever is held go on.
    pub fn release(&self) {
        self.lock().holding = None;
        self.0.holding.notify_all();
    }

    /// Leaves this much room beyond what is taken now; `None`: no end.
    pub fn set_free_room(&self, octets: Option<u64>) {
        let mut disk = self.lock();
        disk.room = octets.map(|octets| disk.taken() + octets);
    }

    /// Whether nothing can be changed, as after a file system was mounted read-only.
    pub fn set_read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    /// Flips the lowest bit of an octet of a file, live and durable. False: there is none.
    pub fn flip(&self, name: &str, offset: u64) -> bool {
        let mut disk = self.lock();
        let Some(file) = disk.names.get(name).copied() else { return false };
        let contents = disk.files.get_mut(&file).expect("every name has a file");
        let Some(octet) = contents.live.get_mut(offset as usize) else { return false };
        *octet ^= 1;
        if let Some(octet) = contents.durable.get_mut(offset as usize) {
            *octet ^= 1;
        }
        true
    }

    /// The live length of a file.
    pub fn length(&self, name: &str) -> Option<u64> {
        let disk = self.lock();
        Some(disk.files[disk.names.get(name)?].live.len() as u64)
    }

    /// Empties all files: what still has them open keeps no memory.
    pub fn wipe(&self) {
        self.lock().files.values_mut().for_each(|contents| *contents = Contents::default());
    }

    /// The live octets of a file.
    pub fn octets(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.lock();
        Some(disk.files[disk.names.get(name)?].live.clone())
    }

    /// What the medium holds after a loss of power now: all that was made durable, and of the rest
    /// whatever the seed says: some writes, some in part, in any order; some changes of names, in
    /// their order.
    pub fn crash_image(&self, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let disk = self.lock();
        let mut names = disk.durable_names.clone();
        let kept = chance.below(disk.renamings.len() as u64 + 1) as usize;
        disk.renamings[..kept].iter().for_each(|naming| naming.apply(&mut names));
        // Most crashes lose all or nothing of what is not synced; the rest lose a part of it.
        let mood = chance.below(4);
        let mut files = BTreeMap::new();
        for file in names.values() {
            let contents = disk.files[file].crashed(&mut chance, mood);
            files.insert(*file, contents);
        }
        Self::holding(names, files)
    }

    /// What the medium holds after a loss of power now, when nothing has reached it but what was
    /// made durable.
    pub fn synced_image(&self) -> Self {
        let disk = self.lock();
        let names = disk.durable_names.clone();
        let durable = |file: &u64| (*file, Contents::durable(disk.files[file].durable.clone()));
        let files = names.values().map(durable).collect();
        Self::holding(names, files)
    }

    fn holding(names: BTreeMap<String, u64>, files: BTreeMap<u64, Contents>) -> Self {
        let durable_names = names.clone();
        let disk = Mutex::new(Disk { names, durable_names, files, ..Disk::default() });
        Self(Arc::new(Shared { disk, ..Shared::default() }))
    }

    /// Another disk with the live contents of this one, all of them durable.
    pub fn copy(&self) -> Self {
        let disk = self.lock();
        let mut files = disk.files.clone();
        for contents in files.values_mut() {
            contents.durable = contents.live.clone();
            contents.pending.clear();
        }
        let (names, durable_names) = (disk.names.clone(), disk.names.clone());
        let disk = Mutex::new(Disk { names, durable_names, files, ..Disk::default() });
        Self(Arc::new(Shared { disk, ..Shared::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk for one operation on a file, once that is not held.
    fn operate(&self, operation: Operation) -> MutexGuard<'_, Disk> {
        let mut disk = self.lock();
        if disk.is_held(operation) {
            disk.held += 1;
            self.0.holding.notify_all();
            let waited = self.0.holding.wait_while(disk, |disk| disk.holding.is_some());
            disk = waited.unwrap_or_else(PoisonError::into_inner);
            disk.held -= 1;
        }
        disk
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Removed(name) => drop(names.remove(name)),
            Self::Renamed(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

impl Contents {
    fn durable(octets: Vec<u8>) -> Self {
        let blocks = (0..octets.len() as u64 / BLOCK + 1).collect();
        Self { live: octets.clone(), durable: octets, pending: Vec::new(), blocks }
    }

    fn crashed(&self, chance: &mut Chance, mood: u64) -> Self {
        let mut octets = self.durable.clone();
        for change in &self.pending {
            match (mood, change) {
                (0, _) => {}
                (1, _) => change.apply(&mut octets),
                (_, Change::SetLen(_)) if chance.below(2) == 0 => change.apply(&mut octets),
                (_, Change::Write(offset, written)) if chance.below(2) == 0 => {
                    torn(*offset, written, chance).iter().for_each(|part| part.apply(&mut octets));
                }
                _ => {}
            }
        }
        Self::durable(octets)
    }
}

/// Some of a write's sectors.
fn torn(offset: u64, written: &[u8], chance: &mut Chance) -> Vec<Change> {
    let whole = chance.below(2) == 0;
    let mut parts = Vec::new();
    let mut at = 0;
    while at < written.len() {
        // Sectors lie where they lie on the medium, not where the write starts.
        let next = at + SECTOR - (offset as usize + at) % SECTOR;
        let end = next.min(written.len());
        if whole || chance.below(2) == 0 {
            parts.push(Change::Write(offset + at as u64, written[at..end].to_vec()));
        }
        at = end;
    }
    parts
}

impl Disk {
    fn taken(&self) -> u64 {
        self.names.values().map(|file| self.files[file].blocks.len() as u64 * BLOCK).sum()
    }

    /// Counts an operation. `Err`: it does not happen.
    fn operate(&mut self, operation: Operation) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.power_off_at.is_some_and(|at| number >= at) {
            self.off.send_replace(true);
            return Err(power_is_off());
        }
        self.fail_as_planned(operation)
    }

    /// Whether an operation has to wait.
    fn is_held(&mut self, operation: Operation) -> bool {
        match &mut self.holding {
            Some((kind, after)) if *kind == operation && *after > 0 => {
                *after -= 1;
                false
            }
            Some((kind, _)) => *kind == operation,
            None => false,
        }
    }

    fn fail_as_planned(&mut self, operation: Operation) -> io::Result<()> {
        match &mut self.failing {
            Some((kind, after, _)) if *kind == operation && *after > 0 => *after -= 1,
            Some((kind, _, failures)) if *kind == operation && *failures > 0 => {
                *failures -= 1;
                return Err(io::Error::other("a planned failure"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether an operation has met the end of power.
    fn is_off(&self) -> bool {
        self.power_off_at.is_some_and(|at| self.operations > at)
    }

    fn change(&mut self, file: u64, change: Change) -> io::Result<()> {
        self.operate(Operation::Write)?;
        self.must_be_writable()?;
        let taken = self.taken();
        let room = self.room;
        let contents = self.files.get_mut(&file).expect("an open file has contents");
        match &change {
            Change::Write(offset, written) if !written.is_empty() => {
                let last = (offset + written.len() as u64 - 1) / BLOCK;
                let new: Vec<u64> = (offset / BLOCK..=last)
                    .filter(|block| !contents.blocks.contains(block))
                    .collect();
                if room
                    .is_some_and(|room| !new.is_empty() && taken + new.len() as u64 * BLOCK > room)
                {
                    return Err(io::Error::new(ErrorKind::StorageFull, "no space left on device"));
                }
                contents.blocks.extend(new);
            }
            Change::Write(..) => {}
            Change::SetLen(length) => {
                let end = length.div_ceil(BLOCK);
                contents.blocks.retain(|block| *block < end);
            }
        }
        change.apply(&mut contents.live);
        contents.pending.push(change);
        Ok(())
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        let operated = self.operate(Operation::Sync);
        if self.is_off() {
            // What was on its way when the power went may or may not be there: it stays pending.
            return operated;
        }
        let mut chance = Chance(self.operations);
        let contents = self.files.get_mut(&file).expect("an open file has contents");
        if operated.is_err() {
            let mood = chance.below(4);
            contents.durable = contents.crashed(&mut chance, mood).durable;
            contents.pending.clear();
            return operated;
        }
        let pending = std::mem::take(&mut contents.pending);
        pending.iter().for_each(|change| change.apply(&mut contents.durable));
        Ok(())
    }

    fn must_be_writable(&self) -> io::Result<()> {
        match self.read_only {
            true => Err(ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }

    fn rename(&mut self, naming: Naming) -> io::Result<()> {
        self.must_be_writable()?;
        if self.is_off() {
            return Err(power_is_off());
        }
        naming.apply(&mut self.names);
        self.renamings.push(naming);
        Ok(())
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

#[derive(Debug)]
struct ImageFiles {
    disk: ImageDisk,
    /// Held by this opening of the directory.
    lock: Mutex<Option<Arc<AtomicBool>>>,
}

impl Drop for ImageFiles {
    fn drop(&mut self) {
        if let Some(lock) = &*self.lock.lock().unwrap_or_else(PoisonError::into_inner) {
            lock.store(false, Ordering::SeqCst);
        }
    }
}

impl Files for ImageFiles {
    fn lock(&self) -> io::Result<bool> {
        let mut disk = self.disk.lock();
        let held = disk.locked.get_or_insert_default().clone();
        if held.swap(true, Ordering::SeqCst) {
            return Ok(false);
        }
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(true)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.disk.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        if let Ok(file) = self.open_existing(name) {
            return Ok(file);
        }
        let mut disk = self.disk.lock();
        let file = disk.files.keys().next_back().map_or(0, |last| last + 1);
        disk.rename(Naming::Set(name.to_owned(), file))?;
        disk.files.insert(file, Contents::default());
        Ok(Arc::new(ImageFile { disk: self.disk.clone(), file }))
    }

    fn open_existing(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.disk.lock().names.get(name).copied().ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(ImageFile { disk: self.disk.clone(), file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        match disk.names.contains_key(name) {
            true => disk.rename(Naming::Removed(name.to_owned())),
            false => Err(ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        match disk.names.contains_key(from) {
            true => disk.rename(Naming::Renamed(from.to_owned(), to.to_owned())),
            false => Err(ErrorKind::NotFound.into()),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.operate(Operation::Sync)?;
        disk.durable_names = disk.names.clone();
        disk.renamings.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct ImageFile {
    disk: ImageDisk,
    file: u64,
}

impl File for ImageFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[&self.file].live.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut disk = self.disk.operate(Operation::Read);
        disk.fail_as_planned(Operation::Read)?;
        let live = &disk.files[&self.file].live;
        let start = usize::try_from(offset).map_err(|_| ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(live.get(start..end).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let change = Change::Write(offset, octets.to_vec());
        self.disk.operate(Operation::Write).change(self.file, change)
    }

    fn set_len(&self, octets: u64) -> io::Result<()> {
        self.disk.operate(Operation::Write).change(self.file, Change::SetLen(octets))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operate(Operation::Sync).sync(self.file)
    }
}

/// Numbers that follow from a seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
