#!/usr/bin/env bash
# Tests the tests of the engine, as ../testkit/bug-bank.sh says.
#
#   engine/tests/bug-bank.sh [name...]     all failures, or the named ones
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. testkit/bug-bank.sh

# name                      judge         test
bank='
resumes-at-tail           swarm_resume  a_short_break_of_the_session_loses_nothing
resumes-at-taken          swarm_resume  legs_that_wait_for_their_consumer_are_read_whole_and_in_order
waiting-leg-thrown-away   swarm_resume  legs_that_wait_for_their_consumer_are_read_whole_and_in_order
next-leg-too-early        swarm_resume  legs_that_wait_for_their_consumer_are_read_whole_and_in_order
evicted-place-resumed     swarm_resume  a_place_that_eviction_has_moved_is_told_with_the_exact_gap
gap-untold                swarm_resume  a_long_break_is_told_with_its_exact_size_at_both_ends
place-uncounted           swarm_resume  a_long_break_is_told_with_its_exact_size_at_both_ends
place-kept-for-ever       swarm_resume  a_long_break_is_told_with_its_exact_size_at_both_ends
return-uncounted          swarm_resume  a_long_break_is_told_with_its_exact_size_at_both_ends
restart-untold            swarm_resume  a_restarted_producer_is_told_as_a_gap_of_unknown_size
publication-id-repeats    swarm_resume  a_restarted_producer_is_told_as_a_gap_of_unknown_size
accept-clears-failures    lib           clerk::subscriptions::tests::a_consumer_that_is_cut_off_again_comes_back_later_each_time
last-channel-left-open    lib           clerk::publications::tests::a_request_waits_until_the_last_channel_of_its_consumer_has_ended
switches-at-once          swarm_prefer  the_nearest_producer_is_taken_and_followed_when_delays_change
grace-not-summed          lagging       the_grace_is_the_sum_of_all_times_that_a_consumer_holds_the_ring
lone-consumer-cut         lagging       a_lone_consumer_is_closed_only_when_it_stands_still
lost-source-kept          shard_peer    session_goes_on_when_its_host_loses_the_address_that_it_sends_from
released-late             shard_way     a_datum_goes_its_whole_way_and_is_let_go_of_at_both_ends
'

build corewire-engine bugs "" --lib --test swarm_resume --test swarm_prefer --test lagging --test shard_peer --test shard_way
judge 30 "$bank" "$@"
