//! Compiled code on disk, so that a restart does not compile again.
//!
//! Loading compiled code means running it: whoever can put a file here runs code in this process.
//! So a file counts only if this node wrote it (same owner, nobody else can write it or its folder)
//! and it carries a checksum made with this folder's own key, which also catches damage. Anything
//! else is a miss, never an error: compiling again always works.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::limits::mib;

/// Begins every cached file; a change of the format changes it.
const MAGIC: &[u8; 8] = b"PRMCODE1";
/// The folder's own key.
const KEY_FILE: &str = "key";
/// Ends the names of cached files.
const SUFFIX: &str = "code";

/// A folder of compiled code.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    key: [u8; 32],
    /// Most octets in the folder.
    most: u64,
    owner: u32,
}

impl Cache {
    /// Opens the folder, making it and its key where they are not there. Fails when it cannot be
    /// written, or others can write it.
    pub(super) fn open(folder: &Path, most_mib: u32) -> io::Result<Self> {
        private_folder(folder)?;
        let owner = our_id(folder)?;
        let path = folder.join(KEY_FILE);
        let key = match read_own(&path, owner)?.and_then(|octets| octets.try_into().ok()) {
            Some(key) => key,
            None => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                write_whole(folder, &path, &[&key])?;
                key
            }
        };
        Ok(Self { folder: folder.to_owned(), key, most: mib(most_mib) as u64, owner })
    }

    /// The compiled code of a component, if it is there and this node's own.
    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(engine, digest);
        let octets = read_own(&path, self.owner).ok().flatten()?;
        let code = self.checked(&octets);
        if code.is_none() {
            tracing::warn!(path = %path.display(), "compiled code is damaged; compiling again");
        }
        let loaded = self.load(engine, code?);
        if let Err(error) = &loaded {
            let why = super::engine::root(error);
            tracing::info!(path = %path.display(), why, "compiled code does not load; compiling again");
        }
        loaded.ok()
    }

    /// Keeps compiled code, and lets old code go.
    pub(super) fn put(&self, engine: &Engine, digest: &str, code: &[u8]) -> io::Result<()> {
        let checksum = blake3::keyed_hash(&self.key, code);
        let parts: [&[u8]; 3] = [MAGIC, checksum.as_bytes(), code];
        write_whole(&self.folder, &self.path(engine, digest), &parts)?;
        self.sweep()
    }

    /// One file for each component, version of the engine, its settings, and target.
    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = Blake(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.write(std::env::consts::ARCH.as_bytes());
        hasher.write(std::env::consts::OS.as_bytes());
        let engine = hasher.0.finalize().to_hex();
        self.folder.join(format!("{digest}-{}.{SUFFIX}", &engine[..16]))
    }

    fn checked<'a>(&self, octets: &'a [u8]) -> Option<&'a [u8]> {
        let (checksum, code) = octets.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        (blake3::keyed_hash(&self.key, code) == *checksum).then_some(code)
    }

    #[allow(unsafe_code)]
    fn load(&self, engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: deserializing runs what is in `code`, so it must be what an engine of this version
        // serialized. `read_own` took it from a file that only this user can write, and `checked`
        // found the checksum that only `put` makes, with a key that only this user can read; `put`
        // gets its code from `Engine::precompile_component` alone. Wasmtime itself refuses code of
        // other versions and settings.
        unsafe { Component::deserialize(engine, code) }
    }

    /// Removes the files least recently written until the rest fits.
    fn sweep(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                let about = entry.metadata()?;
                files.push((about.modified()?, about.len(), path));
            }
        }
        files.sort();
        let mut octets: u64 = files.iter().map(|(_, len, _)| len).sum();
        // The last one is the one just written: it stays, whatever its size.
        for (_, len, path) in files.iter().take(files.len().saturating_sub(1)) {
            if octets <= self.most {
                break;
            }
            fs::remove_file(path)?;
            octets -= len;
        }
        Ok(())
    }
}

/// Feeds `Hash` into BLAKE3: the standard hasher is another one in each version of Rust.
struct Blake(blake3::Hasher);

impl Hasher for Blake {
    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        digest.as_bytes()[..8].try_into().map_or(0, u64::from_le_bytes)
    }

    fn write(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }
}

/// Writes a file as a whole, readable by this user alone: a crash leaves the old one or none.
fn write_whole(folder: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = temporary(folder)?;
    let written = (|| {
        let mut file = create_private(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn temporary(folder: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(folder.join(format!("{}.new", hex::encode(random))))
}

/// The octets of a file, if it is there and only this user can write it.
fn read_own(path: &Path, owner: u32) -> io::Result<Option<Vec<u8>>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !is_own(&file.metadata()?, owner) {
        tracing::warn!(path = %path.display(), "not this node's own file: ignored");
        return Ok(None);
    }
    let mut octets = Vec::new();
    file.read_to_end(&mut octets)?;
    Ok(Some(octets))
}

#[cfg(unix)]
fn is_own(about: &fs::Metadata, owner: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    about.is_file() && about.uid() == owner && about.mode() & 0o022 == 0
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(unix)]
fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    match fs::metadata(folder)?.mode() & 0o022 {
        0 => Ok(()),
        _ => Err(io::Error::other("others can write this folder: chmod go-w")),
    }
}

/// The user that this process runs as: whoever owns a file that it makes.
#[cfg(unix)]
fn our_id(folder: &Path) -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt;
    let path = temporary(folder)?;
    let id = create_private(&path)?.metadata()?.uid();
    fs::remove_file(path)?;
    Ok(id)
}

#[cfg(not(unix))]
fn is_own(about: &fs::Metadata, _owner: u32) -> bool {
    about.is_file()
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(not(unix))]
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn our_id(_folder: &Path) -> io::Result<u32> {
    Ok(0)
}
