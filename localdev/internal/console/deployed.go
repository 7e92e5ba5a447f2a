package console

// Looked takes what is known of a pipeline whose functions are not in this process.
func (b *Board) Looked(p Pipeline) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.s.Pipelines {
		if b.s.Pipelines[i].Name == p.Name {
			b.s.Pipelines[i] = p
		}
	}
}

// Counted adds to the totals, where Reports are not to be had.
func (b *Board) Counted(plans, results, late, dead int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Plans += plans
	b.s.Results += results
	b.s.Late += late
	b.s.DeadLetters += dead
}
