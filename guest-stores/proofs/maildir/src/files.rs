//! One Maildir. Names are the host's, so they are never used twice and are safe as file names.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use postroom_guest::{Result, StoreError};

/// Letters of flags in a file's name, in the order in which they stand there.
const LETTERS: [(&str, char); 5] = [
    ("\\Draft", 'D'),
    ("\\Flagged", 'F'),
    ("\\Answered", 'R'),
    ("\\Seen", 'S'),
    ("\\Deleted", 'T'),
];

/// A folder with `tmp`, `new` and `cur`.
pub struct Maildir(PathBuf);

/// A file that is being written in `tmp`.
pub struct NewFile(File);

/// A medium that fails for a moment; the host repeats.
fn failed(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("maildir: {error}"))
}

/// `None` where there is no such file.
fn there<T>(outcome: std::io::Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl Maildir {
    /// The Maildir in this folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Begins a file; one that an earlier attempt left is written anew.
    pub fn create(&self, name: &str) -> Result<NewFile> {
        for folder in ["tmp", "new", "cur"] {
            fs::create_dir_all(self.0.join(folder)).map_err(failed)?;
        }
        File::create(self.0.join("tmp").join(safe(name)?)).map(NewFile).map_err(failed)
    }

    /// Octets of a message; `None`: there is none of that name.
    pub fn read(&self, name: &str, at: u64, max: u64) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.find(name)? else { return Ok(None) };
        let mut file = File::open(path).map_err(failed)?;
        // A file system may refuse to seek far past the end.
        let end = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(at.min(end))).map_err(failed)?;
        let mut octets = Vec::new();
        file.take(max).read_to_end(&mut octets).map_err(failed)?;
        Ok(Some(octets))
    }

    /// Size of a message.
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        let Some(path) = self.find(name)? else { return Ok(None) };
        Ok(there(fs::metadata(path))?.map(|file| file.len()))
    }

    /// Whether the message has been put in place: nothing that came to nothing ever is.
    pub fn is_settled(&self, name: &str) -> Result<bool> {
        Ok(self.find(name)?.is_some_and(|path| !path.starts_with(self.0.join("tmp"))))
    }

    /// Makes the message visible to mail programs, with these flags.
    pub fn put_in_place(&self, name: &str, flags: &[String]) -> Result<()> {
        let Some(path) = self.find(name)? else {
            return Err(StoreError::damaged(format_args!("maildir: {name} has no file")));
        };
        let set = LETTERS.iter().filter(|(flag, _)| flags.iter().any(|one| one == flag));
        let letters: String = set.map(|(_, letter)| *letter).collect();
        let target = self.0.join("cur").join(format!("{name}:2,{letters}"));
        match path == target {
            true => Ok(()),
            false => fs::rename(path, target).map_err(failed),
        }
    }

    /// Takes the message away, if it is there.
    pub fn remove(&self, name: &str) -> Result<()> {
        match self.find(name)? {
            Some(path) => there(fs::remove_file(path)).map(drop),
            None => Ok(()),
        }
    }

    /// Makes renames and removals durable.
    pub fn sync(&self) -> Result<()> {
        match there(File::open(self.0.join("cur")))? {
            Some(folder) => folder.sync_all().map_err(failed),
            None => Ok(()),
        }
    }

    /// Where a message is: in `tmp` before it is settled, in `cur` (mail programs may have changed
    /// the letters) after.
    fn find(&self, name: &str) -> Result<Option<PathBuf>> {
        let new = self.0.join("tmp").join(safe(name)?);
        if there(fs::metadata(&new))?.is_some() {
            return Ok(Some(new));
        }
        for folder in ["cur", "new"] {
            let Some(entries) = there(fs::read_dir(self.0.join(folder)))? else { continue };
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                if is_named(&path, name) {
                    return Ok(Some(path));
                }
            }
        }
        Ok(None)
    }
}

impl NewFile {
    /// Appends octets.
    pub fn write(&mut self, octets: &[u8]) -> Result<()> {
        self.0.write_all(octets).map_err(failed)
    }

    /// Makes them durable.
    pub fn finish(self) -> Result<()> {
        self.0.sync_all().map_err(failed)
    }
}

fn is_named(path: &Path, name: &str) -> bool {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    file.split_once(":2,").map_or(file, |(front, _)| front) == name
}

/// The host promises names that are; a file system is not the place to take its word.
fn safe(name: &str) -> Result<&str> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !name.is_empty() && !name.starts_with('.') && name.chars().all(letter) {
        true => Ok(name),
        false => Err(StoreError::Invalid(format!("{name:?} is no message name"))),
    }
}
