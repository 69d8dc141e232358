# Readies a Debian machine and this checkout. Sourced by the scripts people run:
#
#   setup_packages PACKAGE...   installs those Debian packages that are missing
#   setup_node_modules          installs the npm packages when they are missing or out of date
#   $node24                     the Node to run with, once setup_node_modules is done
#
# Each says in one line what it does, says nothing when there is nothing to do, and on failure shows the log of
# the program that failed and exits with status 1.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
node24=$root/node_modules/.bin/node

setup_packages() {
  local package missing=()
  command -v dpkg-query >/dev/null || setup_fail 'this needs Debian (or a system with its packages)'
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  ((EUID == 0)) || setup_fail "these Debian packages are missing, and only root can install them: ${missing[*]}"
  setup_step "installing Debian packages: ${missing[*]}" setup_apt_install "${missing[@]}"
}

setup_node_modules() {
  setup_stale || return 0
  command -v npm >/dev/null || setup_fail 'npm is missing: install the Debian package npm, or Node with npm'
  setup_step 'installing npm packages into node_modules' setup_npm_ci
  [[ -x $node24 ]] || setup_fail "there is no Node 24 for this machine ($(uname -m)) among the npm packages"
}

# The package lists are fetched only when the ones at hand do not do. What is installed for a test or a demonstration is
# not started: a machine does not become a DHCP server by running them.
setup_apt_install() (
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  fi
  apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
  "${apt[@]}" install -y --no-install-recommends "$@" && return
  "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"
)

setup_stale() {
  local installed=$root/node_modules/.package-lock.json
  [[ ! -x $node24 || ! -e $installed || $root/package-lock.json -nt $installed ]]
}

# One at a time in a checkout, and as the checkout's owner, whose files they are.
setup_npm_ci() (
  exec 9<"$root/package-lock.json"
  flock 9
  setup_stale || exit 0
  owner=$(stat -c %U "$root")
  as_owner=()
  if ((EUID == 0)) && [[ $owner != root && $owner != UNKNOWN ]]; then
    as_owner=(runuser -u "$owner" -- env "HOME=$(getent passwd "$owner" | cut -d: -f6)")
  fi
  cd "$root" && "${as_owner[@]}" npm ci --no-audit --no-fund --loglevel=error
)

# setup_step SENTENCE COMMAND...: runs it quietly; shows what it wrote only when it fails.
setup_step() {
  local sentence=$1 log started=$SECONDS
  shift
  log=$(mktemp)
  exec 8<>"$log"
  rm -f "$log" # it lives on while it is open, and leaves nothing behind however we end
  printf 'setup: %s …\n' "$sentence" >&2
  if ! "$@" >&8 2>&8 </dev/null; then
    cat /dev/fd/8 >&2
    setup_fail "$sentence failed"
  fi
  exec 8>&-
  printf 'setup: done in %d s\n' $((SECONDS - started)) >&2
}

setup_fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}
