#!/usr/bin/env bash
# Tests the tests of the rings, as ../../testkit/bug-bank.sh says.
#
#   engine/rings/tests/bug-bank.sh [name...]     all failures, or the named ones
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ../testkit/bug-bank.sh

# name                     judge         test
bank='
stamp-unreleased          loom          published_records_are_read_intact_and_in_order
claim-unordered           loom          two_producers_move_the_gate_of_a_full_ring
claim-after-close         ring          closing_refuses_claims_and_lets_readers_drain
one-too-many              ring          the_capacity_in_datums_is_exact
cache-ignores-units       loom_tail     the_owner_cache_counts_datums_and_bytes_exactly
run-unstamped             loom_readers  a_run_of_one_length_ends_at_the_first_unpublished_record
owner-looks-once          loom_tail     a_revoked_owner_continues_with_swaps_at_a_full_ring
owner-unfenced            loom_tail     a_revoked_owner_continues_with_swaps_at_a_full_ring
owner-not-awaited         loom_tail     a_revoked_owner_continues_with_swaps_at_a_full_ring
rest-unstamped            ring          a_batch_claim_takes_what_fits
no-descriptor-before-gate loom          the_gate_stops_the_writer_before_the_reader_across_the_wrap
spill-short               loom_readers  a_record_that_continues_in_the_spill_is_read_intact
blocks-collide            loom_scatter  two_producers_never_share_a_block
wrap-anywhere             lib           wraps::rings_at_the_end_of_every_range_behave_as_new_ones
join-unnoticed            loom          a_joining_reader_is_never_passed
fork-unnoticed            loom_readers  a_forked_reader_is_never_passed
gate-unordered            loom          two_producers_move_the_gate_of_a_full_ring
gate-over-unpublished     ring          without_readers_an_unpublished_claim_is_never_lapped
gate-unchecked            loom_readers  a_reader_that_joins_slowly_never_passes_an_unpublished_record
joins-count-old           model         the_ring_agrees_with_the_model
leave-silent              loom          a_writer_that_waits_for_room_is_woken_by_the_last_reader_leaving
detached-counted-twice    ring          a_detached_reader_frees_the_ring_and_gets_an_error_each_time
evict-pinned              loom          a_pinned_reader_is_not_evicted
evict-unpublished         loom          two_evictors_count_each_loss_once
loss-reported-late        loom_readers  eviction_reports_the_previous_owner_after_slot_reuse
detach-any-owner          ring          a_reader_id_never_names_a_later_reader_of_the_slot
detach-silent             loom          a_reader_that_falls_asleep_is_woken_by_detachment
cancel-keeps-first        cancel        a_waiting_claim_can_be_dropped_after_any_poll
renew-keeps-waker         shuttle       waiting_writers_are_all_served
cancel-drops-wakeup       loom_wait     a_cancelled_waiter_passes_its_wakeup_on
queued-wake-lost          loom_queued   a_queued_send_enters_when_room_comes
withdrawn-enters          loom_queued   a_withdrawal_beside_room_decides_for_one_side
newcomers-overtake        claim         room_is_granted_in_order_and_newcomers_do_not_overtake
queue-unfenced            loom          a_writer_that_waits_for_room_is_woken_by_reading
move-unfenced             loom          a_writer_that_waits_for_room_is_woken_by_reading
publish-unfenced          loom          a_reader_that_falls_asleep_is_woken_by_publication
sleep-unfenced            loom          a_reader_that_falls_asleep_is_woken_by_publication
no-second-look            loom          a_reader_that_falls_asleep_is_woken_by_publication
publish-forgets-room      loom          without_readers_a_waiting_writer_is_woken_by_publication
wake-first-only           loom          two_sleeping_readers_are_both_woken
group-unmarked            loom_readers  a_reader_in_a_group_that_falls_asleep_is_woken_by_publication
close-forgets-writers     loom          a_writer_that_waits_for_room_is_woken_by_close
cursor-unreleased         loom          the_gate_stops_the_writer_before_the_reader_across_the_wrap
sleeps-before-old-record  loom_readers  a_reader_asleep_before_an_unwanted_record_lets_the_writer_pass
gap-twice                 model         the_ring_agrees_with_the_model
passes-unpublished        ring          a_reader_that_joins_during_a_claim_starts_behind_it
abandoned-delivered       ring          an_abandoned_claim_is_skipped
place-of-another          model         the_ring_agrees_with_the_model
pin-skipped               loom          eviction_and_a_pin_guard_exclude_each_other
pin-looks-once            loom_pins     a_pinned_reader_is_not_moved_while_it_waits
pins-unfenced             loom_pins     detachment_and_a_pin_exclude_each_other
moves-pinned-by-store     loom_pins     a_reader_pinned_by_a_store_is_not_moved
advance-unpins            ahead         a_pinned_reader_that_advances_stays_pinned
eviction-unseen           ahead         only_a_pinned_reader_is_safe_from_eviction
full-swallowed            mailbox       a_full_mailbox_gives_the_message_back
bell-unfenced             loom          a_mailbox_wakes_its_sleeping_receiver
bell-keeps-old-waker      shuttle       a_mailbox_moves_everything_and_ends
latch-unchecked           loom_wait     a_latch_set_while_the_sleeper_arms_is_seen
latch-stored              loom_wait     bits_of_two_ringers_all_reach_the_sleeper
latch-before-bit          loom_wait     a_bit_set_while_the_sleeper_arms_is_seen
progress-read-first       loom_wait     credit_that_returns_while_the_shard_reads_is_not_lost
progress-sequence-first   loom_wait     credit_that_returns_while_the_shard_reads_is_not_lost
leave-unreleased          loom_wait     a_consumer_that_is_gone_has_told_all_that_it_took
last-message-missed       loom_readers  a_mailbox_is_not_finished_before_its_last_message_is_taken
last-sender-silent        loom          a_mailbox_wakes_its_sleeping_receiver
park-trusts-token         shuttle       a_parked_thread_is_woken_through_nested_waits
'

export LOOM_MAX_PREEMPTIONS=2
build corewire-rings bugs "" --lib --test ring --test claim --test model --test ahead --test mailbox --test cancel
build corewire-rings loom "--cfg loom" --release --test loom --test loom_readers --test loom_tail --test loom_pins \
  --test loom_scatter --test loom_wait --test loom_queued
build corewire-rings shuttle "--cfg shuttle" --release --test shuttle
judge 120 "$bank" "$@"
