package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

func get(t *testing.T, target string, into any) {
	t.Helper()
	response, err := http.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func TestProbeReportsWhoAnswered(t *testing.T) {
	t.Setenv("NODE_NAME", "worker-1")
	server := httptest.NewServer(routes())
	defer server.Close()
	var outcome probe
	get(t, server.URL+"/probe?url="+url.QueryEscape(server.URL+"/"), &outcome)
	var answered identity
	if err := json.Unmarshal([]byte(outcome.Body), &answered); err != nil {
		t.Fatal(err)
	}
	if outcome.Status != http.StatusOK || answered.Node != "worker-1" {
		t.Fatalf("got %+v", outcome)
	}
}

func TestProbeOfNothingSaysWhy(t *testing.T) {
	server := httptest.NewServer(routes())
	defer server.Close()
	for _, target := range []string{"", "http://127.0.0.1:1/", "http://no.such.name.invalid/"} {
		var outcome probe
		get(t, server.URL+"/probe?url="+url.QueryEscape(target), &outcome)
		if outcome.Status != 0 || outcome.Error == "" {
			t.Fatalf("%q: got %+v", target, outcome)
		}
	}
}

func TestLargeBodiesAreCountedWhole(t *testing.T) {
	server := httptest.NewServer(routes())
	defer server.Close()
	var outcome probe
	get(t, server.URL+"/probe?url="+url.QueryEscape(server.URL+"/bytes?n=1000000"), &outcome)
	if outcome.Bytes != 1000000 || len(outcome.Body) != probeBody {
		t.Fatalf("got %d bytes, %d reported", outcome.Bytes, len(outcome.Body))
	}
}

func TestBytesRefusesWhatIsNoCount(t *testing.T) {
	server := httptest.NewServer(routes())
	defer server.Close()
	for _, count := range []string{"", "-1", "x", "67108865"} {
		response, err := http.Get(server.URL + "/bytes?n=" + count)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Fatalf("%q: got %d", count, response.StatusCode)
		}
	}
}
