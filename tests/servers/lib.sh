# Shared by up, down, programs and race (sourced, never run): saying, installing, waiting, and owning processes.
set -euo pipefail
SERVERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIR=${TIDEMARK_TEST_DIR:-${TMPDIR:-/tmp}/tidemark-test-servers}

say()  { printf 'servers: %s\n' "$*" >&2; }
die()  { printf 'servers: error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# can_install: this user may install packages, and this system has the package names used here.
can_install() { [ "$(id -u)" = 0 ] && have apt-get; }

# install PACKAGE...: says what, then installs it. The lists are read first when they are missing or a day old.
install() {
  say "installing with apt-get: $*"
  if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mmin -1440 2>/dev/null | head -n 1)" ]; then
    apt-get update -qq >&2
  fi
  # Lists of this morning may name versions that are gone by noon: read them anew before giving up.
  apt_install "$@" || { apt-get update -qq >&2 && apt_install "$@"; } ||
    { tail -n 20 "$DIR/apt.log" >&2; die "apt-get could not install: $*"; }
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >"$DIR/apt.log" 2>&1
}

# until_ok SECONDS PIDFILE WHAT COMMAND...: polls COMMAND until it succeeds; gives up early when the process of
# PIDFILE has ended ("-": none to watch).
until_ok() {
  local end=$((SECONDS + $1)) pidfile=$2 what=$3
  shift 3
  until "$@" >/dev/null 2>&1; do
    [ "$pidfile" = - ] || alive "$pidfile" || { say "$what ended while starting"; return 1; }
    [ "$SECONDS" -lt "$end" ] || { say "$what was not ready in time"; return 1; }
    sleep 0.1
  done
}

# A pid file holds "PID START", START being the kernel's start time of that process: a pid that the system has
# meanwhile given to another process is never taken for ours.
# One that has ended, and that its parent has not yet asked about (state Z), has no start time here.
started_at() {
  if [ -r "/proc/$1/stat" ]; then
    sed -n 's/.*) \([^Z]\)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
  else
    ps -o lstart= -p "$1" 2>/dev/null | tr ' ' '_'
  fi
}
record() { printf '%s %s\n' "$1" "$(started_at "$1")" >"$2"; }
alive() {
  local pid born
  [ -s "$1" ] || return 1
  read -r pid born <"$1" || true
  kill -0 "$pid" 2>/dev/null && [ -n "${born:-}" ] && [ "$(started_at "$pid")" = "$born" ]
}

# end PIDFILE: asks the recorded process to stop, insists after 20 seconds, and forgets it.
end() {
  local pid
  if alive "$1"; then
    read -r pid _ <"$1"
    kill -TERM "$pid" 2>/dev/null || true
    local end=$((SECONDS + 20))
    while alive "$1"; do
      [ "$SECONDS" -lt "$end" ] || { kill -KILL "$pid" 2>/dev/null || true; break; }
      sleep 0.1
    done
  fi
  rm -f "$1"
}

# lock: one up or down at a time for one DIR (several test runs may start together).
lock() {
  mkdir -p "$DIR"
  if have flock; then
    exec 9>"$DIR/lock"
    flock -w 600 9 || die "another up or down has held $DIR/lock for ten minutes"
  fi
}

# ---- speaking to a server without a client library: bash's own /dev/tcp -------------------------------------
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# redis_says PORT COMMAND PATTERN: the reply to an inline command has a line that matches.
redis_says() (
  exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
  printf '%s\r\nQUIT\r\n' "$2" >&3
  timeout 5 cat <&3 | tr -d '\r' | grep -q "$3"
)

# kafka_ready PORT: a metadata request (version 4, no topics) is answered with at least one broker. A KRaft broker
# answers before it is registered, then without itself in the list.
kafka_ready() (
  exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
  #        length          key 3   version 4 correlation     no client id  0 topics        no creation
  printf '\x00\x00\x00\x0f\x00\x03\x00\x04\x00\x00\x00\x07\xff\xff\x00\x00\x00\x00\x00' >&3
  # length, correlation, throttle time, number of brokers: 4 bytes each
  set -- $(timeout 5 head -c 16 <&3 | od -An -v -tu1)
  [ $# -eq 16 ] && [ "$8" = 7 ] && [ "${16}" -ge 1 ]
)

# ---- programs of native servers -----------------------------------------------------------------------------
native_allowed() {
  [ "${TIDEMARK_TEST_SERVERS:-native}" = native ] || die "no Docker image for $1, and TIDEMARK_TEST_SERVERS allows nothing else"
}

# advice WHAT VARIABLE: nothing could be had.
advice() {
  die "$1 is missing and cannot be installed here. Do one of:
  - start Docker (tests/servers/up then runs containers);
  - run this as root on Debian or Ubuntu (it installs what it needs), or install $1 yourself;
  - set $2 to a server that is there for tests (its data will be changed)."
}

need_redis() {
  native_allowed Redis
  have redis-server && have redis-cli && return 0
  can_install || advice "redis-server" "TIDEMARK_TEST_REDIS and TIDEMARK_TEST_REDIS_CLUSTER"
  # The run level keeps the package from starting a server of its own.
  RUNLEVEL=1 install redis-server
}

java_major() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }

# need_kafka: Java 17 or newer, and the broker's jars in $DIR/kafka-jars.
need_kafka() {
  local missing=() jre
  native_allowed Kafka
  if ! have java || [ "$(java_major)" -lt 17 ]; then missing+=(jre); fi
  if [ ! -e "$DIR/kafka-jars/complete" ] && ! have mvn; then missing+=(maven); fi
  if [ ${#missing[@]} -gt 0 ]; then
    can_install || advice "Java 17 or newer, or maven," TIDEMARK_TEST_BROKERS
    jre=openjdk-17-jre-headless
    apt-cache show "$jre" >/dev/null 2>&1 || apt-get update -qq >&2
    apt-cache show "$jre" >/dev/null 2>&1 || jre=default-jre-headless
    install "${missing[@]/#jre/$jre}"
  fi
  [ -e "$DIR/kafka-jars/complete" ] && cmp -s "$DIR/kafka-jars/complete" "$SERVERS/kafka/pom.xml" && return 0
  say "kafka: getting the broker's jars from Maven Central"
  rm -rf "$DIR/kafka-jars"
  mkdir -p "$DIR/kafka-jars"
  mvn -B -q -f "$SERVERS/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$DIR/kafka-jars/lib" >"$DIR/maven.log" 2>&1 </dev/null ||
    { tail -n 20 "$DIR/maven.log" >&2; die "maven could not get the Kafka jars"; }
  cp "$SERVERS/kafka/pom.xml" "$DIR/kafka-jars/complete"
}
