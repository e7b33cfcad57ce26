//! Builds handles: turns the typed settings of a builder into the engine's specification, and its answer into
//! a handle.

use std::any::{Any, type_name};
use std::sync::Arc;

use corewire_engine::peer::PeerInfo;
use corewire_engine::publication::{
    Admit, DatumForm, Publication, PublishError, PublishSpec, TypeName, Verdict,
};
use corewire_engine::subscription::{SubscribeError, SubscribeSpec};
use corewire_rings::sync::AtomicFlag;

use super::Streams;
use super::conditions::{ConditionSpec, Predicate};
use super::consumer::{self, Consumer, LegSet, Preference};
use super::criteria::Criteria;
use super::event::EventHub;
use super::producer::{self, DatumType, Producer, ProducerCore, ProducerShared, TryBuildError};
use super::status::{StatusHook, StreamStatus};
use crate::datum::Codec;
use crate::discovery::PeerEntry;
use crate::tickets::SharedValidator;

/// The longest datum that a consumer accepts from another engine, in encoded bytes. A producer announces its
/// own limit and the inbox is sized for it; this bounds the announcement.
const MAX_DATUM_BYTES: u32 = 64 << 20;

impl Streams {
    /// Makes a producer, or finds the one that there is.
    pub(crate) fn publish<D: Send + 'static, C: Codec<D>>(
        &self,
        mut settings: producer::ProducerSettings,
    ) -> Result<Producer<D, C>, TryBuildError<D, C>> {
        let datum_type = DatumType::of::<D, C>();
        let status = self.status(settings.online.clone());
        let max_datum = settings.max_datum_bytes();
        let max_bandwidth = settings.max_bandwidth().map_err(|()| TryBuildError::NoBandwidth)?;
        let selecting = std::mem::take(&mut settings.selecting);
        let keys = selecting.key.as_ref().map(|key| key.kind);
        let shared = Arc::new(ProducerShared::new(
            settings.stream_id,
            settings.policy,
            (settings.degrader.take(), selecting),
            status.clone(),
            datum_type,
        ));
        let spec = PublishSpec {
            datums: settings.buffer_datums(),
            bytes: settings.buffer_bytes(),
            max_datum,
            keys,
            max_consumers: settings.max_consumers,
            reliability: settings.reliability,
            weight: settings.weight,
            max_bandwidth,
            form: form::<D, C>(),
            admit: admit(settings.require, settings.tickets),
            lagging_grace: settings.lagging.grace,
            standstill_grace: settings.lagging.standstill,
            resume_for: settings.resume_for,
            on_change: Some(StatusHook::new(&status, None)),
            on_event: Some(shared.event_hook()),
            attachment: Some(shared.clone()),
            ..PublishSpec::new(settings.stream_id.to_bytes().into())
        };
        match self.node.publish(spec) {
            Ok(publication) => Ok(Producer::from_core(ProducerCore::new(publication, shared))),
            Err(PublishError::AlreadyExists(existing)) => Err(found(existing, datum_type)),
            Err(PublishError::Ring(error)) => Err(TryBuildError::Ring(error)),
            Err(PublishError::TooMany { limit }) => Err(TryBuildError::TooMany { limit }),
            // `PublishError` is non-exhaustive; `Left` is the only other variant today.
            Err(_) => Err(TryBuildError::Closed),
        }
    }

    /// The status of a handle, which is not attached to anything yet.
    fn status(&self, online: ConditionSpec) -> Arc<StreamStatus> {
        let (status, view) = (StreamStatus::new(online), self.node.peer_view());
        status.look_up_peers(move |id| view(&id.to_bytes().into()).as_ref().map(PeerEntry::new));
        Arc::new(status)
    }

    /// Makes a consumer. In a network that was shut down it is closed from the start.
    ///
    /// # Errors
    ///
    /// The limit of consumers, if it is reached.
    pub(crate) fn subscribe<D: Send + 'static, C: Codec<D>>(
        &self,
        settings: consumer::ConsumerSettings,
    ) -> Result<Consumer<D, C>, usize> {
        let status = self.status(settings.online);
        let news = Arc::new(AtomicFlag::default());
        let events = Arc::new(EventHub::default());
        let spec = SubscribeSpec {
            window_bytes: settings.window_bytes as u64,
            // A window without a limit in bytes has none in datums either.
            window_datums: if settings.window_bytes == 0 { 0 } else { settings.window_datums as u64 },
            max_datum: MAX_DATUM_BYTES,
            reliability: settings.reliability,
            form: form::<D, C>(),
            criteria: settings.criteria.map(Criteria::into_rules),
            accept: admit(settings.require, settings.tickets),
            prefer: settings.prefer.map(Preference::into_spec),
            backoff: settings.backoff.0,
            on_change: Some(StatusHook::new(&status, Some(news.clone()))),
            on_event: Some(events.hook()),
            ..SubscribeSpec::new(settings.stream_id.to_bytes().into())
        };
        let subscription = match self.node.subscribe(spec) {
            Ok(subscription) => Some(subscription),
            Err(SubscribeError::TooMany { limit }) => return Err(limit),
            // A node that has left refuses.
            Err(_) => {
                status.close();
                None
            }
        };
        let legs = LegSet::new(subscription, status.clone(), news, events);
        Ok(Consumer::from_legs(settings.stream_id, status, legs))
    }
}

/// What both ends of a stream compare, and the name that people see.
fn form<D, C: Codec<D>>() -> DatumForm {
    DatumForm { fingerprint: C::fingerprint().to_bytes(), name: type_name_of::<D, C>() }
}

/// The datum type and its codec, for people.
pub(super) fn type_name_of<D, C>() -> TypeName {
    let codec = type_name::<C>().rsplit("::").next().unwrap_or_default();
    TypeName::new(&format!("{} as {codec}", type_name::<D>()))
}

/// The error that hands an existing producer over, if it is of the type that was asked for.
fn found<D, C>(existing: Publication, requested: DatumType) -> TryBuildError<D, C> {
    let shared =
        existing.attachment().cloned().and_then(|any: Arc<dyn Any + Send + Sync>| any.downcast().ok());
    match shared {
        Some(shared) if ProducerShared::datum_type(&shared) == requested => {
            TryBuildError::AlreadyExists(Producer::from_core(ProducerCore::new(existing, shared)))
        }
        other => TryBuildError::TypeConflict {
            stream_id: existing.stream_id().0.into(),
            existing: other.map_or("bytes of another program part", |shared| shared.datum_type().name()),
            requested: requested.name(),
        },
    }
}

/// All of the user's predicates and validators as one. The engine catches and counts their panics.
fn admit(predicates: Vec<Predicate>, validators: Vec<SharedValidator>) -> Option<Admit> {
    if predicates.is_empty() && validators.is_empty() {
        return None;
    }
    Some(Arc::new(move |info: &PeerInfo| {
        let entry = PeerEntry::new(info);
        if !predicates.iter().all(|predicate| predicate(&entry)) {
            return Verdict::Deny;
        }
        entry.judge_tickets(&validators)
    }))
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use crate::streams::{Config, ExponentialBackoffBuilder};
    use crate::{Network, NetworkId, Reliability};

    fn backoff(milliseconds: u64) -> super::super::ExponentialBackoff {
        let interval = Duration::from_millis(milliseconds);
        ExponentialBackoffBuilder::new().with_initial_interval(interval).build()
    }

    #[test]
    fn settings_of_a_producer_reach_the_engine() {
        let network = Network::new_blocking(NetworkId::random()).unwrap();
        let builder = || network.streams().producer::<u64>();
        let producer = builder()
            .with_stream_id("set")
            .with_buffer_size(64)
            .with_buffer_bytes(1 << 21)
            .with_max_datum_bytes(2_000)
            .with_max_consumers(3)
            .require(|_| true)
            .reliability(Reliability::FireAndForget)
            .fairness_weight(10)
            .disconnect_lagging(Duration::from_secs(4))
            .resume_for(Duration::from_secs(5))
            .build()
            .unwrap();
        let spec = producer.publication().spec();
        assert_eq!((spec.datums, spec.bytes, spec.max_datum, spec.max_consumers), (64, 1 << 21, 2_000, 3));
        assert_eq!((spec.reliability, spec.weight), (Reliability::FireAndForget, 10));
        assert_eq!((spec.lagging_grace, spec.resume_for.as_secs()), (Some(Duration::from_secs(4)), 5));
        assert!(spec.admit.is_some());
        let least = builder().with_stream_id("least").fairness_weight(0).disconnect_lagging(false).build();
        let least = least.unwrap();
        assert_eq!((least.publication().spec().weight, least.publication().spec().lagging_grace), (1, None));
    }

    #[test]
    fn defaults_are_those_that_the_builders_name() {
        let network = Network::new_blocking(NetworkId::random()).unwrap();
        let producer = network.streams().producer::<u64>().build().unwrap();
        let spec = producer.publication().spec();
        assert_eq!((spec.datums, spec.bytes, spec.max_consumers), (4_096, 1 << 20, usize::MAX));
        assert_eq!((spec.reliability, spec.weight, spec.max_bandwidth), (Reliability::Reliable, 1, None));
        let seconds = Duration::from_secs;
        assert_eq!((spec.lagging_grace, spec.standstill_grace), (Some(seconds(1)), seconds(10)));
        assert_eq!(spec.resume_for, seconds(10));
        assert!(spec.admit.is_none());
        let long = network.streams().producer::<u64>().with_stream_id("long").with_max_datum_bytes(3 << 20);
        assert_eq!(long.build().unwrap().publication().spec().bytes, 6 << 20);
        let builder = network.streams().consumer::<u64>();
        let settings = builder.settings();
        assert_eq!((settings.window_bytes, settings.window_datums), (1 << 20, 4_096));
        assert_eq!(settings.reliability, Reliability::Reliable);
        assert_eq!(settings.backoff, ExponentialBackoffBuilder::new().build());
        assert!(settings.criteria.is_none() && settings.prefer.is_none() && settings.require.is_empty());
    }

    #[test]
    fn backoff_of_a_consumer_is_its_own_or_that_of_its_network() {
        let config = Config::builder().with_backoff(backoff(3)).build().unwrap();
        let network = Network::builder(NetworkId::random()).with_streams_config(config);
        let network = network.build_blocking().unwrap();
        let builder = || network.streams().consumer::<u64>();
        assert_eq!(builder().settings().backoff, backoff(3));
        assert_eq!(builder().with_backoff(backoff(4)).settings().backoff, backoff(4));
    }
}
