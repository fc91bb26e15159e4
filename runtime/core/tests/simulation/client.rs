//! Clients: each wants one thing after another of its account, over a session with some node, and keeps a
//! record of everything that it was told. The session's view is the shipped one.

use std::time::Duration;

use postroom_core::calls::{Reply, Selected};
use postroom_core::cluster::{NodeState, Origin};
use postroom_core::error::StoreError;
use postroom_core::mailbox::view::{Expunges, Notice, View};
use postroom_core::types::{
    FlagChangeKind, MailboxId, MailboxName, ModSeq, SessionId, SystemFlag, TransactionId, Uid,
    UidSet, UidValidity,
};

use crate::ask::{Answer, Answered, Ask, Request, Write};
use crate::check::Record;
use crate::process::{CALL_TIME, From};
use crate::world::{Event, Pid, World};

#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// It goes on; the number says with which pause it is done.
    Think(u64),
    Answered(SessionId, Box<Answered>),
    Disconnected(SessionId),
    /// Something has happened in its mailbox.
    Woken(SessionId),
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Select,
    Noop,
    Append,
    Deliver,
    Flag,
    Delete,
    Expunge,
    Fetch,
    Status,
    NewBox,
    DropBox,
}

struct Wanted {
    want: Want,
    since: Duration,
    /// Its connection broke meanwhile: that it had to make a new one is no wait for an owner.
    reconnected: bool,
}

struct Doing {
    want: Want,
    transaction: TransactionId,
    floor: Option<(MailboxId, ModSeq)>,
}

/// A selected mailbox.
struct Active {
    view: View,
    mailbox: MailboxId,
    validity: UidValidity,
}

pub struct Client {
    number: usize,
    account: usize,
    pub home: usize,
    pub at: Option<Pid>,
    pub session: SessionId,
    active: Option<Active>,
    wanted: Option<Wanted>,
    doing: Option<Doing>,
    name: MailboxName,
    pause: u64,
    woken: bool,
    pub record: Record,
    /// Wishes fulfilled since trouble was over.
    pub served_in_quiet: u64,
    /// It wants nothing more.
    pub stops: bool,
    pub longest: Duration,
}

fn the_box() -> MailboxName {
    MailboxName::new("Box").expect("a name")
}

impl Client {
    pub fn new(number: usize, account: usize, home: usize) -> Self {
        Self {
            number,
            account,
            home,
            at: None,
            session: SessionId(0),
            active: None,
            wanted: None,
            doing: None,
            name: MailboxName::inbox(),
            pause: 0,
            woken: false,
            record: Record::default(),
            served_in_quiet: 0,
            stops: false,
            longest: Duration::ZERO,
        }
    }

    /// Since when it waits for what it wants.
    pub fn waits_since(&self) -> Option<Duration> {
        self.wanted.as_ref().map(|wanted| wanted.since)
    }

    pub fn describe(&self) -> String {
        let want = self.wanted.as_ref().map(|wanted| (wanted.want, wanted.since));
        let doing = self.doing.as_ref().map(|doing| (doing.want, doing.transaction));
        format!("client {} at {:?} wants {want:?}, does {doing:?}", self.number, self.at)
    }
}

impl World {
    pub fn client(&mut self, at: usize, event: ClientEvent) {
        match event {
            ClientEvent::Think(pause) if self.clients[at].pause == pause => self.go_on(at),
            ClientEvent::Think(_) => {}
            ClientEvent::Answered(session, answered) if self.clients[at].session == session => {
                self.client_answered(at, *answered);
            }
            ClientEvent::Answered(..) => {}
            ClientEvent::Disconnected(session) if self.clients[at].session == session => {
                self.disconnect(at);
            }
            ClientEvent::Disconnected(_) => {}
            ClientEvent::Woken(session) => {
                let client = &mut self.clients[at];
                if client.session == session && client.active.is_some() {
                    client.woken = true;
                }
            }
        }
    }

    fn think(&mut self, at: usize, pause: Duration) {
        self.clients[at].pause += 1;
        let number = self.clients[at].pause;
        self.after(pause, Event::Client(at, ClientEvent::Think(number)));
    }

    fn disconnect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        (client.at, client.active, client.doing) = (None, None, None);
        if let Some(wanted) = &mut client.wanted {
            wanted.reconnected = true;
        }
        let pause = self.dice.millis(50, 400);
        self.think(at, pause);
    }

    fn leave(&mut self, at: usize) {
        let (pid, session, account) =
            (self.clients[at].at, self.clients[at].session, self.clients[at].account);
        if let Some(pid) = pid.filter(|pid| self.processes[*pid].up) {
            self.session_ends(pid, account, session);
        }
        self.disconnect(at);
    }

    fn connect(&mut self, at: usize) -> bool {
        let open = |world: &Self, pid: Pid| {
            let process = &world.processes[pid];
            process.state == NodeState::Up && !world.weather.lost_hosts.contains(&process.name)
        };
        let mut pid = self.reached(self.clients[at].home).filter(|pid| open(self, *pid));
        if pid.is_none() {
            let names: Vec<usize> = self.generations.keys().copied().collect();
            let pids: Vec<Pid> = names.iter().filter_map(|name| self.reached(*name)).collect();
            let pids: Vec<Pid> = pids.into_iter().filter(|pid| open(self, *pid)).collect();
            pid = self.dice.among(&pids);
        }
        let Some(pid) = pid else { return false };
        self.sessions += 1;
        let client = &mut self.clients[at];
        (client.at, client.session) = (Some(pid), SessionId(self.sessions));
        true
    }

    fn choose(&mut self, at: usize) -> Want {
        let client = &self.clients[at];
        let in_box = client.active.is_some() && client.name == the_box();
        let woken = client.woken;
        match self.dice.below(100) {
            _ if client.active.is_none() && self.dice.permille(700) => Want::Select,
            0..=22 if woken => Want::Noop,
            0..=15 => Want::Noop,
            16..=45 => Want::Append,
            46..=51 => Want::Deliver,
            52..=67 => Want::Flag,
            68..=74 => Want::Delete,
            75..=79 => Want::Expunge,
            80..=91 => Want::Fetch,
            92..=94 => Want::Status,
            95 => Want::Select,
            96..=97 => Want::NewBox,
            98 if !in_box => Want::DropBox,
            _ => Want::Noop,
        }
    }

    fn go_on(&mut self, at: usize) {
        if self.clients[at].doing.is_some() {
            return;
        }
        if self.clients[at].wanted.is_none() {
            if self.clients[at].stops {
                return;
            }
            let want = self.choose(at);
            let wanted = Wanted { want, since: self.now, reconnected: false };
            self.clients[at].wanted = Some(wanted);
        }
        if self.clients[at].at.is_none() && !self.connect(at) {
            let pause = self.dice.millis(50, 200);
            return self.think(at, pause);
        }
        self.ask(at);
    }

    fn ask(&mut self, at: usize) {
        let Some(want) = self.clients[at].wanted.as_ref().map(|wanted| wanted.want) else { return };
        let in_mailbox =
            matches!(want, Want::Noop | Want::Flag | Want::Delete | Want::Expunge | Want::Fetch);
        let want = match self.clients[at].active {
            None if in_mailbox => Want::Select,
            _ => want,
        };
        if want == Want::Select {
            let in_box = self.dice.permille(150);
            self.clients[at].name = if in_box { the_box() } else { MailboxName::inbox() };
        }
        let some = self.some_messages(at);
        let flag = self.dice.among(&[SystemFlag::Seen, SystemFlag::Flagged, SystemFlag::Answered]);
        let kind =
            self.dice.among(&[FlagChangeKind::Add, FlagChangeKind::Add, FlagChangeKind::Remove]);
        let (flag, kind) = (flag.unwrap_or(SystemFlag::Seen), kind.unwrap_or(FlagChangeKind::Add));
        let count = 1 + self.dice.below(8) / 7;
        let client = &self.clients[at];
        let ask = match (want, &client.active) {
            (Want::Noop, Some(active)) => Ask::Changes {
                since: active.view.since(),
                known: active.view.known(),
                released: active.view.released(),
            },
            (Want::Fetch, Some(_)) => Ask::Fetch(some),
            (Want::Flag, Some(_)) => Ask::Write(Write::Flag(some, flag, kind)),
            (Want::Delete, Some(_)) => {
                Ask::Write(Write::Flag(some, SystemFlag::Deleted, FlagChangeKind::Add))
            }
            (Want::Expunge, Some(_)) => Ask::Write(Write::Expunge),
            (Want::Append, Some(_)) => Ask::Write(Write::Append(client.name.clone(), count)),
            (Want::Append, None) => Ask::Write(Write::Append(MailboxName::inbox(), count)),
            (Want::Deliver, _) => Ask::Write(Write::Deliver),
            (Want::Status, _) => Ask::Status(MailboxName::inbox()),
            (Want::NewBox, _) => Ask::Write(Write::Create(the_box())),
            (Want::DropBox, _) => Ask::Write(Write::Delete(the_box())),
            (Want::Select, _) | (_, None) => Ask::Select(client.name.clone()),
        };
        let floor = client.active.as_ref().map(|it| (it.mailbox, self.check.floor(it.mailbox)));
        let floor = floor.filter(|_| want == Want::Noop);
        self.make(at, want, ask, floor);
    }

    fn make(&mut self, at: usize, want: Want, ask: Ask, floor: Option<(MailboxId, ModSeq)>) {
        let transaction = self.transaction();
        let client = &mut self.clients[at];
        let (account, session) = (client.account, client.session);
        client.doing = Some(Doing { want, transaction, floor });
        if want == Want::Noop {
            client.woken = false;
        }
        let Some(pid) = client.at else { return };
        if let Ask::Changes { released, .. } = &ask
            && let Some(it) = self.processes[pid].attachments.get_mut(&session)
        {
            it.released = it.released.max(*released);
        }
        if want == Want::Select {
            self.clients[at].active = None;
        }
        self.note(format_args!("client {at} asks {pid} for {} {transaction:?}", ask.word()));
        let request = Request { account, session, transaction, ask };
        let deadline = self.clock(pid) + CALL_TIME;
        self.take_call(pid, From::Client(at, session), request, Origin::Local, deadline);
    }

    /// One to three messages that the client knows.
    fn some_messages(&mut self, at: usize) -> UidSet {
        let Some(active) = &self.clients[at].active else { return UidSet::default() };
        let all = active.view.exists();
        let mut some = UidSet::default();
        for _ in 0..1 + self.dice.below(3) {
            let number = 1 + self.dice.below(all.max(1) as usize) as u32;
            let active = self.clients[at].active.as_ref();
            if let Some(uid) = active.and_then(|active| active.view.uid_at(number)) {
                some.insert(uid);
            }
        }
        some
    }

    fn client_answered(&mut self, at: usize, answered: Answered) {
        let Some(doing) = self.clients[at].doing.take() else {
            return self.check.broken(format!("client {at} is answered twice"));
        };
        match answered {
            Ok(answer) => {
                let broken = self.told(at, &doing, answer);
                if let Some(what) = broken {
                    self.check.broken(format!("client {at}: {what}"));
                }
                self.served(at, doing.want);
            }
            Err(StoreError::NotFound(what)) if what == "the selected mailbox" => {
                self.note(format_args!("client {at} has lost its mailbox"));
                self.leave(at);
            }
            Err(error) if error.is_temporary() => {
                self.totals.refused += 1;
                self.note(format_args!("client {at} is refused: {error}"));
                let pause = self.dice.millis(50, 300);
                self.think(at, pause);
            }
            // The answer is no, and final.
            Err(StoreError::Broken(what)) => self.check.broken(what),
            Err(_) => {
                if doing.want == Want::Select {
                    self.clients[at].name = MailboxName::inbox();
                }
                self.served(at, doing.want);
            }
        }
    }

    /// What a client was doing is done: was it what it wanted?
    fn served(&mut self, at: usize, done: Want) {
        let is_it = self.clients[at].wanted.as_ref().is_some_and(|wanted| wanted.want == done);
        if !is_it {
            return self.think(at, Duration::from_micros(100));
        }
        let now = self.now;
        let client = &mut self.clients[at];
        if let Some(wanted) = client.wanted.take()
            && !wanted.reconnected
        {
            client.longest = client.longest.max(now.saturating_sub(wanted.since));
            self.totals.longest = self.totals.longest.max(client.longest);
        }
        self.totals.served += 1;
        client.served_in_quiet += u64::from(self.is_quiet);
        let pause = self.dice.millis(20, 400);
        self.think(at, pause);
    }

    /// Writes what a client is told into its record. What goes back there is given back.
    fn told(&mut self, at: usize, doing: &Doing, answer: Answer) -> Option<String> {
        let account = self.clients[at].account;
        match answer {
            Answer::Selected(selected) => self.told_selected(at, &selected),
            Answer::Changes(changes) => {
                self.check.shown(account, changes.upto);
                let client = &mut self.clients[at];
                let active = client.active.as_mut()?;
                let mailbox = active.mailbox;
                let upto = changes.upto;
                let behind = doing.floor.filter(|(_, floor)| upto < *floor).map(|(_, floor)| {
                    format!("NOOP sees {upto}, {floor} was told to somebody before")
                });
                let expunged = changes.expunged.clone();
                let rows = changes.changed.clone();
                let notices = active.view.tell(changes, Expunges::Tell);
                let mut broken = behind.or_else(|| client.record.modseq(mailbox, upto));
                for row in &rows {
                    if !expunged.contains(row.uid) {
                        let back = client.record.flags((mailbox, row.uid), row.modseq);
                        broken = broken.or(back);
                    }
                    self.check.shown_message((mailbox, row.uid), row.modseq, &row.flags);
                }
                // In ranges there may be UIDs that never were.
                expunged.iter().for_each(|uid| client.record.removed((mailbox, uid)));
                let uids = notices.iter().filter_map(|notice| match notice {
                    Notice::Flags { uid, .. } => Some(*uid),
                    _ => None,
                });
                let unknown = uids.into_iter().find(|uid| active.view.sequence_of(*uid).is_none());
                self.check.tell(mailbox, upto);
                broken.or(unknown.map(|uid| format!("flags of UID {uid}, which has no number")))
            }
            Answer::Fetched(rows) => {
                let client = &mut self.clients[at];
                let mailbox = client.active.as_ref()?.mailbox;
                let mut broken = None;
                for seen in rows {
                    let place = (mailbox, seen.facts.uid);
                    if seen.removed.is_none() {
                        broken = broken.or(client.record.flags(place, seen.facts.modseq));
                    }
                    let attempt = TransactionId(seen.facts.thread_id.0);
                    if !self.check.is_of(place, attempt) {
                        broken = broken.or(Some(format!("UID {} is another message", place.1)));
                    }
                    self.check.shown_message(place, seen.facts.modseq, &seen.flags);
                    self.check.shown(account, seen.facts.modseq);
                }
                broken
            }
            Answer::Status(status) => {
                self.check.shown(account, status.highest_modseq);
                None
            }
            Answer::Done(reply) => self.told_done(at, doing, reply),
            Answer::Attached => Some("an answer to nothing that it asked".into()),
        }
    }

    fn told_selected(&mut self, at: usize, selected: &Selected) -> Option<String> {
        let status = &selected.status;
        let (account, mailbox) = (self.clients[at].account, status.mailbox);
        self.check.shown(account, status.highest_modseq);
        self.check.tell(mailbox, status.highest_modseq);
        let client = &mut self.clients[at];
        self.check.active.insert(client.session, mailbox);
        let name = client.name.clone();
        let validity = status.uid_validity;
        let broken = client.record.validity(&name, validity);
        let broken = broken.or_else(|| client.record.modseq(mailbox, status.highest_modseq));
        let broken = broken.or_else(|| client.record.next(mailbox, status.uid_next));
        client.active = Some(Active { view: View::new(selected), mailbox, validity });
        broken
    }

    fn told_done(&mut self, at: usize, doing: &Doing, reply: Reply) -> Option<String> {
        self.check.acknowledged(doing.transaction, &reply);
        let client = &mut self.clients[at];
        match reply {
            Reply::Appended { mailbox, uid_validity, uids, .. } => {
                let last = uids.last().and_then(|uid: &Uid| uid.next())?;
                let active = client.active.as_ref().filter(|active| active.mailbox == mailbox);
                if active.is_some_and(|active| active.validity != uid_validity) {
                    return Some("APPENDUID has another UIDVALIDITY than SELECT".into());
                }
                client.record.next_is_beyond(mailbox, last);
                None
            }
            Reply::Stored { rows, .. } => {
                let active = client.active.as_mut()?;
                let mailbox = active.mailbox;
                let mut broken = None;
                for row in &rows {
                    let at = (mailbox, row.uid);
                    // The rows are as they are in memory, perhaps after a later commit.
                    broken = broken.or(client.record.flags(at, row.modseq));
                    self.check.shown_message(at, row.modseq, &row.flags);
                }
                active.view.stored(rows, postroom_core::mailbox::view::Echo::Show);
                broken
            }
            _ => None,
        }
    }
}
