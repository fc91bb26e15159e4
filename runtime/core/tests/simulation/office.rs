//! An open account on a node: the shipped drafts, plans, views and sessions, driven as the node's `mailbox/`
//! does. One commit at a time; an outcome that is unknown is resolved before anything else is done.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_core::calls::Changes;
use postroom_core::cluster::{Attempt, CallId, Fence, Input};
use postroom_core::error::StoreError;
use postroom_core::mailbox::{
    Account, Context, Draft, Op, Outcome, Planned, Sessions, Step, ledger,
};
use postroom_core::types::{MailboxId, MailboxName, SessionId, Slot};

use crate::Plant;
use crate::ask::{Answer, Answered, Ask, Request};
use crate::disk::Disk;
use crate::engine::{ForStorage, FromStorage, Waits};
use crate::storage::{Commit, Refusal};
use crate::world::{Pid, ToProcess, World};

/// How often the account is read to find out what became of a commit, with these pauses before.
const RESOLVE_PAUSES: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// Most operations in one commit.
const MAX_BATCH: usize = 8;
/// Rows that one FETCH is answered with.
pub const MAX_FETCHED: usize = 100;

/// A call that runs here.
#[derive(Clone, Debug)]
pub struct Job {
    pub call: CallId,
    pub attempt: Attempt,
    pub fence: Fence,
    pub request: Request,
    /// The session is attached first.
    pub attach: Option<Request>,
}

#[derive(Clone, Debug)]
pub enum OfficeEvent {
    Storage(Option<FromStorage>),
    Resolve,
}

/// What an account waits for.
#[derive(Default)]
pub enum Doing {
    #[default]
    Nothing,
    Loading,
    /// What a call with nothing left to do came to, perhaps before.
    Finding(Job, Result<Outcome, StoreError>),
    Committing(Batch),
    /// What became of a commit; whether it may still come to be.
    Resolving {
        jobs: Vec<Job>,
        tries: usize,
        gave_up: bool,
        found: Option<Vec<Option<Bytes>>>,
    },
}

pub struct Batch {
    draft: Draft,
    jobs: Vec<(Job, Result<Outcome, StoreError>)>,
    fence: Fence,
}

#[derive(Default)]
pub struct Office {
    pub number: u64,
    state: Option<Account>,
    previous: Option<Account>,
    pub sessions: Sessions,
    claimed: BTreeSet<MailboxId>,
    fence: Option<Fence>,
    head: u64,
    queue: VecDeque<Job>,
    pub doing: Doing,
    /// Nothing more is begun; who is told when all is done.
    closing: Option<Fence>,
}

impl Office {
    fn drop_state(&mut self) {
        if let Some(state) = self.state.take() {
            self.previous = Some(state);
        }
    }

    fn forget_told(&mut self, id: MailboxId) {
        let told = self.sessions.told(id);
        let state = self.state.as_mut().and_then(|state| state.mailbox_mut(id));
        if let Some(open) = state.and_then(|mailbox| mailbox.open.as_mut()) {
            open.forget(told);
        }
    }

    fn install(&mut self, mut state: Account, touched: &BTreeSet<MailboxId>) {
        if let Some(before) = self.state.as_ref().or(self.previous.as_ref()) {
            state.adopt(before, self.claimed.iter().copied());
        }
        (self.previous, self.state) = (None, Some(state));
        touched.iter().for_each(|id| self.forget_told(*id));
    }

    /// Takes what was read in the place of what was in memory, with what sessions may still see.
    fn install_read(&mut self, disk: &Disk) -> Result<(), StoreError> {
        let mut state = disk.read()?;
        let active: Vec<MailboxId> = self.sessions.mailboxes().collect();
        for id in &active {
            let Some(mailbox) = state.mailbox(*id).cloned() else { continue };
            let told = self.sessions.told(*id).unwrap_or(mailbox.counters.removed);
            let before = self.previous.as_ref().and_then(|it| it.mailbox(*id)?.open.clone());
            match before {
                Some(before) => {
                    let gone = disk.tombstones(*id, told, mailbox.counters.highest_modseq);
                    let mut opened = (*mailbox).clone();
                    if let Some(open) = &mut opened.open {
                        open.inherit(&before, &gone);
                    }
                    state.replace(opened);
                }
                None if told < mailbox.counters.removed => {
                    while let Some(session) = self.sessions.slowest(*id) {
                        self.sessions.deselect(session);
                    }
                }
                None => {}
            }
        }
        self.head = disk.head;
        self.install(state, &active.into_iter().collect());
        Ok(())
    }

    fn read(&mut self, disk: &Disk, request: &Request) -> Answered {
        let gone = || StoreError::NotFound("the selected mailbox".into());
        let session = request.session;
        match &request.ask {
            Ask::Select(name) => self.select(session, name),
            Ask::Attach { mailbox, uid_validity, released } => {
                self.sessions.deselect(session);
                let state = self.state.as_mut().ok_or_else(gone)?;
                let it = state.mailbox_mut(*mailbox).ok_or_else(gone)?;
                let counters = it.counters;
                if it.row.uid_validity != *uid_validity {
                    return Err(gone());
                }
                if *released > counters.highest_modseq {
                    return Err(StoreError::Damaged(format!("mailbox {mailbox} has gone back")));
                }
                if *released < counters.removed {
                    let removals = disk.tombstones(*mailbox, *released, counters.removed);
                    it.open.as_mut().ok_or_else(gone)?.depart(&removals);
                }
                self.sessions.select(session, *mailbox, true, *released);
                Ok(Answer::Attached)
            }
            Ask::Changes { since, known, released } => {
                self.sessions.release(session, *released);
                let id = self.sessions.active(session).ok_or_else(gone)?.mailbox;
                self.forget_told(id);
                let state = self.state.as_mut().ok_or_else(gone)?;
                self.claimed.insert(id);
                let mailbox = state.mailbox_mut(id).ok_or_else(gone)?;
                let recent = mailbox.claim_recent();
                let changes = mailbox.changes(*since, *known);
                Ok(Answer::Changes(Changes { recent, ..changes }))
            }
            Ask::Fetch(uids) => {
                let active = self.sessions.active(session).ok_or_else(gone)?;
                let state = self.state.as_ref().ok_or_else(gone)?;
                let open = state.mailbox(active.mailbox).and_then(|it| it.open.as_ref());
                let open = open.ok_or_else(gone)?;
                Ok(Answer::Fetched(open.visible(uids, active.released, MAX_FETCHED).0))
            }
            Ask::Status(name) => {
                let mailbox = self.state.as_ref().and_then(|state| state.find(name));
                mailbox.map(|it| Answer::Status(it.status())).ok_or_else(gone)
            }
            Ask::Write(_) => Err(StoreError::Broken("a write is no read".into())),
        }
    }

    fn select(&mut self, session: SessionId, name: &MailboxName) -> Answered {
        let gone = || StoreError::NotFound(format!("mailbox {name}"));
        if let Some(id) = self.sessions.deselect(session) {
            self.forget_told(id);
        }
        let state = self.state.as_mut().ok_or_else(gone)?;
        let id = state.find(name).ok_or_else(gone)?.row.id;
        self.claimed.insert(id);
        let mailbox = state.mailbox_mut(id).ok_or_else(gone)?;
        let recent = mailbox.claim_recent();
        self.sessions.select(session, id, true, mailbox.counters.highest_modseq);
        Ok(Answer::Selected(Box::new(mailbox.selected(recent, true))))
    }
}

impl World {
    pub fn take_job(&mut self, pid: Pid, job: Job) {
        let account = job.request.account;
        let process = &mut self.processes[pid];
        process.asked += 1;
        let number = process.asked;
        let office = process
            .offices
            .entry(account)
            .or_insert_with(|| Office { number, ..Office::default() });
        office.queue.push_back(job);
        self.pump(pid, account);
    }

    pub fn leave_office(&mut self, pid: Pid, account: usize, session: SessionId) {
        if let Some(office) = self.processes[pid].offices.get_mut(&account)
            && let Some(id) = office.sessions.deselect(session)
        {
            office.forget_told(id);
        }
    }

    fn office(&mut self, pid: Pid, account: usize) -> Option<&mut Office> {
        self.processes[pid].offices.get_mut(&account)
    }

    /// Answers what can be answered, and begins the next thing.
    fn pump(&mut self, pid: Pid, account: usize) {
        loop {
            self.answer_reads(pid, account);
            let slot = self.slot(account);
            let held = self.processes[pid].held.get(&slot).copied();
            let Some(office) = self.office(pid, account) else { return };
            if !matches!(office.doing, Doing::Nothing) {
                return;
            }
            if office.queue.is_empty() {
                if let Some(fence) = office.closing {
                    self.remove_office(pid, account);
                    self.settled_soon(pid, fence);
                }
                return;
            }
            if office.state.is_none() {
                match held {
                    Some(fence) => {
                        office.fence = Some(fence);
                        return self.load(pid, account);
                    }
                    None => self.fail_all(pid, account, &StoreError::Fenced),
                }
                continue;
            }
            if !self.begin_batch(pid, account) {
                return;
            }
        }
    }

    fn answer_reads(&mut self, pid: Pid, account: usize) {
        let disk = self.storage.accounts.get(&account).cloned().unwrap_or_default();
        let Some(office) = self.office(pid, account) else { return };
        if office.state.is_none() {
            return;
        }
        let mut done = Vec::new();
        let is_read = |job: &Job| !matches!(job.request.ask, Ask::Write(_));
        let jobs: Vec<Job> = office.queue.iter().filter(|job| is_read(job)).cloned().collect();
        office.queue.retain(|job| !is_read(job));
        for job in jobs {
            let attached = match &job.attach {
                Some(attach) => office.read(&disk, attach).map(drop),
                None => Ok(()),
            };
            let answered = attached.and_then(|()| office.read(&disk, &job.request));
            done.push((job, answered));
        }
        done.into_iter().for_each(|(job, answered)| self.job_done(pid, job, answered));
    }

    fn load(&mut self, pid: Pid, account: usize) {
        let Some(office) = self.office(pid, account) else { return };
        office.doing = Doing::Loading;
        let number = office.number;
        self.ask_storage(pid, Waits::Office(account, number), ForStorage::Load(account));
    }

    fn fail_all(&mut self, pid: Pid, account: usize, error: &StoreError) {
        let Some(office) = self.office(pid, account) else { return };
        let jobs: Vec<Job> = office.queue.drain(..).collect();
        jobs.into_iter().for_each(|job| self.job_done(pid, job, Err(error.clone())));
    }

    /// Plans what waits, and commits it. True: there is something to go on with at once.
    fn begin_batch(&mut self, pid: Pid, account: usize) -> bool {
        let disk = self.storage.accounts.get(&account).cloned().unwrap_or_default();
        let wall = self.processes[pid].clock.wall(self.now);
        let mut minted: Vec<[u8; 16]> = Vec::new();
        let Some(office) = self.processes[pid].offices.get_mut(&account) else { return false };
        let (Some(state), Some(fence)) = (office.state.clone(), office.fence) else { return true };
        let mut draft = Draft::new(&state);
        let (mut steps, mut jobs) = (Vec::new(), Vec::new());
        while jobs.len() < MAX_BATCH
            && let Some(job) = office.queue.front().cloned()
        {
            let same = |(other, _): &(Job, _)| other.request.transaction == job.request.transaction;
            if jobs.iter().any(same) {
                break;
            }
            let attached = match &job.attach {
                Some(attach) if office.sessions.active(job.request.session).is_none() => {
                    office.read(&disk, attach).map(drop)
                }
                _ => Ok(()),
            };
            let dice = &mut self.dice;
            let mut mint = || {
                minted.push(dice.octets());
                *minted.last().expect("just pushed")
            };
            let planned = attached.and_then(|()| {
                let mut context = Context { now: wall, quota: None, mint: &mut mint };
                let active = office.sessions.active(job.request.session).map(|it| it.mailbox);
                plan(&mut draft, &job.request, active, &mut context)
            });
            let idle = planned.as_ref().map_or(true, |planned| planned.steps.is_empty());
            if idle && !jobs.is_empty() {
                break;
            }
            office.queue.pop_front();
            if idle {
                // What it did the first time is its answer, if there was a first time.
                let question = ForStorage::Find(account, vec![job.request.transaction]);
                office.doing = Doing::Finding(job, planned.map(|planned| planned.outcome));
                let number = office.number;
                self.ask_storage(pid, Waits::Office(account, number), question);
                return false;
            }
            if let Ok(planned) = planned {
                steps.extend(planned.steps);
                jobs.push((job, Ok(planned.outcome)));
            }
        }
        if !draft.has_changes() {
            return false;
        }
        self.send_commit(pid, account, Batch { draft, jobs, fence }, steps);
        false
    }

    fn send_commit(&mut self, pid: Pid, account: usize, batch: Batch, steps: Vec<Step>) {
        let Some(office) = self.office(pid, account) else { return };
        let transactions = batch.jobs.iter().filter_map(|(job, outcome)| {
            Some((job.request.transaction, ledger::encode(outcome.as_ref().ok()?)))
        });
        let commit = Commit {
            account,
            fence: batch.fence,
            expected_head: office.head,
            transactions: transactions.collect(),
            steps,
            ledger: batch.draft.ledger(),
        };
        let number = office.number;
        let early = self.setup.plant == Some(Plant::AnswerBeforeCommit);
        let told: Vec<_> = if early { batch.jobs.clone() } else { Vec::new() };
        let state = batch.draft.account().clone();
        if let Some(office) = self.office(pid, account) {
            office.doing = Doing::Committing(batch);
        }
        let question = ForStorage::Commit(Box::new(commit));
        self.ask_storage(pid, Waits::Office(account, number), question);
        for (job, outcome) in told {
            let answered = outcome.map(|outcome| Answer::Done(outcome.reply(&state)));
            self.job_done(pid, job, answered);
        }
    }

    /// Whether this process waits for a commit under a fence.
    pub fn commits_under(&self, pid: Pid, fence: &Fence) -> bool {
        let commits = |office: &Office| matches!(&office.doing, Doing::Committing(batch) if batch.fence == *fence);
        self.processes[pid].offices.values().any(commits)
    }

    pub fn office_event(&mut self, pid: Pid, account: usize, number: u64, event: OfficeEvent) {
        let Some(office) = self.office(pid, account).filter(|office| office.number == number)
        else {
            return;
        };
        let doing = std::mem::take(&mut office.doing);
        match (doing, event) {
            (Doing::Loading, OfficeEvent::Storage(answer)) => self.loaded(pid, account, answer),
            (Doing::Finding(job, planned), OfficeEvent::Storage(answer)) => {
                self.found(pid, account, job, planned, answer);
            }
            (Doing::Committing(batch), OfficeEvent::Storage(answer)) => {
                self.committed(pid, account, batch, answer);
            }
            (Doing::Resolving { jobs, tries, gave_up, found }, event) => {
                self.resolving(pid, account, (jobs, tries, gave_up, found), event);
            }
            (doing, _) => {
                if let Some(office) = self.office(pid, account) {
                    office.doing = doing;
                }
            }
        }
        self.pump(pid, account);
    }

    /// Takes what was read. False: storage is behind what this process was told, or is damaged.
    fn take_disk(&mut self, pid: Pid, account: usize, disk: &Arc<Disk>) -> bool {
        let known = self.processes[pid].heads.entry(account).or_default();
        if disk.head < *known {
            self.note(format_args!("{pid}: {account} went back to {}", disk.head));
            return false;
        }
        *known = disk.head;
        let Some(office) = self.office(pid, account) else { return false };
        match office.install_read(disk) {
            Ok(()) => true,
            Err(error) => {
                self.check.broken(format!("account {account} cannot be read: {error}"));
                false
            }
        }
    }

    fn loaded(&mut self, pid: Pid, account: usize, answer: Option<FromStorage>) {
        let away = StoreError::Unavailable("storage does not answer".into());
        let Some(FromStorage::Loaded(disk)) = answer else {
            return self.fail_all(pid, account, &away);
        };
        if !self.take_disk(pid, account, &disk) {
            return self.fail_all(pid, account, &away);
        }
        let all = self.office(pid, account).and_then(|office| office.state.clone());
        if all.as_ref().is_some_and(Account::is_empty) {
            return self.make_account(pid, account);
        }
        let touched = all.iter().flat_map(|state| state.by_name().map(|it| it.row.id)).collect();
        self.tell_changed(pid, account, &touched);
    }

    /// The first commit of an account: its INBOX.
    fn make_account(&mut self, pid: Pid, account: usize) {
        let wall = self.processes[pid].clock.wall(self.now);
        let (dice, office) = (&mut self.dice, self.processes[pid].offices.get_mut(&account));
        let Some(office) = office else { return };
        let (Some(state), Some(fence)) = (office.state.take(), office.fence) else { return };
        let mut draft = Draft::new(&state);
        let mut mint = || dice.octets();
        let mut context = Context { now: wall, quota: None, mint: &mut mint };
        let planned = draft.plan(&Op::EnsureInbox, &mut context).expect("there is none");
        let batch = Batch { draft, jobs: Vec::new(), fence };
        self.send_commit(pid, account, batch, planned.steps);
    }

    fn found(
        &mut self,
        pid: Pid,
        account: usize,
        job: Job,
        planned: Result<Outcome, StoreError>,
        answer: Option<FromStorage>,
    ) {
        let Some(office) = self.office(pid, account) else { return };
        let before = match answer {
            Some(FromStorage::Found(head, found)) => {
                let before = found.into_iter().next().flatten();
                if before.is_some() && head != office.head {
                    // Its effect is not in the state from which the answer would be taken.
                    office.drop_state();
                    office.queue.push_front(job);
                    return;
                }
                before
            }
            // It is taken as new.
            _ => None,
        };
        let outcome = before.and_then(|before| ledger::decode::<Outcome>(&before).ok());
        let state = office.state.clone().unwrap_or_default();
        let answered = match outcome {
            Some(outcome) => Ok(outcome),
            None => planned,
        };
        self.job_done(pid, job, answered.map(|it| Answer::Done(it.reply(&state))));
    }

    fn committed(&mut self, pid: Pid, account: usize, batch: Batch, answer: Option<FromStorage>) {
        let Some(office) = self.office(pid, account) else { return };
        let Batch { draft, mut jobs, .. } = batch;
        let gave_up = answer.is_none();
        match answer {
            Some(FromStorage::Committed(Ok(head))) => {
                office.head = head;
                let (state, touched) = draft.into_account();
                office.install(state.clone(), &touched);
                self.processes[pid].heads.insert(account, head);
                for (job, outcome) in jobs {
                    let answered = outcome.map(|it| Answer::Done(it.reply(&state)));
                    self.job_done(pid, job, answered);
                }
                self.tell_changed(pid, account, &touched);
            }
            Some(FromStorage::Committed(Err(Refusal::AlreadyDone(id, result)))) => {
                let at = jobs.iter().position(|(job, _)| job.request.transaction == id);
                let Some(at) = at else { return };
                let (job, _) = jobs.remove(at);
                let rest = jobs.into_iter().map(|(job, _)| job);
                rest.rev().for_each(|job| office.queue.push_front(job));
                office.drop_state();
                let (jobs, found) = (vec![job], Some(vec![Some(result)]));
                office.doing = Doing::Resolving { jobs, tries: 0, gave_up: false, found };
                self.read_again(pid, account);
            }
            Some(FromStorage::Committed(Err(Refusal::HeadMoved))) => {
                office.drop_state();
                jobs.into_iter().rev().for_each(|(job, _)| office.queue.push_front(job));
            }
            Some(FromStorage::Committed(Err(Refusal::Fenced))) => {
                office.drop_state();
                let fence = office.fence.take();
                fence.into_iter().for_each(|fence| self.let_fence_go(pid, &fence));
                for (job, _) in jobs {
                    self.job_done(pid, job, Err(StoreError::Fenced));
                }
            }
            Some(FromStorage::Unknown) | None => {
                office.drop_state();
                let jobs = jobs.into_iter().map(|(job, _)| job).collect();
                office.doing = Doing::Resolving { jobs, tries: 0, gave_up, found: None };
                self.resolve_later(pid, account, 0);
            }
            Some(_) => {
                let error = StoreError::Unavailable("storage does not take it".into());
                for (job, _) in jobs {
                    self.job_done(pid, job, Err(error.clone()));
                }
                // A failed first commit leaves an account that has to be read again.
                if let Some(office) = self.office(pid, account)
                    && office.state.as_ref().is_some_and(Account::is_empty)
                {
                    office.drop_state();
                }
                let empty = self.office(pid, account).is_some_and(|it| it.state.is_none());
                if empty {
                    self.fail_all(pid, account, &error);
                }
            }
        }
    }

    fn resolve_later(&mut self, pid: Pid, account: usize, tries: usize) {
        let Some(number) = self.office(pid, account).map(|office| office.number) else { return };
        let event = ToProcess::Office(account, number, OfficeEvent::Resolve);
        self.to(RESOLVE_PAUSES[tries], pid, event);
    }

    fn read_again(&mut self, pid: Pid, account: usize) {
        let Some(number) = self.office(pid, account).map(|office| office.number) else { return };
        self.ask_storage(pid, Waits::Office(account, number), ForStorage::Load(account));
    }

    /// One step of finding out what became of a commit: first what its transactions came to, then the
    /// account is read, since what was found may have landed after an earlier read.
    fn resolving(
        &mut self,
        pid: Pid,
        account: usize,
        (jobs, tries, gave_up, found): (Vec<Job>, usize, bool, Option<Vec<Option<Bytes>>>),
        event: OfficeEvent,
    ) {
        let ids: Vec<_> = jobs.iter().map(|job| job.request.transaction).collect();
        let put = |world: &mut Self, tries, found| {
            if let Some(office) = world.office(pid, account) {
                office.doing = Doing::Resolving { jobs: jobs.clone(), tries, gave_up, found };
            }
        };
        match event {
            OfficeEvent::Resolve => {
                put(self, tries, None);
                let Some(number) = self.office(pid, account).map(|it| it.number) else { return };
                let question = ForStorage::Find(account, ids);
                self.ask_storage(pid, Waits::Office(account, number), question);
            }
            OfficeEvent::Storage(Some(FromStorage::Found(_, found))) => {
                put(self, tries, Some(found));
                self.read_again(pid, account);
            }
            OfficeEvent::Storage(Some(FromStorage::Loaded(disk))) => {
                let caught_up = self.take_disk(pid, account, &disk);
                let state = self.office(pid, account).and_then(|it| it.state.clone());
                if state.as_ref().is_some_and(Account::is_empty)
                    && let Some(office) = self.office(pid, account)
                {
                    office.drop_state();
                }
                let state = state.unwrap_or_default();
                let found = found.unwrap_or_default();
                for (at, job) in jobs.into_iter().enumerate() {
                    let answered = match found.get(at).cloned().flatten() {
                        Some(result) if caught_up => ledger::decode::<Outcome>(&result)
                            .map(|outcome| Answer::Done(outcome.reply(&state))),
                        None if caught_up && !gave_up => {
                            Err(StoreError::Unavailable("nothing was done".into()))
                        }
                        _ => Err(StoreError::UnknownOutcome),
                    };
                    self.job_done(pid, job, answered);
                }
                let touched = state.by_name().map(|it| it.row.id).collect();
                self.tell_changed(pid, account, &touched);
            }
            OfficeEvent::Storage(_) if tries + 1 < RESOLVE_PAUSES.len() => {
                put(self, tries + 1, None);
                self.resolve_later(pid, account, tries + 1);
            }
            OfficeEvent::Storage(_) => {
                for job in jobs {
                    self.job_done(pid, job, Err(StoreError::UnknownOutcome));
                }
            }
        }
    }

    /// Starts nothing more in a slot, lets what runs end.
    pub fn close_slot(&mut self, pid: Pid, fence: Fence) {
        let account = self.account_in(pid, fence.slot);
        match account {
            Some(account) if self.setup.plant != Some(Plant::ReleaseBeforeSettled) => {
                if let Some(office) = self.office(pid, account) {
                    office.closing = Some(fence);
                }
                self.pump(pid, account);
            }
            _ => self.settled_soon(pid, fence),
        }
    }

    fn account_in(&self, pid: Pid, slot: Slot) -> Option<usize> {
        self.processes[pid].offices.keys().copied().find(|account| self.slot(*account) == slot)
    }

    fn settled_soon(&mut self, pid: Pid, fence: Fence) {
        let delay = self.dice.micros(1, 200);
        self.to(delay, pid, ToProcess::WritesSettled(fence));
    }

    pub fn writes_settled(&mut self, pid: Pid, fence: Fence) {
        self.let_fence_go(pid, &fence);
        self.input(pid, Input::WritesSettled(fence.slot, fence.epoch));
    }

    /// The slot is lost: its account is open elsewhere.
    pub fn drop_offices(&mut self, pid: Pid, slot: Slot) {
        if let Some(account) = self.account_in(pid, slot) {
            self.remove_office(pid, account);
        }
    }

    fn remove_office(&mut self, pid: Pid, account: usize) {
        let process = &mut self.processes[pid];
        let Some(office) = process.offices.remove(&account) else { return };
        if let (Some(state), Some(fence)) = (office.state.or(office.previous), office.fence) {
            process.bygone.insert(account, (fence.epoch, state));
        }
    }
}

fn plan(
    draft: &mut Draft,
    request: &Request,
    active: Option<MailboxId>,
    context: &mut Context<'_>,
) -> Result<Planned, StoreError> {
    let Ask::Write(write) = &request.ask else {
        return Err(StoreError::Broken("a read is no write".into()));
    };
    let gone = || StoreError::NotFound("the selected mailbox".into());
    let op = write.op(request.transaction, active).ok_or_else(gone)?;
    draft.plan(&op, context)
}
