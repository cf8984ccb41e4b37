//! Marks: metad notes from time to time how far the journal of each chunk server is (rule R39).

use super::driver::Pending;
use super::{Leadership, Shared};
use crate::clock::wall_ns;
use tokio::sync::oneshot;
use trivet_storage::messages::{Command, CommandOp, GatewayInfo};

impl Shared {
    /// Notes what a heartbeat says, if it is time. No heartbeat waits for it: the next one says no less.
    pub(super) fn note_mark(&self, leading: &Leadership, info: &GatewayInfo) {
        let mark = self.state.read().mark_due(info, wall_ns());
        if let Some(mark) = mark {
            let (done, _) = oneshot::channel();
            let command = Command { op: Some(CommandOp::MarkReplica(mark)), ..Default::default() };
            let _ = self.commands.try_send(Pending { epoch: leading.epoch, command, done });
        }
    }
}
