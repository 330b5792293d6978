package pixelsql_test

import (
	"testing"

	"github.com/rasterloom/rasterloom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
