package schema

import (
	"context"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"github.com/rasterloom/rasterloom/fault"
	"github.com/rasterloom/rasterloom/internal/wire"
)

const (
	// firstPause and longestPause bound the time between two attempts to migrate
	// the catalog while the database is away.
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// opening is a catalog that is not migrated yet: its database may come later than
// this process.
type opening struct {
	ready  chan struct{}
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// openCatalog migrates the catalog, at once or, where wait is true and the
// database is away, as soon as it is there. Errors: as migrate's, but for
// Unavailable where wait is true.
func openCatalog(ctx context.Context, migrate func(context.Context) error, wait bool, log *zap.Logger) (*opening, error) {
	o := &opening{ready: make(chan struct{}), cancel: func() {}}
	err := fault.Guard(func() error { return migrate(ctx) })
	switch {
	case err == nil:
		close(o.ready)
		return o, nil
	case !wait || fault.KindOf(err) != fault.Unavailable:
		return nil, err
	}
	log.Warn("the database is away; waiting for it", zap.String("detail", fault.Detail(err)))
	ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	o.work.Go(func() { o.wait(ctx, migrate, log) })
	return o, nil
}

func (o *opening) wait(ctx context.Context, migrate func(context.Context) error, log *zap.Logger) {
	start, told := time.Now(), fault.Unavailable
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		err := fault.Guard(func() error { return migrate(ctx) })
		if err == nil {
			log.Info("the database is there", zap.Duration("waited", time.Since(start)))
			close(o.ready)
			return
		}
		// Somebody may mend it; it is told once.
		if f := fault.From(err); f.Kind != told && ctx.Err() == nil {
			told = f.Kind
			log.Error("the catalog cannot be migrated", zap.String("error", f.Message), zap.String("detail", fault.Detail(err)))
		}
	}
}

// check says whether the catalog can be asked. Errors: Unavailable
// DATABASE_UNAVAILABLE.
func (o *opening) check() error {
	select {
	case <-o.ready:
		return nil
	default:
		return fault.New(fault.Unavailable, fault.DatabaseUnavailable, "the service waits for its database: try again later")
	}
}

// guard refuses calls until the catalog can be asked.
func (o *opening) guard(handlers map[string]http.Handler) {
	refuse := connect.NewErrorWriter()
	for path, handler := range handlers {
		handlers[path] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := o.check(); err != nil {
				// The client may be gone; nobody is left to tell.
				_ = refuse.Write(w, r, wire.Refuse(r.Context(), err))
				return
			}
			handler.ServeHTTP(w, r)
		})
	}
}

// close ends the waiting.
func (o *opening) close() {
	o.cancel()
	o.work.Wait()
}
