//! A node that lies: it answers reads from what it had, for slots that it has let go or lost.

use postroom_core::types::{MailboxId, ModSeq};

use crate::ask::{Answer, Ask, Request, Response};
use crate::office::MAX_FETCHED;
use crate::world::{Pid, World};

impl World {
    /// A node that lies answers reads from what it had, for slots that it has let go or lost.
    pub fn lie(&mut self, pid: Pid, request: &Request) -> Option<Response> {
        let process = &self.processes[pid];
        let slot = self.slot(request.account);
        if !process.lies || process.machine.open_slots().contains(slot) {
            return None;
        }
        let (epoch, state) = process.bygone.get(&request.account)?;
        let mailbox = |id: &MailboxId| state.mailbox(*id);
        let active = self.check.active.get(&request.session)?;
        let answer = match &request.ask {
            Ask::Changes { since, known, .. } => {
                Answer::Changes(mailbox(active)?.changes(*since, *known))
            }
            Ask::Fetch(uids) => {
                let open = mailbox(active)?.open.as_ref()?;
                Answer::Fetched(open.visible(uids, ModSeq(0), MAX_FETCHED).0)
            }
            _ => return None,
        };
        Some(Response::Answered(*epoch, answer))
    }
}
