//! The data directory: whether it is ours, whose format it has, and who else uses it.
//!
//! `format` is a text that people can read; it names the format and the directory's random id,
//! which the rows and the segments repeat, so that files of two directories cannot be mixed. It says
//! so twice, so that no one octet of it is needed.
//! A directory is being made as long as that text is still called `format.new`: nothing in it has
//! been acknowledged, so it is made again from the start.

use std::io;

use crate::StorageError;
use crate::files::{File, Files};

/// The version of the directory's format that this build writes and reads.
const VERSION: u32 = 2;
/// Longest format text that is read, in octets.
const MAX_FORMAT_OCTETS: u64 = 4096;
const FIRST_LINE: &str = "postroom storage";

/// The text that says what the directory is.
pub const FORMAT: &str = "format";
const FORMAT_NEW: &str = "format.new";
/// The text that says how many times the directory was restored from a backup; none: never.
pub const RESTORED: &str = "restored";
const RESTORED_FIRST_LINE: &str = "postroom restored from a backup";
/// The file of rows.
pub const ROWS_FILE: &str = "rows.redb";

/// Why a data directory cannot be opened: one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the data directory is in use by another process: stop that one, or name another directory"
    )]
    InUse,
    /// It holds something else.
    #[error(
        "the directory holds {0:?} but no Postroom data: name an empty directory, or the right one"
    )]
    Foreign(String),
    /// A newer Postroom wrote it.
    #[error(
        "the data directory has format {found}, this build knows formats up to {known}: \
         use a newer postroom"
    )]
    Newer {
        /// Its format.
        found: u32,
        /// The highest that this build reads.
        known: u32,
    },
    /// An older Postroom wrote it, and this one does not read that any more.
    #[error(
        "the data directory has format {found}, this build knows {known} only: export the mail with \
         the postroom that wrote it, import it with this one"
    )]
    Older {
        /// Its format.
        found: u32,
        /// The lowest that this build reads.
        known: u32,
    },
    /// Parts of it are missing or changed.
    #[error("the data directory is damaged ({0}): restore it from a backup")]
    Damaged(String),
    /// The system refuses.
    #[error("the data directory cannot be used ({0}): check its permissions and its disk")]
    Io(#[from] io::Error),
}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(why) => Self::Io(io::Error::other(why)),
            StorageError::Damaged(why) => Self::Damaged(why),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// What a directory is.
pub enum State {
    /// Empty, or never finished: to be made.
    New,
    /// Ours, with this id.
    Made([u8; 16]),
}

/// Looks at a directory without changing anything.
pub fn inspect(files: &dyn Files) -> Result<State, OpenError> {
    let names = files.names()?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(FORMAT) {
        return read_format(files).map(State::Made);
    }
    match names.first() {
        Some(found) if !has(FORMAT_NEW) => Err(OpenError::Foreign(found.clone())),
        _ => Ok(State::New),
    }
}

/// Locks a directory and looks at it.
pub fn enter(files: &dyn Files) -> Result<State, OpenError> {
    // Before the lock file is made: a directory that is not ours stays as it is.
    inspect(files)?;
    match files.lock()? {
        true => inspect(files),
        false => Err(OpenError::InUse),
    }
}

/// Begins a directory: clears what an unfinished attempt left and chooses the id.
pub fn begin(files: &dyn Files) -> Result<[u8; 16], OpenError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let text = format!("{FIRST_LINE}\nversion {VERSION}\nid {}\n", hex::encode(id));
    write_twice(files, FORMAT_NEW, text)?;
    for name in files.names()? {
        if name != FORMAT_NEW {
            files.remove(&name)?;
        }
    }
    Ok(id)
}

/// Ends what [`begin`] began: from now on the directory's contents count.
pub fn finish(files: &dyn Files) -> Result<(), OpenError> {
    files.sync_names()?;
    files.rename(FORMAT_NEW, FORMAT)?;
    Ok(files.sync_names()?)
}

/// A directory that is ours must have its rows.
pub fn must_have_rows(files: &dyn Files) -> Result<(), OpenError> {
    match files.names()?.iter().any(|name| name == ROWS_FILE) {
        true => Ok(()),
        false => Err(OpenError::Damaged(format!("{ROWS_FILE} is missing"))),
    }
}

/// How many times a directory was restored from a backup that did not have all that was announced since.
pub fn restored(files: &dyn Files) -> Result<u64, OpenError> {
    let file = match files.open_existing(RESTORED) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let text = read_text(&*file)?;
    let second = text.rfind(RESTORED_FIRST_LINE).map(|second| &text[second..]);
    let times = parse_restored(&text).or_else(|| parse_restored(second?));
    times.ok_or_else(|| OpenError::Damaged(format!("the file {RESTORED:?} is unreadable")))
}

/// Notes that a directory is being restored once more.
pub fn note_restored(files: &dyn Files) -> Result<(), OpenError> {
    let text = format!("{RESTORED_FIRST_LINE}\ntimes {}\n", restored(files)? + 1);
    write_twice(files, RESTORED, text)
}

/// Writes a text with its checksum, durably, and once more behind it.
fn write_twice(files: &dyn Files, name: &str, text: String) -> Result<(), OpenError> {
    let text = format!("{text}check {}\n", check_of(&text));
    let file = files.open(name)?;
    file.set_len(0)?;
    file.write_at(0, text.repeat(2).as_bytes())?;
    file.sync()?;
    Ok(files.sync_names()?)
}

/// Such a text, as far as it is one.
fn read_text(file: &dyn File) -> io::Result<String> {
    let mut text = vec![0; file.len()?.min(MAX_FORMAT_OCTETS) as usize];
    file.read_at(0, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn check_of(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

fn parse_restored(text: &str) -> Option<u64> {
    let (checked, rest) = text.split_once("check ")?;
    let check = rest.lines().next()?;
    let times = checked.strip_prefix(RESTORED_FIRST_LINE)?.trim().strip_prefix("times ")?;
    (check == check_of(checked)).then(|| times.parse().ok()).flatten()
}

fn read_format(files: &dyn Files) -> Result<[u8; 16], OpenError> {
    let text = read_text(&*files.open(FORMAT)?)?;
    parse_format(&text).or_else(|error| match text.rfind(FIRST_LINE) {
        // What the first copy says is told only when the second one says nothing either.
        Some(second) => parse_format(&text[second..]).map_err(|_| error),
        None => Err(error),
    })
}

fn parse_format(text: &str) -> Result<[u8; 16], OpenError> {
    let damaged = || OpenError::Damaged(format!("the file {FORMAT:?} is unreadable"));
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(OpenError::Foreign(FORMAT.to_owned()));
    }
    let mut field = |name: &str| {
        let (found, value) = lines.next()?.split_once(' ')?;
        (found == name).then_some(value)
    };
    let version = field("version").and_then(|v| v.parse().ok()).ok_or_else(damaged)?;
    if version > VERSION {
        return Err(OpenError::Newer { found: version, known: VERSION });
    }
    if version < VERSION {
        return Err(OpenError::Older { found: version, known: VERSION });
    }
    let mut id = [0; 16];
    let digits = field("id").ok_or_else(damaged)?;
    hex::decode_to_slice(digits, &mut id).map_err(|_| damaged())?;
    let check = field("check").ok_or_else(damaged)?;
    let checked = text.split_once("check ").ok_or_else(damaged)?.0;
    match check == check_of(checked) {
        true => Ok(id),
        false => Err(damaged()),
    }
}
