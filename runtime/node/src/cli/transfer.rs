//! `postroom import` and `postroom export`: mail between a mailbox and mbox files or Maildirs.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use postroom_core::archive::mbox::{self, Splitter};
use postroom_core::archive::{ArchivedMessage, maildir, with_crlf};
use postroom_core::types::{MailboxName, Timestamp};
use serde::Serialize;

use super::args::{ArchiveForm, MailPlace};
use super::operator::{Exported, Operator};
use super::output::{Output, Progress};

/// Most messages in one commit of an import: bounds what is done again after a failure.
const BATCH_MESSAGES: usize = 200;
/// Most octets in one commit of an import; a single larger message goes alone.
const BATCH_OCTETS: usize = 8 << 20;
/// Largest message that an import takes, in octets: the default limit of a node.
const MAX_MESSAGE_OCTETS: usize = 50 << 20;
/// Octets that are read from an mbox at a time.
const READ_OCTETS: usize = 1 << 20;

#[derive(Serialize)]
struct Summary<'a> {
    user: &'a str,
    mailbox: &'a str,
    messages: u64,
    octets: u64,
    /// Lines that had to be quoted, and messages that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    quoted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<u64>,
}

/// Collects messages into commits.
struct Batcher<'a> {
    operator: &'a mut dyn Operator,
    user: &'a str,
    mailbox: MailboxName,
    waiting: Vec<ArchivedMessage>,
    waiting_octets: usize,
    messages: u64,
    octets: u64,
}

impl Batcher<'_> {
    fn add(&mut self, message: ArchivedMessage, progress: &Progress) -> Result<()> {
        let octets = message.octets.len();
        let full = self.waiting.len() >= BATCH_MESSAGES
            || (self.waiting_octets + octets > BATCH_OCTETS && !self.waiting.is_empty());
        if full {
            self.flush(progress)?;
        }
        self.waiting_octets += octets;
        self.waiting.push(message);
        Ok(())
    }

    fn flush(&mut self, progress: &Progress) -> Result<()> {
        let batch = std::mem::take(&mut self.waiting);
        if batch.is_empty() {
            return Ok(());
        }
        let (messages, octets) = (batch.len() as u64, self.waiting_octets as u64);
        self.waiting_octets = 0;
        self.operator.import(self.user, &self.mailbox, batch).with_context(|| {
            format!(
                "stopped after {} messages; those are in {}, take them out of the source before you go on",
                self.messages, self.mailbox
            )
        })?;
        self.messages += messages;
        self.octets += octets;
        progress.set(self.octets);
        Ok(())
    }
}

/// Brings mail in from an mbox file or a Maildir.
pub fn import(
    operator: &mut dyn Operator,
    source: &Path,
    place: &MailPlace,
    output: &Output,
) -> Result<()> {
    let mailbox = mailbox_name(&place.mailbox)?;
    let meta =
        std::fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
    // An mbox is known by its first line: look before anything is made.
    if meta.is_file() {
        looks_like_mbox(source)?;
    }
    operator.ensure_mailbox(&place.user, &mailbox)?;
    let mut batcher = Batcher {
        operator,
        user: &place.user,
        mailbox,
        waiting: Vec::new(),
        waiting_octets: 0,
        messages: 0,
        octets: 0,
    };
    let progress;
    if meta.is_dir() {
        let files = maildir_files(source)?;
        progress = output.progress("importing", files.iter().map(|file| file.octets).sum());
        for file in files {
            batcher.add(read_maildir_file(&file.path)?, &progress)?;
        }
    } else {
        progress = output.progress("importing", meta.len());
        read_mbox(source, |message| batcher.add(message, &progress))?;
    }
    batcher.flush(&progress)?;
    progress.finish();
    let (messages, octets) = (batcher.messages, batcher.octets);
    let name = batcher.mailbox.as_str().to_owned();
    let (user, mailbox) = (place.user.as_str(), name.as_str());
    output.result(&Summary { user, mailbox, messages, octets, quoted: None, damaged: None }, || {
        format!("imported {messages} messages ({octets} octets) into {mailbox} of {user}")
    })
}

fn mailbox_name(text: &str) -> Result<MailboxName> {
    MailboxName::new(text).with_context(|| format!("{text:?} is no mailbox name"))
}

fn looks_like_mbox(source: &Path) -> Result<()> {
    let mut start = vec![0; 4096];
    let mut file =
        std::fs::File::open(source).with_context(|| format!("cannot read {}", source.display()))?;
    let read =
        file.read(&mut start).with_context(|| format!("cannot read {}", source.display()))?;
    let text = start[..read].trim_ascii_start();
    if read > 0 && !text.is_empty() && !text.starts_with(b"From ") {
        bail!(
            "{} is no mbox: it does not begin with a \"From \" line; for a Maildir name its folder",
            source.display()
        );
    }
    Ok(())
}

fn read_mbox(source: &Path, mut take: impl FnMut(ArchivedMessage) -> Result<()>) -> Result<()> {
    let context = || format!("cannot read {}", source.display());
    let mut file = std::fs::File::open(source).with_context(context)?;
    let mut splitter = Splitter::new(MAX_MESSAGE_OCTETS);
    let mut piece = vec![0; READ_OCTETS];
    loop {
        let read = file.read(&mut piece).with_context(context)?;
        if read == 0 {
            break;
        }
        for message in splitter.push(&piece[..read]).with_context(context)? {
            take(message)?;
        }
    }
    splitter.finish().with_context(context)?.map_or(Ok(()), take)
}

struct MaildirFile {
    path: PathBuf,
    octets: u64,
}

/// The files of `new` and `cur`, in the order of their names, which begin with the arrival.
fn maildir_files(folder: &Path) -> Result<Vec<MaildirFile>> {
    let mut files = Vec::new();
    for part in ["new", "cur"] {
        let path = folder.join(part);
        let entries = std::fs::read_dir(&path).with_context(|| {
            format!("{} is no Maildir: it has no folder {part}", folder.display())
        })?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
            let meta =
                entry.metadata().with_context(|| format!("cannot read {:?}", entry.path()))?;
            if meta.is_file() {
                files.push(MaildirFile { path: entry.path(), octets: meta.len() });
            }
        }
    }
    files.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(files)
}

fn read_maildir_file(path: &Path) -> Result<ArchivedMessage> {
    let context = || format!("cannot read {}", path.display());
    let octets = std::fs::read(path).with_context(context)?;
    if octets.len() > MAX_MESSAGE_OCTETS {
        bail!("{} is larger than {MAX_MESSAGE_OCTETS} octets; take it out", path.display());
    }
    let modified =
        std::fs::metadata(path).and_then(|meta| meta.modified()).with_context(context)?;
    let seconds = modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(ArchivedMessage {
        octets: with_crlf(&octets),
        date: i64::try_from(seconds).ok().map(Timestamp::utc),
        flags: maildir::flags_of(&name),
    })
}

/// Where an export goes.
enum Sink {
    Mbox(std::io::BufWriter<std::fs::File>),
    Maildir { folder: PathBuf, number: u64 },
}

impl Sink {
    fn create(out: &Path, form: ArchiveForm) -> Result<Self> {
        let context =
            || format!("cannot make {}: choose a name that is not there yet", out.display());
        match form {
            ArchiveForm::Mbox => {
                let file = std::fs::File::create_new(out).with_context(context)?;
                Ok(Self::Mbox(std::io::BufWriter::new(file)))
            }
            ArchiveForm::Maildir => {
                std::fs::create_dir(out).with_context(context)?;
                for part in ["cur", "new", "tmp"] {
                    std::fs::create_dir(out.join(part)).with_context(context)?;
                }
                Ok(Self::Maildir { folder: out.to_owned(), number: 0 })
            }
        }
    }

    /// Writes one message; returns how many lines had to be quoted.
    fn write(&mut self, message: &ArchivedMessage) -> Result<u64> {
        match self {
            Self::Mbox(file) => {
                let mut octets = Vec::with_capacity(message.octets.len() + 128);
                let written = mbox::write(&mut octets, message);
                file.write_all(&octets).context("cannot write the mbox")?;
                Ok(written.quoted)
            }
            Self::Maildir { folder, number } => {
                *number += 1;
                let seconds = message.date.map_or(0, |date| date.seconds);
                let unique = format!("{seconds}.{number:08}.postroom");
                let path = folder.join("cur").join(maildir::file_name(&unique, &message.flags));
                let context = || format!("cannot write {}", path.display());
                let mut file = std::fs::File::create_new(&path).with_context(context)?;
                file.write_all(&message.octets).with_context(context)?;
                if let Ok(seconds) = u64::try_from(seconds) {
                    let arrival = UNIX_EPOCH + std::time::Duration::from_secs(seconds);
                    file.set_modified(arrival).with_context(context)?;
                }
                Ok(0)
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Mbox(file) => {
                let file = file.into_inner().context("cannot write the mbox")?;
                file.sync_all().context("cannot write the mbox")
            }
            Self::Maildir { .. } => Ok(()),
        }
    }
}

/// Writes a mailbox to an archive. Messages that cannot be read are named and left out.
pub fn export(
    operator: &mut dyn Operator,
    out: &Path,
    form: ArchiveForm,
    place: &MailPlace,
    output: &Output,
) -> Result<()> {
    let mailbox = mailbox_name(&place.mailbox)?;
    // Ask before a file is made: a wrong name leaves nothing behind.
    let known = operator.mailboxes(&place.user)?;
    if !known.iter().any(|line| line.name == mailbox.as_str()) {
        bail!("{} has no mailbox {mailbox}; `postroom mailbox list` shows them", place.user);
    }
    let mut sink = Sink::create(out, form)?;
    let (mut messages, mut octets, mut quoted, mut damaged) = (0, 0, 0, 0);
    let mut progress = None;
    operator.export(&place.user, &mailbox, &mut |item| {
        match item {
            Exported::Total(total) => progress = Some(output.progress("exporting", total)),
            Exported::Message(message) => {
                quoted += sink.write(&message)?;
                messages += 1;
                octets += message.octets.len() as u64;
            }
            Exported::Damaged(what) => {
                damaged += 1;
                output.warn(&format!("left out: {what}"));
            }
        }
        if let Some(progress) = &progress {
            progress.set(messages + damaged);
        }
        Ok(())
    })?;
    sink.finish()?;
    if let Some(progress) = progress {
        progress.finish();
    }
    if quoted > 0 {
        output.warn(&format!("{quoted} lines that look like an mbox's own were quoted with >"));
    }
    let (user, mailbox) = (place.user.as_str(), mailbox.as_str());
    let summary =
        Summary { user, mailbox, messages, octets, quoted: Some(quoted), damaged: Some(damaged) };
    output.result(&summary, || {
        format!(
            "exported {messages} messages ({octets} octets) of {user}'s {mailbox} to {}",
            out.display()
        )
    })?;
    if damaged > 0 {
        bail!("{damaged} messages could not be read and were left out; `postroom check` says more");
    }
    Ok(())
}
