package boot_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rasterloom/rasterloom/internal/boot"
)

// A token is shown to the address that it was given for, and to none that this one
// names.
func TestTokenStaysWhereItIsMeantFor(t *testing.T) {
	serve := func(handler http.HandlerFunc) string {
		server := httptest.NewUnstartedServer(handler)
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		t.Cleanup(server.Close)
		return server.URL
	}
	elsewhere := serve(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("somebody else is shown %q", r.Header.Get("Authorization"))
	})
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		at := serve(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, status) })
		client, err := boot.NewClient(boot.ClientConfig{Token: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Body.Close(); answer.StatusCode != status {
			t.Errorf("status %d, want %d", answer.StatusCode, status)
		}
		client.CloseIdleConnections()
	}
}
