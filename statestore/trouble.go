package statestore

import "errors"

// ErrVersion is returned when stored bytes are of a newer version than this program reads. It is not ErrFormat, so that nobody
// takes them for damage and drops them: deploy the functions of one version.
var ErrVersion = errors.New("statestore: state of a newer version than this program; deploy all functions in one version")

// What can be wrong with a store that others run. Each text says what somebody has to do. Nothing of a slot is lost, and the
// outcome of the call is unknown unless the server has said that it did not run it; a commit that is tried again finds out.
var (
	// ErrFull is returned when the server has no memory for what a call would write. Reading, raising and sweeping still work.
	ErrFull = errors.New("statestore: memory is full; raise maxmemory or drop state of old pipelines (and keep maxmemory-policy noeviction)")
	// ErrReadOnly is returned by a replica.
	ErrReadOnly = errors.New("statestore: the server is a read-only replica; wait for the failover, or correct the endpoint to the primary's")
	// ErrLoading is returned while the server reads its data from disk.
	ErrLoading = errors.New("statestore: the server is loading its data; wait until it has")
	// ErrFailover is returned while a cluster, or a primary with its replicas, has nobody to serve the slot.
	ErrFailover = errors.New("statestore: a failover or resharding is under way; if it does not end, mend the cluster's primaries")
	// ErrDisk is returned by a server that refuses writes because it cannot persist them.
	ErrDisk = errors.New("statestore: the server cannot write to its disk; free space there, or turn its snapshots off")
	// ErrDenied is returned when user or password is wrong, or the user may not run scripts. Trying again at once cannot help.
	ErrDenied = errors.New("statestore: access denied; correct user, password or the user's permissions (EVALSHA, EVAL, hashes, UNLINK)")
	// ErrBusy is returned by a server that has no time or no connection left.
	ErrBusy = errors.New("statestore: the server is busy; look for long scripts or too many clients")
	// ErrUnreachable is returned when there is no connection, or no answer in time.
	ErrUnreachable = errors.New("statestore: the server cannot be reached or does not answer; see whether it runs, and the network")
)
