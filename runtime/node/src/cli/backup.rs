//! `postroom backup` and `postroom restore`: everything that is stored, as a folder of files with a list
//! of them and their digests. The list is written last: a backup without it is none.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::commands::Findings;
use super::compose::STORAGE;
use super::operator::{CheckLine, Operator};
use super::output::{Output, Progress};
use crate::message_store::CheckFinding;
use crate::storage::keeping::{BackupPiece, ScrubEvent};
use crate::storage::redb::is_backed_up;
use crate::storage::{Engine, RedbEngine, RedbOptions};

/// The list.
const LIST: &str = "backup.json";
/// Its version.
const VERSION: u32 = 1;
/// Longest list that is read, in octets: some hundred thousand segments.
const MAX_LIST_OCTETS: u64 = 64 << 20;
/// Octets that are copied at a time.
const BLOCK_OCTETS: usize = 1 << 20;

/// What the storage of a restored folder is called until it is whole.
const PARTIAL: &str = "storage.partial";

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    version: u32,
    /// When it was begun: seconds since the Unix epoch.
    begun: u64,
    files: Vec<Listed>,
}

/// A file of a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    octets: u64,
    /// BLAKE3, in hexadecimal.
    digest: String,
}

/// A file that is being written.
struct Writing {
    name: String,
    to: BufWriter<File>,
    octets: u64,
    digest: blake3::Hasher,
}

impl Writing {
    fn new(folder: &Path, name: String) -> Result<Self> {
        let path = folder.join(&name);
        let file = File::create_new(&path);
        let to = BufWriter::with_capacity(
            BLOCK_OCTETS,
            file.with_context(|| format!("cannot make {}", path.display()))?,
        );
        Ok(Self { name, to, octets: 0, digest: blake3::Hasher::new() })
    }

    fn add(&mut self, octets: &[u8]) -> Result<()> {
        self.to.write_all(octets).with_context(|| format!("cannot write {}", self.name))?;
        self.octets += octets.len() as u64;
        self.digest.update(octets);
        Ok(())
    }

    /// Makes it durable.
    fn end(self) -> Result<Listed> {
        let context = || format!("cannot write {}", self.name);
        let file =
            self.to.into_inner().map_err(|error| error.into_error()).with_context(context)?;
        file.sync_all().with_context(context)?;
        let digest = self.digest.finalize().to_hex().to_string();
        Ok(Listed { name: self.name, octets: self.octets, digest })
    }
}

/// Copies everything to a folder.
pub fn backup(operator: &mut dyn Operator, out: &Path, output: &Output) -> Result<()> {
    if out.exists() {
        bail!("{} exists already; name a folder that does not", out.display());
    }
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let partial = partial(out)?;
    fs::create_dir_all(&partial)
        .with_context(|| format!("cannot make the folder {}", partial.display()))?;
    let progress = output.progress("copying", 0);
    let taken = take_all(operator, &partial, &progress);
    progress.finish();
    let files = match taken {
        Ok(files) => files,
        Err(error) => {
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
    };
    let octets: u64 = files.iter().map(|file| file.octets).sum();
    let list = List { version: VERSION, begun, files };
    let mut writing = Writing::new(&partial, LIST.to_owned())?;
    writing.add(&serde_json::to_vec_pretty(&list).context("cannot write the list")?)?;
    writing.end()?;
    sync_folder(&partial)?;
    fs::rename(&partial, out).with_context(|| format!("cannot make {}", out.display()))?;
    sync_folder(
        out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(".".as_ref()),
    )?;
    let summary = serde_json::json!({ "backup": out, "files": list.files.len(), "octets": octets });
    output.result(&summary, || {
        format!(
            "copied {octets} octets in {} files to {}; try it: postroom restore {} --data NEW-FOLDER",
            list.files.len(),
            out.display(),
            out.display()
        )
    })
}

/// Where a backup is until it is whole.
fn partial(out: &Path) -> Result<PathBuf> {
    let name = out.file_name().with_context(|| format!("{} is no folder name", out.display()))?;
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = out.with_file_name(partial);
    if partial.exists() {
        bail!(
            "{} is left of a backup that did not come to its end; remove it first",
            partial.display()
        );
    }
    Ok(partial)
}

fn take_all(
    operator: &mut dyn Operator,
    folder: &Path,
    progress: &Progress,
) -> Result<Vec<Listed>> {
    let (mut files, mut writing) = (Vec::new(), None::<Writing>);
    operator.backup(&mut |piece| {
        match piece {
            BackupPiece::File(name) => {
                if !is_backed_up(&name) {
                    bail!("the node sends a file {name:?}, which no backup has");
                }
                files.extend(writing.take().map(Writing::end).transpose()?);
                writing = Some(Writing::new(folder, name)?);
            }
            BackupPiece::Octets(octets) => {
                let writing = writing.as_mut().context("the node sends octets of no file")?;
                writing.add(&octets)?;
                progress.add(octets.len() as u64);
            }
            BackupPiece::Done => files.extend(writing.take().map(Writing::end).transpose()?),
        }
        Ok(())
    })?;
    Ok(files)
}

fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot write {}", folder.display()))
}

/// Makes a data folder from a backup, and reads all of it.
pub fn restore(
    backup: &Path,
    data: &Path,
    nothing_since: bool,
    output: &Output,
) -> Result<ExitCode> {
    let list = read_list(backup)?;
    must_be_empty(data)?;
    // Under a name of its own until it is whole: a node must not take up a part of it, or all of it without
    // the note that it was restored.
    let (partial, storage) = (data.join(PARTIAL), data.join(STORAGE));
    fs::create_dir_all(&partial)
        .with_context(|| format!("cannot make the folder {}", partial.display()))?;
    let progress = output.progress("restoring", list.files.iter().map(|file| file.octets).sum());
    let copied = list.files.iter().try_for_each(|file| copy(backup, &partial, file, &progress));
    progress.finish();
    let noted = copied.and_then(|()| match nothing_since {
        true => Ok(()),
        false => RedbEngine::note_restored(&partial).context("the restored folder"),
    });
    if let Err(error) = noted {
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    sync_folder(&partial)?;
    fs::rename(&partial, &storage).with_context(|| format!("cannot make {}", storage.display()))?;
    sync_folder(data)?;
    let found = look(&storage, output)?;
    let summary = serde_json::json!({ "data": data, "files": list.files.len() });
    output.result(&summary, || match nothing_since {
        true => format!("restored to {}; mailboxes keep their UIDVALIDITY", data.display()),
        false => format!(
            "restored to {}; each mailbox gets a new UIDVALIDITY when it is used",
            data.display()
        ),
    })?;
    found.tell("octets", "octets read back", output)
}

fn read_list(backup: &Path) -> Result<List> {
    let path = backup.join(LIST);
    let none = || format!("{} is no whole backup (no readable {LIST} in it)", backup.display());
    let mut text = String::new();
    let file = File::open(&path).with_context(none)?;
    file.take(MAX_LIST_OCTETS).read_to_string(&mut text).with_context(none)?;
    let list: List = serde_json::from_str(&text).with_context(none)?;
    if list.version != VERSION {
        bail!(
            "{} has version {}, this postroom knows {VERSION}: use the one that made it",
            backup.display(),
            list.version
        );
    }
    match list.files.iter().find(|file| !is_backed_up(&file.name)) {
        Some(odd) => bail!("{} lists {:?}, which no backup has", path.display(), odd.name),
        None => Ok(list),
    }
}

/// Nothing is put among what is there.
fn must_be_empty(data: &Path) -> Result<()> {
    match fs::read_dir(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", data.display())),
        Ok(mut names) => match names.next() {
            None => Ok(()),
            Some(_) => bail!("{} is not empty; name a new folder", data.display()),
        },
    }
}

fn copy(backup: &Path, storage: &Path, listed: &Listed, progress: &Progress) -> Result<()> {
    let path = backup.join(&listed.name);
    let context = || format!("cannot read {}", path.display());
    let mut from = BufReader::new(File::open(&path).with_context(context)?);
    let mut to = Writing::new(storage, listed.name.clone())?;
    let mut block = vec![0; BLOCK_OCTETS];
    loop {
        let read = from.read(&mut block).with_context(context)?;
        if read == 0 {
            break;
        }
        to.add(&block[..read])?;
        progress.add(read as u64);
    }
    let copied = to.end()?;
    if (copied.octets, &copied.digest) != (listed.octets, &listed.digest) {
        bail!(
            "{} is not as it was written (a file of the backup is damaged): use another backup",
            path.display()
        );
    }
    Ok(())
}

/// Opens what was restored and reads all of it.
fn look(storage: &Path, output: &Output) -> Result<Findings> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
    let engine = RedbEngine::open(storage, RedbOptions::default()).context("what was restored")?;
    let found = Findings::of("reading back", output, |take| {
        let mut scrub = runtime.block_on(engine.scrub())?;
        while let Some(said) = runtime.block_on(scrub.recv()) {
            match said {
                ScrubEvent::Progress(octets) => take(CheckLine::Checked(octets)),
                ScrubEvent::Failed(error) => return Err(error.into()),
                ScrubEvent::Damage(damage) => {
                    take(CheckLine::Finding(CheckFinding::from(damage).into()));
                }
            }
        }
        Ok(())
    })?;
    runtime.block_on(engine.close()).context("cannot close the storage")?;
    Ok(found)
}
