//! The stages of an inbound channel, and what leads from one to the next.
//!
//! The whole table is printed by a test (`stage_table.txt`).

use corewire_proto::{channel::Label, session::CloseCode, wire::header::ReceiverIndex};

use crate::shared::keys::{LegKey, OpenId};

/// How far an inbound channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InboundStage {
    /// To be looked at.
    Fresh,
    /// Wanted, but there is no session with the producer.
    WantsSession,
    /// Asked for on a session.
    Opening(ReceiverIndex, OpenId),
    /// Connected, on a session.
    Open(ReceiverIndex, Label),
    /// Connected, in this engine.
    Local(LegKey),
    /// It failed, and is tried again after a pause.
    Waits,
    /// It was refused for a reason that only a change of one of the two peers can remove.
    Refused(CloseCode),
    /// It was tried for as long as the backoff allows. A change of the producer's entry starts it again.
    GivenUp,
    /// Another producer is preferred.
    Standby,
}

/// What moves an inbound channel to another stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StageEvent {
    /// It is to be looked at again: its pause is over, or something it depends on is different.
    Reconsider,
    /// It needs a session, and there is none.
    NoSession,
    /// The producer is asked.
    Asked(ReceiverIndex, OpenId),
    /// The producer has accepted.
    Accepted(Label),
    /// It is connected to a ring of this engine.
    Joined(LegKey),
    /// It failed or ended, and may be tried again.
    Failed,
    /// Its session was replaced, and the producer is to be asked on the next one at once.
    SessionReplaced,
    /// It was refused, by either side.
    Refused(CloseCode),
    /// It was tried for long enough.
    OutOfTime,
    /// Another producer is preferred.
    StoodBy,
}

impl InboundStage {
    /// Whether nothing is asked for or connected.
    pub(super) fn is_at_rest(self) -> bool {
        match self {
            Self::Fresh
            | Self::WantsSession
            | Self::Waits
            | Self::Refused(_)
            | Self::GivenUp
            | Self::Standby => true,
            Self::Opening(..) | Self::Open(..) | Self::Local(_) => false,
        }
    }

    /// Whether it is connected.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open(..) | Self::Local(_))
    }

    /// The stage after `event`, or `None` when the event cannot occur in this stage.
    fn next(self, event: StageEvent) -> Option<Self> {
        Some(match (self, event) {
            (stage, StageEvent::Reconsider) if stage.is_at_rest() => Self::Fresh,
            (Self::Fresh, StageEvent::NoSession) => Self::WantsSession,
            (Self::Fresh, StageEvent::Asked(index, open_id)) => Self::Opening(index, open_id),
            (Self::Opening(index, _), StageEvent::Accepted(label)) => Self::Open(index, label),
            (Self::Fresh, StageEvent::Joined(leg)) => Self::Local(leg),
            (Self::Fresh | Self::Opening(..) | Self::Open(..) | Self::Local(_), StageEvent::Failed) => {
                Self::Waits
            }
            (Self::Open(..) | Self::Local(_), StageEvent::SessionReplaced) => Self::Fresh,
            (
                Self::Fresh | Self::Opening(..) | Self::Open(..) | Self::Local(_),
                StageEvent::Refused(code),
            ) => Self::Refused(code),
            (
                Self::Fresh | Self::WantsSession | Self::Opening(..) | Self::Open(..) | Self::Local(_),
                StageEvent::OutOfTime,
            ) => Self::GivenUp,
            (Self::Fresh | Self::Opening(..) | Self::Open(..) | Self::Local(_), StageEvent::StoodBy) => {
                Self::Standby
            }
            _ => return None,
        })
    }

    /// The stage after `event`.
    ///
    /// # Panics
    ///
    /// When the event cannot occur in this stage.
    pub(super) fn after(self, event: StageEvent) -> Self {
        self.next(event).unwrap_or_else(|| panic!("{event:?} cannot occur in {self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// The name of a variant, without its fields.
    fn name(value: impl std::fmt::Debug) -> String {
        let text = format!("{value:?}");
        text.split('(').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_table_of_stages_is_as_it_is_written_down() {
        let index = ReceiverIndex::new(0, 1, 1).expect("a valid index");
        let stages = [
            InboundStage::Fresh,
            InboundStage::WantsSession,
            InboundStage::Opening(index, OpenId(1)),
            InboundStage::Open(index, Label::from_u32(1)),
            InboundStage::Local(LegKey(1)),
            InboundStage::Waits,
            InboundStage::Refused(CloseCode::NOT_ALLOWED),
            InboundStage::GivenUp,
            InboundStage::Standby,
        ];
        let events = [
            StageEvent::Reconsider,
            StageEvent::NoSession,
            StageEvent::Asked(index, OpenId(1)),
            StageEvent::Accepted(Label::from_u32(1)),
            StageEvent::Joined(LegKey(1)),
            StageEvent::Failed,
            StageEvent::SessionReplaced,
            StageEvent::Refused(CloseCode::NOT_ALLOWED),
            StageEvent::OutOfTime,
            StageEvent::StoodBy,
        ];
        let mut table = String::new();
        for stage in stages {
            for event in events {
                if let Some(next) = stage.next(event) {
                    writeln!(table, "{:<12} {:<15} -> {}", name(stage), name(event), name(next))
                        .expect("a string");
                }
            }
        }
        assert_eq!(table, include_str!("stage_table.txt"), "the table is now:\n{table}");
    }

    #[test]
    #[should_panic(expected = "cannot occur")]
    fn an_event_that_cannot_occur_is_a_defect() {
        let _ = InboundStage::Waits.after(StageEvent::Accepted(Label::from_u32(1)));
    }
}
