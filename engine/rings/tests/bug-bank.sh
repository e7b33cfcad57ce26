#!/usr/bin/env bash
# The tests, tested: each known failure of src/bugs.rs must be noticed by the test that stands beside it here, and that
# test must pass without it. One build a judge; which failure a run has is chosen when it starts.
#
#   engine/rings/tests/bug-bank.sh [name...]     all failures, or those that are named
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# name                    judge         test
bank='
stamp-unreleased          loom          what_is_published_is_read_whole_and_in_order
claim-unordered           loom          two_producers_at_a_full_ring_move_the_gate_together
claim-after-close         ring          closing_refuses_claims_and_lets_readers_drain
one-too-many              ring          the_capacity_in_datums_is_exact
desk-keeps-units          loom_alone    the_owner_keeps_exact_account_of_datums_and_bytes
run-unstamped             loom_readers  a_run_of_one_length_is_read_as_far_as_it_is_published
owner-looks-once          loom_alone    the_owner_goes_on_with_swaps_around_a_full_ring
owner-unfenced            loom_alone    the_owner_goes_on_with_swaps_around_a_full_ring
owner-not-awaited         loom_alone    the_owner_goes_on_with_swaps_around_a_full_ring
rest-unstamped            ring          a_batch_claim_takes_what_fits
no-slot-before-gate       loom          the_gate_keeps_the_writer_behind_the_reader_around_the_wrap
spill-short               loom_readers  a_record_that_runs_on_into_the_spill_is_read_whole
cells-collide             loom_cells    two_producers_never_share_a_cell
wrap-anywhere             lib           wraps::a_ring_does_the_same_at_the_end_of_every_range
join-unnoticed            loom          a_joining_reader_is_never_passed
gate-unordered            loom          two_producers_at_a_full_ring_move_the_gate_together
gate-over-unpublished     ring          without_readers_an_unpublished_claim_is_never_lapped
gate-slot-unchecked       loom_readers  a_reader_that_joins_slowly_never_passes_an_unpublished_record
joins-count-old           model         the_ring_does_what_the_model_says
leave-silent              loom          a_writer_that_waits_for_room_is_woken_by_the_last_reader_leaving
detached-counted-twice    ring          a_detached_reader_frees_the_ring_and_is_told_every_time
evict-held                loom          nobody_evicts_a_reader_in_place
evict-unpublished         loom          two_evictors_count_each_loss_once
loss-told-late            loom_readers  a_loss_is_told_of_the_reader_that_had_it_though_its_place_is_taken_again
detach-any-owner          ring          a_name_never_means_a_later_reader_in_the_same_place
detach-silent             loom          a_reader_that_falls_asleep_is_woken_by_detachment
cancel-keeps-turn         cancel        a_wait_for_room_can_be_dropped_after_any_poll
renew-keeps-waker         shuttle       waiting_writers_are_all_served
cancel-drops-wakeup       loom_wait     a_cancelled_waiter_passes_its_wakeup_on
newcomers-overtake        room          room_is_given_in_the_order_of_asking_and_newcomers_do_not_overtake
queue-unfenced            loom          a_writer_that_waits_for_room_is_woken_by_reading
move-unfenced             loom          a_writer_that_waits_for_room_is_woken_by_reading
publish-unfenced          loom          a_reader_that_falls_asleep_is_woken_by_publication
sleep-unfenced            loom          a_reader_that_falls_asleep_is_woken_by_publication
no-second-look            loom          a_reader_that_falls_asleep_is_woken_by_publication
publish-forgets-room      loom          without_readers_a_waiting_writer_is_woken_by_publication
wake-first-only           loom          two_sleeping_readers_are_both_woken
close-forgets-writers     loom          a_writer_that_waits_for_room_is_woken_by_close
cursor-unreleased         loom          the_gate_keeps_the_writer_behind_the_reader_around_the_wrap
sleeps-before-old-record  loom_readers  a_reader_asleep_before_a_record_that_it_does_not_want_lets_a_waiting_writer_pass
gap-twice                 model         the_ring_does_what_the_model_says
passes-unpublished        ring          a_reader_that_joins_during_a_claim_starts_behind_it
abandoned-delivered       ring          an_abandoned_claim_is_skipped
place-of-another          model         the_ring_does_what_the_model_says
pin-skipped             loom          eviction_and_holding_exclude_each_other
pin-looks-once            loom_pins     who_is_pinned_stays_where_it_is_while_it_waits
pins-unfenced             loom_pins     detachment_and_a_pin_exclude_each_other
moves-who-is-inside       loom_pins     a_reader_inside_is_not_moved
release-unpins            ahead         a_kept_reader_that_releases_stays_pinned
eviction-unseen           ahead         only_a_pinned_reader_is_safe_from_eviction
full-swallowed            mailbox       a_full_mailbox_gives_the_message_back
bell-unfenced             loom          a_mailbox_wakes_its_sleeping_receiver
bell-keeps-old-waker      shuttle       a_mailbox_moves_everything_and_ends
latch-unchecked           loom_wait     a_latch_set_while_the_sleeper_arms_is_seen
latch-stored              loom_wait     bits_of_two_ringers_all_reach_the_sleeper
latch-before-bit          loom_wait     a_bit_set_while_the_sleeper_arms_is_seen
last-message-missed       loom_readers  a_mailbox_is_not_finished_before_its_last_message_is_taken
last-sender-silent        loom          a_mailbox_wakes_its_sleeping_receiver
park-trusts-token         shuttle       a_parked_thread_is_woken_through_nested_waits
'

target=${CARGO_TARGET_DIR:-$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')}
export LOOM_MAX_PREEMPTIONS=2

# Builds one kind of judge; each test program's path goes to `programs`, under its name.
declare -A programs
build() {
  local cfg=$1 folder=$2 line name
  shift 2
  while read -r line; do
    name=${line##*/}
    name=${name%-*}
    [ "$name" != corewire_rings ] || name=lib
    programs[$name]=$line
  done < <(RUSTFLAGS="--cfg corewire_bugs $cfg" CARGO_TARGET_DIR="$target/$folder" \
    cargo test -p corewire-rings --no-run "$@" 2>&1 | tee >(cat >&2) | sed -n 's/.*Executable .* (\(.*\))$/\1/p')
}
build "" bugs --lib --test ring --test room --test model --test ahead --test mailbox --test cancel
build "--cfg loom" loom --release --test loom --test loom_readers --test loom_alone --test loom_pins --test loom_cells --test loom_wait
build "--cfg shuttle" shuttle --release --test shuttle

# Runs one test with one failure, or with none.
run() {
  CORE_BUG=$1 timeout 120 "${programs[$2]}" --exact "$3" >"$output" 2>&1
}
output=$(mktemp)
trap 'rm -f "$output"' EXIT

declare -A sound
noticed=0
missed=()
while read -r name judge test; do
  [ -n "$name" ] || continue
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
  if [ -z "${sound[$test]:-}" ]; then
    run "" "$judge" "$test" && grep -q '^test result: ok. 1 passed' "$output" ||
      { cat "$output"; echo "$judge::$test does not pass without a bug"; exit 1; }
    sound[$test]=yes
  fi
  code=0
  # The shell says when a program aborts, as loom does when a panic meets another one.
  run "$name" "$judge" "$test" 2>/dev/null || code=$?
  # A failed test, an abort, or nothing at all for two minutes; but not a program that was never run.
  if [ "$code" -ne 0 ] && grep -q '^running 1 test' "$output"; then
    noticed=$((noticed + 1))
    printf '%-26s noticed by %s::%s%s\n' "$name" "$judge" "$test" "$([ "$code" -ne 124 ] || echo ' (hangs)')"
  else
    missed+=("$name")
    printf '%-26s NOT noticed by %s::%s\n' "$name" "$judge" "$test"
  fi
done <<<"$bank"
echo "$noticed bugs noticed, ${#missed[@]} not"
[ ${#missed[@]} -eq 0 ]
