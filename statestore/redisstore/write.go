package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// stageAttempts is how often an operation that is too large for one call is staged again after another writer's end took away
// what was staged.
const stageAttempts = 3

// errStage says that it always did.
var errStage = errors.New("redisstore: what was staged was removed by other writers")

// Commit implements statestore.Store. It is one round trip unless the deltas are too many or too large for one call.
func (s *Store) Commit(ctx context.Context, slot statestore.Slot, c statestore.Commit) (statestore.Meta, error) {
	if err := statestore.CheckCommit(slot, c); err != nil {
		return statestore.Meta{}, err
	}
	a, err := s.write(ctx, keysOf(slot), s.scripts.commit, commitArgs(c), c.Deltas)
	return committed(slot, c, a, err)
}

// commitArgs are the arguments of the script that come before the deltas.
func commitArgs(c statestore.Commit) []any {
	now := ""
	if c.Now != event.MinTime {
		now = timeHex(c.Now)
	}
	return []any{offsetHex(c.Applied), tokenHex(c.Top), offsetHex(c.To), timeHex(c.MaxTime), now}
}

// committed is what a Commit answers.
func committed(slot statestore.Slot, c statestore.Commit, a answer, err error) (statestore.Meta, error) {
	switch {
	case err != nil:
		return statestore.Meta{}, fmt.Errorf("commit %s from offset %d: %w", slot, c.Applied, err)
	case a.code == codeOK:
		return a.meta, nil
	case a.code == codeConflict:
		return a.meta, fmt.Errorf("commit %s from offset %d, store has %d: %w", slot, c.Applied, a.meta.Applied, statestore.ErrConflict)
	}
	return statestore.Meta{}, fmt.Errorf("commit %s from offset %d: unexpected answer %q", slot, c.Applied, a.code)
}

// Restore implements statestore.Store.
func (s *Store) Restore(ctx context.Context, slot statestore.Slot, r statestore.Restore) (statestore.Meta, statestore.Outcome, error) {
	if err := statestore.CheckRestore(slot, r); err != nil {
		return statestore.Meta{}, 0, err
	}
	noAdopt := "0"
	if r.NoAdopt {
		noAdopt = "1"
	}
	fixed := []any{
		tokenHex(r.Token), offsetHex(r.Offset), timeHex(r.Watermark), offsetHex(r.ReplayFrom), timeHex(r.MaxTime), timeHex(r.Now),
		noAdopt,
	}
	a, err := s.write(ctx, keysOf(slot), s.scripts.restore, fixed, r.Refused)
	if err != nil {
		return statestore.Meta{}, 0, fmt.Errorf("restore %s: %w", slot, err)
	}
	switch a.code {
	case codePresent:
		return a.meta, statestore.Present, nil
	case codeCreated:
		return a.meta, statestore.Created, nil
	case codeAdopted:
		return a.meta, statestore.Adopted, nil
	case codeWiped:
		return a.meta, statestore.Wiped, nil
	}
	return statestore.Meta{}, 0, fmt.Errorf("restore %s: unexpected answer %q", slot, a.code)
}

// Import implements statestore.Store. A script that is torn leaves no slot: the head is written last.
func (s *Store) Import(ctx context.Context, slot statestore.Slot, image statestore.Image) error {
	if err := statestore.CheckImport(slot, image); err != nil {
		return err
	}
	fixed := []any{
		offsetHex(image.Applied), timeHex(image.MaxTime), timeHex(image.LastRecordAt), cutHex(image.Base), cutHex(image.Top),
	}
	a, err := s.write(ctx, keysOf(slot), s.scripts.imports, fixed, image.Deltas)
	if err != nil {
		return fmt.Errorf("import %s: %w", slot, err)
	}
	if a.code == codeExists {
		return fmt.Errorf("import %s: %w", slot, statestore.ErrExists)
	}
	return nil
}

// Raise implements statestore.Store. The client never repeats it on its own: if the first try had come through, the second
// would be refused.
func (s *Store) Raise(ctx context.Context, slot statestore.Slot, r statestore.Raise) (statestore.Meta, error) {
	if err := statestore.CheckSlot(slot); err != nil {
		return statestore.Meta{}, err
	}
	a, err := s.run(ctx, s.raiseCall(slot, r))
	return raised(slot, r, a, err)
}

func (s *Store) raiseCall(slot statestore.Slot, r statestore.Raise) call {
	return call{
		script: s.scripts.raise,
		keys:   keysOf(slot).base(0),
		args: []any{
			tokenHex(r.Token), timeHex(r.Watermark), tokenHex(r.Base), offsetHex(max(r.BaseOffset, 0)), offsetHex(max(r.Seen, 0)),
		},
		once: true,
	}
}

// raised is what a Raise answers.
func raised(slot statestore.Slot, r statestore.Raise, a answer, err error) (statestore.Meta, error) {
	if err != nil {
		return statestore.Meta{}, fmt.Errorf("raise %s: %w", slot, err)
	}
	if a.code == codeRefused {
		if _, err := a.meta.Raised(r); err != nil { // the same rule in Go knows the reason
			return statestore.Meta{}, fmt.Errorf("raise %s: %w", slot, err)
		}
		return statestore.Meta{}, fmt.Errorf("raise %s: %w", slot, statestore.ErrRefused)
	}
	return a.meta, nil
}

// Sweep implements statestore.Store.
func (s *Store) Sweep(ctx context.Context, slot statestore.Slot, w statestore.Sweep) error {
	if err := statestore.CheckSweep(slot, w); err != nil {
		return err
	}
	fixed, with := sweepArgs(w)
	a, err := s.write(ctx, keysOf(slot), s.scripts.sweep, fixed, with)
	return swept(slot, w, a, err)
}

// sweepArgs are the arguments of the script that come before the deltas, and the deltas.
func sweepArgs(w statestore.Sweep) (fixed []any, with []statestore.Delta) {
	var drops, trims, removes []byte
	for _, id := range w.Drop {
		drops = statestore.AppendSlice(drops, id)
	}
	for _, t := range w.Trim {
		if t.To >= 0 {
			trims = statestore.AppendOffset(statestore.AppendSlice(trims, t.Slice), t.To)
		}
	}
	for _, r := range w.Replace {
		for _, ref := range r.Remove {
			removes = statestore.AppendField(statestore.AppendSlice(removes, ref.Slice), ref)
		}
		with = append(with, r.With...)
	}
	return []any{tokenHex(w.Token), drops, trims, removes}, with
}

// swept is what a Sweep answers.
func swept(slot statestore.Slot, w statestore.Sweep, a answer, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("sweep %s: %w", slot, err)
	case a.code == codeRefused:
		return fmt.Errorf("sweep %s: top is not %x: %w", slot, w.Token, statestore.ErrRefused)
	case a.code == codeGone:
		return fmt.Errorf("sweep %s: %w", slot, goneError(a.rest))
	}
	return nil
}

// Drop implements statestore.Store.
func (s *Store) Drop(ctx context.Context, slot statestore.Slot) error {
	if err := statestore.CheckSlot(slot); err != nil {
		return err
	}
	if _, err := s.run(ctx, call{script: s.scripts.drop, keys: keysOf(slot).base(0)}); err != nil {
		return fmt.Errorf("drop %s: %w", slot, err)
	}
	return nil
}

// group is the deltas to write to one list.
type group struct {
	slice  statestore.SliceID
	fields []byte // field names, each statestore.FieldSize bytes
	values [][]byte
}

// size returns the bytes of a group on the wire, without what frames them.
func (g group) size() int {
	n := len(g.fields)
	for _, v := range g.values {
		n += len(v)
	}
	return n
}

// groupDeltas sorts deltas by list and field name and encodes their payloads. Of several with one identity the last stays.
func groupDeltas(codec statestore.Codec, deltas []statestore.Delta) []group {
	order := make([]int, len(deltas))
	bytes := 0
	for i, d := range deltas {
		order[i] = i
		bytes += len(d.Payload) + 16
	}
	identity := func(i, j int) int {
		a, b := deltas[i].Ref, deltas[j].Ref
		return cmp.Or(cmp.Compare(a.Slice.Window, b.Slice.Window), cmp.Compare(a.Slice.Start, b.Slice.Start),
			cmp.Compare(a.From, b.From), cmp.Compare(a.Bucket, b.Bucket))
	}
	slices.SortStableFunc(order, identity)
	var groups []group
	buf := make([]byte, 0, bytes)
	for k, i := range order {
		if k+1 < len(order) && identity(i, order[k+1]) == 0 {
			continue
		}
		d := deltas[i]
		if len(groups) == 0 || groups[len(groups)-1].slice != d.Slice {
			groups = append(groups, group{slice: d.Slice})
		}
		g := &groups[len(groups)-1]
		g.fields = statestore.AppendField(g.fields, d.Ref)
		start := len(buf)
		buf = codec.Append(buf, d.Payload) // values cut before keep the old memory if it has to grow
		g.values = append(g.values, buf[start:len(buf):len(buf)])
	}
	return groups
}

// write runs a script that ends in the arguments of groups (see head.lua) with the deltas given. What does not fit in one call
// is staged first, under an id that only this call knows: until the script runs nothing of it is part of the slot.
func (s *Store) write(ctx context.Context, keys slotKeys, script script, fixed []any, deltas []statestore.Delta) (answer, error) {
	groups := groupDeltas(s.codec, deltas)
	if c, _, ok := s.oneCall(keys, script, fixed, groups); ok {
		return s.run(ctx, c)
	}
	count := 0
	for _, g := range groups {
		count += len(g.values)
	}
	for range stageAttempts {
		id, err := s.stage(ctx, keys, groups)
		if err != nil {
			return answer{}, err
		}
		final := append(slices.Clone(fixed), id, strconv.Itoa(count))
		a, err := s.run(ctx, call{script: script, keys: keys.base(0), args: final})
		if err != nil || a.code != codeStage {
			return a, err
		}
	}
	return answer{}, errStage
}

// oneCall returns the call of a script with all groups, and the bytes of their deltas; false: they do not fit in one.
func (s *Store) oneCall(keys slotKeys, script script, fixed []any, groups []group) (c call, bytes int, ok bool) {
	args, count := 3+3+len(fixed)+2, 0
	for _, g := range groups {
		args += 2 + len(g.values)
		bytes += g.size()
		count += len(g.values)
	}
	if args > s.limits.args || bytes > s.limits.bytes && count > 1 {
		return call{}, bytes, false
	}
	c = call{script: script, keys: keys.base(len(groups)), args: append(make([]any, 0, args), fixed...)}
	c.args = append(c.args, "", "0")
	for _, g := range groups {
		c.keys = append(c.keys, keys.list(g.slice))
		c.args = append(c.args, g.fields)
		for _, v := range g.values {
			c.args = append(c.args, v)
		}
	}
	return c, bytes, true
}

// stage writes deltas aside, in as many calls as it takes, and returns the id they are under. What is left of a call that dies
// goes with the next staged operation that succeeds, or with the slot.
func (s *Store) stage(ctx context.Context, keys slotKeys, groups []group) (string, error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	id := hex.EncodeToString(random[:])
	var names []byte
	var values []any
	bytes := 0
	flush := func() error {
		if len(values) == 0 {
			return nil
		}
		c := call{script: s.scripts.stage, keys: keys.base(0), args: append([]any{id, names}, values...)}
		names, values, bytes = nil, nil, 0
		_, err := s.run(ctx, c)
		return err
	}
	for _, g := range groups {
		name := statestore.AppendSlice(nil, g.slice)
		for i, v := range g.values {
			field := g.fields[i*statestore.FieldSize:][:statestore.FieldSize]
			size := len(name) + len(field) + len(v)
			if 3+3+2+len(values)+1 > s.limits.args || bytes+size > s.limits.bytes {
				if err := flush(); err != nil {
					return "", err
				}
			}
			names = append(append(names, name...), field...)
			values = append(values, v)
			bytes += size
		}
	}
	return id, flush()
}

// goneError tells which delta a script missed: its list and field name in one string.
func goneError(rest []any) error {
	name := ""
	if len(rest) > 0 {
		name, _ = rest[0].(string)
	}
	if len(name) == statestore.SliceSize+statestore.FieldSize {
		if id, err := statestore.ParseSlice([]byte(name[:statestore.SliceSize])); err == nil {
			if ref, err := statestore.ParseField(id, []byte(name[statestore.SliceSize:])); err == nil {
				return statestore.Gone(ref)
			}
		}
	}
	return fmt.Errorf("delta %q is gone: %w", name, statestore.ErrRefused)
}

func offsetHex(o int64) []byte    { return statestore.AppendOffset(nil, o) }
func timeHex(t event.Time) string { return string(statestore.AppendTime(nil, t)) }
func cutHex(c statestore.Cut) string {
	return string(statestore.AppendTime(statestore.AppendOffset(statestore.AppendToken(nil, c.Token), c.Offset), c.Watermark))
}
func tokenHex(t statestore.Token) []byte { return statestore.AppendToken(nil, t) }
