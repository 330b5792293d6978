package migrate

import "time"

// rateWindow is over how long the speed of the copying is taken.
const rateWindow = 5 * time.Second

// Watch follows a migration and tells its speed. The zero Watch is ready.
type Watch struct {
	last    Migration
	started bool
	seen    []observation
}

type observation struct {
	at       time.Time
	progress Progress
}

// News is how a migration goes on.
type News struct {
	// RowsPerSecond is the speed of the copying over the last seconds; 0 when
	// nothing is copied.
	RowsPerSecond float64
	// Remaining is about how long the copying still takes; 0 when that cannot
	// be said.
	Remaining time.Duration
}

// See takes a migration as it is now. changed is false when nothing that can be
// shown differs from what was seen before.
func (w *Watch) See(m Migration, now time.Time) (news News, changed bool) {
	changed = !w.started || m.State != w.last.State || m.Revision != w.last.Revision || m.Progress != w.last.Progress ||
		(m.Waiting == nil) != (w.last.Waiting == nil) || m.Waiting != nil && m.Waiting.Message != w.last.Waiting.Message
	if m.State != w.last.State {
		w.seen = nil
	}
	w.last, w.started = m, true
	w.seen = append(w.seen, observation{at: now, progress: m.Progress})
	for len(w.seen) > 2 && now.Sub(w.seen[0].at) > rateWindow {
		w.seen = w.seen[1:]
	}
	if m.State != Backfilling {
		return news, changed
	}
	first := w.seen[0]
	elapsed := now.Sub(first.at).Seconds()
	rows, blocks := m.Progress.RowsCopied-first.progress.RowsCopied, m.Progress.BlocksDone-first.progress.BlocksDone
	if elapsed <= 0 || rows <= 0 {
		return news, changed
	}
	news.RowsPerSecond = float64(rows) / elapsed
	if left := m.Progress.BlocksTotal - m.Progress.BlocksDone; left > 0 && blocks > 0 {
		news.Remaining = time.Duration(float64(left) * elapsed / float64(blocks) * float64(time.Second))
	}
	return news, changed
}
