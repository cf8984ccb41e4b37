//! Judges one metad's answer to a gateway: it is the LEADER's, or the next metad has to be asked.

use crate::messages::{MetaAnswer, MetaResponse, NodeId};

/// An answer of one metad to a question that only the LEADER answers.
#[derive(Debug)]
pub enum Heard {
    /// The LEADER answered.
    Answered(MetaAnswer),
    /// This metad does not lead, or was deposed before the answer was certain. Whether it carried a command out is
    /// not known: the same command, with the same call id, is asked of another metad. No client hears of it.
    Elsewhere {
        /// The node that this metad takes for the LEADER.
        leader: Option<NodeId>,
    },
}

/// Sorts the answer of the metad on `node`. A metad that names itself, or nobody, gives no hint.
pub fn heard(node: NodeId, response: Option<MetaResponse>) -> Heard {
    match response.and_then(|r| r.answer) {
        Some(MetaAnswer::NotLeader(hint)) => {
            Heard::Elsewhere { leader: Some(hint).filter(|h| !h.is_none() && *h != node) }
        }
        Some(answer) => Heard::Answered(answer),
        None => Heard::Elsewhere { leader: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(node: u32, answer: Option<MetaAnswer>) -> Heard {
        heard(NodeId(node), Some(MetaResponse { answer }))
    }

    #[test]
    fn a_metad_that_lost_the_lead_is_not_the_leaders_answer() {
        // A kernel client got NFS3ERR_IO for a SETATTR when the LEADER's epoch ended while it carried the command out.
        assert!(matches!(of(2, Some(MetaAnswer::NotLeader(NodeId(0)))), Heard::Elsewhere { leader: None }));
        assert!(matches!(of(2, Some(MetaAnswer::NotLeader(NodeId(2)))), Heard::Elsewhere { leader: None }));
        assert!(matches!(of(2, Some(MetaAnswer::NotLeader(NodeId(3)))), Heard::Elsewhere { leader: Some(NodeId(3)) }));
        assert!(matches!(of(2, None), Heard::Elsewhere { leader: None }));
        assert!(matches!(heard(NodeId(2), None), Heard::Elsewhere { leader: None }));
        assert!(matches!(of(2, Some(MetaAnswer::Reply(Default::default()))), Heard::Answered(MetaAnswer::Reply(_))));
    }
}
