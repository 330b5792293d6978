//go:build failpoints

package failpoint

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

var (
	socket = os.Getenv("RASTERLOOM_FAILPOINT_SOCKET")
	trace  = os.Getenv("RASTERLOOM_FAILPOINT_TRACE")
	mu     sync.Mutex
	armed  = points(os.Getenv("RASTERLOOM_FAILPOINT"))
)

func points(list string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Split(list, ",") {
		set[name] = name != ""
	}
	return set
}

// Hit marks a point, and stops here when it is armed.
func Hit(name string) {
	if trace != "" {
		note(name)
	}
	mu.Lock()
	stop := armed[name]
	delete(armed, name)
	mu.Unlock()
	if stop {
		ask(name)
	}
}

// Armed says whether Hit would stop.
func Armed(name string) bool {
	mu.Lock()
	defer mu.Unlock()
	return armed[name]
}

func note(name string) {
	mu.Lock()
	defer mu.Unlock()
	f, err := os.OpenFile(trace, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, name)
}

// ask tells the test that the point is reached and waits for its answer, or
// for being killed.
func ask(name string) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, name)
	_, _ = conn.Read(make([]byte, 1))
}
