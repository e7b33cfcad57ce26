//! The grammar of annotations.

use corewire::BackpressurePolicy;
use corewire::local::{AnnotationError, BackpressureAnnotation, parse_backpressure_annotation};
use proptest::prelude::*;

fn options(text: &str) -> Vec<(String, String)> {
    let annotation = parse_backpressure_annotation(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    annotation.options().map(|(key, value)| (key.into(), value.into())).collect()
}

#[test]
fn the_slugs_alone_are_annotations() {
    for policy in BackpressurePolicy::ALL {
        let parsed = parse_backpressure_annotation(policy.slug()).unwrap();
        assert_eq!(parsed, BackpressureAnnotation::from(policy));
        assert_eq!((parsed.policy(), parsed.buffer_size(), parsed.options().count()), (policy, None, 0));
    }
}

#[test]
fn both_spellings_mean_the_same_and_blanks_do_not_count() {
    let spellings = [
        "degrade_quality, resample_to=8000, codec=mulaw",
        "degrade_quality(resample_to=8000, codec=mulaw)",
        "  degrade_quality ( resample_to = 8000 ,codec =mulaw , ) ",
        "degrade_quality,,resample_to=8000\n,\tcodec=mulaw,",
    ];
    let expected = vec![("resample_to".to_string(), "8000".to_string()), ("codec".into(), "mulaw".into())];
    for text in spellings {
        assert_eq!(options(text), expected, "{text:?}");
    }
    assert_eq!(options("fail()"), []);
}

#[test]
fn buffer_size_belongs_to_every_policy() {
    for policy in BackpressurePolicy::ALL {
        let parsed = parse_backpressure_annotation(&format!("{policy}, buffer_size=128")).unwrap();
        assert_eq!(parsed.buffer_size().map(|n| n.get()), Some(128));
        assert_eq!(parsed.option("buffer_size"), Some("128"));
    }
    assert!(parse_backpressure_annotation("fail, buffer_size=8388608").is_ok());
}

#[test]
fn an_unknown_policy_is_named_with_its_place() {
    for (text, found, at) in [
        ("", "", 0),
        ("  dropoldest, x=1", "dropoldest", 2),
        ("FAIL", "FAIL", 0),
        ("fail)", "fail)", 0),
        ("(a=1)", "", 0),
    ] {
        let error = parse_backpressure_annotation(text).unwrap_err();
        assert_eq!(error, AnnotationError::UnknownPolicy { found: found.into(), at }, "{text:?}");
        assert!(BackpressurePolicy::ALL.iter().all(|policy| error.to_string().contains(policy.slug())));
    }
}

#[test]
fn a_malformed_option_is_named_with_its_place() {
    for (text, found, at) in [
        ("fail, buffer_size", "buffer_size", 6),
        ("fail, =3", "=3", 6),
        ("fail(buffer_size=3", "(buffer_size=3", 4),
        ("fail(buffer_size=3) x", "(buffer_size=3) x", 4),
        ("fail(buffer_size=3), codec=a", "(buffer_size=3), codec=a", 4),
        ("fail(buffer_size=3), (codec=a)", "buffer_size=3)", 5),
        ("fail, buffer_size=(3)", "buffer_size=(3)", 6),
        ("fail((buffer_size=3))", "(buffer_size=3)", 5),
    ] {
        match parse_backpressure_annotation(text) {
            Err(AnnotationError::MalformedOption { found: f, at: a, .. }) => {
                assert_eq!((f.as_str(), a), (found, at), "{text:?}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn a_duplicate_is_refused_also_with_the_same_value() {
    let error = parse_backpressure_annotation("fail(buffer_size=3, buffer_size=3)").unwrap_err();
    assert_eq!(error, AnnotationError::DuplicateOption { key: "buffer_size".into(), at: 20 });
}

#[test]
fn a_bad_value_is_named_with_its_place_and_what_is_allowed() {
    for (text, key, value, at) in [
        ("fail, buffer_size=0", "buffer_size", "0", 18),
        ("fail, buffer_size= -1", "buffer_size", "-1", 19),
        ("fail, buffer_size=+1", "buffer_size", "+1", 18),
        ("fail, buffer_size=", "buffer_size", "", 18),
        ("fail, buffer_size=8388609", "buffer_size", "8388609", 18),
        ("fail, buffer_size=99999999999999999999999", "buffer_size", "99999999999999999999999", 18),
        ("fail, buffer_size=1=2", "buffer_size", "1=2", 18),
        ("degrade_quality, resample_to=8 kHz", "resample_to", "8 kHz", 29),
        ("degrade_quality, resample_to=4294967296", "resample_to", "4294967296", 29),
        ("degrade_quality, codec=mu law", "codec", "mu law", 23),
    ] {
        match parse_backpressure_annotation(text) {
            Err(AnnotationError::BadValue { key: k, value: v, at: a, expected }) => {
                assert_eq!((k.as_str(), v.as_str(), a), (key, value, at), "{text:?}");
                assert!(!expected.is_empty());
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn an_unknown_option_is_named_with_those_that_there_are() {
    let error = parse_backpressure_annotation("pause_upstream, resample_to=8000").unwrap_err();
    assert_eq!(
        error,
        AnnotationError::UnknownOption {
            key: "resample_to".into(),
            at: 16,
            policy: BackpressurePolicy::PauseUpstream,
            allowed: "buffer_size".into()
        }
    );
    let error = BackpressureAnnotation::parse_with("degrade_quality(Codec=a)", &["every"]).unwrap_err();
    assert!(error.to_string().ends_with("allowed are buffer_size, resample_to, codec, every"), "{error}");
}

#[test]
fn a_degrader_may_have_options_of_its_own() {
    let text = "degrade_quality(every=3, tint=a=b)";
    let parsed = BackpressureAnnotation::parse_with(text, &["every", "tint"]).unwrap();
    assert_eq!((parsed.option("every"), parsed.option("tint")), (Some("3"), Some("a=b")));
    assert!(matches!(
        BackpressureAnnotation::parse_with("degrade_quality(every=)", &["every"]),
        Err(AnnotationError::BadValue { .. })
    ));
    // Other policies do not have the degrader's options.
    assert!(matches!(
        BackpressureAnnotation::parse_with("fail(every=3)", &["every"]),
        Err(AnnotationError::UnknownOption { .. })
    ));
    // An option of the table keeps its check.
    assert!(BackpressureAnnotation::parse_with("degrade_quality(buffer_size=x)", &["buffer_size"]).is_err());
}

#[test]
fn errors_quote_a_part_of_a_long_text_only() {
    for text in ["é".repeat(1 << 20), format!("fail, {}", "k".repeat(1 << 20))] {
        let error = parse_backpressure_annotation(&text).unwrap_err();
        assert!(error.to_string().len() < 400, "{}", error.to_string().len());
    }
}

/// A value that `codec` takes: visible ASCII without what the grammar uses.
fn word() -> impl Strategy<Value = String> {
    "[!-'*+\\-./0-9:;<>?@A-Z\\[\\]^_`a-z{|}~=]{1,20}"
}

proptest! {
    #[test]
    fn what_is_displayed_parses_to_the_same(
        policy in prop::sample::select(&BackpressurePolicy::ALL[..]),
        size in prop::option::of(1u32..=8_388_608),
        rate in prop::option::of(1u32..),
        codec in prop::option::of(word()),
        parentheses in any::<bool>(),
    ) {
        let degrades = policy == BackpressurePolicy::DegradeQuality;
        let mut parts = Vec::new();
        parts.extend(size.map(|n| format!("buffer_size={n}")));
        parts.extend(codec.filter(|_| degrades).map(|word| format!("codec={word}")));
        parts.extend(rate.filter(|_| degrades).map(|n| format!("resample_to={n}")));
        let text = if parentheses {
            format!("{policy}({})", parts.join(","))
        } else {
            [&[policy.to_string()], &parts[..]].concat().join(" , ")
        };
        let parsed = parse_backpressure_annotation(&text).unwrap();
        prop_assert_eq!(parsed.options().count(), parts.len());
        prop_assert_eq!(&parsed.to_string().parse::<BackpressureAnnotation>().unwrap(), &parsed);
        prop_assert_eq!(parsed.buffer_size().map(|n| n.get()), size.map(|n| n as usize));
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_errors_point_into_it(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn no_text_that_is_nearly_right_makes_the_parser_panic(
        parts in prop::collection::vec(
            prop::sample::select(&[
                "fail", "degrade_quality", "drop_oldest", "buffer_size", "codec", "resample_to", "=", ",", "(", ")",
                " ", "8", "0", "ü", "\u{2003}", "\0", "mulaw", "=8,",
            ][..]),
            0..12,
        )
    ) {
        check(&parts.concat())?;
    }
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match parse_backpressure_annotation(text) {
        Ok(parsed) => prop_assert_eq!(parsed.to_string().parse(), Ok(parsed)),
        Err(
            AnnotationError::UnknownPolicy { at, .. }
            | AnnotationError::MalformedOption { at, .. }
            | AnnotationError::DuplicateOption { at, .. }
            | AnnotationError::BadValue { at, .. }
            | AnnotationError::UnknownOption { at, .. },
        ) => prop_assert!(text.is_char_boundary(at), "{} in {:?}", at, text),
        Err(other) => prop_assert!(false, "{other:?}"),
    }
    Ok(())
}
