# The loop of the bug banks, sourced by them. It tests the tests: each known failure (mutate! in a crate's src/) must be
# noticed by the test beside it in the crate's bank, and that test must pass without it. A failure is compiled in and
# inactive; an environment variable chooses the one of a run, so that one build serves all.
#
# A bank's lines are: name of the failure, test program, test.
set -euo pipefail

target=${CARGO_TARGET_DIR:-$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')}

# The path of each test program that was built, by its name; `lib` is the crate's own tests.
declare -A programs

# build CRATE FOLDER CFG ARGUMENT...: builds test programs of a crate with the failures compiled in.
build() {
  local crate=$1 folder=$2 cfg=$3 line name
  shift 3
  while read -r line; do
    name=${line##*/}
    name=${name%-*}
    [ "$name" != "${crate//-/_}" ] || name=lib
    programs[$name]=$line
  done < <(RUSTFLAGS="--cfg corewire_bugs $cfg" CARGO_TARGET_DIR="$target/$folder" \
    cargo test -p "$crate" --no-run "$@" 2>&1 | tee >(cat >&2) | sed -n 's/.*Executable .* (\(.*\))$/\1/p')
}

# Runs one test with one failure, or with none.
run() {
  CORE_BUG=$1 timeout "$seconds" "${programs[$2]}" --exact "$3" >"$output" 2>&1
}

# judge SECONDS BANK [NAME...]: runs the tests of all failures, or of the named ones, each for at most so long.
judge() {
  local seconds=$1 bank=$2 name program test code output noticed=0 missed=()
  local -A sound
  shift 2
  output=$(mktemp)
  trap "rm -f '$output'" EXIT
  while read -r name program test; do
    [ -n "$name" ] || continue
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    if [ -z "${sound[$test]:-}" ]; then
      run "" "$program" "$test" && grep -q '^test result: ok. 1 passed' "$output" ||
        { cat "$output"; echo "$program::$test does not pass without a bug"; exit 1; }
      sound[$test]=yes
    fi
    code=0
    # Hides the shell's message about an abort, which loom causes by a panic during a panic.
    run "$name" "$program" "$test" 2>/dev/null || code=$?
    # A failed test, an abort, or a hang; but the program must have run.
    if [ "$code" -ne 0 ] && grep -q '^running 1 test' "$output"; then
      noticed=$((noticed + 1))
      printf '%-26s noticed by %s::%s%s\n' "$name" "$program" "$test" "$([ "$code" -ne 124 ] || echo ' (hangs)')"
    else
      missed+=("$name")
      printf '%-26s NOT noticed by %s::%s\n' "$name" "$program" "$test"
    fi
  done <<<"$bank"
  echo "$noticed bugs noticed, ${#missed[@]} not"
  [ ${#missed[@]} -eq 0 ]
}
