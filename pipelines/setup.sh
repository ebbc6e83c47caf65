#!/usr/bin/env bash
# setup.sh [--yes]: the system packages that building, testing and plotting need, on Debian 12 or Ubuntu 24.04. Asks before it installs, unless --yes.
. "$(dirname "$0")/lib.sh"
packages=(g++ cmake ninja-build pkg-config git python3 python3-pip zstd gnuplot-nox
  libzmq3-dev cppzmq-dev libmsgpack-cxx-dev libcli11-dev libzstd-dev libxxhash-dev nlohmann-json3-dev libpcre2-dev libgloo-dev catch2)
yes=false
for argument in "$@"; do
  case $argument in
    --yes) yes=true ;;
    -h | --help) sed -n '2s/^# //p' "$0"; exit 0 ;;
    *) packages+=("$argument") ;;  # further packages, as the tests ask for clang
  esac
done

command -v dpkg-query >/dev/null || { say "this is not Debian or Ubuntu: install what corresponds to: ${packages[*]}"; exit 0; }
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null || [ -t 0 ] || die 1 "these packages are missing, and this user may not install them: ${missing[*]}"
  command -v sudo >/dev/null || die 1 "these packages are missing; as root: apt-get install ${missing[*]}"
  root=(sudo)
fi
if ! $yes; then
  [ -t 0 ] || die 1 "these packages are missing: ${missing[*]}; install them, or run again with --yes"
  read -r -p "$me: install these packages with apt-get? ${missing[*]} [Y/n] " answer
  case $answer in "" | y | Y | yes) ;; *) die 1 "nothing was installed; these packages are missing: ${missing[*]}" ;; esac
fi
say "installing ${#missing[@]} packages"
log=$(mktemp)
"${root[@]}" apt-get update -qq >"$log" 2>&1 &&
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
  { tail -n 20 "$log" >&2; die 1 "apt-get failed; its log is $log"; }
rm -f "$log"
