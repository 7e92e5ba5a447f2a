# shellcheck shell=bash disable=SC2034 # what is set here is for those who source this
# Shared by up, down and standins (sourced, never run): what tests/servers has for processes and packages, in a folder of its own.
CONTAINERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
shared=${TIDEMARK_TEST_DIR:-}
# shellcheck source=tests/servers/lib.sh
. "$CONTAINERS/../servers/lib.sh"
# Beside the folder of the servers, not in it: whoever wipes that must not reach into a running daemon. Without
# TIDEMARK_TEST_DIR under /var/tmp, since /tmp may be memory, and images are large.
DIR=${shared:-/var/tmp/tidemark-test}-docker
SOCKET=$DIR/docker.sock

say() { printf 'containers: %s\n' "$*" >&2; }
die() { printf 'containers: error: %s\n' "$*" >&2; exit 1; }

KAFKA_IMAGE=apache/kafka:4.1.0
REDIS_IMAGE=redis:7.4
LAMBDA_IMAGE=public.ecr.aws/lambda/provided:al2023

# own: the daemon that up started runs.
own() { alive "$DIR/dockerd.pid"; }

# use_own: docker is that daemon's, with the programs that came with it.
use_own() {
  export DOCKER_HOST=unix://$SOCKET DOCKER_CONFIG=$DIR/config
  export PATH=$DIR/programs/usr/bin:$DIR/programs/usr/sbin:$DIR/programs/usr/libexec/docker:$PATH
}

# ---- Debian packages that are unpacked, not installed -----------------------------------------------------------
# The first release of Debian that has Compose v2: where this system's own packages have none, its are used. Nothing of it
# gets into the system.
NEWER=trixie

# from COMMAND...: apt-get or apt-cache, reading what lists made.
from() { APT_CONFIG=$DIR/apt/conf "$@"; }

# candidate PACKAGE [from]: the version of a package that could be had, empty for none.
candidate() { ${2:-} apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p'; }

# has_compose: this system's packages have a Compose of version 2 or later. Ubuntu calls it docker-compose-v2.
has_compose() {
  [ -z "$(candidate docker-compose-v2)" ] || return 0
  case $(candidate docker-compose) in
    '' | 0.* | 1.*) return 1 ;;
  esac
}

# lists: makes `from` read what has Compose v2: this system's lists, or private ones of $NEWER, from the mirror that this
# system uses. The status of an empty system makes apt name all that a program needs.
lists() {
  local mirror apt=$DIR/apt
  [ ! -e "$apt/conf" ] || return 0
  rm -rf "$apt" && mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" && : >"$apt/status"
  if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mmin -1440 2>/dev/null | head -n 1)" ]; then apt-get update -qq >&2; fi
  {
    echo "Dir::State::status \"$apt/status\";"
    echo "Dir::Cache \"$apt/cache\";"
    echo 'Debug::NoLocking "1";'
    echo 'APT::Sandbox::User "root";'
    echo 'APT::Install-Recommends "false";'
  } >"$apt/own"
  if ! has_compose; then
    # shellcheck disable=SC2016 # apt's variable
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed 's:/*$::' | sort -u | head -n 1)
    [ -n "$mirror" ] || die "this system's packages have no Compose v2, and it is no Debian whose mirror could be asked for a newer one"
    say "reading the package lists of $NEWER (this system's have no Compose v2; they stay as they are)"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $NEWER main" >"$apt/sources.list"
    {
      echo "Dir::State::lists \"$apt/lists\";"
      echo "Dir::Etc::sourcelist \"$apt/sources.list\";"
      echo 'Dir::Etc::sourceparts "/dev/null";'
      echo 'Dir::Etc::preferencesparts "/dev/null";'
      echo 'Acquire::Languages "none";'
      echo 'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";'
    } >>"$apt/own"
    APT_CONFIG=$apt/own apt-get update -qq >&2 || die "the package lists of $NEWER could not be read"
  fi
  mv "$apt/own" "$apt/conf"
}

# first_of PACKAGE...: the first that the lists know.
first_of() {
  local package
  for package; do
    [ -z "$(candidate "$package" from)" ] || { echo "$package"; return 0; }
  done
  die "none of the packages $* is known to apt"
}

# unpack FOLDER FILE.deb...: the files of packages, without what is for people.
unpack() {
  local folder=$1 deb
  shift
  mkdir -p "$folder"
  for deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --no-same-owner -C "$folder" \
      --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale --exclude=./usr/share/bash-completion
  done
}

# download FOLDER PACKAGE...: those packages alone.
download() (
  mkdir -p "$1" && cd "$1"
  shift
  from apt-get download -qq "$@" >"$DIR/apt.log" 2>&1 || { tail -n 20 "$DIR/apt.log" >&2; die "apt-get could not download: $*"; }
)

# download_all FOLDER PACKAGE...: those packages and all that they need on an empty system.
download_all() {
  local folder=$1
  shift
  mkdir -p "$folder/partial"
  from apt-get -qq -y -o "Dir::Cache::archives=$folder" --download-only install "$@" >"$DIR/apt.log" 2>&1 ||
    { tail -n 20 "$DIR/apt.log" >&2; die "apt-get could not download: $*"; }
}
