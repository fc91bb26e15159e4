//! A client's side for tests: writes commands, in each form that the grammar leaves free.

use crate::imap::command::*;
use crate::imap::list_match::ListPattern;
use crate::imap::{object_id, utf7};
use crate::types::{FlagChangeKind, Flags, MailboxName};

/// Writes a command without its line end. `forms` chooses between atoms, quotes and literals, one
/// octet for each string, over and over.
pub(super) fn write(command: &Command, forms: &[u8]) -> Vec<u8> {
    let mut writer = Writer { out: Vec::new(), forms, strings: 0 };
    writer.put(command.tag.as_str());
    writer.put(" ");
    writer.body(&command.body);
    writer.out
}

struct Writer<'a> {
    out: Vec<u8>,
    forms: &'a [u8],
    strings: usize,
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn spaced<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        for (i, item) in items.iter().enumerate() {
            self.put(if i == 0 { "" } else { " " });
            write(self, item);
        }
    }

    fn listed<T>(&mut self, items: &[T], write: impl FnMut(&mut Self, &T)) {
        self.put("(");
        self.spaced(items, write);
        self.put(")");
    }

    fn form(&mut self) -> u8 {
        self.strings += 1;
        self.forms.get((self.strings - 1) % self.forms.len().max(1)).copied().unwrap_or(0)
    }

    /// A string that need not be an atom.
    fn string(&mut self, octets: &[u8]) {
        let quotable = !octets.iter().any(|c| matches!(c, b'\r' | b'\n' | 0));
        let form = self.form();
        if !form.is_multiple_of(3) && quotable {
            self.put("\"");
            for &c in octets {
                if c == b'"' || c == b'\\' {
                    self.out.push(b'\\');
                }
                self.out.push(c);
            }
            self.put("\"");
        } else {
            let plus = if form.is_multiple_of(2) { "+" } else { "" };
            self.put(&format!("{{{}{plus}}}\r\n", octets.len()));
            self.out.extend_from_slice(octets);
        }
    }

    fn astring(&mut self, octets: &[u8]) {
        let atom = |c: &u8| c.is_ascii_graphic() && !b"(){%*\"\\".contains(c);
        if !octets.is_empty() && octets.iter().all(atom) && self.form().is_multiple_of(2) {
            self.out.extend_from_slice(octets);
        } else {
            self.string(octets);
        }
    }

    fn name(&mut self, name: &MailboxName) {
        self.astring(utf7::encode(name.as_str()).as_bytes());
    }

    fn pattern(&mut self, pattern: &ListPattern) {
        let text = utf7::encode(pattern.as_str());
        let plain = |c: u8| c.is_ascii_graphic() && !b"(){\"\\".contains(&c);
        if !text.is_empty() && text.bytes().all(plain) && self.form().is_multiple_of(2) {
            self.put(&text);
        } else {
            self.string(text.as_bytes());
        }
    }

    fn body(&mut self, body: &CommandBody) {
        match body {
            CommandBody::Capability => self.put("CAPABILITY"),
            CommandBody::Noop => self.put("NOOP"),
            CommandBody::Logout => self.put("LOGOUT"),
            CommandBody::StartTls => self.put("STARTTLS"),
            CommandBody::Namespace => self.put("NAMESPACE"),
            CommandBody::Check => self.put("CHECK"),
            CommandBody::Close => self.put("CLOSE"),
            CommandBody::Unselect => self.put("UNSELECT"),
            CommandBody::Expunge => self.put("EXPUNGE"),
            CommandBody::Idle => self.put("IDLE"),
            CommandBody::Login { .. } | CommandBody::Authenticate { .. } => self.access(body),
            CommandBody::Id(_) | CommandBody::Enable(_) => self.access(body),
            CommandBody::UidExpunge(set) => {
                self.put("UID EXPUNGE ");
                self.set(set);
            }
            CommandBody::Search(search) => self.search(search),
            CommandBody::Fetch(fetch) => self.fetch(fetch),
            CommandBody::Store(store) => self.store(store),
            CommandBody::Copy(transfer) => self.transfer("COPY ", transfer),
            CommandBody::Move(transfer) => self.transfer("MOVE ", transfer),
            mailbox => self.mailbox(mailbox),
        }
    }

    fn access(&mut self, body: &CommandBody) {
        use base64::Engine as _;
        match body {
            CommandBody::Login { user, password } => {
                self.put("LOGIN ");
                self.astring(user.as_bytes());
                self.put(" ");
                self.astring(&password.0);
            }
            CommandBody::Authenticate { mechanism, initial } => {
                self.put(&format!("AUTHENTICATE {mechanism}"));
                if let Some(SecretOctets(octets)) = initial {
                    let base64 = base64::engine::general_purpose::STANDARD.encode(octets);
                    self.put(if octets.is_empty() { " =" } else { " " });
                    self.put(&base64);
                }
            }
            CommandBody::Id(None) => self.put("ID NIL"),
            CommandBody::Id(Some(pairs)) => {
                self.put("ID ");
                self.listed(pairs, |w, (key, value)| {
                    w.string(key.as_bytes());
                    w.put(" ");
                    match value {
                        Some(value) => w.string(value.as_bytes()),
                        None => w.put("NIL"),
                    }
                });
            }
            CommandBody::Enable(words) => self.put(&format!("ENABLE {}", words.join(" "))),
            other => unreachable!("{other:?}"),
        }
    }

    fn mailbox(&mut self, body: &CommandBody) {
        let mut named = |verb: &str, name| {
            self.put(verb);
            self.name(name);
        };
        match body {
            CommandBody::Select { mailbox, condstore } => {
                named("SELECT ", mailbox);
                self.put(if *condstore { " (CONDSTORE)" } else { "" });
            }
            CommandBody::Examine { mailbox, condstore } => {
                named("EXAMINE ", mailbox);
                self.put(if *condstore { " (CONDSTORE)" } else { "" });
            }
            CommandBody::Create { mailbox, special_use } => {
                named("CREATE ", mailbox);
                if !special_use.is_empty() {
                    self.put(" (USE ");
                    self.listed(special_use, |w, special_use| w.put(special_use.name()));
                    self.put(")");
                }
            }
            CommandBody::Delete(mailbox) => named("DELETE ", mailbox),
            CommandBody::Subscribe(mailbox) => named("SUBSCRIBE ", mailbox),
            CommandBody::Unsubscribe(mailbox) => named("UNSUBSCRIBE ", mailbox),
            CommandBody::Rename { from, to } => {
                named("RENAME ", from);
                named(" ", to);
            }
            CommandBody::Status { mailbox, items } => {
                named("STATUS ", mailbox);
                self.put(" ");
                self.listed(items, |w, item| w.put(item.name()));
            }
            CommandBody::Lsub { reference, pattern } => {
                self.put("LSUB ");
                self.astring(utf7::encode(reference.as_str()).as_bytes());
                self.put(" ");
                self.pattern(pattern);
            }
            CommandBody::List(list) => self.list(list),
            other => unreachable!("{other:?}"),
        }
    }

    fn list(&mut self, list: &List) {
        self.put("LIST ");
        let ListSelect { subscribed, remote, recursive_match, special_use } = list.select;
        let options = [
            (remote, "REMOTE"),
            (recursive_match, "RECURSIVEMATCH"),
            (subscribed, "SUBSCRIBED"),
            (special_use, "SPECIAL-USE"),
        ];
        let options: Vec<_> = options.into_iter().filter(|(on, _)| *on).collect();
        if !options.is_empty() {
            self.listed(&options, |w, (_, word)| w.put(word));
            self.put(" ");
        }
        self.astring(utf7::encode(list.reference.as_str()).as_bytes());
        self.put(" ");
        match list.patterns.as_slice() {
            [pattern] => self.pattern(pattern),
            patterns => self.listed(patterns, |w, pattern| w.pattern(pattern)),
        }
        let seen = list.select != ListSelect::default() || list.patterns.len() > 1;
        if !list.extended || (seen && list.returns == ListReturn::default()) {
            return;
        }
        self.put(" RETURN (");
        let returns = &list.returns;
        let options = [
            (returns.subscribed, "SUBSCRIBED"),
            (returns.children, "CHILDREN"),
            (returns.special_use, "SPECIAL-USE"),
            (returns.status.is_some(), "STATUS"),
        ];
        let options: Vec<_> = options.into_iter().filter(|(on, _)| *on).collect();
        self.spaced(&options, |w, (_, word)| w.put(word));
        if let Some(items) = &returns.status {
            self.put(" ");
            self.listed(items, |w, item| w.put(item.name()));
        }
        self.put(")");
    }

    fn set(&mut self, set: &SequenceSet) {
        let number = |n| match n {
            SetNumber::Number(n) => n.to_string(),
            SetNumber::Largest => "*".to_owned(),
        };
        let range = |r: &SetRange| match r.first == r.last {
            true => number(r.first),
            false => format!("{}:{}", number(r.first), number(r.last)),
        };
        let ranges: Vec<String> = set.0.iter().map(range).collect();
        self.put(&ranges.join(","));
    }

    fn verb(&mut self, numbering: Numbering, verb: &str) {
        self.put(if numbering == Numbering::Uid { "UID " } else { "" });
        self.put(verb);
    }

    fn transfer(&mut self, verb: &str, transfer: &Transfer) {
        self.verb(transfer.numbering, verb);
        self.set(&transfer.set);
        self.put(" ");
        self.name(&transfer.to);
    }

    fn flags(&mut self, flags: &Flags) {
        let flags: Vec<String> = flags.iter().map(|flag| flag.to_string()).collect();
        self.put(&format!("({})", flags.join(" ")));
    }

    fn store(&mut self, store: &Store) {
        self.verb(store.numbering, "STORE ");
        self.set(&store.set);
        if let Some(modseq) = store.unchanged_since {
            self.put(&format!(" (UNCHANGEDSINCE {modseq})"));
        }
        self.put(match store.change.kind {
            FlagChangeKind::Replace => " FLAGS",
            FlagChangeKind::Add => " +FLAGS",
            FlagChangeKind::Remove => " -FLAGS",
        });
        self.put(if store.silent { ".SILENT " } else { " " });
        self.flags(&store.change.flags);
    }

    fn fetch(&mut self, fetch: &Fetch) {
        self.verb(fetch.numbering, "FETCH ");
        self.set(&fetch.set);
        self.put(" ");
        match fetch.items.as_slice() {
            [item] => self.item(item),
            items => self.listed(items, |w, item| w.item(item)),
        }
        if let Some(modseq) = fetch.changed_since {
            self.put(&format!(" (CHANGEDSINCE {modseq})"));
        }
    }

    fn item(&mut self, item: &FetchItem) {
        let name = match item {
            FetchItem::Body => "BODY",
            FetchItem::BodyStructure => "BODYSTRUCTURE",
            FetchItem::Envelope => "ENVELOPE",
            FetchItem::Flags => "FLAGS",
            FetchItem::InternalDate => "INTERNALDATE",
            FetchItem::Rfc822 => "RFC822",
            FetchItem::Rfc822Header => "RFC822.HEADER",
            FetchItem::Rfc822Size => "RFC822.SIZE",
            FetchItem::Rfc822Text => "RFC822.TEXT",
            FetchItem::Uid => "UID",
            FetchItem::ModSeq => "MODSEQ",
            FetchItem::EmailId => "EMAILID",
            FetchItem::ThreadId => "THREADID",
            FetchItem::Section { section, partial, peek } => {
                self.put(if *peek { "BODY.PEEK[" } else { "BODY[" });
                self.section(section);
                self.put("]");
                if let Some(Partial { first, count }) = partial {
                    self.put(&format!("<{first}.{count}>"));
                }
                return;
            }
        };
        self.put(name);
    }

    fn section(&mut self, section: &Section) {
        let part: Vec<String> = section.part.iter().map(ToString::to_string).collect();
        self.put(&part.join("."));
        if section.text != SectionText::All && !part.is_empty() {
            self.put(".");
        }
        match &section.text {
            SectionText::All => {}
            SectionText::Header => self.put("HEADER"),
            SectionText::Text => self.put("TEXT"),
            SectionText::Mime => self.put("MIME"),
            SectionText::HeaderFields(names) => {
                self.put("HEADER.FIELDS ");
                self.listed(names, |w, name| w.astring(name.as_bytes()));
            }
            SectionText::HeaderFieldsNot(names) => {
                self.put("HEADER.FIELDS.NOT ");
                self.listed(names, |w, name| w.astring(name.as_bytes()));
            }
        }
    }

    fn search(&mut self, search: &Search) {
        self.verb(search.numbering, "SEARCH ");
        if let Some(SearchReturn { min, max, all, count }) = search.returns {
            let options = [(min, "MIN"), (max, "MAX"), (all, "ALL"), (count, "COUNT")];
            let options: Vec<_> = options.into_iter().filter(|(on, _)| *on).collect();
            self.put("RETURN ");
            self.listed(&options, |w, (_, word)| w.put(word));
            self.put(" ");
        }
        if let Some(charset) = &search.charset {
            self.put("CHARSET ");
            self.astring(charset.as_bytes());
            self.put(" ");
        }
        match &search.key {
            SearchKey::And(keys) if self.form().is_multiple_of(2) => self.spaced(keys, Self::key),
            key => self.key(key),
        }
    }

    fn key(&mut self, key: &SearchKey) {
        match key {
            SearchKey::And(keys) => self.listed(keys, Self::key),
            SearchKey::Or(left, right) => {
                self.put("OR ");
                self.key(left);
                self.put(" ");
                self.key(right);
            }
            SearchKey::Not(key) => {
                self.put("NOT ");
                self.key(key);
            }
            SearchKey::Sequence(set) => self.set(set),
            SearchKey::Uid(set) => {
                self.put("UID ");
                self.set(set);
            }
            SearchKey::Header(header, text) => self.text_key(header.name(), text),
            SearchKey::Body(text) => self.text_key("BODY", text),
            SearchKey::Text(text) => self.text_key("TEXT", text),
            SearchKey::AnyHeader { name, text } => {
                self.text_key("HEADER", name);
                self.put(" ");
                self.astring(text);
            }
            key => {
                let text = plain_key(key);
                self.put(&text);
            }
        }
    }

    fn text_key(&mut self, name: &str, text: &[u8]) {
        self.put(name);
        self.put(" ");
        self.astring(text);
    }
}

/// A key without strings in it.
fn plain_key(key: &SearchKey) -> String {
    use crate::types::Flag;
    let date = |name: &str, date: &time::Date| {
        let month = &date.month().to_string()[..3];
        format!("{name} {}-{month}-{:04}", date.day(), date.year())
    };
    match key {
        SearchKey::All => "ALL".to_owned(),
        SearchKey::Recent => "RECENT".to_owned(),
        SearchKey::Old => "OLD".to_owned(),
        SearchKey::New => "NEW".to_owned(),
        SearchKey::Flag(Flag::System(flag)) => flag.name()[1..].to_uppercase(),
        SearchKey::NotFlag(Flag::System(flag)) => format!("UN{}", &flag.name()[1..]),
        SearchKey::Flag(Flag::Keyword(keyword)) => format!("KEYWORD {}", keyword.as_str()),
        SearchKey::NotFlag(Flag::Keyword(keyword)) => format!("UNKEYWORD {}", keyword.as_str()),
        SearchKey::Before(day) => date("BEFORE", day),
        SearchKey::On(day) => date("ON", day),
        SearchKey::Since(day) => date("SINCE", day),
        SearchKey::SentBefore(day) => date("SENTBEFORE", day),
        SearchKey::SentOn(day) => date("SENTON", day),
        SearchKey::SentSince(day) => date("SENTSINCE", day),
        SearchKey::Larger(octets) => format!("LARGER {octets}"),
        SearchKey::Smaller(octets) => format!("SMALLER {octets}"),
        SearchKey::ModSeq(modseq) => format!("MODSEQ {modseq}"),
        SearchKey::Older(seconds) => format!("OLDER {seconds}"),
        SearchKey::Younger(seconds) => format!("YOUNGER {seconds}"),
        SearchKey::EmailId(id) => {
            format!("EMAILID {}", id.map_or("x".to_owned(), object_id::email_id))
        }
        SearchKey::ThreadId(id) => {
            format!("THREADID {}", id.map_or("x".to_owned(), object_id::thread_id))
        }
        other => unreachable!("{other:?}"),
    }
}
