//! Files of certificates and keys: written whole or not at all, keys readable by their owner only.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::CertificateError;

/// The authority's certificates: more than one while a new authority takes over.
pub(super) const AUTHORITY: &str = "authority.pem";
/// The authority's key, only where certificates are made.
pub(super) const AUTHORITY_KEY: &str = "authority.key";
/// The node's certificate and key.
pub(super) const NODE: &str = "node.pem";
/// What is no longer good though it has not expired.
pub(super) const REVOKED: &str = "revoked";

/// Rights of a file with a key in it.
const SECRET: u32 = 0o600;
/// Rights of a file that others may read.
const PUBLIC: u32 = 0o644;
/// Rights over others than the owner.
const OTHERS: u32 = 0o077;

/// Writes a file with a key in it.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), CertificateError> {
    replace(path, text, SECRET).map_err(|error| CertificateError::File(path.to_owned(), error))
}

/// Writes a file that others may read.
pub(super) fn write_public(path: &Path, text: &str) -> Result<(), CertificateError> {
    replace(path, text, PUBLIC).map_err(|error| CertificateError::File(path.to_owned(), error))
}

/// Reads a file of at most `max` octets.
pub(super) fn read(path: &Path, max: u64) -> Result<String, CertificateError> {
    read_bounded(path, max).map_err(|error| CertificateError::File(path.to_owned(), error))
}

/// Reads a file with a key in it; refuses one that others may read.
pub(super) fn read_secret(path: &Path, max: u64) -> Result<String, CertificateError> {
    let meta = fs::metadata(path).map_err(|e| CertificateError::File(path.to_owned(), e))?;
    if meta.mode() & OTHERS != 0 {
        return Err(CertificateError::Exposed(path.to_owned()));
    }
    read(path, max)
}

/// Keeps others from changing a directory's files at the same time, as far as they ask too; until the
/// result is dropped. Waits for them: for commands, which an operator can end.
pub(super) fn alone(directory: &Path) -> Result<File, CertificateError> {
    let locked = File::open(directory).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| CertificateError::File(directory.to_owned(), error))
}

/// The same for whoever must not wait: [`CertificateError::Busy`] when somebody else is at work. A command
/// that was halted keeps its lock.
pub(super) fn alone_at_once(directory: &Path) -> Result<File, CertificateError> {
    let failed = |error| CertificateError::File(directory.to_owned(), error);
    let file = File::open(directory).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CertificateError::Busy(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn read_bounded(path: &Path, max: u64) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        return Err(std::io::Error::other(format!("longer than {max} octets")));
    }
    Ok(text)
}

/// Beside the old file, synced, then in its place: whoever reads sees one or the other.
fn replace(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let beside = beside(path)?;
    let written = write_new(&beside, text, mode).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside); // The error that counts is the first one.
        return written;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_new(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn beside(path: &Path) -> std::io::Result<PathBuf> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|error| std::io::Error::other(error.to_string()))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", hex::encode(salt)));
    Ok(path.with_file_name(name))
}
