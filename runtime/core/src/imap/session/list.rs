//! LIST (RFC 9051 §6.3.9, RFC 5258, RFC 5819) and LSUB (RFC 3501 §6.3.9).

use std::collections::VecDeque;

use crate::calls::{Call, MailboxList, MailboxStatus};
use crate::imap::command::{List, StatusItem, Tag};
use crate::imap::list_match::ListPattern;
use crate::imap::response::{self, ListLine};

use super::ImapSession;
use super::flow::{Done, Waiting};
use super::list_plan::{self, Line};
use super::mailboxes::ANYTHING;

/// A LIST or LSUB under way.
pub(super) struct ListTask {
    pub(super) tag: Tag,
    question: Question,
    /// Lines that were not written yet; with STATUS, the first has been written.
    lines: VecDeque<Line>,
    /// What of each mailbox is asked.
    status: Option<Vec<StatusItem>>,
}

enum Question {
    List(List),
    Lsub(ListPattern),
}

impl ImapSession {
    pub(super) fn list(&mut self, tag: Tag, list: List) {
        let asks_delimiter = !list.extended && list.patterns.iter().all(ListPattern::is_empty);
        if asks_delimiter {
            response::list_delimiter(self.output.text());
            return self.finish(Done::ok(tag, "LIST completed"), ANYTHING);
        }
        let status = list.returns.status.clone();
        if status.as_ref().is_some_and(|items| items.contains(&StatusItem::HighestModSeq)) {
            self.enable_condstore();
        }
        let question = Question::List(list);
        let task = ListTask { tag, question, lines: VecDeque::new(), status };
        self.call(Call::Mailboxes, Waiting::List(task));
    }

    pub(super) fn lsub(&mut self, tag: Tag, reference: &ListPattern, pattern: &ListPattern) {
        let question = Question::Lsub(pattern.under(reference));
        let task = ListTask { tag, question, lines: VecDeque::new(), status: None };
        self.call(Call::Mailboxes, Waiting::List(task));
    }

    pub(super) fn list_planned(&mut self, mut task: ListTask, all: &MailboxList) {
        match &task.question {
            Question::Lsub(pattern) => {
                for line in list_plan::lsub(all, pattern) {
                    response::lsub(self.output.text(), &line.attributes, &line.name);
                }
                self.finish(Done::ok(task.tag, "LSUB completed"), ANYTHING);
            }
            Question::List(list) => {
                task.lines = list_plan::list(all, list).into();
                self.list_lines(task);
            }
        }
    }

    /// Writes lines up to one whose STATUS is wanted (RFC 5819 §2: it follows its line).
    fn list_lines(&mut self, mut task: ListTask) {
        while let Some(line) = task.lines.front() {
            let (attributes, name) = (&line.attributes, &line.name);
            let subscribed_below = line.subscribed_below;
            response::list(self.output.text(), &ListLine { attributes, name, subscribed_below });
            if line.exists && task.status.is_some() {
                let call = Call::Status { name: name.clone() };
                return self.call(call, Waiting::ListStatus(task));
            }
            task.lines.pop_front();
        }
        self.finish(Done::ok(task.tag, "LIST completed"), ANYTHING);
    }

    /// `None`: the mailbox has vanished meanwhile.
    pub(super) fn list_status_answered(
        &mut self,
        mut task: ListTask,
        status: Option<MailboxStatus>,
    ) {
        let line = task.lines.pop_front();
        if let (Some(line), Some(status), Some(items)) = (line, status, &task.status) {
            self.write_status(&line.name, status, items);
        }
        self.list_lines(task);
    }
}
