package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestScanTellsOpenSilentAndRefusedPorts(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	server := httptest.NewServer(routes())
	defer server.Close()
	ask := func(protocol string, number int) scan {
		var result scan
		get(t, fmt.Sprintf("%s/scan?protocol=%s&host=127.0.0.1&first=%d&last=%d", server.URL, protocol, number, number), &result)
		return result
	}
	open := listener.Addr().(*net.TCPAddr).Port
	if got := ask("tcp", open); len(got.Open) != 1 || got.Open[0] != open {
		t.Fatalf("an open port: %+v", got)
	}
	quiet := silent.LocalAddr().(*net.UDPAddr).Port
	if got := ask("udp", quiet); len(got.Silent) != 1 || got.Silent[0] != quiet {
		t.Fatalf("a silent port: %+v", got)
	}
	for _, protocol := range []string{"tcp", "udp"} {
		if got := ask(protocol, 1); got.Refused["connection refused"] != 1 {
			t.Fatalf("a closed %s port: %+v", protocol, got)
		}
	}
}

func TestScanRefusesWhatIsNoPort(t *testing.T) {
	server := httptest.NewServer(routes())
	defer server.Close()
	for _, query := range []string{"", "protocol=tcp&first=0&last=1", "protocol=tcp&first=1&last=65536", "protocol=icmp&first=1&last=2"} {
		response, err := http.Get(server.URL + "/scan?" + query)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Fatalf("%q: %s", query, response.Status)
		}
	}
}
