package flight

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// gate is a transport that takes a message when it is let.
type gate struct {
	grpc.ServerStream
	arrived, let chan struct{}
}

func (g *gate) SendMsg(any) error {
	g.arrived <- struct{}{}
	<-g.let
	return nil
}

// A table that ends while a sign of life is on its way does not break it off,
// and its trailer follows.
func TestSignUnderWayIsNotBrokenOff(t *testing.T) {
	g := &gate{arrived: make(chan struct{}), let: make(chan struct{}, 2)}
	m := &messenger{stream: g, stall: time.Minute, last: time.Now()}
	message := func() (*frame, error) {
		f := newFrame([]byte("header"), nil)
		f.encode()
		return f, nil
	}
	ended := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() { m.beats(t.Context(), ended, time.Millisecond, message) })
	<-g.arrived
	close(ended)
	g.let <- struct{}{}
	beats.Wait()
	g.let <- struct{}{}
	go func() { <-g.arrived }()
	trailer, err := message()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.send(context.Background(), trailer); err != nil {
		t.Errorf("the trailer failed: %v", err)
	}
}
