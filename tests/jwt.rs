//! JSON Web Tokens as tickets: what is accepted, and each kind of token that has to be refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corewire::tickets::{
    EdDsa, Es256, Es384, Expiration, Hs256, Hs384, Hs512, InvalidTicket, Jwt, JwtError, JwtKeyError,
    JwtTicketBuilder, SigningKey, Ticket, TicketValidator, VerifyingKey,
};
use corewire::{Network, NetworkId, PeerEntry, PeerId, Producer, declare};
use corewire_testkit::within;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);
const SECRET: [u8; 64] = [7; 64];

/// A peer to sign for.
fn peer() -> PeerEntry {
    Network::new_blocking(NetworkId::random()).expect("a node on the loopback interface").discovery().me()
}

fn hs256() -> Hs256 {
    Hs256::new(&SECRET[..32])
}

fn signer() -> JwtTicketBuilder {
    JwtTicketBuilder::new(hs256()).expires_in(HOUR)
}

/// A second an hour from now, counted from 1970.
fn in_an_hour() -> u64 {
    (SystemTime::now() + HOUR).duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What `validator` says about the ticket that `builder` signs for `peer`.
fn judged(validator: &Jwt, builder: &JwtTicketBuilder, peer: &PeerEntry) -> Result<Expiration, JwtError> {
    let ticket = builder.build(peer.id()).expect("a signature");
    let checked = validator.check(ticket.data(), peer);
    assert_eq!(validator.validate(ticket.data(), peer).is_ok(), checked.is_ok());
    checked
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    (pkcs8.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
}

fn ed25519() -> (Vec<u8>, Vec<u8>) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    (pkcs8.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
}

/// Base64 for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        let digits = (0..=chunk.len()).map(|at| DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        text.extend(digits.map(char::from));
    }
    text
}

/// A token with this header and these claims, signed with [`SECRET`] as HS256 would.
fn forged(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message =
        format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = base64(ring::hmac::sign(&key, message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

#[test]
fn each_algorithm_accepts_its_own_signatures_and_no_others() {
    let peer = peer();
    let (es256, es256_public) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let (es384, es384_public) = ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING);
    let (ed, ed_public) = ed25519();
    let keys: [(SigningKey, VerifyingKey); 6] = [
        (hs256().into(), hs256().into()),
        (Hs384::new(SECRET).into(), Hs384::new(SECRET).into()),
        (Hs512::new(SECRET).into(), Hs512::new(SECRET).into()),
        (SigningKey::es256(&es256).unwrap(), Es256::new(es256_public).into()),
        (SigningKey::es384(&es384).unwrap(), Es384::new(es384_public).into()),
        (SigningKey::ed_dsa(&ed).unwrap(), EdDsa::new(ed_public).into()),
    ];
    for (i, (signing, _)) in keys.iter().enumerate() {
        let builder = JwtTicketBuilder::new(signing.clone()).expires_in(HOUR);
        for (k, (_, verifying)) in keys.iter().enumerate() {
            let judged = judged(&Jwt::with_key(verifying.clone()), &builder, &peer);
            assert_eq!(judged.is_ok(), i == k, "{signing:?} {verifying:?}: {judged:?}");
        }
    }
    let (other, _) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let wrong_key = JwtTicketBuilder::new(SigningKey::es256(other).unwrap()).expires_in(HOUR);
    assert_eq!(judged(&Jwt::with_key(keys[3].1.clone()), &wrong_key, &peer), Err(JwtError::Signature));
}

#[test]
fn a_public_key_is_no_secret() {
    // Algorithm confusion: the attacker signs with HMAC, and takes the public key for the secret.
    let peer = peer();
    let (_, public) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let claims = json!({ "sub": peer.id().to_string(), "exp": seconds_from_now(60) });
    let token = forged(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, &public);
    let validator = Jwt::with_key(Es256::new(&public));
    let refused = validator.check(token.as_bytes(), &peer);
    assert!(matches!(refused, Err(JwtError::UnknownKey { .. })), "{refused:?}");
    // The header may also name the key's algorithm, which then does not fit the signature.
    let token = forged(&json!({ "alg": "ES256" }), &claims, &public);
    assert_eq!(validator.check(token.as_bytes(), &peer), Err(JwtError::Signature));
}

#[test]
fn tokens_without_a_signature_are_refused() {
    let peer = peer();
    let claims = json!({ "sub": peer.id().to_string(), "exp": seconds_from_now(60) });
    let validator = Jwt::with_key(hs256());
    for algorithm in ["none", "None", "NONE", ""] {
        let signed = forged(&json!({ "alg": algorithm }), &claims, &SECRET[..32]);
        let bare = signed.rsplit_once('.').unwrap().0;
        for token in [signed.clone(), format!("{bare}."), bare.to_owned()] {
            let refused = validator.check(token.as_bytes(), &peer);
            assert!(matches!(refused, Err(JwtError::Malformed(_))), "{algorithm:?}: {refused:?}");
        }
    }
    let signed = forged(&json!({ "alg": "HS256" }), &claims, &SECRET[..32]);
    assert!(validator.check(signed.as_bytes(), &peer).is_ok());
    let empty = format!("{}.", signed.rsplit_once('.').unwrap().0);
    assert_eq!(validator.check(empty.as_bytes(), &peer), Err(JwtError::Signature));
}

#[test]
fn bad_encodings_are_refused() {
    let peer = peer();
    let validator = Jwt::with_key(hs256());
    let good = signer().build(peer.id()).unwrap();
    let good = std::str::from_utf8(good.data()).unwrap();
    assert!(validator.check(good.as_bytes(), &peer).is_ok());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let bad = [
        String::new(),
        "..".into(),
        "a.b.c".into(),
        format!("{good}="),
        format!("{good}.x"),
        format!(" {good}"),
        format!("{good}\n"),
        message.into(),
        format!("{message}.{}", &signature[1..]),
        format!("{message}.{}", signature.replace(|digit: char| digit.is_ascii_lowercase(), "+")),
        // The last digit has bits that belong to no byte.
        format!("{}B", &good[..good.len() - 1]),
        forged(&json!([1]), &json!({}), &SECRET[..32]),
        forged(&json!({ "alg": "HS256" }), &json!("text"), &SECRET[..32]),
        forged(&json!({ "alg": "HS256", "crit": ["b64"], "b64": false }), &json!({}), &SECRET[..32]),
    ];
    for token in bad {
        assert!(validator.check(token.as_bytes(), &peer).is_err(), "{token:?}");
    }
    assert!(validator.check(&[0xff, 0xfe, b'.', 0, b'.'], &peer).is_err());
    assert_eq!(validator.validate(b"", &peer), Err(InvalidTicket));
}

#[test]
fn oversized_tokens_are_refused_unread() {
    let peer = peer();
    let long = signer().claim("padding", "x".repeat(8 << 10));
    let refused = judged(&Jwt::with_key(hs256()), &long, &peer);
    assert!(matches!(refused, Err(JwtError::TooLong(bytes)) if bytes > 8 << 10), "{refused:?}");
}

#[test]
fn subject_has_to_be_the_peer() {
    let (peer, other) = (peer(), PeerId::random());
    let validator = Jwt::with_key(hs256());
    let stolen = signer().build(&other).unwrap();
    assert_eq!(validator.check(stolen.data(), &peer), Err(JwtError::Claim("sub".into())));
    let wrong = Err(JwtError::Claim("sub".into()));
    assert_eq!(judged(&validator, &signer().subject("someone"), &peer), wrong);
    assert!(judged(&validator, &signer().claim("sub", json!([peer.id().to_string()])), &peer).is_err());
    let upper = peer.id().to_string().to_uppercase();
    assert_eq!(judged(&validator, &signer().subject(upper), &peer), wrong);
    let shared = validator.require_subject("team");
    assert!(judged(&shared, &signer().subject("team"), &peer).is_ok());
    assert_eq!(judged(&shared, &signer(), &peer), wrong);
    let claims = json!({ "exp": seconds_from_now(60) });
    let without = forged(&json!({ "alg": "HS256" }), &claims, &SECRET[..32]);
    assert_eq!(shared.check(without.as_bytes(), &peer), Err(JwtError::Missing("sub".into())));
}

#[test]
fn expired_and_future_tokens_are_refused() {
    let peer = peer();
    let validator = Jwt::with_key(hs256());
    let (past, future) = (SystemTime::now() - HOUR, SystemTime::now() + HOUR);
    assert_eq!(judged(&validator, &signer().expires_at(past), &peer), Err(JwtError::Expired));
    assert_eq!(
        judged(&validator, &signer().expires_at(SystemTime::UNIX_EPOCH), &peer),
        Err(JwtError::Expired)
    );
    assert_eq!(judged(&validator, &signer().not_before(future), &peer), Err(JwtError::NotYet("nbf")));
    assert_eq!(judged(&validator, &signer().issued_at(future), &peer), Err(JwtError::NotYet("iat")));
    assert!(judged(&validator, &signer().not_before(past), &peer).is_ok());
    let lenient = validator.clone().with_leeway(2 * HOUR);
    for builder in [signer().expires_at(past), signer().not_before(future), signer().issued_at(future)] {
        assert!(judged(&lenient, &builder, &peer).is_ok());
    }
    let endless = JwtTicketBuilder::new(hs256());
    assert_eq!(judged(&validator, &endless, &peer), Err(JwtError::Missing("exp".into())));
    assert_eq!(judged(&validator.allow_non_expiring(), &endless, &peer), Ok(Expiration::Never));
}

#[test]
fn times_of_another_type_or_out_of_range_are_refused() {
    let peer = peer();
    let validator = Jwt::with_key(hs256()).allow_non_expiring();
    for name in ["exp", "nbf", "iat"] {
        for value in
            [json!("1"), json!(-1), json!(null), json!([1]), json!(1e300), json!(u64::MAX), json!(true)]
        {
            let refused = judged(&validator, &signer().claim(name, value.clone()), &peer).unwrap_err();
            let says_so = matches!(&refused, JwtError::Claim(claim) if claim == name);
            assert!(says_so || matches!(refused, JwtError::Malformed(_)), "{name} {value}: {refused}");
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "half a second is kept until the year 140,000,000")]
    let half = seconds_from_now(60) as f64 + 0.5;
    assert!(judged(&validator, &signer().claim("exp", half), &peer).is_ok());
}

#[test]
fn lifetime_and_age_are_bounded() {
    let peer = peer();
    let short = Jwt::with_key(hs256()).max_lifetime(HOUR + HOUR / 2);
    assert!(judged(&short, &signer(), &peer).is_ok());
    assert_eq!(judged(&short, &signer().expires_in(2 * HOUR), &peer), Err(JwtError::LongLived));
    let hour_ago = SystemTime::now() - HOUR;
    let old = signer().issued_at(hour_ago).expires_in(10 * HOUR);
    let young = Jwt::with_key(hs256()).max_age(2 * HOUR);
    let until = judged(&young, &old, &peer).unwrap();
    assert!(until <= Expiration::after(HOUR), "the age ends before the token: {until:?}");
    let younger = Jwt::with_key(hs256()).max_age(HOUR / 2);
    assert_eq!(judged(&younger, &old, &peer), Err(JwtError::TooOld));
    let claims = json!({ "sub": peer.id().to_string(), "exp": seconds_from_now(60) });
    let undated = forged(&json!({ "alg": "HS256" }), &claims, &SECRET[..32]);
    for validator in [&younger, &short] {
        assert_eq!(validator.check(undated.as_bytes(), &peer), Err(JwtError::Missing("iat".into())));
    }
}

#[test]
fn issuer_audience_and_claims_are_those_that_were_asked_for() {
    let peer = peer();
    let issued = Jwt::with_key(hs256()).allow_issuer("one").allow_issuer("two");
    assert!(judged(&issued, &signer().issuer("two"), &peer).is_ok());
    assert_eq!(judged(&issued, &signer().issuer("three"), &peer), Err(JwtError::Claim("iss".into())));
    assert_eq!(judged(&issued, &signer(), &peer), Err(JwtError::Missing("iss".into())));
    assert!(judged(&issued, &signer().claim("iss", json!(["two"])), &peer).is_err());
    let meant = Jwt::with_key(hs256()).allow_audience("feed");
    for fits in [json!("feed"), json!(["other", "feed"])] {
        assert!(judged(&meant, &signer().claim("aud", fits), &peer).is_ok());
    }
    for odd in [json!("other"), json!([]), json!(["feed", 7]), json!({ "feed": 1 }), json!(null)] {
        assert_eq!(judged(&meant, &signer().claim("aud", odd), &peer), Err(JwtError::Claim("aud".into())));
    }
    assert!(judged(&meant, &signer().audience("feed"), &peer).is_ok());
    let claiming = Jwt::with_key(hs256()).require_claim("role", "maker").require_claim("level", 3);
    assert!(judged(&claiming, &signer().claim("role", "maker").claim("level", 3), &peer).is_ok());
    for odd in [json!("3"), json!(4), json!(null)] {
        let builder = signer().claim("role", "maker").claim("level", odd);
        assert_eq!(judged(&claiming, &builder, &peer), Err(JwtError::Claim("level".into())));
    }
    let half = judged(&claiming, &signer().claim("role", "maker"), &peer);
    assert_eq!(half, Err(JwtError::Missing("level".into())));
}

#[test]
fn keys_rotate_by_their_id() {
    let peer = peer();
    let (old, new) = (Hs256::new([1; 32]), Hs256::new([2; 32]));
    let signed = |key: &Hs256| JwtTicketBuilder::new(key.clone()).expires_in(HOUR);
    let both = Jwt::with_key_id("old", old.clone()).add_key_with_id("new", new.clone());
    for (key, id) in [(&old, "old"), (&new, "new")] {
        assert!(judged(&both, &signed(key).key_id(id), &peer).is_ok());
        assert!(judged(&both, &signed(key), &peer).is_ok(), "without an id every key is tried");
    }
    assert_eq!(judged(&both, &signed(&old).key_id("new"), &peer), Err(JwtError::Signature));
    let other = judged(&both, &signed(&old).key_id("other"), &peer);
    assert!(matches!(other, Err(JwtError::UnknownKey { key_id: Some(id), .. }) if id == "other"));
    let only_new = Jwt::with_key_id("new", new.clone());
    assert!(judged(&only_new, &signed(&old).key_id("old"), &peer).is_err());
    let unnamed = Jwt::with_key(old.clone()).add_key(new.clone());
    assert!(judged(&unnamed, &signed(&new).key_id("any"), &peer).is_ok());
}

#[test]
fn signature_of_a_validator_follows_its_configuration() {
    let base = || Jwt::with_key(hs256());
    let signatures = [
        base(),
        Jwt::with_key(Hs256::new([9; 32])),
        Jwt::with_key_id("a", hs256()),
        base().allow_issuer("a"),
        base().allow_audience("a"),
        base().require_subject("a"),
        base().require_claim("a", 1),
        base().allow_non_expiring(),
        base().max_lifetime(HOUR),
        base().max_age(HOUR),
        base().with_leeway(HOUR),
    ]
    .map(|jwt| jwt.signature());
    for (i, one) in signatures.iter().enumerate() {
        assert!(signatures[..i].iter().all(|other| other != one), "number {i}");
    }
    let forth = base().allow_issuer("a").allow_issuer("b").signature();
    assert_eq!(base().allow_issuer("b").allow_issuer("a").signature(), forth);
}

#[test]
fn keys_of_another_form_are_errors_that_say_what_is_expected() {
    let short = Hs512::try_new([0; 63]).unwrap_err();
    assert_eq!(short, JwtKeyError::ShortSecret { algorithm: "HS512", least: 64, given: 63 });
    assert!(short.to_string().contains("at least 64"));
    assert!(Hs256::try_new([0; 31]).is_err() && Hs384::try_new([0; 47]).is_err());
    assert!(Es256::try_new([4; 64]).is_err() && Es256::try_new([2; 65]).is_err());
    assert!(
        Es384::try_new([4; 65]).is_err() && EdDsa::try_new([0; 33]).unwrap_err().to_string().contains("32")
    );
    let (es256, _) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    assert!(SigningKey::es384(&es256).is_err() && SigningKey::ed_dsa(&es256).is_err());
    assert_eq!(SigningKey::es256([0; 9]).unwrap_err(), JwtKeyError::PrivateKey { algorithm: "ES256" });
    assert!(!format!("{:?}", Hs256::new([7; 32])).contains('7'));
}

/// A node that shows this ticket, made for it.
async fn holder(id: NetworkId, ticket: impl FnOnce(&PeerId) -> Option<Ticket>) -> Network {
    let network = Network::new(id).await.expect("a node on the loopback interface");
    if let Some(ticket) = ticket(network.local().id()) {
        network.discovery().add_ticket(ticket).expect("a short one");
    }
    network
}

#[test]
fn a_token_that_is_not_valid_yet_tells_from_when_it_is() {
    let (peer, other) = (peer(), peer());
    let begin = UNIX_EPOCH + Duration::from_secs(in_an_hour());
    let validator = Jwt::with_key(hs256());
    let early = signer().expires_in(2 * HOUR).not_before(begin);
    let begins = |validator: &Jwt, builder: &JwtTicketBuilder, peer: &PeerEntry| {
        validator.valid_from(builder.build(peer.id()).unwrap().data(), peer)
    };
    assert_eq!(judged(&validator, &early, &peer), Err(JwtError::NotYet("nbf")));
    assert_eq!(begins(&validator, &early, &peer), Some(begin));
    let leeway = Duration::from_secs(60);
    assert_eq!(begins(&validator.clone().with_leeway(leeway), &early, &peer), Some(begin - leeway));
    // Not if it is over by then, or wrong for another reason.
    assert_eq!(begins(&validator, &early.clone().expires_at(begin), &peer), None);
    let of_other = early.build(other.id()).unwrap();
    assert_eq!(validator.valid_from(of_other.data(), &peer), None);
    assert_eq!(begins(&validator, &signer(), &peer), None, "it is valid");
}

#[tokio::test]
async fn stream_producer_and_consumer_require_a_token() {
    let id = NetworkId::random();
    let validator = Jwt::with_key(hs256()).allow_issuer("my-app");
    let issuer = signer().issuer("my-app");
    let exchange = holder(id, |peer| issuer.build(peer).ok()).await;
    let producer = exchange.streams().producer::<u64>().require_ticket(validator.clone()).build().unwrap();
    let expired = issuer.clone().expires_at(SystemTime::now() - HOUR);
    let strangers = [
        holder(id, |_| None).await,
        holder(id, |peer| expired.build(peer).ok()).await,
        holder(id, |_| issuer.build(exchange.local().id()).ok()).await,
    ];
    let _refused: Vec<_> = strangers.iter().map(|node| node.streams().consume::<u64>()).collect();
    let trader = holder(id, |peer| issuer.build(peer).ok()).await;
    let mut consumer = trader.streams().consumer::<u64>().require_ticket(validator).build();
    within(producer.send(7)).await.unwrap();
    assert_eq!(within(consumer.recv()).await, Some(7));
    assert_eq!(producer.consumers().filter(|info| info.is_connected()).count(), 1);
}

declare::stream!(Guarded = u64, "guarded", require_ticket: Jwt::with_key(hs256()));

#[tokio::test]
async fn declared_stream_requires_a_token_until_it_expires() {
    use corewire::{StreamConsumer as _, StreamProducer as _};
    let id = NetworkId::random();
    let network = holder(id, |peer| signer().build(peer).ok()).await;
    let _consumer = Guarded::consumer(&network);
    let producer: Producer<u64> = within(Guarded::online_producer(&network)).await;
    let short = signer().expires_in(Duration::from_secs(2)).build(network.local().id()).unwrap();
    network.discovery().replace_ticket(short).unwrap();
    within(producer.when().offline()).await;
    network.discovery().replace_ticket(signer().build(network.local().id()).unwrap()).unwrap();
    within(producer.when().online()).await;
}

#[tokio::test]
async fn the_block_of_the_producers_document() -> Result<(), Box<dyn std::error::Error>> {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct MyDatum(u8);
    let secret = [7; 32];
    let network = Network::new(NetworkId::random()).await?;

    use corewire::tickets::{Hs256, Jwt};

    let validator = Jwt::with_key(Hs256::new(secret)).allow_issuer("my-app");

    let producer = network.streams().producer::<MyDatum>().require_ticket(validator).build()?;

    let _consumer = network.streams().consume::<MyDatum>();
    let issuer = JwtTicketBuilder::new(Hs256::new(secret)).issuer("my-app").expires_in(HOUR);
    network.discovery().add_ticket(issuer.build(network.local().id())?)?;
    within(producer.when().online()).await;
    Ok(())
}
