//! Tickets: who is admitted, for how long, and what happens when that changes. Also the blocks of the
//! documents that need a validator of their own.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use corewire::streams::{ChannelInfo, CloseCode};
use corewire::tickets::{Expiration, InvalidTicket, Ticket, TicketValidator, TicketsTooLong};
use corewire::*;
use corewire_testkit::within;

use super::{MyDatum, Result, engine, settled};

const HOUR: Duration = Duration::from_secs(3600);

/// Accepts tickets of its class whose bytes are the time at which they expire.
struct Dated(&'static str);

impl Dated {
    fn new() -> Self {
        Self("my.jwt")
    }
}

impl TicketValidator for Dated {
    fn class(&self) -> UniqueId {
        UniqueId::from(self.0)
    }

    fn signature(&self) -> UniqueId {
        self.class().derive(b"dated")
    }

    fn validate(&self, ticket: &[u8], _peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
        let micros = u64::from_le_bytes(ticket.try_into().map_err(|_| InvalidTicket)?);
        Ok(Expiration::At(UNIX_EPOCH + Duration::from_micros(micros)))
    }
}

/// A ticket that [`Dated`] accepts.
fn dated(class: &str, expires: SystemTime) -> Ticket {
    let since_epoch = expires.duration_since(UNIX_EPOCH).expect("a time after 1970");
    Ticket::new(class.into(), u64::try_from(since_epoch.as_micros()).expect("years").to_le_bytes())
}

fn valid(class: &str) -> Ticket {
    dated(class, SystemTime::now() + HOUR)
}

fn expired(class: &str) -> Ticket {
    dated(class, SystemTime::now() - HOUR)
}

/// A node with these tickets, on an engine of its own or that of the process.
async fn node(id: NetworkId, apart: bool, tickets: impl IntoIterator<Item = Ticket>) -> Network {
    let mut builder = Network::builder(id);
    if apart {
        builder = builder.with_engine(engine());
    }
    for ticket in tickets {
        builder = builder.with_ticket(ticket);
    }
    builder.build().await.expect("a node on the loopback interface")
}

/// Waits until an attempt of the consumer has ended with `NotAllowed`.
async fn refused<D, C>(consumer: &Consumer<D, C>) {
    within(async {
        while !consumer.producers().any(|info| info.close_code() == Some(CloseCode::NOT_ALLOWED)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!consumer.is_online());
}

/// Waits until the channel has ended, which has to be with `NotAllowed`.
async fn cut(channel: &ChannelInfo) {
    within(channel.disconnected()).await;
    assert_eq!(channel.close_code(), Some(CloseCode::NOT_ALLOWED));
}

/// The channel to a producer's only consumer.
fn only<D, C>(producer: &Producer<D, C>) -> ChannelInfo {
    let mut channels = producer.consumers().filter(ChannelInfo::is_connected);
    let only = channels.next().expect("a connected consumer");
    assert!(channels.next().is_none());
    only
}

fn requiring(network: &Network, classes: &[&'static str]) -> Producer<MyDatum> {
    let builder = network.streams().producer::<MyDatum>();
    let add = |builder: streams::producer::Builder<MyDatum>, class: &&'static str| {
        builder.require_ticket(Dated(class))
    };
    classes.iter().fold(builder, add).build().expect("a new producer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_producer_admits_only_valid_tickets() {
    let id = NetworkId::random();
    let exchange = node(id, true, []).await;
    let producer = requiring(&exchange, &["pass"]);
    for tickets in [vec![], vec![expired("pass")], vec![valid("other class")]] {
        let stranger = node(id, true, tickets).await;
        refused(&stranger.streams().consume::<MyDatum>()).await;
    }
    let member = node(id, true, [expired("pass"), valid("pass")]).await;
    let mut consumer = member.streams().consume::<MyDatum>();
    within(producer.send(MyDatum(1))).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(MyDatum(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_consumer_takes_from_producers_with_valid_tickets() {
    let id = NetworkId::random();
    let trader = node(id, true, []).await;
    let mut consumer = trader.streams().consumer::<MyDatum>().require_ticket(Dated("pass")).build();
    let without = node(id, true, [expired("pass")]).await;
    let unwanted = without.streams().produce::<MyDatum>();
    within(async {
        while trader.stats().not_allowed == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let with = node(id, true, [valid("pass")]).await;
    let wanted = with.streams().produce::<MyDatum>();
    within(wanted.send(MyDatum(2))).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(MyDatum(2)));
    assert!(!unwanted.is_online());
}

/// What the ends of a channel are told when the ticket of one of them expires, and when.
async fn expiry(apart: bool, producer_requires: bool) {
    let id = NetworkId::random();
    let (exchange, trader) = (node(id, apart, []).await, node(id, apart, []).await);
    let (mut producing, mut consuming) =
        (exchange.streams().producer::<MyDatum>(), trader.streams().consumer::<MyDatum>());
    let holder = if producer_requires {
        producing = producing.require_ticket(Dated("pass"));
        trader.discovery()
    } else {
        consuming = consuming.require_ticket(Dated("pass"));
        exchange.discovery()
    };
    holder.add_ticket(valid("pass")).unwrap();
    let (producer, mut consumer) = (producing.build().unwrap(), consuming.build());
    within(producer.send(MyDatum(3))).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(MyDatum(3)));
    let (outbound, inbound) = (only(&producer), consumer.producers().next().expect("a producer"));
    let ends = SystemTime::now() + Duration::from_millis(700);
    holder.replace_ticket(dated("pass", ends)).unwrap();
    cut(&outbound).await;
    cut(&inbound).await;
    assert!(SystemTime::now() >= ends, "not before the ticket expires");
    within(producer.when().unsubscribed()).await;
    within(consumer.when().offline()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_producer_ticket_expiry() {
    tokio::join!(expiry(false, true), expiry(true, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_consumer_ticket_expiry() {
    tokio::join!(expiry(false, false), expiry(true, false));
}

/// As [`Dated`]; also tells which tickets it has judged.
struct Watched(Dated, Arc<Mutex<BTreeSet<Vec<u8>>>>);

impl TicketValidator for Watched {
    fn class(&self) -> UniqueId {
        self.0.class()
    }

    fn signature(&self) -> UniqueId {
        self.0.signature()
    }

    fn validate(&self, ticket: &[u8], peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
        self.1.lock().expect("no test panics under it").insert(ticket.to_vec());
        self.0.validate(ticket, peer)
    }
}

async fn refreshed_ticket(apart: bool) {
    let id = NetworkId::random();
    let exchange = node(id, apart, []).await;
    let judged = Arc::new(Mutex::new(BTreeSet::new()));
    let watched = Watched(Dated("pass"), judged.clone());
    let producer = exchange.streams().producer::<MyDatum>().require_ticket(watched).build().unwrap();
    let careful = node(id, apart, [valid("pass")]).await;
    let kept = careful.streams().consume::<MyDatum>();
    within(producer.when().subscribed()).await;
    let careless = node(id, apart, [valid("pass")]).await;
    let mut lost = careless.streams().consume::<MyDatum>();
    within(producer.when().subscribed().minimum_of(2)).await;
    within(lost.when().online()).await;

    let show = async |ticket: Ticket| {
        careful.discovery().replace_ticket(ticket.clone()).unwrap();
        within(async {
            // The other one's ticket may be judged again after it.
            while !judged.lock().unwrap().contains(ticket.data()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    let mut life = Duration::from_secs(2);
    let (ends, kept_channel) = loop {
        within(producer.when().subscribed().minimum_of(2)).await;
        let mut channels = producer.consumers().filter(ChannelInfo::is_connected);
        let channel = channels.find(|channel| channel.consumer_id() == careful.local().id());
        let ends = SystemTime::now() + life;
        show(dated("pass", ends)).await;
        show(valid("pass")).await;
        if SystemTime::now() < ends {
            break (ends, channel.expect("a connected consumer"));
        }
        // Too slow: the ticket expired before the next one came.
        life *= 2;
    };

    // This ticket ends after the short one of the other, so when it is cut that one has expired too.
    careless.discovery().replace_ticket(dated("pass", ends + Duration::from_millis(200))).unwrap();
    cut(&lost.producers().next().expect("a producer")).await;
    assert!(kept_channel.is_connected() && kept.is_online(), "apart: {apart}");

    // A new ticket brings the other one back.
    careless.discovery().add_ticket(valid("pass")).unwrap();
    within(lost.when().online()).await;
    within(producer.when().subscribed().minimum_of(2)).await;
    producer.try_send(MyDatum(4)).unwrap();
    assert_eq!(within(lost.recv()).await, Some(MyDatum(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refreshed_ticket_keeps_the_channel() {
    tokio::join!(refreshed_ticket(false), refreshed_ticket(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_are_added_and_removed_at_run_time() {
    for apart in [false, true] {
        let id = NetworkId::random();
        let exchange = node(id, apart, []).await;
        let producer = requiring(&exchange, &["pass"]);
        let trader = node(id, apart, []).await;
        let consumer = trader.streams().consume::<MyDatum>();
        let discovery = trader.discovery();
        let ticket = valid("pass");
        discovery.add_ticket(ticket.clone()).unwrap();
        within(producer.when().subscribed()).await;
        let channel = only(&producer);
        assert!(discovery.remove_ticket(&ticket.id()));
        cut(&channel).await;
        discovery.add_ticket(ticket).unwrap();
        within(producer.when().subscribed()).await;
        let channel = only(&producer);
        assert_eq!(discovery.remove_tickets_of(&"pass".into()), 1);
        cut(&channel).await;
        assert!(discovery.me().tickets().is_empty());
        drop(consumer);
    }
}

#[tokio::test]
async fn stream_producer_multiple_validators() {
    let id = NetworkId::random();
    let exchange = node(id, false, []).await;
    let producer = requiring(&exchange, &["pass", "badge"]);
    for tickets in [vec![valid("pass")], vec![valid("badge")], vec![valid("pass"), expired("badge")]] {
        let stranger = node(id, false, tickets).await;
        let consumer = stranger.streams().consume::<MyDatum>();
        settled(&stranger).await;
        assert!(!consumer.is_online() && producer.consumers().next().is_none());
    }
    // The ticket that ends first ends the channel.
    let member = node(id, false, [valid("pass"), valid("badge")]).await;
    let _consumer = member.streams().consume::<MyDatum>();
    within(producer.when().subscribed()).await;
    let channel = only(&producer);
    let short = dated("badge", SystemTime::now() + Duration::from_millis(300));
    member.discovery().replace_ticket(short).unwrap();
    cut(&channel).await;
}

#[tokio::test]
async fn stream_consumer_multiple_validators() {
    let id = NetworkId::random();
    let trader = node(id, false, []).await;
    let builder = trader.streams().consumer::<MyDatum>();
    let consumer = builder.require_ticket(Dated("pass")).require_ticket(Box::new(Dated("badge"))).build();
    let exchange = node(id, false, [valid("pass")]).await;
    let producer = exchange.streams().produce::<MyDatum>();
    settled(&exchange).await;
    assert!(!producer.is_online());
    exchange.discovery().add_ticket(valid("badge")).unwrap();
    within(consumer.when().online()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_are_shown_to_the_peer_of_a_session_and_to_no_other() {
    let id = NetworkId::random();
    let exchange = node(id, true, []).await;
    let producer = requiring(&exchange, &["pass"]);
    let trader = node(id, true, [valid("pass")]).await;
    let _consumer = trader.streams().consume::<MyDatum>();
    within(producer.when().subscribed()).await;
    assert_eq!(only(&producer).peer().tickets().len(), 1);
    let third = node(id, true, []).await;
    for network in [&exchange, &trader] {
        let found = within(third.discovery().wait_for(|peer| peer.id() == network.local().id())).await;
        assert!(found.expect("a peer").tickets().is_empty());
    }
}

struct Panics;

impl TicketValidator for Panics {
    fn class(&self) -> UniqueId {
        "pass".into()
    }

    fn signature(&self) -> UniqueId {
        self.class()
    }

    fn validate(&self, _ticket: &[u8], _peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
        panic!("validate panics, as the test wants")
    }
}

#[tokio::test]
async fn a_validator_that_panics_denies() {
    let network = node(NetworkId::random(), false, [valid("pass")]).await;
    let producer = network.streams().producer::<MyDatum>().require_ticket(Panics).build().unwrap();
    let consumer = network.streams().consume::<MyDatum>();
    settled(&network).await;
    assert!(!consumer.is_online() && producer.consumers().next().is_none());
}

#[tokio::test]
async fn tickets_that_are_too_long_are_refused_with_their_limit() {
    let network = node(NetworkId::random(), false, [valid("pass")]).await;
    let long = Ticket::new("pass".into(), vec![0; 16 << 10]);
    let error = network.discovery().add_ticket(long.clone()).unwrap_err();
    assert_eq!(error, TicketsTooLong { bytes: 44 + 36 + (16 << 10), limit: 16 << 10 });
    assert_eq!(network.discovery().me().tickets().len(), 1, "nothing has changed");
    let refused = Network::builder(NetworkId::random()).with_ticket(long).build().await;
    assert!(refused.unwrap_err().to_string().contains("bytes of tickets"));
}

#[tokio::test]
async fn a_ticket_is_shown_once_and_replaced_by_class() {
    let network = node(NetworkId::random(), false, []).await;
    let (one, two) = (valid("pass"), expired("pass"));
    let discovery = network.discovery();
    for ticket in [&one, &one, &two] {
        discovery.add_ticket(ticket.clone()).unwrap();
    }
    discovery.add_ticket(valid("badge")).unwrap();
    assert_eq!(discovery.me().tickets().len(), 3);
    discovery.replace_ticket(one.clone()).unwrap();
    let tickets = discovery.me().tickets().to_vec();
    assert_eq!((tickets.len(), &tickets[1]), (2, &one));
    assert_eq!(one.id(), one.class().derive(one.data()));
    assert!(!format!("{one:?}").contains(&format!("{:?}", one.data())), "{one:?}");
}

#[test]
fn expirations_are_ordered_by_time() {
    let (past, soon) = (Expiration::At(SystemTime::now() - HOUR), Expiration::after(HOUR));
    assert!(past < soon && soon < Expiration::Never);
    assert_eq!([past, soon, Expiration::Never].map(|at| at.is_expired()), [true, false, false]);
    assert_eq!(past.remaining(), Some(Duration::ZERO));
    assert_eq!(Expiration::Never.remaining(), None);
    assert_eq!(Expiration::after(Duration::MAX), Expiration::Never);
}

#[tokio::test]
async fn latest_ticket_of_a_class_and_earliest_validator_count() {
    let soon = SystemTime::now() + Duration::from_secs(60);
    let tickets = [dated("pass", soon), valid("pass"), expired("pass"), dated("badge", soon)];
    let me = node(NetworkId::random(), false, tickets).await.discovery().me();
    let later = |class| me.validate_ticket(&Dated(class)).map(|until| until > Expiration::At(soon));
    assert_eq!((later("pass"), later("badge"), later("none")), (Ok(true), Ok(false), Err(InvalidTicket)));
    let shared: Arc<dyn TicketValidator> = Arc::new(Dated("pass"));
    assert_eq!(shared.signature(), Dated("pass").signature());
    assert!(me.validate_ticket(&shared).is_ok());
}

declare::stream!(BothSides = MyDatum, "both sides", require_ticket: Dated("pass"));
declare::stream!(ByProducer = MyDatum, "by the producer", producer require_ticket: Dated("pass"));
declare::stream!(ByConsumer = MyDatum, "by the consumer", consumer require_ticket: Dated("pass"));
declare::stream!(Stacked = MyDatum, "stacked", require_ticket: Dated("pass"), require_ticket: Dated("badge"));

/// Whether a declared stream connects `producing` with `consuming`.
async fn connects<S>(producing: &Network, consuming: &Network) -> bool
where
    S: StreamProducer<Producer = Producer<MyDatum>> + StreamConsumer<Consumer = Consumer<MyDatum>>,
{
    let (consumer, producer) = (S::consumer(consuming), S::producer(producing));
    let open = consuming.streams().consumer::<u8>().with_stream_id("open").build();
    let _open = producing.streams().producer::<u8>().with_stream_id("open").build();
    within(open.when().online()).await;
    settled(consuming).await;
    assert_eq!(consumer.is_online(), producer.is_online());
    consumer.is_online()
}

#[tokio::test]
async fn stream_macro_require_ticket() {
    let id = NetworkId::random();
    let nobody = node(id, false, []).await;
    let member = node(id, false, [valid("pass")]).await;
    let officer = node(id, false, [valid("pass"), valid("badge")]).await;
    assert!(!connects::<BothSides>(&nobody, &member).await);
    assert!(!connects::<BothSides>(&member, &nobody).await);
    assert!(connects::<BothSides>(&member, &officer).await);
    assert!(connects::<ByProducer>(&nobody, &member).await);
    assert!(!connects::<ByProducer>(&member, &nobody).await);
    assert!(connects::<ByConsumer>(&member, &nobody).await);
    assert!(!connects::<ByConsumer>(&nobody, &member).await);
    assert!(!connects::<Stacked>(&officer, &member).await);
    assert!(connects::<Stacked>(&officer, &officer).await);
}

mod ticket_validator_of_the_macro {
    use super::super::streams::PriceUpdate;
    use super::Dated as MyJwtValidator;

    use corewire::*;
    declare::stream!(pub AuthFeed = PriceUpdate, "auth.feed",
        require_ticket: MyJwtValidator::new(),
    );

    #[tokio::test]
    async fn block_compiles_and_admits_by_ticket() {
        let network = super::node(NetworkId::random(), false, [super::valid("my.jwt")]).await;
        let _consumer = AuthFeed::consumer(&network);
        super::within(AuthFeed::online_producer(&network)).await;
    }
}

mod the_ticket_validator_trait {
    use corewire::tickets::{Expiration, InvalidTicket};
    use corewire::{PeerEntry, UniqueId};

    pub trait TicketValidator: Send + Sync + 'static {
        fn class(&self) -> UniqueId;
        fn signature(&self) -> UniqueId;
        fn validate(
            &self,
            ticket: &[u8],
            peer: &PeerEntry,
        ) -> Result<Expiration, InvalidTicket>;
    }

    /// The trait as printed is ours: what implements ours has exactly these methods.
    impl<V: corewire::tickets::TicketValidator> TicketValidator for V {
        fn class(&self) -> UniqueId {
            corewire::tickets::TicketValidator::class(self)
        }

        fn signature(&self) -> UniqueId {
            corewire::tickets::TicketValidator::signature(self)
        }

        fn validate(&self, ticket: &[u8], peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
            corewire::tickets::TicketValidator::validate(self, ticket, peer)
        }
    }

    #[test]
    fn trait_as_printed_has_the_same_methods() {
        let dated = super::Dated("pass");
        assert_eq!(TicketValidator::class(&dated), corewire::tickets::TicketValidator::class(&dated));
    }
}

mod require_with_closures {
    use super::{MyDatum, Result, node, valid};
    use corewire_testkit::within;

    fn validate_jwt(bytes: &[u8], _peer: &corewire::PeerId) -> bool {
        bytes.len() == 8
    }

    #[tokio::test]
    async fn block_admits_by_closure() -> Result {
        use corewire::{UniqueId, unique_id};

        let network = node(corewire::NetworkId::random(), false, []).await;

        const JWT_TICKET: UniqueId = unique_id!("my-app.jwt");

        let producer = network.streams()
            .producer::<MyDatum>()
            .require(move |peer| {
                peer.has_valid_ticket(JWT_TICKET, |jwt_bytes| {
                    validate_jwt(jwt_bytes, peer.id())
                })
            })
            .build()?;

        let consumer = network.streams().consume::<MyDatum>();
        super::settled(&network).await;
        assert!(!consumer.is_online());
        network.discovery().add_ticket(valid("my-app.jwt"))?;
        within(producer.when().online()).await;
        Ok(())
    }
}
