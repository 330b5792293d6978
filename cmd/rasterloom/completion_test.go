package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	layerv1 "github.com/rasterloom/rasterloom/gen/rasterloom/layer/v1"
	schemav1 "github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1"
	"github.com/rasterloom/rasterloom/gen/rasterloom/schema/v1/schemav1connect"
)

// catalog is a schema service that only lists layers. How the real one does it, and
// a real shell asks it, is tested in test/scenario.
type catalog struct {
	schemav1connect.UnimplementedSchemaServiceHandler
	names []string
}

func (c catalog) ListLayers(_ context.Context, req *connect.Request[schemav1.ListLayersRequest]) (*connect.Response[schemav1.ListLayersResponse], error) {
	res := &schemav1.ListLayersResponse{}
	for _, name := range c.names {
		if strings.Contains(name, req.Msg.GetNameContains()) {
			res.Layers = append(res.Layers, &layerv1.Layer{Name: name, Format: layerv1.Format_FORMAT_LEGACY})
		}
	}
	return connect.NewResponse(res), nil
}

// What can follow is what the grammar, and the catalog, have.
func TestCompletion(t *testing.T) {
	_, handler := schemav1connect.NewSchemaServiceHandler(catalog{names: []string{"birds", "bees", "plants"}})
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	t.Setenv("RASTERLOOM_CONFIG", "/dev/null")
	t.Setenv("RASTERLOOM_URL", server.URL)
	cases := []struct {
		line string // the last word is the one to complete
		want string // first columns, with a blank between them; a + at the end: and more
	}{
		{"alig", "align"},
		{"layers ", "adopt list show check register drop"},
		{"layers s", "show"},
		{"migrate fin", "finalize"},
		{"nonsense ", ""},
		{"merge --ex", "--extent"},
		{"merge --extent=", "--extent=union --extent=intersection --extent=reference"},
		{"merge --extent un", "union"},
		{"merge birds --rows-kept a", "any all"},
		{"merge b", "birds bees"},
		{"merge birds pl", "plants"},
		{"merge column=p", "column=plants"},
		{"merge birds --reference=be", "--reference=bees"},
		{"merge birds --reference be", "bees"},
		{"merge birds -o ", ":files"},
		{"merge birds --output=t", ":files"},
		{"merge -- b", "birds bees"},
		{"layers show ", "birds bees plants"},
		{"layers show birds ", ""}, // takes one
		{"layers list --format le", "legacy"},
		{"--config ", ":files"},
		{"ingest ", ":files"},
		{"ingest a.tif --same-grid-as p", "plants"},
		{"token new lab --role=op", "--role=operator"},
		{"completion ", "bash zsh fish powershell"},
		{"up --merger-max", "--merger-max-cells --merger-max-connections --merger-max-layers --merger-max-stream-bytes"},
		{"up --merger-ticket-key=", ""}, // a value that only its owner knows
		{"__comp", ""},
		{"align --url=http://127.0.0.1:1 b", ""}, // nobody there: nothing, and no error
	}
	for _, c := range cases {
		out, err := complete(t.Context(), strings.Split(c.line, " "))
		if err != nil && !strings.Contains(c.line, "127.0.0.1:1") {
			t.Errorf("%q: %v", c.line, err)
		}
		got := make([]string, 0, len(out))
		for _, candidate := range out {
			name, _, _ := strings.Cut(candidate, "\t")
			got = append(got, name)
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", c.line, got, want)
		}
	}
	t.Logf("%d lines", len(cases))
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		script, err := scripts.ReadFile("completion/" + shell)
		if err != nil || !strings.Contains(string(script), "__complete -- ") {
			t.Errorf("the script of %s asks nothing (%v)", shell, err)
		}
	}
}
