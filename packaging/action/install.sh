#!/usr/bin/env bash
# Puts `bake` into PATH for the following steps of a job: one that is there, a release, or the sources of the action.
#
#   INPUT_VERSION       a release (0.1.0 or v0.1.0), or `installed`; empty: ACTION_REF if it is a release, else the sources
#   ACTION_REF          what `uses` names behind the @
#   ACTION_REPOSITORY   OWNER/NAME of the action
#   ACTION_SERVER_URL   where that is
#   GITHUB_ACTION_PATH  the sources of the action
#   RUNNER_TOOL_CACHE   what is installed is kept there, by version
#
# A release has the files of `bake release` for each platform, and SHA256SUMS with their checksums. Nothing is run that does
# not have its checksum.
set -euo pipefail

fail() {
  local text=${1//'%'/%25}
  text=${text//$'\r'/%0D}
  printf '::error title=bake::%s\n' "${text//$'\n'/%0A}"
  exit 1
}

add_to_path() {
  printf '%s\n' "$1" >> "$GITHUB_PATH"
  "$1/bake" --version
}

is_release() { [[ $1 =~ ^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.-]+)?$ ]]; }

wanted=${INPUT_VERSION:-}
if [[ $wanted == installed ]]; then
  command -v bake > /dev/null || fail "version is: installed, but there is no bake in PATH"
  bake --version
  exit
fi
if [[ -z $wanted ]] && is_release "${ACTION_REF:-}"; then
  wanted=$ACTION_REF
fi

tools=${RUNNER_TOOL_CACHE:-${RUNNER_TEMP:-/tmp}}/bake
if [[ -z $wanted ]]; then
  command -v cargo > /dev/null || fail 'there is no cargo to build bake with: give the input version, or install Rust before'
  cargo build --release --locked --manifest-path "$GITHUB_ACTION_PATH/Cargo.toml" --target-dir "$tools/source"
  add_to_path "$tools/source/release"
  exit
fi

is_release "$wanted" || fail "version is not a release, as in 0.1.0: $wanted"
version=${wanted#v}
case $(uname -s)-$(uname -m) in
  Linux-x86_64) platform=linux-amd64 ;;
  Linux-aarch64) platform=linux-arm64 ;;
  *) fail "there is no release of bake for $(uname -s) on $(uname -m)" ;;
esac
folder=$tools/$version/$platform
if [[ ! -x $folder/bake ]]; then
  from=${ACTION_SERVER_URL:?}/${ACTION_REPOSITORY:?}/releases/download/v$version
  archive=bake-$version-$platform.rootfs.tar
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  for file in "$archive" SHA256SUMS; do
    curl --fail --silent --show-error --location --retry 3 --output "$work/$file" "$from/$file" ||
      fail "the release cannot be fetched: $from/$file"
  done
  sum=$(awk -v name="$archive" '$2 == name || $2 == "*" name { print $1 }' "$work/SHA256SUMS")
  [[ -n $sum ]] || fail "SHA256SUMS of the release does not list: $archive"
  printf '%s  %s\n' "$sum" "$work/$archive" | sha256sum --check --status ||
    fail "the release does not have the checksum that it lists: $archive"
  mkdir -p "$folder"
  tar -x -f "$work/$archive" -C "$work"
  # Beside its place and renamed: another job of this machine may install it at the same moment.
  mv "$work/bake" "$folder/.bake.$$"
  mv "$folder/.bake.$$" "$folder/bake"
fi
add_to_path "$folder"
