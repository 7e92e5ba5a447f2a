package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Load implements statestore.Store. It is one round trip and no script.
func (s *Store) Load(ctx context.Context, slot statestore.Slot) (statestore.Meta, error) {
	if err := statestore.CheckSlot(slot); err != nil {
		return statestore.Meta{}, fmt.Errorf("load %s: %w", slot, err)
	}
	key := keysOf(slot).head()
	cmd := redis.NewSliceCmd(ctx, "hmget", key, "v", "applied", "maxts", "at", "base", "top", "mark")
	if err := s.do(ctx, key, cmd); err != nil {
		return statestore.Meta{}, fmt.Errorf("load %s: %w", slot, err)
	}
	values := cmd.Val()
	var head []byte
	for _, v := range values[:6] {
		part, _ := v.(string)
		head = append(head, part...)
	}
	if values[0] == nil || values[6] == "w" { // as in head.lua
		return statestore.Meta{}, fmt.Errorf("load %s: %w", slot, statestore.ErrNoSlot)
	}
	m, err := statestore.DecodeMeta(head)
	if err != nil {
		return statestore.Meta{}, fmt.Errorf("load %s: %w", slot, err)
	}
	return m, nil
}

// Status implements statestore.Store.
func (s *Store) Status(ctx context.Context, slot statestore.Slot) (statestore.Status, error) {
	if err := statestore.CheckSlot(slot); err != nil {
		return statestore.Status{}, err
	}
	a, err := s.run(ctx, s.statusCall(slot))
	return statusOf(slot, a, err)
}

func (s *Store) statusCall(slot statestore.Slot) call {
	return call{script: s.scripts.status, keys: keysOf(slot).base(0)}
}

// statusOf is what a Status answers.
func statusOf(slot statestore.Slot, a answer, err error) (statestore.Status, error) {
	if err != nil {
		return statestore.Status{}, fmt.Errorf("status of %s: %w", slot, err)
	}
	infos := make([]statestore.SliceInfo, 0, len(a.rest)/3)
	for i := 0; i+2 < len(a.rest); i += 3 {
		name, _ := a.rest[i].(string)
		n, _ := a.rest[i+1].(int64)
		sizes, _ := a.rest[i+2].(string)
		info, err := parseInfo(name, n, sizes)
		if err != nil {
			return statestore.Status{}, fmt.Errorf("status of %s: %w", slot, err)
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b statestore.SliceInfo) int {
		return cmp.Or(cmp.Compare(a.ID.Window, b.ID.Window), cmp.Compare(a.ID.Start, b.ID.Start))
	})
	return statestore.Status{Meta: a.meta, Slices: infos}, nil
}

// parseInfo reads the name of a list with its largest From behind it, and the sizes of some of its deltas.
func parseInfo(name string, deltas int64, sizes string) (statestore.SliceInfo, error) {
	cut := min(len(name), statestore.SliceSize)
	id, err := statestore.ParseSlice([]byte(name[:cut]))
	if err != nil {
		return statestore.SliceInfo{}, err
	}
	from, err := statestore.ParseOffset([]byte(name[cut:]))
	if err != nil {
		return statestore.SliceInfo{}, err
	}
	sum, sampled := int64(0), int64(0)
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.ParseUint(size, 10, 32)
		if err != nil {
			return statestore.SliceInfo{}, fmt.Errorf("sizes %.100q of a list: %w", sizes, statestore.ErrFormat)
		}
		sum, sampled = sum+int64(n), sampled+1
	}
	return statestore.SliceInfo{ID: id, Deltas: int(deltas), MaxFrom: from, Bytes: sum * deltas / sampled}, nil
}

// Index implements statestore.Store. It takes one call for every 500 slices.
func (s *Store) Index(ctx context.Context, slot statestore.Slot, token statestore.Token, ids []statestore.SliceID) ([]statestore.DeltaRef, error) {
	if err := statestore.CheckSlot(slot); err != nil {
		return nil, err
	}
	keys := keysOf(slot)
	var refs []statestore.DeltaRef
	for first := true; first || len(ids) > 0; first = false {
		part := ids[:min(len(ids), s.limits.lists)]
		ids = ids[len(part):]
		a, err := s.run(ctx, s.indexCall(keys, token, part))
		if refs, err = indexed(refs, slot, token, part, a, err); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

func (s *Store) indexCall(keys slotKeys, token statestore.Token, ids []statestore.SliceID) call {
	c := call{script: s.scripts.index, keys: keys.base(len(ids)), args: []any{tokenHex(token)}}
	for _, id := range ids {
		c.keys = append(c.keys, keys.list(id))
	}
	return c
}

// indexed appends what a call of Index answers.
func indexed(refs []statestore.DeltaRef, slot statestore.Slot, token statestore.Token, ids []statestore.SliceID, a answer, err error) ([]statestore.DeltaRef, error) {
	switch {
	case err != nil:
		return nil, fmt.Errorf("index of %s: %w", slot, err)
	case a.code == codeRefused:
		return nil, fmt.Errorf("index of %s: no cut %x: %w", slot, token, statestore.ErrRefused)
	case len(a.rest) != len(ids):
		return nil, fmt.Errorf("index of %s: %d answers for %d slices", slot, len(a.rest), len(ids))
	}
	for i, id := range ids {
		names, _ := a.rest[i].(string)
		if refs, err = appendRefs(refs, id, names); err != nil {
			return nil, fmt.Errorf("index of %s: %w", slot, err)
		}
	}
	return refs, nil
}

// appendRefs reads the field names of one list, which are in no order.
func appendRefs(refs []statestore.DeltaRef, id statestore.SliceID, names string) ([]statestore.DeltaRef, error) {
	if len(names)%statestore.FieldSize != 0 {
		return nil, fmt.Errorf("field names of %d bytes: %w", len(names), statestore.ErrFormat)
	}
	start := len(refs)
	for ; names != ""; names = names[statestore.FieldSize:] {
		ref, err := statestore.ParseField(id, []byte(names[:statestore.FieldSize]))
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	slices.SortFunc(refs[start:], func(a, b statestore.DeltaRef) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Bucket, b.Bucket))
	})
	return refs, nil
}

// Read implements statestore.Store. One call asks for at most 1,000 deltas and answers about 2 MiB.
func (s *Store) Read(ctx context.Context, slot statestore.Slot, token statestore.Token, refs []statestore.DeltaRef) ([][]byte, error) {
	if err := statestore.CheckSlot(slot); err != nil {
		return nil, err
	}
	keys := keysOf(slot)
	payloads := make([][]byte, 0, len(refs))
	for first := true; first || len(payloads) < len(refs); first = false {
		part := refs[len(payloads):]
		part = part[:min(len(part), s.limits.refs)]
		a, err := s.run(ctx, s.readCall(keys, token, part))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", slot, err)
		}
		switch a.code {
		case codeRefused:
			return nil, fmt.Errorf("read %s: no cut %x: %w", slot, token, statestore.ErrRefused)
		case codeGone:
			return nil, fmt.Errorf("read %s: %w", slot, goneError(a.rest))
		}
		if len(a.rest) > len(part) || len(a.rest) == 0 && len(part) > 0 {
			return nil, fmt.Errorf("read %s: %d answers for %d deltas", slot, len(a.rest), len(part))
		}
		for i, v := range a.rest {
			stored, _ := v.(string)
			payload, err := statestore.DecodePayload([]byte(stored))
			if err != nil {
				return nil, fmt.Errorf("read %s, delta at offset %d of slice %d/%s: %w", slot, part[i].From, part[i].Slice.Window, part[i].Slice.Start, err)
			}
			payloads = append(payloads, payload)
		}
	}
	return payloads, nil
}

// readCall asks for deltas in their order: a key and a string of field names for every run of deltas of one list.
func (s *Store) readCall(keys slotKeys, token statestore.Token, refs []statestore.DeltaRef) call {
	c := call{script: s.scripts.read, keys: keys.base(0), args: []any{tokenHex(token), s.limits.readBytes}}
	for i := 0; i < len(refs); {
		id := refs[i].Slice
		var fields []byte
		for ; i < len(refs) && refs[i].Slice == id; i++ {
			fields = statestore.AppendField(fields, refs[i])
		}
		c.keys = append(c.keys, keys.list(id))
		c.args = append(c.args, fields)
	}
	return c
}

// Slots implements statestore.Store. It scans all keys of all masters, so it is for operators. Slot.Topic is empty.
func (s *Store) Slots(ctx context.Context, pipeline string) ([]statestore.Slot, error) {
	if strings.Trim(pipeline, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("slots of pipeline %q: %w", pipeline, statestore.ErrInvalid)
	}
	var mu sync.Mutex
	found := map[statestore.Slot]struct{}{} // a scan may answer a key twice, and so may two nodes while a hash slot moves
	begun := time.Now()
	scan := func(ctx context.Context, c *redis.Client) error {
		it := c.Scan(ctx, 0, headPattern(pipeline), 1000).Iterator()
		for it.Next(ctx) {
			if slot, ok := parseHead(it.Val()); ok {
				mu.Lock()
				found[slot] = struct{}{}
				mu.Unlock()
			}
		}
		if err := it.Err(); err != nil {
			return trouble(ctx, c.Options().Addr, time.Since(begun), err)
		}
		return nil
	}
	var err error
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, scan)
	case *redis.Client:
		err = scan(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("slots of pipeline %q: %w", pipeline, err)
	}
	all := make([]statestore.Slot, 0, len(found))
	for slot := range found {
		all = append(all, slot)
	}
	return all, nil
}
