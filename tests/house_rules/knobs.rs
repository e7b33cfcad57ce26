//! Every setter of a public builder, and the test that fails if the setter does nothing.

use super::source::{Source, none, sources};

/// Files with builders, and for each setter the file of its test and the test's name.
const KNOBS: &[(&str, &[(&str, &str)])] = &[
    (
        "src/compat.rs",
        &[
            ("subscribe_if", "tests/api/knobs.rs predicates_on_tags_as_text_refuse_at_either_end"),
            ("with_buffer_size", "tests/api/knobs.rs each_window_of_a_consumer_limits_by_itself"),
            ("accept_if", "tests/api/knobs.rs predicates_on_tags_as_text_refuse_at_either_end"),
        ],
    ),
    (
        "src/discovery/conditions.rs",
        &[
            ("minimum_of", "tests/api/peers.rs conditions_on_peers_count_those_that_qualify"),
            ("with_tags", "tests/api/peers.rs conditions_on_peers_count_those_that_qualify"),
            ("with_streams", "tests/api/peers.rs conditions_on_peers_count_those_that_qualify"),
            ("with_predicate", "tests/api/peers.rs conditions_on_peers_count_those_that_qualify"),
            ("unmet", "tests/api/peers.rs conditions_on_peers_count_those_that_qualify"),
        ],
    ),
    (
        "src/network/builder.rs",
        &[
            (
                "with_secret_key",
                "tests/api/inspection.rs node_identity_follows_its_key_and_its_address_is_bound",
            ),
            ("with_network_secret", "tests/api/remote.rs network_secret_keeps_out_nodes_without_it"),
            (
                "with_addresses",
                "tests/api/knobs.rs a_node_binds_the_address_and_calls_the_bootstrap_that_it_was_given",
            ),
            (
                "with_announced_addresses",
                "tests/api/blocking.rs bootstrap_and_announced_addresses_reach_the_peers",
            ),
            ("with_tags", "tests/api/inspection.rs node_identity_follows_its_key_and_its_address_is_bound"),
            ("with_beacon", "tests/api/knobs.rs a_beacon_reaches_as_far_as_it_was_told"),
            ("with_ticket", "tests/documents/tickets.rs stream_producer_admits_only_valid_tickets"),
            (
                "with_bootstrap",
                "tests/api/knobs.rs a_node_binds_the_address_and_calls_the_bootstrap_that_it_was_given",
            ),
            ("with_engine", "tests/api/remote.rs channel_between_engines_names_the_address_of_its_other_end"),
            ("with_session", "tests/api/remote.rs settings_of_sessions_reach_the_sessions"),
            ("with_max_bandwidth", "tests/api/bandwidth.rs a_limited_network_takes_its_time_for_all_streams"),
            (
                "with_streams_config",
                "src/streams/open.rs backoff_of_a_consumer_is_its_own_or_that_of_its_network",
            ),
        ],
    ),
    (
        "src/raw/config.rs",
        &[
            (
                "with_reliability",
                "tests/raw/document.rs a_config_starts_from_the_defaults_and_keeps_what_is_set",
            ),
            ("with_window_bytes", "tests/raw/document.rs a_full_window_refuses_whole_sends_and_is_counted"),
            (
                "with_fairness_weight",
                "tests/raw/sharing.rs weights_one_and_four_share_a_bottleneck_one_to_four",
            ),
            ("with_close_behavior", "tests/raw/closing.rs drain_then_close_delivers_what_waits"),
        ],
    ),
    (
        "src/session_settings.rs",
        &[
            ("with_dead_after", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_keepalive", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_idle_timeout", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_suspect_after", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_give_up_after", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_ack_delay", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_max_packet_bytes", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_congestion", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_max_channels", "src/session_settings.rs each_setter_sets_its_own_field"),
            ("with_max_held_bytes", "src/session_settings.rs each_setter_sets_its_own_field"),
        ],
    ),
    (
        "src/streams/backoff.rs",
        &[
            ("with_initial_interval", "src/streams/backoff.rs each_setter_sets_its_own_field"),
            ("with_multiplier", "src/streams/backoff.rs each_setter_sets_its_own_field"),
            ("with_randomization_factor", "src/streams/backoff.rs each_setter_sets_its_own_field"),
            ("with_max_interval", "src/streams/backoff.rs each_setter_sets_its_own_field"),
            ("with_max_elapsed_time", "tests/api/events.rs consumer_is_told_that_it_gave_a_producer_up"),
        ],
    ),
    (
        "src/streams/conditions.rs",
        &[
            ("minimum_of", "tests/api/conditions.rs conditions_count_tags_and_predicates"),
            ("with_tags", "tests/api/conditions.rs conditions_count_tags_and_predicates"),
            ("with_predicate", "tests/api/refusals.rs a_panicking_predicate_denies_and_is_counted"),
            ("unmet", "tests/api/conditions.rs conditions_count_tags_and_predicates"),
        ],
    ),
    (
        "src/streams/config.rs",
        &[("with_backoff", "src/streams/open.rs backoff_of_a_consumer_is_its_own_or_that_of_its_network")],
    ),
    (
        "src/streams/consumer/builder.rs",
        &[
            ("with_stream_id", "tests/api/remote.rs settings_of_sessions_reach_the_sessions"),
            ("with_criteria", "tests/api/criteria.rs criteria_choose_between_engines"),
            ("with_window_bytes", "tests/api/knobs.rs each_window_of_a_consumer_limits_by_itself"),
            ("with_window_datums", "tests/api/knobs.rs each_window_of_a_consumer_limits_by_itself"),
            ("with_backoff", "src/streams/open.rs backoff_of_a_consumer_is_its_own_or_that_of_its_network"),
            ("online_when", "tests/api/conditions.rs minimum_of_zero_is_online_at_once"),
            ("require", "tests/api/conditions.rs requirements_follow_tags_that_change"),
            (
                "require_ticket",
                "tests/documents/tickets.rs stream_consumer_takes_from_producers_with_valid_tickets",
            ),
            ("prefer", "tests/api/preferences.rs a_consumer_moves_between_engines_and_is_told_the_exact_gap"),
            ("reliability", "tests/api/remote.rs a_window_of_zero_bytes_never_stops_the_producer"),
            ("codec", "tests/api/plain.rs plain_carries_a_type_without_serde"),
        ],
    ),
    (
        "src/streams/consumer/preference.rs",
        &[("with_hold", "tests/api/preferences.rs a_producer_is_kept_for_the_time_that_was_asked_for")],
    ),
    ("src/streams/criteria.rs", &[("and_every", "src/streams/criteria.rs every_nth_narrows_other_criteria")]),
    (
        "src/streams/producer/builder.rs",
        &[
            ("with_stream_id", "tests/api/remote.rs settings_of_sessions_reach_the_sessions"),
            ("with_buffer_size", "tests/api/refusals.rs full_gives_the_datum_back_at_exactly_the_capacity"),
            ("with_buffer_bytes", "src/streams/open.rs settings_of_a_producer_reach_the_engine"),
            ("with_max_datum_bytes", "tests/api/refusals.rs too_large_names_the_limit"),
            ("with_max_consumers", "tests/api/refusals.rs require_and_max_consumers_refuse_consumers"),
            (
                "with_max_bandwidth",
                "tests/api/bandwidth.rs a_limited_producer_takes_its_time_and_counts_the_waits",
            ),
            ("online_when", "tests/api/conditions.rs online_when_gates_sending"),
            ("require", "tests/api/refusals.rs require_and_max_consumers_refuse_consumers"),
            ("require_ticket", "tests/documents/tickets.rs stream_producer_admits_only_valid_tickets"),
            ("disconnect_lagging", "src/streams/open.rs settings_of_a_producer_reach_the_engine"),
            ("resume_for", "src/streams/open.rs settings_of_a_producer_reach_the_engine"),
            ("on_full", "tests/api/refusals.rs fail_never_waits_and_leaves_the_stream_usable"),
            ("degrader", "tests/api/policies.rs degrade_quality_degrades_then_drops_the_oldest"),
            ("with_key", "tests/api/criteria.rs criteria_choose_between_engines"),
            (
                "with_undelivered_sink",
                "tests/api/criteria.rs what_no_consumer_wants_goes_to_the_undelivered_sink",
            ),
            ("reliability", "src/streams/open.rs settings_of_a_producer_reach_the_engine"),
            ("fairness_weight", "src/streams/open.rs settings_of_a_producer_reach_the_engine"),
            ("codec", "tests/api/plain.rs plain_carries_a_type_without_serde"),
        ],
    ),
    (
        "src/tickets/jwt.rs",
        &[
            ("add_key", "tests/jwt.rs keys_rotate_by_their_id"),
            ("add_key_with_id", "tests/jwt.rs keys_rotate_by_their_id"),
            ("allow_issuer", "tests/jwt.rs issuer_audience_and_claims_are_those_that_were_asked_for"),
            ("allow_audience", "tests/jwt.rs issuer_audience_and_claims_are_those_that_were_asked_for"),
            ("require_subject", "tests/jwt.rs subject_has_to_be_the_peer"),
            ("require_claim", "tests/jwt.rs issuer_audience_and_claims_are_those_that_were_asked_for"),
            ("allow_non_expiring", "tests/jwt.rs expired_and_future_tokens_are_refused"),
            ("max_lifetime", "tests/jwt.rs lifetime_and_age_are_bounded"),
            ("max_age", "tests/jwt.rs lifetime_and_age_are_bounded"),
            ("with_leeway", "tests/jwt.rs expired_and_future_tokens_are_refused"),
            ("key_id", "tests/jwt.rs keys_rotate_by_their_id"),
            ("issuer", "tests/jwt.rs issuer_audience_and_claims_are_those_that_were_asked_for"),
            ("audience", "tests/jwt.rs issuer_audience_and_claims_are_those_that_were_asked_for"),
            ("subject", "tests/jwt.rs subject_has_to_be_the_peer"),
            ("issued_at", "tests/jwt.rs lifetime_and_age_are_bounded"),
            ("not_before", "tests/jwt.rs expired_and_future_tokens_are_refused"),
            ("expires_at", "tests/jwt.rs expired_and_future_tokens_are_refused"),
            ("expires_in", "tests/jwt.rs each_algorithm_accepts_its_own_signatures_and_no_others"),
            ("claim", "tests/jwt.rs issuer_audience_and_claims_are_those_that_were_asked_for"),
        ],
    ),
];

/// The setters in a source: public functions that take their object by value and return it, or its builder.
fn setters(source: &Source) -> Vec<String> {
    let code: String = source.shipped_and_tests().0.iter().map(|(_, line)| format!("{line} ")).collect();
    let mut found = Vec::new();
    for function in code.split("pub fn ").skip(1) {
        let signature = function.split(['{', ';']).next().unwrap_or_default();
        let name: String = signature.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let takes_itself = ["(self", "(mut self", "( self", "( mut self"].iter().any(|start| {
            signature.contains(&format!("{start},")) || signature.contains(&format!("{start})"))
        });
        let gives = signature.split("->").last().unwrap_or_default().trim();
        if takes_itself && (gives == "Self" || gives.starts_with("Builder<")) {
            found.push(name);
        }
    }
    found
}

/// Whether the source has a test of this name.
fn has_test(source: &Source, name: &str) -> bool {
    let lines: Vec<&str> = source.text.lines().map(str::trim_start).collect();
    let is_test = |at: usize| {
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        attributes.into_iter().any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
    };
    let starts = [format!("fn {name}("), format!("async fn {name}(")];
    (0..lines.len()).any(|at| starts.iter().any(|start| lines[at].starts_with(start)) && is_test(at))
}

fn is_public_api(path: &str) -> bool {
    path.starts_with("src/") && path.ends_with(".rs") && !path.starts_with("src/cli/")
}

#[test]
fn every_setter_names_a_test_that_fails_without_it() {
    let sources = sources();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| is_public_api(&source.path)) {
        let table = KNOBS.iter().find(|(path, _)| *path == source.path).map_or(&[][..], |(_, table)| *table);
        let found = setters(source);
        for setter in found.iter().filter(|setter| !table.iter().any(|(name, _)| name == setter)) {
            findings.push(format!("{}: `{setter}` is not in the table", source.path));
        }
        for (setter, test) in table {
            if !found.iter().any(|name| name == setter) {
                findings.push(format!("{}: has no setter `{setter}`", source.path));
            }
            let (path, name) = test.split_once(' ').unwrap_or((test, ""));
            if !sources.iter().any(|source| source.path == path && has_test(source, name)) {
                findings.push(format!("{}: `{setter}` names {test}, which is no test", source.path));
            }
        }
    }
    let gone = KNOBS.iter().filter(|(path, _)| !sources.iter().any(|source| source.path == *path));
    findings.extend(gone.map(|(path, _)| format!("{path} is gone")));
    none("each setter of a public builder is held by a test", &findings);
}

#[test]
fn rule_finds_setters_and_their_tests() {
    let text = "impl A {\n    pub fn with_a(mut self, a: u8) -> Self {\n        self\n    }\n    pub fn with_b<T>(\n        \
                self,\n        b: T,\n    ) -> Builder<T> {\n    pub fn get(&self) -> u8 {\n    pub fn into(self) -> u8 {\n\
                    fn hidden(self) -> Self {\n}\n";
    assert_eq!(setters(&Source::made_up("src/a.rs", text)), ["with_a", "with_b"]);
    let tests = Source::made_up(
        "tests/a.rs",
        "#[test]\nfn holds() {}\nfn helps() {}\n#[tokio::test]\nasync fn waits() {}\n",
    );
    assert!(has_test(&tests, "holds") && has_test(&tests, "waits") && !has_test(&tests, "helps"));
}
