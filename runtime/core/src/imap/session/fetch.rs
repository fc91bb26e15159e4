//! FETCH (RFC 9051 §6.4.5, §7.5.2; CONDSTORE: RFC 7162 §3.1.4).
//!
//! Messages are read and shown page by page, so that what is held at once is one page, however many
//! were asked for. A page whose messages become `\Seen` is stored before it is shown, so that their
//! flags are shown as they are then; only messages that are shown become `\Seen`.

use bytes::Bytes;

use crate::calls::{Call, FetchedMessage, FlagRow, Want};
use crate::imap::command::{Fetch, FetchItem, Numbering, Partial, Section, SectionText, Tag};
use crate::imap::response::{Code, FetchLine};
use crate::mime;
use crate::types::{Flag, FlagChange, FlagChangeKind, Flags, ModSeq, SystemFlag, Uid, UidSet};

use super::ImapSession;
use super::flow::{Done, Flush, Waiting};

/// A FETCH under way.
pub(super) struct FetchTask {
    pub(super) tag: Tag,
    pub(super) numbering: Numbering,
    items: Vec<FetchItem>,
    changed_since: Option<ModSeq>,
    want: Want,
    /// Messages that are shown become `\Seen`.
    sets_seen: bool,
    /// Messages that were not read yet.
    left: UidSet,
    /// How many messages of the view were asked for and have not come.
    missing: u64,
    /// A body could not be had.
    damaged: bool,
    /// A page that waits for its messages to become `\Seen`.
    page: Vec<FetchedMessage>,
}

impl ImapSession {
    pub(super) fn fetch(&mut self, tag: Tag, fetch: Fetch) {
        let Fetch { numbering, set, mut items, changed_since } = fetch;
        let Some(active) = self.active() else { return };
        let Some(left) = super::query::resolve(&active.view, &set, numbering) else {
            return self.bad(Some(tag), super::query::NO_SUCH_NUMBER);
        };
        let missing = active.view.count(&left);
        let sets_seen = active.read_write && items.iter().any(FetchItem::sets_seen);
        if numbering == Numbering::Uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        // RFC 7162 §3.1.4.1: CHANGEDSINCE asks for MODSEQ too.
        if changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
            items.push(FetchItem::ModSeq);
        }
        if items.contains(&FetchItem::ModSeq) {
            self.enable_condstore();
        }
        let want = want(&items);
        let (damaged, page) = (false, Vec::new());
        self.fetch_page(Box::new(FetchTask {
            tag,
            numbering,
            items,
            changed_since,
            want,
            sets_seen,
            left,
            missing,
            damaged,
            page,
        }));
    }

    /// Reads the next page, or ends.
    fn fetch_page(&mut self, task: Box<FetchTask>) {
        if task.left.is_empty() {
            return self.fetch_done(*task);
        }
        if self.shutting_down {
            let done = Done::no(task.tag, "the server shuts down").with(Code::Unavailable);
            return self.say(done);
        }
        let call = Call::Fetch { uids: task.left.clone(), want: task.want };
        self.call(call, Waiting::Fetch(task));
    }

    fn fetch_done(&mut self, task: FetchTask) {
        let flush = Flush::after(task.numbering);
        let done = match task {
            FetchTask { damaged: true, tag, .. } => {
                Done::no(tag, "some messages could not be read").with(Code::ServerBug)
            }
            // RFC 2180 §4.1.3: what is there has been shown.
            FetchTask { missing: 1.., numbering: Numbering::Sequence, tag, .. } => {
                Done::no(tag, "some messages were expunged meanwhile").with(Code::ExpungeIssued)
            }
            FetchTask { tag, .. } => Done::ok(tag, "FETCH completed"),
        };
        self.finish(done, flush);
    }

    pub(super) fn fetched(
        &mut self,
        mut task: Box<FetchTask>,
        mut messages: Vec<FetchedMessage>,
        more: bool,
    ) {
        let left = match messages.last() {
            Some(last) if more => after(&task.left, last.uid),
            // A page without messages has no end from which to go on.
            _ => UidSet::default(),
        };
        // Nor has a page that answers another question.
        let goes_on = left.len() < task.left.len();
        task.left = if goes_on { left } else { UidSet::default() };
        task.missing = task.missing.saturating_sub(messages.len() as u64);
        if let Some(since) = task.changed_since {
            messages.retain(|message| message.modseq > since);
        }
        let unseen = |m: &&FetchedMessage| !m.flags.has(SystemFlag::Seen);
        let unseen: UidSet = messages.iter().filter(unseen).map(|m| m.uid).collect();
        if !task.sets_seen || unseen.is_empty() {
            return self.show_page(task, &messages);
        }
        task.page = messages;
        let flags = Flags::of([Flag::System(SystemFlag::Seen)]);
        let change = FlagChange { kind: FlagChangeKind::Add, flags };
        let call = Call::Store { uids: unseen, change, unchanged_since: None };
        self.call(call, Waiting::Seen(task));
    }

    /// The page's messages are `\Seen` now, but for those that are gone, or all if that failed.
    pub(super) fn seen_stored(&mut self, mut task: Box<FetchTask>, rows: Vec<FlagRow>) {
        let mut messages = std::mem::take(&mut task.page);
        for row in rows {
            if let Ok(at) = messages.binary_search_by_key(&row.uid, |message| message.uid) {
                messages[at].flags = row.flags;
                messages[at].modseq = row.modseq;
            }
        }
        self.show_page(task, &messages);
    }

    fn show_page(&mut self, mut task: Box<FetchTask>, messages: &[FetchedMessage]) {
        for message in messages {
            self.show(&mut task, message);
        }
        self.fetch_page(task);
    }

    fn show(&mut self, task: &mut FetchTask, message: &FetchedMessage) {
        if !is_complete(message, task.want) {
            task.damaged = true;
            return;
        }
        let Some(active) = self.active() else { return };
        // Not in the view: the message store has answered more than was asked for.
        let Some(sequence) = active.view.sequence_of(message.uid) else { return };
        let recent = active.view.is_recent(message.uid);
        let news = active.view.is_news(message.uid, message.modseq);
        // Flags that have just become \Seen are shown unasked (RFC 9051 §6.4.5).
        let adds_flags = task.sets_seen && news && !task.items.contains(&FetchItem::Flags);
        let shows_flags = adds_flags || task.items.contains(&FetchItem::Flags);
        if shows_flags {
            let notice = active.view.learn(message.uid, &message.flags, message.modseq);
            self.write_notices(notice.into_iter().collect(), task.numbering);
        }
        let adds_modseq = self.condstore && shows_flags && !task.items.contains(&FetchItem::ModSeq);
        let mut line = FetchLine::begin(&mut self.output, sequence);
        for item in &task.items {
            write_item(&mut line, item, message, recent);
        }
        if adds_flags {
            line.flags(&message.flags, recent);
        }
        if adds_modseq {
            line.modseq(message.modseq);
        }
        line.end();
    }
}

/// What must be read for these items.
fn want(items: &[FetchItem]) -> Want {
    let mut want = Want::default();
    for item in items {
        match item {
            FetchItem::Body | FetchItem::BodyStructure | FetchItem::Envelope => want.derived = true,
            FetchItem::Rfc822 => want.body = true,
            FetchItem::Rfc822Header => {
                want.header = true;
                want.derived = true;
            }
            FetchItem::Rfc822Text => {
                want.body = true;
                want.derived = true;
            }
            FetchItem::Section { section, .. } => {
                match is_of_header(section) {
                    true => want.header = true,
                    false => want.body = true,
                }
                want.derived |= *section != Section::default();
            }
            FetchItem::Flags
            | FetchItem::InternalDate
            | FetchItem::Rfc822Size
            | FetchItem::Uid
            | FetchItem::ModSeq
            | FetchItem::EmailId
            | FetchItem::ThreadId => {}
        }
    }
    // The whole has the header in it.
    want.header &= !want.body;
    want
}

/// Whether a section is cut out of the message's own header.
fn is_of_header(section: &Section) -> bool {
    match section.text {
        SectionText::Header | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) => {
            section.part.is_empty()
        }
        SectionText::All | SectionText::Text | SectionText::Mime => false,
    }
}

/// Whether all that was asked for has come.
fn is_complete(message: &FetchedMessage, want: Want) -> bool {
    (!want.derived || message.derived.is_some())
        && (!want.header || message.header.is_some())
        && (!want.body || message.body.is_some())
}

fn write_item(line: &mut FetchLine<'_>, item: &FetchItem, message: &FetchedMessage, recent: bool) {
    let whole = |text| Section { text, ..Section::default() };
    let derived = message.derived.as_deref();
    match (item, derived) {
        (FetchItem::Uid, _) => line.uid(message.uid),
        (FetchItem::Flags, _) => line.flags(&message.flags, recent),
        (FetchItem::ModSeq, _) => line.modseq(message.modseq),
        (FetchItem::InternalDate, _) => line.internal_date(message.internal_date),
        (FetchItem::Rfc822Size, _) => line.size(message.size),
        (FetchItem::EmailId, _) => line.email_id(message.message_id),
        (FetchItem::ThreadId, _) => line.thread_id(message.thread_id),
        (FetchItem::Rfc822, _) => line.rfc822(cut(message, &Section::default())),
        (FetchItem::Rfc822Header, _) => {
            line.rfc822_header(cut(message, &whole(SectionText::Header)));
        }
        (FetchItem::Rfc822Text, _) => line.rfc822_text(cut(message, &whole(SectionText::Text))),
        (FetchItem::Section { section, partial, .. }, _) => {
            let octets = cut(message, section);
            let part = |octets, p: &Partial| mime::partial(octets, p.first, p.count.get());
            match partial {
                None => line.section(section, None, octets),
                Some(p) => {
                    line.section(section, Some(p.first), octets.as_ref().map(|o| part(o, p)));
                }
            }
        }
        (FetchItem::Envelope, Some(derived)) => line.envelope(&derived.envelope),
        (FetchItem::Body, Some(derived)) => line.body(&derived.structure),
        (FetchItem::BodyStructure, Some(derived)) => line.body_structure(&derived.structure),
        (FetchItem::Envelope | FetchItem::Body | FetchItem::BodyStructure, None) => {
            unreachable!("`want` asks for it, and `is_complete` has seen it");
        }
    }
}

/// A section of the message; `None` when it has none of that name.
fn cut(message: &FetchedMessage, section: &Section) -> Option<Bytes> {
    if *section == Section::default() {
        return message.body.clone();
    }
    // Where only the header was read, only sections of it are asked for.
    let octets = message.body.as_ref().or(message.header.as_ref())?;
    mime::section(octets, message.derived.as_deref()?, section)
}

/// What of the set lies above this UID.
fn after(uids: &UidSet, uid: Uid) -> UidSet {
    let mut rest = UidSet::default();
    if let Some(next) = uid.next() {
        let ranges = uids.ranges().iter().filter(|(_, last)| *last >= next);
        ranges.for_each(|(first, last)| rest.insert_range(next.max(*first), *last));
    }
    rest
}
