package console

// Section is a part of the board that changes for itself. The stream of events sends the sections that have changed.
type Section uint8

// The sections. Status and History change each second by themselves.
const (
	SectionStatus    Section = iota // counters, rates, latency
	SectionHistory                  // the last seconds
	SectionExplain                  // pipelines, partitions, open windows, troubles
	SectionWindows                  // windows that have fired
	SectionResults                  // which keys and values there are; the last results
	SectionRejects                  // late records and dead letters
	SectionLedger                   // the last plans
	SectionFunctions                // invocations
	SectionLogs                     // lines of the functions' logs
	sections         = iota
)

// String returns the name of the section: that of its event in the stream, and of its path under /api/.
func (s Section) String() string {
	return [sections]string{"status", "history", "explain", "windows", "results", "rejects", "ledger", "functions", "logs"}[s]
}

// touch notes that a section has changed. The lock is held.
func (b *Board) touch(s Section) {
	b.versions[s]++
	close(b.changed)
	b.changed = make(chan struct{})
}

// Changes returns a version of each section, which differs from the one before iff the section has changed, and a channel that is
// closed with the next change.
func (b *Board) Changes() (versions [sections]uint64, next <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.versions, b.changed
}

// Section returns what a section shows, to be encoded as JSON. The caller owns it.
func (b *Board) Section(s Section) any {
	switch s {
	case SectionStatus:
		return b.Status()
	case SectionHistory:
		return b.History()
	case SectionExplain:
		return b.Explanation()
	case SectionWindows:
		return b.FiredWindows()
	case SectionResults:
		return b.Results()
	case SectionRejects:
		return b.Rejects()
	case SectionLedger:
		return b.Ledger()
	case SectionFunctions:
		return b.Functions()
	case SectionLogs:
		return b.LogLines("")
	}
	return nil
}

// lookedFor is how long after a question the expensive parts are kept up to date.
const lookedFor = 5

// Watch says that somebody watches from now on, until done is called.
func (b *Board) Watch() (done func()) {
	b.mu.Lock()
	b.watchers++
	b.mu.Unlock()
	b.wake()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.watchers--
	}
}

// wake tells whoever feeds the board that somebody has begun to watch.
func (b *Board) wake() {
	select {
	case b.watched <- struct{}{}:
	default:
	}
}

// look notes that somebody has asked for what is expensive to know.
func (b *Board) look() {
	b.mu.Lock()
	before := b.lastLook
	b.lastLook = b.now()
	woke := b.lastLook.Sub(before).Seconds() > lookedFor
	b.mu.Unlock()
	if woke {
		b.wake()
	}
}

// Watched reports whether somebody watches, so that what is expensive to know is worth it; and returns a channel that gets a value
// when somebody begins to.
func (b *Board) Watched() (bool, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.watchers > 0 || b.now().Sub(b.lastLook).Seconds() <= lookedFor, b.watched
}
