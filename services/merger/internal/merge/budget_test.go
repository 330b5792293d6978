package merge

import (
	"context"
	"testing"
	"time"

	"github.com/rasterloom/rasterloom/fault"
)

// exactly is a wish for so many bytes.
func exactly(bytes int64) Wish { return Wish{bytes, bytes} }

// take leases at once, or fails the test.
func take(t *testing.T, b *Budget, who string, bytes int64) (release func()) {
	t.Helper()
	_, release, err := b.Lease(t.Context(), who, exactly(bytes))
	if err != nil {
		t.Fatalf("%s takes %d: %v", who, bytes, err)
	}
	return release
}

func requireReason(t *testing.T, err error, reason fault.Reason) map[string]string {
	t.Helper()
	f := fault.From(err)
	if f == nil || f.Kind != fault.Limit || f.Reason != reason {
		t.Fatalf("%v, want %s", err, reason)
	}
	return f.Fields
}

func TestNobodyTakesMoreThanAShareBesideOthers(t *testing.T) {
	b := NewBudget(100, 20*time.Millisecond, nil)
	all := take(t, b, "alice", 100) // alone
	_, _, err := b.Lease(t.Context(), "bob", exactly(10))
	requireReason(t, err, fault.LimitExceeded)
	all()

	bob := take(t, b, "bob", 10)
	alice := take(t, b, "alice", 25)
	_, _, err = b.Lease(t.Context(), "alice", exactly(1))
	if fields := requireReason(t, err, fault.QuotaExceeded); fields["limit"] != "25" || fields["held"] != "25" {
		t.Errorf("fields %v", fields)
	}
	carol := take(t, b, "carol", 25) // who waits for a share holds up nobody
	bob()
	carol()
	more := take(t, b, "alice", 75) // alone again
	more()
	alice()
	if b.used != 0 || len(b.held) != 0 || len(b.waiting) != 0 {
		t.Errorf("left over: %d bytes, %v, %d waiting", b.used, b.held, len(b.waiting))
	}
	_, _, err = b.Lease(t.Context(), "alice", exactly(101))
	requireReason(t, err, fault.LimitExceeded)
}

// A large wish is not put off by small ones that come after it, and each is had
// once there is room.
func TestTheBudgetKeepsItsOrder(t *testing.T) {
	b := NewBudget(100, time.Minute, nil)
	first := take(t, b, "alice", 90)
	order := make(chan string, 2)
	wish := func(name string, bytes int64) {
		waiting := len(b.waiting)
		go func() {
			_, release, err := b.Lease(context.WithoutCancel(t.Context()), "alice", exactly(bytes))
			if err != nil {
				t.Error(err)
				return
			}
			order <- name
			if name == "large" {
				release()
			}
		}()
		for {
			b.mu.Lock()
			n := len(b.waiting)
			b.mu.Unlock()
			if n > waiting {
				return
			}
		}
	}
	wish("large", 95)
	wish("small", 10)
	first()
	if a, b := <-order, <-order; a != "large" || b != "small" {
		t.Errorf("%s came before %s", a, b)
	}
}

func TestWhoGivesUpLeavesTheBudget(t *testing.T) {
	b := NewBudget(100, time.Minute, nil)
	release := take(t, b, "alice", 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Lease(ctx, "alice", exactly(1)); err != context.Canceled { //nolint:errorlint // the very one
		t.Errorf("got %v", err)
	}
	release()
	take(t, b, "alice", 100)()
}

// The first streams get what they ask for, and later ones less and less, so that
// many more fit than could have all; nobody gets less than it needs.
func TestSharesOfTheBudgetShrink(t *testing.T) {
	const mib = 1 << 20
	b := NewBudget(512*mib, 10*time.Millisecond, nil)
	var had []int64
	var releases []func()
	lease := func(who string) error {
		bytes, release, err := b.Lease(t.Context(), who, Wish{Least: 8 * mib, Most: 30 * mib})
		if err == nil {
			had, releases = append(had, bytes), append(releases, release)
		}
		return err
	}
	for range 34 {
		if err := lease("alice"); err != nil {
			t.Fatalf("after %v: %v", had, err)
		}
	}
	for i, bytes := range had {
		if bytes < 8*mib || bytes > 30*mib || i > 0 && bytes > had[i-1] {
			t.Fatalf("shares %v", had)
		}
	}
	if had[1] != 30*mib || had[33] > 11*mib {
		t.Errorf("shares %v", had)
	}
	err := error(nil)
	for err == nil {
		err = lease("alice")
	}
	requireReason(t, err, fault.LimitExceeded)
	if len(had) < 40 {
		t.Errorf("only %d leases fit", len(had))
	}
	for _, release := range releases[20:] {
		release()
	}
	releases, had = releases[:20], nil
	if err := lease("bob"); err != nil || had[0] != 30*mib {
		t.Errorf("beside others: %v, %v", had, err)
	}
	for _, release := range releases {
		release()
	}
	if b.used != 0 || len(b.held) != 0 {
		t.Errorf("left over: %d bytes, %v", b.used, b.held)
	}
}
