#!/usr/bin/env bash
# Runs `bake` with the inputs of the action, which stand in INPUT_…, and sets the output `metadata`. The exit code is that of
# bake. docs/reports.md says what each input means.
set -euo pipefail

fail() {
  local text=${1//'%'/%25}
  text=${text//$'\r'/%0D}
  printf '::error title=bake::%s\n' "${text//$'\n'/%0A}"
  exit 1
}

trim() {
  local text=$1
  text=${text#"${text%%[![:space:]]*}"}
  printf '%s' "${text%"${text##*[![:space:]]}"}"
}

# Calls a function with each line of a text that is not blank.
each_line() {
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    line=$(trim "$line")
    [[ -z $line ]] || "$2" "$line"
  done <<< "$1"
}

# As each_line, for a text with commas in place of line breaks as well.
each_item() { each_line "${1//,/$'\n'}" "$2"; }

# Whether an input is on; the words are those of YAML 1.2.
is_on() {
  case ${2:-false} in
    true | True | TRUE) return 0 ;;
    false | False | FALSE) return 1 ;;
    *) fail "the input $1 is neither true nor false: $2" ;;
  esac
}

# The commit of the run. A pull request has its own ref, which the token of the run can read.
default_context() {
  local ref=${GITHUB_REF:-}
  case $ref in
    refs/pull/*) ref=${ref%/merge}; [[ $ref == */head ]] || ref=$ref/head ;;
    *) ref=${GITHUB_SHA:-$ref} ;;
  esac
  printf '%s/%s.git#%s' "${GITHUB_SERVER_URL:?}" "${GITHUB_REPOSITORY:?}" "$ref"
}

is_remote() { [[ $1 =~ ^((https?|git|ssh)://|github\.com/) || $1 =~ ^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+: ]]; }

remote=()
source=$(trim "${INPUT_SOURCE:-}")
if [[ $source =~ \{\{[[:space:]]*defaultContext[[:space:]]*\}\} ]]; then
  source=${source/"${BASH_REMATCH[0]}"/$(default_context)}
fi
if [[ -z $source && -z ${INPUT_WORKDIR:-} ]]; then
  source=$(default_context)
fi
if [[ -n ${INPUT_WORKDIR:-} ]]; then
  cd -- "$INPUT_WORKDIR" || fail "the input workdir is no folder: $INPUT_WORKDIR"
fi
if is_remote "$source"; then
  remote=("$source")
  # The token is for the server of the run, and for no other.
  if [[ -n ${INPUT_GITHUB_TOKEN:-} && -z ${BUILDX_BAKE_GIT_AUTH_TOKEN:-} && $source == "${GITHUB_SERVER_URL:-none}"/* ]]; then
    export BUILDX_BAKE_GIT_AUTH_TOKEN=$INPUT_GITHUB_TOKEN
  fi
elif [[ -n $source ]]; then
  cd -- "$source" || fail "the input source is neither a folder nor the URL of a definition: $source"
fi

args=()
add_allow() { args+=(--allow "$1"); }
add_file() { args+=(--file "$1"); }
add_set() { args+=(--set "$1"); }
add_var() { args+=(--var "$1"); }
add_report() { args+=(--report "$1"); }
targets=()
add_target() { targets+=("$1"); }

each_item "${INPUT_ALLOW:-}" add_allow
# The definition of a job is its own: files are free, as in the public action.
add_allow 'fs=*'
each_item "${INPUT_FILES:-}" add_file
each_line "${INPUT_SET:-}" add_set
each_line "${INPUT_VARS:-}" add_var
each_line "${INPUT_REPORT:-}" add_report
each_item "${INPUT_TARGETS:-}" add_target
[[ -z ${INPUT_CALL:-} ]] || args+=(--call "$INPUT_CALL")
[[ -z ${INPUT_BUILDER:-} ]] || args+=(--builder "$INPUT_BUILDER")
[[ -z ${INPUT_SBOM:-} ]] || args+=(--sbom "$INPUT_SBOM")
if is_on no-cache "${INPUT_NO_CACHE:-}"; then args+=(--no-cache); fi
if is_on pull "${INPUT_PULL:-}"; then args+=(--pull); fi
if is_on load "${INPUT_LOAD:-}"; then args+=(--load); fi
if is_on push "${INPUT_PUSH:-}"; then args+=(--push); fi

run=${GITHUB_SERVER_URL:-}/${GITHUB_REPOSITORY:-}/actions/runs/${GITHUB_RUN_ID:-}
case ${INPUT_PROVENANCE:-} in
  '' | false | *builder-id=*) provenance=${INPUT_PROVENANCE:-} ;;
  true) provenance=builder-id=$run ;;
  *) provenance=$INPUT_PROVENANCE,builder-id=$run ;;
esac
[[ -z $provenance ]] || args+=(--provenance "$provenance")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
metadata=$work/metadata.json
code=0
bake "${remote[@]}" "${args[@]}" --metadata-file "$metadata" -- "${targets[@]}" || code=$?
if [[ -f $metadata && -n ${GITHUB_OUTPUT:-} ]]; then
  end=end-of-metadata-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  printf 'metadata<<%s\n%s\n%s\n' "$end" "$(cat "$metadata")" "$end" >> "$GITHUB_OUTPUT"
fi
exit "$code"
