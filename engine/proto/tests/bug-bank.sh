#!/usr/bin/env bash
# Tests the tests of the protocol, as ../../testkit/bug-bank.sh says.
#
#   engine/proto/tests/bug-bank.sh [name...]     all failures, or the named ones
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ../testkit/bug-bank.sh

# name                      judge       test
bank='
numbers-restart           lib         seal::tests::successor_goes_on_with_the_numbers_of_the_key_before
replay-opened             lib         seal::tests::sealed_packet_opens_once
unconfirmed-key-used      rekey       answered_key_waits_for_the_peer_and_the_old_one_expires
late-ack-ignored          lib         channel::resend::tests::late_acknowledgement_removes_exactly_what_it_covers
age-forgotten             lib         channel::resend::tests::joined_spans_keep_the_older_time
fin-overtakes-datums      rules       fire_and_forget_end_follows_the_datums_that_are_under_way
skip-spends-credit        simulation  streams_survive_any_mixture_of_faults
credit-never-probed       simulation  streams_survive_any_mixture_of_faults
held-without-bound        rules       early_data_and_fragments_stay_within_the_budget
resumes-behind-held       rules       end_of_a_consumed_channel_says_where_to_resume
any-ack-delay-believed    lib         session::recovery::tests::delay_beyond_what_the_peer_declared_counts_as_round_trip
timeouts-collapse-window  lib         session::recovery::tests::persistent_congestion_takes_an_acknowledgement_that_shows_it
grows-while-unused        lib         congestion::tests::cubic_does_not_grow_for_time_in_which_its_window_was_not_used
black-hole-unseen         lib         session::path_mtu::tests::vanishing_large_packets_lead_back_to_the_smallest_size
base-size-trusted         lib         session::path_mtu::tests::path_below_the_base_size_is_used_up_to_its_size
short-ack-taken-for-whole lib         session::acks::tests::ranges_beyond_one_frame_follow_in_the_next_packets
probe-as-large-as-data    paths       path_too_small_for_a_session_ends_its_channels_in_time
moves-on-any-answer       lib         session::path_address::tests::new_address_is_used_once_it_has_answered
pause-clears-debt         lib         schedule::tests::debt_outlives_a_pause_and_unused_bytes_do_not
stall-kills-peers         liveness    stalled_host_reads_its_socket_before_it_declares_a_peer_dead
one-refusal-kills         lib         session::liveness::tests::single_refusal_does_not_kill
room-promised-twice       large       five_channels_in_the_middle_of_large_datums_all_finish
balances-add-up           lib         schedule::tests::turns_without_use_do_not_add_up
opener-never-asks         rekey       receiver_asks_for_a_new_key_when_the_peer_has_used_up_its_own
stranger-ends-session     rekey       packet_of_a_stranger_does_not_end_a_session_whose_key_has_stopped
skipped-numbers-acked     rules       peer_that_acknowledges_what_was_never_sent_is_found_out
old-ranges-forgotten      lib         session::acks::tests::ranges_beyond_one_frame_follow_in_the_next_packets
trim-covers-nothing       lib         session::tests::acknowledgements::ranges_of_many_frames_are_forgotten_once_the_peer_has_them
close-overtakes-fin       rules       close_follows_the_acknowledgement_of_what_was_said_before
replay-replaces-next      lib         handshake::tests::peer_sessions::replay_from_an_earlier_life_leaves_the_waiting_session_alone
'

export COREWIRE_SEEDS=8
build corewire-proto bugs "" --lib --test rekey --test simulation --test rules --test large --test liveness --test paths
judge 60 "$bank" "$@"
