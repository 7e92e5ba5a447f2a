// Package crash kills the real functions and the servers below them, again and again, and shows that nothing is lost and nothing
// doubled. `make crash` runs it in full; a short version is a test with the build tag `servers`.
//
// It owns what it kills: a Kafka broker that comes back on its data, a Redis primary with a replica, and the bootstraps of ingest
// and fire, two of each, behind the Runtime API (localdev/host). Each function reaches each server through a proxy of its own, which
// understands what it carries, so that a process can be killed on either side of any call: the request has left it and reaches
// nobody (before), or the server has done it and the answer reaches nobody (after). Calls that were hit least come first, and
// what makes a call likely is done meanwhile: slots vanish, the trigger drops batches, processes are recycled. A run prints how
// many kills fell at each call; none may be 0.
//
// A run is a number of stages. Each is an app with pipelines of its own (mixes.go), from its first record to its last result; every
// third one has the cluster at transaction.version 1, where a producer adds partitions and offsets to a transaction by itself.
// Records are produced all the time, out of order; a trigger delivers them, some twice, some twice at once, some not at all;
// fire is invoked over and over, sometimes twice at once. Meanwhile one fault follows another (faults.go):
//
//   - SIGKILL of a function, at a call or at a random moment;
//   - the Redis primary dies while its replica lags, and the replica takes over: acknowledged writes are gone, and are counted.
//     For a moment the functions find nobody, or a replica that refuses writes;
//   - FLUSHALL; single slots that vanish;
//   - SIGKILL of the broker, mostly in the middle of a plan's commit.
//
// With every other fault of a server a function dies as well. At the end of a stage all windows are closed, and everything that a
// plain read_committed consumer finds (reader.go, which knows topics and JSON and nothing of the protocol) is held against a
// batch computation over what was produced (judge.go). Every record has a value of its own, so that the count and the sum of a
// pane tell a lost record from a doubled one. Every pane is followed from the first of its window on: it has the next index, replaces
// panes that went out and that no other has replaced, or, where panes discard, holds what none before had. Most
// pipelines get no record that is late for good, so that their results are known beforehand; of the strict ones every record must be
// in a pane or in the late topic, once. The ledger must have every plan once, balance, and know of every revision that was published.
//
// The last part of a run is a rebuild: a large state with all of its windows open is lost as a whole, and fire brings it back
// within short deadlines. Every invocation must get further than the one before, and memory is bounded.
package crash
