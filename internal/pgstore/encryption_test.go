package pgstore_test

import (
	"testing"

	"github.com/rasterloom/rasterloom/internal/pgstore"
)

// Off this machine a database has to prove who it is, unless somebody says
// otherwise.
func TestADatabaseElsewhereHasToProveWhoItIs(t *testing.T) {
	for address, want := range map[string]string{
		"postgres://u@db.example/d":                                  "verified db.example",
		"postgres://u@10.0.0.7/d":                                    "verified 10.0.0.7",
		"postgres://u@a.example,b.example/d":                         "verified a.example, verified b.example",
		"postgres://u@127.0.0.1,db.example/d":                        "encrypted 127.0.0.1, clear 127.0.0.1, verified db.example",
		"postgres://u@db.example,localhost/d":                        "verified db.example, encrypted localhost, clear localhost",
		"host=/tmp,db.example user=u":                                "clear /tmp, verified db.example",
		"postgres://u@localhost,db.example/d?sslmode=require":        "encrypted localhost, encrypted db.example",
		"host=db.example user=u":                                     "verified db.example",
		"postgres://u@db.example/d?sslmode=prefer":                   "verified db.example",
		"postgres://u@db.example/d?sslmode=allow":                    "verified db.example",
		"postgres://u@db.example/d?sslmode=verify-full":              "verified db.example",
		"postgres://u@db.example/d?sslmode=require":                  "encrypted db.example",
		"postgres://u@db.example/d?sslmode=disable":                  "clear db.example",
		"postgres://u@127.0.0.1/d?sslmode=disable":                   "clear 127.0.0.1",
		"postgres://u@localhost/d":                                   "encrypted localhost, clear localhost",
		"postgres://u@/d?host=/tmp":                                  "clear /tmp",
		"postgres://u@db.example/d?sslmode=prefer&connect_timeout=1": "verified db.example",
	} {
		if got := pgstore.Encryption(t, address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
