//! Tickets: credentials that a peer shows, and the validators that judge them.
//!
//! A node shows its [`Ticket`]s to the peers that it has a session with, inside the encrypted session. They
//! are not part of what is announced about it, so no third peer learns them. A producer that
//! [requires a ticket](crate::streams::producer::Builder::require_ticket) admits only consumers that show one
//! which its [`TicketValidator`] accepts, and for as long as the validator says; a
//! [consumer](crate::streams::consumer::Builder::require_ticket) chooses among producers in the same way.
//!
//! ```
//! use corewire::tickets::{Expiration, InvalidTicket, Ticket, TicketValidator};
//! use corewire::{Network, NetworkId, PeerEntry, UniqueId, unique_id};
//!
//! /// Accepts one word. A real validator verifies a signature over the peer's id.
//! struct Password;
//!
//! impl TicketValidator for Password {
//!     fn class(&self) -> UniqueId {
//!         unique_id!("my-app.password")
//!     }
//!
//!     fn signature(&self) -> UniqueId {
//!         self.class().derive(b"swordfish")
//!     }
//!
//!     fn validate(&self, ticket: &[u8], _peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
//!         if ticket == b"swordfish" { Ok(Expiration::Never) } else { Err(InvalidTicket) }
//!     }
//! }
//!
//! let id = NetworkId::random();
//! let exchange = Network::new_blocking(id)?;
//! let trader = Network::new_blocking(id)?;
//! trader.discovery().add_ticket(Ticket::new(unique_id!("my-app.password"), "swordfish"))?;
//!
//! let mut consumer = trader.streams().consume::<u64>();
//! let producer = exchange.streams().producer::<u64>().require_ticket(Password).build()?;
//! producer.send_blocking(7)?;
//! assert_eq!(consumer.recv_blocking(), Some(7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::SystemTime;

use corewire_engine::peer::ShownTicket;
use corewire_engine::publication::Verdict;

pub use corewire_engine::node::TicketsTooLong;

use crate::discovery::{Discovery, PeerEntry};
use crate::id::UniqueId;

#[cfg(feature = "jwt")]
mod jwt;

#[cfg(feature = "jwt")]
pub use self::jwt::{
    EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Jwt, JwtError, JwtKeyError, JwtTicketBuilder, SigningKey,
    VerifyingKey,
};

/// How long a verdict holds at most before the validators are asked again. Timers follow a clock that cannot
/// be set, expirations the calendar: after the calendar was set, a ticket is judged by it within this time.
const REVIEW_AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// A ticket that is not valid yet is judged again after this time at the latest: the wall clock may be set.
const LONGEST_REFUSAL: Duration = Duration::from_secs(3_600);

/// A credential: bytes of a class. The class says who can judge the bytes.
///
/// All tickets of a node are at most 16 KiB, 36 bytes of each included, unless its engine has other
/// [`Limits`](crate::engine::Limits).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Ticket {
    class: UniqueId,
    data: Arc<[u8]>,
}

impl Ticket {
    /// A ticket of this class.
    ///
    /// ```
    /// use corewire::tickets::Ticket;
    /// use corewire::unique_id;
    ///
    /// let ticket = Ticket::new(unique_id!("my-app.jwt"), "the token");
    /// assert_eq!(ticket.data(), b"the token");
    /// ```
    pub fn new(class: UniqueId, data: impl AsRef<[u8]>) -> Self {
        Self { class, data: data.as_ref().into() }
    }

    /// Identifies the ticket: derived from class and bytes.
    pub fn id(&self) -> UniqueId {
        self.class.derive(&self.data)
    }

    /// What kind of ticket it is.
    pub const fn class(&self) -> &UniqueId {
        &self.class
    }

    /// The credential.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    pub(crate) fn from_shown(ticket: &ShownTicket) -> Self {
        Self { class: ticket.class.into(), data: ticket.bytes.clone() }
    }

    pub(crate) fn into_shown(self) -> ShownTicket {
        ShownTicket { class: self.class.to_bytes(), bytes: self.data }
    }
}

/// Without the bytes, which are a credential and stay out of logs.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({} bytes of class {})", self.data.len(), self.class.short())
    }
}

/// For how long a ticket is valid. Ordered by time; `Never` is the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expiration {
    /// Until this time.
    At(SystemTime),
    /// For ever.
    Never,
}

impl Expiration {
    /// This long from now. A time that the calendar does not have counts as `Never`.
    ///
    /// ```
    /// use corewire::tickets::Expiration;
    /// use std::time::Duration;
    ///
    /// let soon = Expiration::after(Duration::from_secs(60));
    /// assert!(!soon.is_expired() && soon.remaining() <= Some(Duration::from_secs(60)));
    /// assert!(soon < Expiration::Never);
    /// ```
    pub fn after(time: Duration) -> Self {
        SystemTime::now().checked_add(time).map_or(Self::Never, Self::At)
    }

    /// Whether that time has come.
    pub fn is_expired(&self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }

    /// The time left, zero once it is over; `None` when it never is.
    pub fn remaining(&self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::At(time) => Some(time.duration_since(SystemTime::now()).unwrap_or_default()),
        }
    }

    /// What the engine is told about a peer whose tickets are valid until then.
    pub(crate) fn verdict(self) -> Verdict {
        match self.remaining() {
            None => Verdict::Allow,
            Some(left) if left.is_zero() => Verdict::Deny,
            Some(left) => Verdict::AllowFor(left.min(REVIEW_AT_LEAST_EVERY)),
        }
    }
}

/// The ticket is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ticket is not valid for this peer")]
pub struct InvalidTicket;

/// Judges tickets of one class. For an example see the [module](self).
///
/// It runs on the engine's control thread, which does nothing else meanwhile: when a peer connects, each time
/// its entry or its tickets change, and every half a minute for a ticket that expires. A panic counts as
/// [`InvalidTicket`].
pub trait TicketValidator: Send + Sync + 'static {
    /// The class of the tickets that it judges.
    fn class(&self) -> UniqueId;

    /// Identifies the validator with its configuration: two that accept the same tickets have the same
    /// signature. To be derived from the class and the configuration.
    fn signature(&self) -> UniqueId;

    /// Whether `ticket` is valid for `peer`, and until when.
    ///
    /// # Errors
    ///
    /// [`InvalidTicket`], also for a ticket whose time is over or has not come; see
    /// [`valid_from`](Self::valid_from).
    fn validate(&self, ticket: &[u8], peer: &PeerEntry) -> Result<Expiration, InvalidTicket>;

    /// When a ticket becomes valid that [`validate`](Self::validate) refuses now, if nothing else is wrong
    /// with it. It is judged again then. The default is `None`: not before something changes.
    fn valid_from(&self, ticket: &[u8], peer: &PeerEntry) -> Option<SystemTime> {
        let _ = (ticket, peer);
        None
    }
}

macro_rules! forward_validator {
    ($($pointer:ident),*) => {$(
        impl<V: TicketValidator + ?Sized> TicketValidator for $pointer<V> {
            fn class(&self) -> UniqueId {
                (**self).class()
            }

            fn signature(&self) -> UniqueId {
                (**self).signature()
            }

            fn validate(&self, ticket: &[u8], peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
                (**self).validate(ticket, peer)
            }

            fn valid_from(&self, ticket: &[u8], peer: &PeerEntry) -> Option<SystemTime> {
                (**self).valid_from(ticket, peer)
            }
        }
    )*};
}

forward_validator!(Box, Arc);

/// A validator of a builder.
pub(crate) type SharedValidator = Arc<dyn TicketValidator>;

impl PeerEntry {
    /// The tickets that the peer has shown to this node: none while there is no session with it.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, unique_id};
    /// # use corewire::tickets::Ticket;
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// network.discovery().add_ticket(Ticket::new(unique_id!("my-app.jwt"), "the token"))?;
    /// assert_eq!(network.discovery().me().tickets()[0].data(), b"the token");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tickets(&self) -> &[Ticket] {
        self.shown_tickets()
    }

    /// Whether one of the peer's tickets of this class satisfies `validate`. For predicates of `require`,
    /// which do not follow when a ticket expires; `require_ticket` does.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, UniqueId, unique_id};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// const PASSWORD: UniqueId = unique_id!("my-app.password");
    ///
    /// let producer = network.streams()
    ///     .producer::<u64>()
    ///     .require(|peer| peer.has_valid_ticket(PASSWORD, |bytes| bytes == b"swordfish"))
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn has_valid_ticket(&self, class: UniqueId, validate: impl Fn(&[u8]) -> bool) -> bool {
        self.tickets().iter().any(|ticket| ticket.class == class && validate(&ticket.data))
    }

    /// The latest expiration of the peer's tickets that `validator` accepts.
    ///
    /// # Errors
    ///
    /// [`InvalidTicket`], when it accepts none that is still valid.
    pub fn validate_ticket(&self, validator: &dyn TicketValidator) -> Result<Expiration, InvalidTicket> {
        let class = validator.class();
        let judged = self.tickets().iter().filter(|ticket| ticket.class == class);
        let valid = judged.filter_map(|ticket| validator.validate(&ticket.data, self).ok());
        valid.filter(|expiration| !expiration.is_expired()).max().ok_or(InvalidTicket)
    }

    /// The earliest of what [`validate_ticket`](Self::validate_ticket) gives for each of these.
    pub(crate) fn validate_tickets(&self, all: &[SharedValidator]) -> Result<Expiration, InvalidTicket> {
        all.iter().try_fold(Expiration::Never, |earliest, validator| {
            Ok(earliest.min(self.validate_ticket(validator)?))
        })
    }

    /// What the engine is told about a peer whose tickets are judged by all of these.
    pub(crate) fn judge_tickets(&self, all: &[SharedValidator]) -> Verdict {
        if let Ok(expiration) = self.validate_tickets(all) {
            return expiration.verdict();
        }
        let refusing = all.iter().filter(|validator| self.validate_ticket(&**validator).is_err());
        let begins = refusing.map(|validator| {
            let class = validator.class();
            let judged = self.tickets().iter().filter(|ticket| ticket.class == class);
            judged.filter_map(|ticket| validator.valid_from(&ticket.data, self)).min()
        });
        // All of them have to accept, so the latest counts.
        let begin = begins.collect::<Option<Vec<_>>>().and_then(|begins| begins.into_iter().max());
        let wait = begin.and_then(|begin| begin.duration_since(SystemTime::now()).ok());
        match wait {
            Some(wait) => Verdict::DenyFor(wait.min(LONGEST_REFUSAL)),
            // One may have become valid since the first look.
            None => self.validate_tickets(all).map_or(Verdict::Deny, Expiration::verdict),
        }
    }
}

impl Discovery {
    /// Shows one more ticket to the peers of this node, those of present sessions included. A ticket that is
    /// shown already is not shown twice.
    ///
    /// To renew a ticket without an interruption, add the new one before the old one expires.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, unique_id};
    /// # use corewire::tickets::Ticket;
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// let ticket = Ticket::new(unique_id!("my-app.jwt"), "the token");
    /// network.discovery().add_ticket(ticket.clone())?;
    /// assert!(network.discovery().remove_ticket(&ticket.id()));
    /// assert!(!network.discovery().remove_ticket(&ticket.id()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TicketsTooLong`]; then nothing changed.
    pub fn add_ticket(&self, ticket: Ticket) -> Result<(), TicketsTooLong> {
        let ticket = ticket.into_shown();
        self.node().change_tickets(|shown| {
            if !shown.contains(&ticket) {
                shown.push(ticket);
            }
        })
    }

    /// As [`add_ticket`](Self::add_ticket), in place of all tickets of the same class.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, unique_id};
    /// # use corewire::tickets::Ticket;
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// network.discovery().replace_ticket(Ticket::new(unique_id!("my-app.jwt"), "old"))?;
    /// network.discovery().replace_ticket(Ticket::new(unique_id!("my-app.jwt"), "new"))?;
    /// assert_eq!(network.discovery().me().tickets().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TicketsTooLong`]; then nothing changed.
    pub fn replace_ticket(&self, ticket: Ticket) -> Result<(), TicketsTooLong> {
        let ticket = ticket.into_shown();
        self.node().change_tickets(|shown| {
            shown.retain(|other| other.class != ticket.class);
            shown.push(ticket);
        })
    }

    /// No longer shows the ticket with this [id](Ticket::id). Returns whether it was shown. Channels that
    /// were admitted because of it are closed. For an example see [`add_ticket`](Self::add_ticket).
    pub fn remove_ticket(&self, id: &UniqueId) -> bool {
        self.remove_where(|ticket| ticket.id() == *id) > 0
    }

    /// No longer shows the tickets of this class. Returns how many were shown.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, unique_id};
    /// # use corewire::tickets::Ticket;
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let class = unique_id!("my-app.jwt");
    /// network.discovery().add_ticket(Ticket::new(class, "one"))?;
    /// network.discovery().add_ticket(Ticket::new(class, "another"))?;
    /// assert_eq!(network.discovery().remove_tickets_of(&class), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_tickets_of(&self, class: &UniqueId) -> usize {
        self.remove_where(|ticket| ticket.class == *class)
    }

    fn remove_where(&self, unwanted: impl Fn(&Ticket) -> bool) -> usize {
        let mut removed = 0;
        let changed = self.node().change_tickets(|shown| {
            let before = shown.len();
            shown.retain(|ticket| !unwanted(&Ticket::from_shown(ticket)));
            removed = before - shown.len();
        });
        changed.expect("fewer tickets are no longer than before");
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::{Expiration, REVIEW_AT_LEAST_EVERY};
    use core::time::Duration;
    use corewire_engine::publication::Verdict;
    use std::time::UNIX_EPOCH;

    #[test]
    fn verdict_ends_with_the_ticket_or_at_the_next_review() {
        assert_eq!(Expiration::Never.verdict(), Verdict::Allow);
        assert_eq!(Expiration::At(UNIX_EPOCH).verdict(), Verdict::Deny);
        let long = Expiration::after(Duration::from_secs(3600)).verdict();
        assert_eq!(long, Verdict::AllowFor(REVIEW_AT_LEAST_EVERY));
        let soon = Duration::from_secs(10);
        let short = Expiration::after(soon).verdict();
        assert!(matches!(short, Verdict::AllowFor(left) if left <= soon), "{short:?}");
    }
}
