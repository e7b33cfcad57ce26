#!/usr/bin/env bash
# Tests the tests: each known failure (mutate! in src/) must be noticed by the test beside it here, and that test must
# pass without it. One build; an environment variable chooses the failure of a run.
#
#   engine/proto/tests/bug-bank.sh [name...]     all failures, or the named ones
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

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
close-overtakes-fin       rules       close_follows_the_acknowledgement_of_what_was_said_before
replay-replaces-next      lib         handshake::tests::peer_sessions::replay_from_an_earlier_life_leaves_the_waiting_session_alone
'

target=${CARGO_TARGET_DIR:-$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')}

# The path of each test program, by name.
declare -A programs
while read -r line; do
  name=${line##*/}
  name=${name%-*}
  [ "$name" != corewire_proto ] || name=lib
  programs[$name]=$line
done < <(RUSTFLAGS="--cfg corewire_bugs" CARGO_TARGET_DIR="$target/bugs" cargo test -p corewire-proto --no-run --lib \
  --test rekey --test simulation --test rules --test large --test liveness 2>&1 |
  tee >(cat >&2) | sed -n 's/.*Executable .* (\(.*\))$/\1/p')

# Runs one test with one failure, or with none.
run() {
  CORE_BUG=$1 COREWIRE_SEEDS=8 timeout 60 "${programs[$2]}" --exact "$3" >"$output" 2>&1
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
  run "$name" "$judge" "$test" 2>/dev/null || code=$?
  # A failed test, an abort, or a hang; but the program must have run.
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
