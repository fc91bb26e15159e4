//! SEARCH (RFC 9051 §6.4.4, ESEARCH: RFC 4731, CONDSTORE: RFC 7162 §3.1.5).

use crate::calls::Call;
use crate::imap::command::{Numbering, Search, SearchReturn, Tag};
use crate::imap::response::{self, Code, Esearch};
use crate::search::{CharsetError, check_charset};
use crate::types::{ModSeq, Uid};

use super::ImapSession;
use super::flow::{Done, Flush, Waiting};
use super::query;

/// A SEARCH under way.
pub(super) struct SearchTask {
    pub(super) tag: Tag,
    pub(super) numbering: Numbering,
    returns: Option<SearchReturn>,
    /// The program asks for mod-sequences.
    modseq: bool,
}

impl ImapSession {
    pub(super) fn search(&mut self, tag: Tag, search: Search) {
        let Search { numbering, returns, charset, key } = search;
        // RFC 3501 §6.4.4: also when there is no text that would have to be read in it.
        if let Err(error) = check_charset(charset.as_deref()) {
            return self.bad_charset(tag, error);
        }
        let modseq = query::asks_modseq(&key);
        if modseq {
            self.enable_condstore();
        }
        let Some(active) = self.active() else { return };
        let query = match query::query(&active.view, charset.as_deref(), &key) {
            Ok(query) => query.prepared(),
            Err(error) => return self.bad_charset(tag, error),
        };
        match query {
            Ok(query) => {
                let task = SearchTask { tag, numbering, returns, modseq };
                self.call(Call::Search { query }, Waiting::Search(task));
            }
            Err(error) => self.say(Done::no(tag, error.to_string()).with(Code::Limit)),
        }
    }

    fn bad_charset(&mut self, tag: Tag, error: CharsetError) {
        match error {
            CharsetError::Unsupported { supported } => {
                let done = Done::no(tag, error.to_string());
                self.say(done.with(Code::BadCharset(supported)));
            }
            CharsetError::Malformed => self.bad(Some(tag), &error.to_string()),
        }
    }

    pub(super) fn found(&mut self, task: SearchTask, found: Vec<(Uid, ModSeq)>) {
        let SearchTask { tag, numbering, returns, modseq } = task;
        let Some(active) = self.active() else { return };
        // What came after the last flush is not the client's to know yet.
        let known = |(uid, modseq)| {
            let sequence = active.view.sequence_of(uid)?;
            let number = match numbering {
                Numbering::Uid => uid.get(),
                Numbering::Sequence => sequence,
            };
            Some((number, modseq))
        };
        let found: Vec<(u32, ModSeq)> = found.into_iter().filter_map(known).collect();
        let numbers: Vec<u32> = found.iter().map(|(number, _)| *number).collect();
        let out = self.output.text();
        match returns {
            None => {
                let highest = found.iter().map(|(_, modseq)| *modseq).max();
                response::search(out, &numbers, highest.filter(|_| modseq));
            }
            Some(returns) => {
                let esearch = Esearch {
                    tag: &tag,
                    numbering,
                    min: numbers.first().copied().filter(|_| returns.min),
                    max: numbers.last().copied().filter(|_| returns.max),
                    all: Some(numbers.as_slice()).filter(|_| returns.all),
                    count: u32::try_from(numbers.len()).ok().filter(|_| returns.count),
                    modseq: returned_modseq(returns, &found).filter(|_| modseq),
                };
                response::esearch(out, &esearch);
            }
        }
        self.finish(Done::ok(tag, "SEARCH completed"), Flush::after(numbering));
    }
}

/// RFC 7162 §3.1.10: the highest mod-sequence of what is returned, or of all that was found.
fn returned_modseq(returns: SearchReturn, found: &[(u32, ModSeq)]) -> Option<ModSeq> {
    if returns.all || returns.count {
        return found.iter().map(|(_, modseq)| *modseq).max();
    }
    let min = found.first().filter(|_| returns.min);
    let max = found.last().filter(|_| returns.max);
    min.into_iter().chain(max).map(|(_, modseq)| *modseq).max()
}
